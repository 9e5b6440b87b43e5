"""Who can play in an environment, and why the others cannot: the competitors of a recipe and of a tournament."""

from collections.abc import Sequence
from typing import NamedTuple

from icrl.agents._arm_agent import ArmAgent
from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.core.types import Agent, Environment
from icrl.recipes.agent_names import agent_of

COLLECTORS = ("annealed-oracle", "dirichlet-mix", "exact-imitator", "mixture", "sac")  # make data, or imitate such
UNIFORM = "uniform"  # plays everywhere: it is the unit of the tables
SLOW = {"opsrl": 30}  # states from which on an agent takes minutes


class Field(NamedTuple):
    """Agents by name that play in an environment, and the reasons of those that do not."""

    players: dict[str, Agent]
    refused: dict[str, str]


def fitting(
    env: Environment,
    names: Sequence[str] = (),
    collectors: Sequence[str] = COLLECTORS,
    slow: dict[str, int] = SLOW,
) -> Field:
    """The registered agents that fit ``env``, each as ``for_env`` makes it.

    Args:
      env: the environment.
      names: the agents asked for; none: all but ``collectors``, those that are ``slow`` here, and, where observations
        are not states, planners, whose promises do not hold there: they play as if they had no memory.
      collectors: agents that play only if they are asked for.
      slow: agents that do so as well in environments of more states than is said here.
    """
    players, refused = {}, {}
    states = env.spec.num_states or 0
    for name in names or tuple(agents):
        if not names and name in collectors:
            refused[name] = "makes data or imitates, plays if named"
            continue
        if not names and agents[name].needs_state and not env.spec.observes_state:
            refused[name] = "needs to observe the state, plays if named"
            continue
        if not names and states > slow.get(name, states):
            refused[name] = f"takes minutes in worlds of more than {slow[name]} states, plays if named"
            continue
        try:
            agent = agent_of(env, name)
        except InputError as refusal:
            refused[name] = str(refusal)
            continue
        if name != UNIFORM and isinstance(agent, ArmAgent) and env.spec.num_states:
            refused[name] = "ignores the observation, needs a world without states"
        else:
            players[name] = agent
    return Field(players, refused)


def competing(env: Environment, names: Sequence[str]) -> Field:
    """The competitors ``names`` of a recipe in ``env``: "all" is everybody who fits and learns, () is nobody."""
    chosen = tuple(name for name in names if name != "all")
    everybody = fitting(env) if "all" in names else Field({}, {})
    asked = fitting(env, chosen) if chosen else Field({}, {})
    players = everybody.players | asked.players
    refused = everybody.refused | asked.refused
    return Field(players, {name: why for name, why in refused.items() if name not in players})
