"""``icrl evaluate-logs``: what agents would have earned on the imported log of a bandit, by importance weighting.

An agent learns from the first rows of the log, all of them and whoever chose, is frozen, and its choices in the rows
behind are valued. One that draws its choices is asked several times, and plays each action as often as it then does.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import require
from icrl.core.precision import exact_products, in_32_bits
from icrl.core.seeding import key_for
from icrl.core.types import Agent, Array, Transition
from icrl.datasets.histories import PROPENSITY, StoredHistories
from icrl.evaluation.off_policy import Log, OffPolicy, logged_value, off_policy_value, table_of
from icrl.recipes.agent_names import agent_of, in_words

DRAWS = 32  # choices of an agent in a context, which make its probabilities
AT_ONCE = 4096  # contexts in which it is asked side by side
LEARNED = 0.5  # of the rows


def log_of(stored: StoredHistories) -> tuple[Log, np.ndarray]:
    """All decisions of a log in their order, and the observations [n, *O] that they were made at.

    Raises:
      InputError: histories without propensities.
    """
    hint = "import a log with a column of propensities"
    require(PROPENSITY in stored.fields, "data", str(stored.folder), "histories with propensities", hint)
    record = stored.fetch(np.arange(stored.num_tasks))
    shape = record["obs"].shape[3:]
    obs = record["obs"].reshape(-1, *shape).astype(np.float32)
    flat = (record[name].reshape(-1) for name in ("action", "reward", PROPENSITY))
    return Log(obs.reshape(len(obs), -1), *flat), obs


def evaluate_logs(stored: StoredHistories, names: Sequence[str], seed: int, learned: float = LEARNED) -> dict[str, Any]:
    """A table of the off-policy values of the agents ``names`` behind the first share ``learned`` of the log.

    Raises:
      InputError: no log with propensities, an agent that does not fit it, or a share that leaves few rows.
    """
    log, obs = log_of(stored)
    env, count = stored.environment(), len(log.action)
    assert env is not None
    first = round(learned * count)
    both = 4 <= count - first < count
    require(both, "learn", learned, f"a share of {count:,} rows that leaves one to learn from and 4 to value")
    rest = Log(*(field[first:] for field in log))
    seen = jnp.asarray(obs[: first + 1])
    transitions = Transition(
        seen[:first], jnp.asarray(log.action[:first], jnp.int32), jnp.asarray(log.reward[:first], jnp.float32),
        seen[1:], jnp.zeros(first, bool), jnp.zeros(first, bool),
    )  # fmt: skip
    values: dict[str, OffPolicy] = {}
    for name in names:
        agent = agent_of(env, name)
        require(not agent.sees_env_state, "agent", name, "an agent that acts on observations")
        state = _learned(agent, key_for(seed, "log"), transitions)
        given = _probabilities(agent, state, obs[first:], seed, env.num_actions)
        values[in_words(name)] = off_policy_value(rest, given)
    note = f"Learned from the first {first:,} rows, frozen, valued on the other {count - first:,}."
    return table_of(values, logged_value(rest), note)


@jax.jit
@in_32_bits
@exact_products
def _learned(agent: Agent, key: Array, transitions: Transition) -> Any:
    """The state of an agent that was told all ``transitions`` [n, ...]."""
    state, _ = jax.lax.scan(lambda state, each: (agent.update(state, each), None), agent.init(key), transitions)
    return state


def _probabilities(agent: Agent, state: Any, obs: np.ndarray, seed: int, num_actions: int) -> np.ndarray:
    """How often the frozen agent chooses each action at each of ``obs`` [n, *O], [n, K] float64."""
    key, found = key_for(seed, "log/act"), []
    for low in range(0, len(obs), AT_ONCE):
        some = np.resize(obs[low : low + AT_ONCE], (AT_ONCE, *obs.shape[1:]))
        shares = _shares(agent, state, jax.random.fold_in(key, low), jnp.asarray(some), num_actions)
        found.append(np.asarray(shares, np.float64)[: len(obs) - low])
    return np.concatenate(found)


@partial(jax.jit, static_argnames=("num_actions",))
@in_32_bits
@exact_products
def _shares(agent: Agent, state: Any, key: Array, obs: Array, num_actions: int) -> Array:
    def at(one: Array, own: Array) -> Array:
        chosen = jax.vmap(lambda draw: agent.act_greedy(draw, state, one))(jax.random.split(own, DRAWS))
        return jnp.mean(jax.nn.one_hot(chosen, num_actions, dtype=jnp.float32), axis=0)

    return jax.vmap(at)(obs, jax.random.split(key, len(obs)))
