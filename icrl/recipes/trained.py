"""What another run has pretrained, as an agent of this one: ``--source run:FOLDER``, ``--competitors run:FOLDER``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from icrl.core.errors import InputError, require
from icrl.core.foreign import stored_names
from icrl.core.registry import experiments
from icrl.core.types import Agent, Environment
from icrl.models._token_policy import Policy
from icrl.recipes.agent_names import RUN
from icrl.recipes.parts import ROLLING, TRIAL, WHOLE
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import reopen
from icrl.recipes.shared import read_shared


@stored_names()
def trained_agent(env: Environment, text: str) -> Agent:
    """What ``text`` names, the first model of a run or the agent in a file, frozen, to act in ``env`` for any time.

    It decides by the context rule of its own run. A context that held a whole evaluation there begins anew with each
    trial here if the model learned by acting, and moves along otherwise.

    Raises:
      InputError: no run there, one that pretrains nothing, or spaces that do not fit. DamagedError: nothing intact.
    """
    recipe, restore = _found(text)
    theirs, ours = recipe.env.spec, env.spec
    for field in ("num_actions", "action_box", "obs_shape", "obs_nvec"):
        found, wanted = getattr(theirs, field), getattr(ours, field)
        if found != wanted:
            raise InputError(f"{text}: learned in {theirs.name}, whose {field} is {found}, {ours.name} has {wanted}")
    rule = recipe.rules[0]
    if rule == WHOLE:
        rule = TRIAL if recipe.is_reinforced and recipe.window % recipe.episode == 0 else ROLLING
    return recipe.agent(restore(), rule)


def _found(text: str) -> tuple[Recipe, Callable[[], Policy]]:
    """The recipe that ``text`` names, a run or a file of ``icrl export-agent``, and what reads its weights."""
    path = Path(text.removeprefix(RUN)).expanduser()
    if path.is_file():
        shared = read_shared(path)
        return shared.recipe, lambda: shared.policy
    run = reopen(path)
    require(isinstance(run.settings, Recipe), text, run.experiment, "a run that pretrains a model")
    experiment: Any = experiments[run.experiment]
    return experiment.models(run.settings)[0].recipe, lambda: experiment.restore(run.settings, run, 0)
