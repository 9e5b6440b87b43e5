"""Walks in aliased rooms: how well the next symbol is predicted, and how well a map made of codes plans.

After Dedieu et al. 2024: accuracy of the next observation; of shortest-path queries between two places of a walk how
many arrive, and how many moves they take beside the fewest (breadth-first search in the room itself) and beside the
fallback, the stretch of the walk that connects the two, which always arrives.

Letters: N walks of T moves; K actions.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.agents.uniform import Uniform
from icrl.core.errors import require
from icrl.core.interact import interact
from icrl.core.precision import in_32_bits
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Array, History
from icrl.envs.aliased_room import AliasedRoom
from icrl.models._token_policy import Policy
from icrl.models.layers.vector_quantiser import Record
from icrl.objectives._next_observation import NextObservation
from icrl.planning.clone_graph import Walks
from icrl.planning.world_map import WorldMap

CHUNK = 25  # walks that a model reads at once


class Walked(NamedTuple):
    """N walks of T moves under uniform actions, each in a task of its own; the demo room is the same in all."""

    history: History  # [N, T, ...]
    positions: np.ndarray  # [N, T + 1] int, cells
    symbols: np.ndarray  # [N, T + 1] int
    actions: np.ndarray  # [N, T] int
    rooms: np.ndarray  # [N, R, C] int, what the cells show
    successors: np.ndarray  # [N, R C, K] int, the cells behind each move

    def for_graph(self) -> Walks:
        """As a clone-structured graph reads them."""
        return Walks(jnp.asarray(self.symbols, jnp.int32), jnp.asarray(self.actions, jnp.int32))


def walk(env: AliasedRoom, seed: int, purpose: str, count: int, num_steps: int) -> Walked:
    """``count`` walks of ``num_steps`` moves without the end of an episode, in tasks of their own."""
    env = endless(env)
    tasks = TaskSet.draw(env, seed, f"{purpose}/task", count).params
    keys = keys_for(key_for(seed, f"{purpose}/walk"), jnp.arange(count))
    history, positions, successors = _walked(env, num_steps, keys, tasks)
    symbols = np.concatenate([history.obs, history.next_obs[:, -1:]], axis=1)[..., 0].astype(int)
    rooms, actions = np.asarray(tasks.symbols), np.asarray(history.action)
    return Walked(history, np.asarray(positions), symbols, actions, rooms, np.asarray(successors))


def endless(env: AliasedRoom) -> AliasedRoom:
    """The room without a time limit that a walk could meet."""
    return dataclasses.replace(env, horizon=2**20)


@partial(jax.jit, static_argnames=("env", "num_steps"))
@in_32_bits
def _walked(env: AliasedRoom, num_steps: int, keys: Array, tasks: Any) -> tuple[History, Array, Array]:
    def one(key: Array, task: Any) -> tuple[History, Array, Array]:
        lived = interact(key, env, task, Uniform.for_env(env), num_steps)
        positions = jnp.append(lived.env_states.position, lived.next_state.position)
        return lived.history, positions, env.successors(task.symbols)

    return jax.vmap(one)(keys, tasks)


def read(objective: NextObservation, policy: Policy, history: History) -> tuple[np.ndarray, np.ndarray | None]:
    """What a model makes of walks [N, T + S, ...].

    Returns:
      Whether each of T predictions of the next observation is right, [N, T] bool, and the codes [N, T, M] int of all
      that was seen until then; None of a model without a bottleneck.
    """
    parts = [
        _read(objective, policy, jax.tree.map(lambda field, first=first: field[first : first + CHUNK], history))
        for first in range(0, history.action.shape[0], CHUNK)
    ]
    hits = np.concatenate([np.asarray(each) for each, _ in parts])
    codes = [np.asarray(each) for _, each in parts if each is not None]
    return hits, np.concatenate(codes) if codes else None


@partial(jax.jit, static_argnames=("objective",))
@in_32_bits
def _read(objective: NextObservation, policy: Policy, history: History) -> tuple[Array, Array | None]:
    logits, records = jax.vmap(policy.apply_with_aux)(objective.inputs(history))
    codes = [record.codes for record in records if isinstance(record, Record)]
    return objective.hits(logits, history), codes[0] if codes else None


class Queries(NamedTuple):
    """Q shortest-path queries in walks: from the place of one step to that of a later one, which is another place."""

    walk: np.ndarray  # [Q] int
    first: np.ndarray  # [Q] int, the step at which the agent stands
    last: np.ndarray  # [Q] int, the step whose place is asked for


def queries(walked: Walked, burn_in: int, last: int, each: int, seed: int) -> Queries:
    """At most ``each`` queries a walk, with steps drawn uniformly from ``burn_in`` .. ``last``."""
    require(burn_in < last, "burn_in", burn_in, f"below the last step of a walk, {last}")
    rng = np.random.default_rng([seed, 7])
    steps = np.sort(rng.integers(burn_in, last + 1, size=(len(walked.actions), each, 2)), axis=-1)
    at = np.arange(len(walked.actions))[:, None]
    differ = walked.positions[at, steps[..., 0]] != walked.positions[at, steps[..., 1]]
    walk_of, number = np.nonzero(differ)
    return Queries(walk_of, *steps[walk_of, number].T)


class Journeys(NamedTuple):
    """What became of Q queries."""

    arrived: np.ndarray  # [Q] bool
    length: np.ndarray  # [Q] int, moves of the plan; 0 where there is none
    fewest: np.ndarray  # [Q] int, of the shortest way in the room
    fallback: np.ndarray  # [Q] int, of the stretch of the walk


def travelled(maps: list[WorldMap], codes: np.ndarray, walked: Walked, asked: Queries) -> Journeys:
    """Plan on the map of each walk (or on the only one), and do in the room what is planned, with eyes closed.

    Args:
      maps: one for each walk, or one for all.
      codes: [N, T + 1, M] int, of the walks.
      walked: the walks.
      asked: the queries in them.
    """
    rows, fewest = [], [_fewest(successors) for successors in walked.successors[: len(maps)]]
    for number, first, last in zip(*asked, strict=True):
        own = number if len(maps) > 1 else 0
        world = maps[own]
        start, end = world.nodes(codes[number, [first, last]])
        plan = world.way(int(start), int(end))
        here, there = walked.positions[number, [first, last]]
        reached = moved(walked.successors[number], here, plan or [])[-1]
        shortest = fewest[own][here, there]
        rows.append((plan is not None and reached == there, len(plan or []), shortest, last - first))
    arrived, length, least, fallback = np.array(rows).reshape(-1, 4).T
    return Journeys(arrived.astype(bool), length.astype(int), least.astype(int), fallback.astype(int))


def moved(successors: np.ndarray, here: int, actions: list[int]) -> list[int]:
    """The cells of a journey from ``here``, itself the first."""
    cells = [int(here)]
    for action in actions:
        cells.append(int(successors[cells[-1], action]))
    return cells


def _fewest(successors: np.ndarray) -> np.ndarray:
    """Moves of the shortest way between any two cells, [S, S] float."""
    steps = np.full((len(successors), len(successors)), np.inf)
    np.fill_diagonal(steps, 0)
    reached = np.eye(len(successors), dtype=bool)
    for moves in range(1, len(successors)):
        further = reached.copy()
        for action in range(successors.shape[1]):
            np.logical_or.at(further.T, successors[:, action], reached.T)
        fresh = further & ~reached
        if not fresh.any():
            break
        steps[fresh], reached = moves, further
    return steps


def places(world: WorldMap, codes: np.ndarray, positions: np.ndarray, num_cells: int) -> tuple[np.ndarray, float]:
    """Which cell each node stands for most often, [N] int, and how often a code is met in the cell of its node.

    For pictures and scores alone: no map is made with it.
    """
    nodes = world.nodes(codes).reshape(-1)
    known, cells = nodes >= 0, positions.reshape(-1)
    table = np.zeros((len(world.next), num_cells))
    np.add.at(table, (nodes[known], cells[known]), 1)
    return table.argmax(1), float(table.max(1).sum() / max(table.sum(), 1))
