"""Agents as settings name them: ``ucb``, with settings of its own ``ucb@c=0.5``, or mixed ``0.1*psrl+0.9*uniform``.

Several settings follow one another: ``q-learning@step_size=0.1@epsilon=0.5``. ``run:FOLDER`` is what another run has
pretrained.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icrl.agents.mixture import Mixture
from icrl.core.errors import InputError, require
from icrl.core.fields import declared
from icrl.core.registry import agents
from icrl.core.settings import plain_value
from icrl.core.types import Agent, Environment
from icrl.gym.inputs import checked_settings
from icrl.testing._law import is_foreign
from icrl.testing.agents import check_form

FORM = "AGENT, AGENT@SETTING=VALUE, run:FOLDER or SHARE*AGENT+SHARE*AGENT with shares that sum to 1"
RUN, TRAINED = "run:", "in-context"  # the prefix of what is pretrained, and the agent that it is


def agent_of(env: Environment, text: str, num_steps: int | None = None, **shared: Any) -> Agent:
    """The agent that ``text`` names, made for ``env``.

    With ``num_steps`` an exploration that fades does so over as many steps, else over as many as is its own default.
    ``shared`` are settings for what ``text`` does not set.

    Raises:
      InputError: an unknown agent or setting, one that does not fit ``env``, or one of others that breaks a law.
    """
    if text.startswith(RUN):
        from icrl.recipes.trained import trained_agent  # which reads recipes, whose sources are named here

        return trained_agent(env, text)
    if shares := mixed(text):
        (first, share), (second, _) = shares.items()
        return Mixture.for_env(env, first=first, second=second, share=share)
    name, settings = parsed(text)
    item = agents[name]
    if num_steps is not None and "anneal_steps" in item.__dataclass_fields__:
        settings = {"anneal_steps": num_steps, **settings}
    made: Agent = item.for_env(env, **{**shared, **settings})
    if is_foreign(made):
        check_form(made, env)
    return made


def check_agent(field: str, text: str) -> None:
    """Raise ``InputError`` that names ``field`` for a text of another form or for an agent that is not registered."""
    if text.startswith(RUN):
        folder = Path(text.removeprefix(RUN)).expanduser()
        allowed = "run: and the output folder of a run, or a file of `icrl export-agent`"
        require(folder.is_dir() or folder.is_file(), field, text, allowed)
        return
    for name in mixed(text, field) or (base_name(text),):
        agents.entry(name)
    if "@" in text:
        parsed(text, field)


def base_name(text: str) -> str:
    """The registered name alone, without settings."""
    return TRAINED if text.startswith(RUN) else text.partition("@")[0]


def is_oracle(text: str) -> bool:
    """Whether ``text`` names an agent that knows its task."""
    name = base_name(text)
    return name in agents and bool(agents[name].sees_env_state)


def text_of(name: str, settings: Mapping[str, float]) -> str:
    """AGENT@SETTING=VALUE, the name that ``agent_of`` reads; values have six digits."""
    return "@".join([name, *(f"{setting}={value:g}" for setting, value in settings.items())])


def in_words(text: str) -> str:
    """For readers: "ucb, c 0.5", the agent's own label, or the name of the folder of a run."""
    if text.startswith(RUN):
        return f"run {Path(text.removeprefix(RUN)).name}"
    name, *given = text.split("@")
    label: str = agents[name].label if name in agents else ""
    if label:
        values = {each.partition("=")[0]: each.partition("=")[2] for each in given}
        defaults = {field.name: field.default for field in dataclasses.fields(agents[name])}
        given = [each for each in given if "{" + each.partition("=")[0] + "}" not in label]
        name = label.format(**{**defaults, **values})
    return ", ".join([name, *(each.replace("=", " ").replace("_", " ") for each in given)])


def parsed(text: str, field: str = "agent") -> tuple[str, dict[str, Any]]:
    """(registered name, settings) of a name without shares.

    Raises:
      InputError: something else than SETTING=VALUE behind an "@", or a setting that the agent does not have.
    """
    name, *given = text.split("@")
    settings: dict[str, Any] = {}
    for each in given:
        setting, equals, value = each.partition("=")
        setting = setting.strip().replace("-", "_")
        require(bool(equals) and setting not in settings, field, text, FORM)
        settings[setting] = plain_value(value.strip())
    known = checked_settings(name, agents[name], settings)
    numbers = {setting for setting, field in declared(agents[name]).items() if float in field.kinds}
    # a whole number as a float, so that candidates that differ in it are one compiled program
    return name, {key: float(value) if key in numbers and type(value) is int else value for key, value in known.items()}


def mixed(text: str, field: str = "agent") -> dict[str, float]:
    """The shares of a mixture by agent, first and second; {} for a name that is no mixture."""
    if "*" not in text:
        return {}
    parts = [part.partition("*") for part in text.split("+")]
    try:
        shares = {name.strip(): float(share) for share, _, name in parts}
    except ValueError:
        raise InputError(f"{field}: got {text!r}, allowed: {FORM}") from None
    all_of_it = abs(sum(shares.values()) - 1) < 1e-9 and all(0 <= share <= 1 for share in shares.values())
    require(len(parts) == len(shares) == 2 and all_of_it, field, text, FORM)
    return shares
