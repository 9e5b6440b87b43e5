"""In-context evaluation: every agent on the same tasks, the same reward noise, with regret from true means.

Online: the agent chooses, its context grows by one transition a step. Offline: a context is given, the greedy choice
after every prefix of it is scored. Nothing here knows whether an agent is a model or a classic algorithm.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from icrl.core.devices import data_mesh, host_workers
from icrl.core.interact import interact
from icrl.core.progress import Progress
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Curves, Environment

PART = 500  # tasks in one jitted call, so that progress shows
GROUP = 500  # of them side by side on a device, at most
QUICK: dict[str, bool | int] = {  # three fifths of the compiling, of five bandit agents
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,  # the other core has an agent of its own
}
if version("jaxlib").startswith("0.10."):  # later ones do not know it
    QUICK["xla_cpu_use_fusion_emitters"] = False
OVER = "over"
STATES_ON_CPU = 4 * 2**20  # bytes of agents' memories side by side on a CPU core: more would leave its caches


def online_regret(
    env: Environment,
    tasks: TaskSet,
    agent: Agent,
    num_steps: int,
    seed: int,
    agent_seed: int = 0,
    label: str = "agent",
    quick: bool = False,
) -> np.ndarray:
    """Cumulative pseudo-regret [N, T] float64 of ``agent`` over N tasks; arguments as for ``online_curves``."""
    curves = online_curves(env, tasks, agent, num_steps, seed, agent_seed, label, ("regret",), quick)
    return np.cumsum(curves["regret"], axis=1, dtype=np.float64)


def online_returns(
    env: Environment,
    tasks: TaskSet,
    agent: Agent,
    num_episodes: int,
    seed: int,
    agent_seed: int = 0,
    label: str = "agent",
) -> np.ndarray:
    """Return of each of the first E = ``num_episodes`` episodes [N, E] float64; rollouts last E H steps."""
    episode = env.spec.max_steps_in_episode
    fields = ("reward", OVER) if env.spec.ends_early else ("reward",)
    curves = online_curves(env, tasks, agent, num_episodes * episode, seed, agent_seed, label, fields)
    return episode_returns(curves["reward"], num_episodes, curves.get(OVER))


def episode_returns(reward: np.ndarray, num_episodes: int, over: np.ndarray | None = None) -> np.ndarray:
    """Returns of the first E episodes [..., E] float64 of rewards [..., T].

    ``over`` [..., T] bool says which steps ended an episode; None: every H-th of T = E H. Each rollout of E H steps has
    E whole episodes, as none lasts longer than H. What follows them, where episodes end early, is left out: the e-th
    column is then the e-th episode of every rollout.
    """
    if over is None:
        return reward.reshape(*reward.shape[:-1], num_episodes, -1).sum(-1, dtype=np.float64)
    number = np.cumsum(over, axis=-1) - over
    found = np.zeros((*reward.shape[:-1], num_episodes + 1))
    rows = np.indices(reward.shape, sparse=True)[:-1]
    np.add.at(found, (*rows, np.minimum(number, num_episodes)), reward)
    return found[..., :-1]


def online_curves(
    env: Environment,
    tasks: TaskSet,
    agent: Agent,
    num_steps: int,
    seed: int,
    agent_seed: int = 0,
    label: str = "agent",
    fields: tuple[str, ...] = Curves._fields,
    quick: bool = False,
) -> dict[str, np.ndarray]:
    """The named ``Curves`` [N, T] float32 of ``agent`` over N tasks, environment draws fixed by ``seed``.

    One more may be named: "over" [N, T] bool, whether a step was the last one of an episode.

    Agents given the same ``tasks`` and ``seed`` meet the same noise at the same step. ``agent_seed`` varies the
    agent's own draws only (one per training seed). Without a ``label`` no progress shows. ``quick`` is for agents that
    are compiled for longer than they live: less is optimised, and the last bits are others.
    """
    size = _part_size(len(tasks), tasks_side_by_side(agent))
    mesh, curves_of = data_mesh(size), _curves_quickly if quick else _curves
    agent = jax.device_put(agent, NamedSharding(mesh, P()))  # a restored agent may sit on one device

    def part_from(low: int) -> list[np.ndarray]:
        ids = np.arange(low, low + size) % len(tasks)  # the last part is filled up, so that nothing recompiles
        part = tasks[ids]
        keys = keys_for(key_for(seed, "evaluation"), part.ids)
        agent_keys = keys_for(key_for(seed, "evaluation/agent", agent_seed), part.ids)
        lives = jax.device_put((keys, agent_keys, part.params), NamedSharding(mesh, P("data")))
        curves = curves_of(lives, agent, env, num_steps, mesh, fields)
        return [np.asarray(curve)[: len(tasks) - low] for curve in curves]

    starts = range(0, len(tasks), size)
    with (
        Progress(label and f"evaluating {label}", len(tasks), "tasks") as bar,
        ThreadPoolExecutor(host_workers()) as pool,
    ):
        parts = []
        for low, part in zip(starts, pool.map(part_from, starts), strict=True):
            parts.append(part)
            bar.advance(min(size, len(tasks) - low))
    return {name: np.concatenate(part) for name, part in zip(fields, zip(*parts, strict=True), strict=True)}


def _part_size(num_tasks: int, group: int) -> int:
    """Tasks in one jitted call: few enough for progress and for every worker, whole groups, little filling up."""
    wanted = min(PART, -(-num_tasks // host_workers()))
    even = -(-num_tasks // -(-num_tasks // wanted))
    unit = group * jax.local_device_count()
    return even if even <= unit else -(-even // unit) * unit


def _on_all(
    tasks: tuple[Array, Array, Any], agent: Agent, env: Environment, num_steps: int, mesh: Mesh, fields: tuple[str, ...]
) -> tuple[Array, ...]:
    share = partial(_lives, env, num_steps, fields)
    on_all = jax.shard_map(share, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)
    return on_all(agent, tasks)


_curves = jax.jit(_on_all, static_argnames=("env", "num_steps", "mesh", "fields"))
_curves_quickly = jax.jit(_on_all, static_argnames=("env", "num_steps", "mesh", "fields"), compiler_options=QUICK)


def _lives(
    env: Environment, num_steps: int, fields: tuple[str, ...], agent: Agent, tasks: tuple[Array, Array, Any]
) -> tuple[Array, ...]:
    """Curves [n, T] of one device's share of the tasks, a group of them side by side at a time."""
    return jax.lax.map(partial(_life, env, num_steps, fields, agent), tasks, batch_size=tasks_side_by_side(agent))


def _life(
    env: Environment, num_steps: int, fields: tuple[str, ...], agent: Agent, task: tuple[Array, Array, Any]
) -> tuple[Array, ...]:
    key, agent_key, params = task
    lived = interact(key, env, params, agent, num_steps, agent_key)
    known = {**lived.curves._asdict(), OVER: lived.history.terminated | lived.history.truncated}
    return tuple(known[name] for name in fields)


def tasks_side_by_side(agent: Agent) -> int:
    """Tasks side by side on a device: as many as keep the memories of ``agent`` in a CPU core's cache."""
    if jax.default_backend() != "cpu":
        return GROUP
    state = jax.tree.leaves(jax.eval_shape(agent.init, jax.random.key(0)))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in state if leaf.dtype != jax.dtypes.prng_key)
    return int(np.clip(STATES_ON_CPU // max(size, 1), 8, GROUP))
