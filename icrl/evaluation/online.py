"""In-context evaluation: every agent on the same tasks, the same reward noise, with regret from true means.

Online: the agent chooses, its context grows by one transition a step. Offline: a context is given, the greedy choice
after every prefix of it is scored. Nothing here knows whether an agent is a model or a classic algorithm.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from icrl.core.devices import QUICK, data_mesh, host_workers
from icrl.core.interact import interact
from icrl.core.progress import Progress
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Curves, Environment

PART = 500  # tasks in one jitted call, so that progress shows
GROUP = 500  # of them side by side on a device, at most
OVER = "over"
STATES_ON_CPU = 3 * 2**20  # bytes of agents' memories side by side on a CPU core: more would leave its caches


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What all agents of a comparison share: N tasks, T steps in each, and the environment's draws.

    Agents meet the same noise at the same step. ``agent_seed`` varies the agent's own draws only (one per training
    seed). Without a ``label`` no progress shows.
    """

    env: Environment
    tasks: TaskSet
    num_steps: int  # T
    seed: int  # of the environment's draws
    quick: bool = False  # compile with fewer optimisations (results may differ in the last bits)
    purpose: str = "evaluation"  # of the draws
    like: int | None = None  # tasks of another trial, in whose parts these are played: they then share its program

    def regret(self, agent: Agent, agent_seed: int = 0, label: str = "agent") -> np.ndarray:
        """Cumulative pseudo-regret [N, T] float64."""
        return np.cumsum(self.curves(agent, agent_seed, label, ("regret",))["regret"], axis=1, dtype=np.float64)

    def returns(self, agent: Agent, agent_seed: int = 0, label: str = "agent") -> np.ndarray:
        """Return of each of the first E = T // H episodes, [N, E] float64."""
        fields = ("reward", OVER) if self.env.spec.ends_early else ("reward",)
        curves = self.curves(agent, agent_seed, label, fields)
        num_episodes = self.num_steps // self.env.spec.max_steps_in_episode
        return episode_returns(curves["reward"], num_episodes, curves.get(OVER))

    def curves(
        self, agent: Agent, agent_seed: int = 0, label: str = "agent", fields: tuple[str, ...] = Curves._fields
    ) -> dict[str, np.ndarray]:
        """The named ``Curves`` [N, T] float32, and "over" [N, T] bool: whether a step ended an episode.

        Whichever are named, they come out of one program, so that tuning and playing an agent compile it once.
        """
        count, size = len(self.tasks), _part_size(self.like or len(self.tasks), tasks_side_by_side(agent))
        mesh, curves_of = data_mesh(size), _curves_quickly if self.quick else _curves
        agent = jax.device_put(agent, NamedSharding(mesh, P()))  # a restored agent may sit on one device

        def part_from(low: int) -> list[np.ndarray]:
            ids = np.arange(low, low + size) % count  # the last part is filled up, so that nothing recompiles
            part = self.tasks[ids]
            keys = keys_for(key_for(self.seed, self.purpose), part.ids)
            agent_keys = keys_for(key_for(self.seed, f"{self.purpose}/agent", agent_seed), part.ids)
            each = jax.device_put((keys, agent_keys, part.params), NamedSharding(mesh, P("data")))
            curves = curves_of(each, agent, self.env, self.num_steps, mesh)
            return [np.asarray(curves[name])[: count - low] for name in fields]

        starts, parts = range(0, count, size), []
        with (
            Progress(label and f"evaluating {label}", count, "tasks") as bar,
            ThreadPoolExecutor(host_workers()) as pool,
        ):
            for low, part in zip(starts, pool.map(part_from, starts), strict=True):
                parts.append(part)
                bar.advance(min(size, count - low))
        return {name: np.concatenate(part) for name, part in zip(fields, zip(*parts, strict=True), strict=True)}


def episode_returns(reward: np.ndarray, num_episodes: int, over: np.ndarray | None = None) -> np.ndarray:
    """Returns of the first E episodes [..., E] float64 of rewards [..., T].

    ``over`` [..., T] bool says which steps ended an episode; None: every H-th of T = E H. Each rollout of E H steps has
    E whole episodes, as none lasts longer than H. What follows them, where episodes end early, is left out: the e-th
    column is then the e-th episode of every rollout.
    """
    if over is None:
        episode = reward.shape[-1] // max(num_episodes, 1)
        return reward.reshape(*reward.shape[:-1], num_episodes, episode).sum(-1, dtype=np.float64)
    number = np.cumsum(over, axis=-1) - over
    found = np.zeros((*reward.shape[:-1], num_episodes + 1))
    rows = np.indices(reward.shape, sparse=True)[:-1]
    np.add.at(found, (*rows, np.minimum(number, num_episodes)), reward)
    return found[..., :-1]


def _part_size(num_tasks: int, group: int) -> int:
    """Tasks in one jitted call: few enough for progress and for every worker, whole groups, little filling up."""
    wanted = min(PART, -(-num_tasks // host_workers()))
    even = -(-num_tasks // -(-num_tasks // wanted))
    unit = group * jax.local_device_count()
    return even if even <= unit else -(-even // unit) * unit


def _on_all(
    tasks: tuple[Array, Array, Any], agent: Agent, env: Environment, num_steps: int, mesh: Mesh
) -> dict[str, Array]:
    share = partial(_rollouts, env, num_steps)
    on_all = jax.shard_map(share, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)
    return on_all(agent, tasks)


_curves = jax.jit(_on_all, static_argnames=("env", "num_steps", "mesh"))
_curves_quickly = jax.jit(_on_all, static_argnames=("env", "num_steps", "mesh"), compiler_options=QUICK)


def _rollouts(env: Environment, num_steps: int, agent: Agent, tasks: tuple[Array, Array, Any]) -> dict[str, Array]:
    """Curves [n, T] of one device's share of the tasks, a group of them side by side at a time."""
    return jax.lax.map(partial(_rollout, env, num_steps, agent), tasks, batch_size=tasks_side_by_side(agent))


def _rollout(env: Environment, num_steps: int, agent: Agent, task: tuple[Array, Array, Any]) -> dict[str, Array]:
    key, agent_key, params = task
    lived = interact(key, env, params, agent, num_steps, agent_key)
    return {**lived.curves._asdict(), OVER: lived.history.terminated | lived.history.truncated}


def tasks_side_by_side(agent: Agent) -> int:
    """Tasks side by side on a device: as many as keep the memories of ``agent`` in a CPU core's cache."""
    if jax.default_backend() != "cpu":
        return GROUP
    state = jax.tree.leaves(jax.eval_shape(type(agent).init, agent, jax.random.key(0)))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in state if leaf.dtype != jax.dtypes.prng_key)
    return int(np.clip(STATES_ON_CPU // max(size, 1), 8, GROUP))
