"""The device side of our gymnasium environments: one task being lived, as pure functions, then their compiled forms.

Every draw of a life comes from ``fold_in(key, clock)`` and the clock only moves forward, so a life is a function of
its first key and the actions taken, alone or as one of many. N is the number of lives lived side by side.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.precision import exact_products, in_32_bits
from icrl.core.types import Array, Environment


class Life(NamedTuple):
    """One task being lived: all that a step needs, kept on the device."""

    key: Array  # [] typed key of all draws since the task began
    clock: Array  # [] uint32, draws made so far; the next one uses fold_in(key, clock)
    task: Any
    state: Any  # the environment's, of the episode in play; None before the first


class Seen(NamedTuple):
    """What leaves the device after a reset or a step; few arrays, because each one costs a transfer."""

    obs: Array  # [*O] float32
    measured: Array  # [4] float32: reward, terminated, truncated, regret of the action just taken (0 when unasked)
    optimum: Array | None  # [2], or [A + 1], float32: optimal action at ``obs``, optimal return; None when unasked


@in_32_bits
def draw_task(env: Environment, key: Array) -> Life:
    """A life in a fresh task, before its first episode; ``key`` is consumed."""
    key_task, key_life = jax.random.split(key)
    return Life(key_life, jnp.uint32(0), env.sample_task(key_task), None)


def draw_next_task(env: Environment, life: Life) -> Life:
    """The life that follows ``life``, in a fresh task."""
    return draw_task(env, jax.random.fold_in(life.key, life.clock))


@in_32_bits
@exact_products
def begin_episode(env: Environment, with_oracle: bool, life: Life) -> tuple[Life, Seen]:
    """Start an episode of the task in play, whatever state the last one was in."""
    obs, state = env.reset_env(jax.random.fold_in(life.key, life.clock), life.task)
    life = life._replace(clock=life.clock + 1, state=state)
    return life, Seen(obs, jnp.zeros(4, jnp.float32), _optimum(env, life) if with_oracle else None)


@in_32_bits
@exact_products
def step_episode(env: Environment, with_oracle: bool, life: Life, action: Array) -> tuple[Life, Seen]:
    """One step without auto-reset; what is seen is the true observation, also at the end of an episode."""
    regret = env.regret(life.task, life.state, action) if with_oracle else 0.0
    key_step = jax.random.fold_in(life.key, life.clock)
    obs, state, reward, terminated, _ = env.step_env(key_step, life.state, action, life.task)
    truncated = env.is_truncated(state, life.task)
    life = life._replace(clock=life.clock + 1, state=state)
    measured = jnp.stack([jnp.asarray(value, jnp.float32) for value in (reward, terminated, truncated, regret)])
    return life, Seen(obs, measured, _optimum(env, life) if with_oracle else None)


def step_and_restart(env: Environment, with_oracle: bool, life: Life, action: Array) -> tuple[Life, Seen, Seen]:
    """One step and, where it ended an episode, the start of the next: (life, seen after that, seen before that)."""
    stepped, final = step_episode(env, with_oracle, life, action)
    over = (final.measured[1] + final.measured[2]) > 0
    life, seen = _choose(over, begin_episode(env, with_oracle, stepped), (stepped, final))
    return life, seen._replace(measured=final.measured), final


def restart_or_step(
    env: Environment, with_oracle: bool, life: Life, action: Array, is_over: Array
) -> tuple[Life, Seen]:
    """One step, or in place of it the start of an episode where the one before ``is_over`` [] bool."""
    return _choose(is_over, begin_episode(env, with_oracle, life), step_episode(env, with_oracle, life, action))


def _optimum(env: Environment, life: Life) -> Array:
    best = env.optimal_action(life.task, life.state), env.optimal_return(life.task)
    return jnp.concatenate([jnp.asarray(value, jnp.float32).reshape(-1) for value in best])


def _choose(condition: Array, new: Any, old: Any) -> Any:
    """The pytree ``new`` where ``condition`` [] holds, else ``old``."""
    return jax.tree.map(partial(jnp.where, condition), new, old)


draw = jax.jit(draw_task, static_argnums=0)
draw_next = jax.jit(draw_next_task, static_argnums=0)
begin = jax.jit(begin_episode, static_argnums=(0, 1))
step = jax.jit(step_episode, static_argnums=(0, 1))
choose_many = jax.jit(jax.vmap(_choose))


@partial(jax.jit, static_argnums=0)
def draw_many(env: Environment, keys: Array) -> Life:
    """``draw_task`` for keys [N]."""
    return jax.vmap(partial(draw_task, env))(keys)


@partial(jax.jit, static_argnums=0)
def draw_next_many(env: Environment, lives: Life) -> Life:
    """The lives that follow ``lives`` [N], each in a fresh task."""
    return jax.vmap(partial(draw_next_task, env))(lives)


@partial(jax.jit, static_argnums=(0, 1))
def begin_many(env: Environment, with_oracle: bool, lives: Life) -> tuple[Life, Seen]:
    """``begin_episode`` for N lives."""
    return jax.vmap(partial(begin_episode, env, with_oracle))(lives)


@partial(jax.jit, static_argnums=(0, 1))
def step_many(env: Environment, with_oracle: bool, lives: Life, actions: Array) -> tuple[Life, Seen, Seen]:
    """``step_and_restart`` for N lives and actions [N]."""
    return jax.vmap(partial(step_and_restart, env, with_oracle))(lives, actions)


@partial(jax.jit, static_argnums=(0, 1))
def restart_or_step_many(
    env: Environment, with_oracle: bool, lives: Life, actions: Array, are_over: Array
) -> tuple[Life, Seen]:
    """``restart_or_step`` for N lives, actions [N] and ``are_over`` [N]."""
    return jax.vmap(partial(restart_or_step, env, with_oracle))(lives, actions, are_over)


@jax.jit
def take_one(lives: Life, index: Array) -> Life:
    """The life with number ``index`` [] int32 among ``lives`` [N]."""
    return jax.tree.map(lambda leaf: leaf[index], lives)


def info_of(env: Environment, seen: Seen) -> dict[str, Any]:
    """The ``info`` of a single environment: empty, or the oracle's values."""
    if seen.optimum is None:
        return {}
    *action, optimal_return = np.asarray(seen.optimum).tolist()
    regret = float(np.asarray(seen.measured)[3])
    best = int(action[0]) if env.spec.action_box is None else np.array(action, np.float32)
    return {"oracle": {"optimal_action": best, "regret": regret, "optimal_return": optimal_return}}


def infos_of(env: Environment, seen: Seen, mask: np.ndarray) -> dict[str, Any]:
    """The infos of a vector, zero outside ``mask`` [N]."""
    if seen.optimum is None:
        return {}
    *best, optimal_return = np.where(mask, np.asarray(seen.optimum, np.float64).T, 0.0)
    regret = np.where(mask, np.asarray(seen.measured, np.float64)[:, 3], 0.0)
    action = best[0].astype(int) if env.spec.action_box is None else np.stack(best, 1).astype(np.float32)
    oracle = {"optimal_action": action, "regret": regret, "optimal_return": optimal_return}
    return _with_masks({"oracle": _with_masks(oracle, mask)}, mask)


def final_infos_of(env: Environment, final: Seen, over: np.ndarray) -> dict[str, Any]:
    """What gymnasium's mode SAME_STEP adds to the infos of a vector where ``over`` [N]."""
    final_obs = np.full(over.size, None, dtype=object)
    rows = np.array(final.obs)
    for i in np.flatnonzero(over):
        final_obs[i] = rows[i]
    return _with_masks({"final_obs": final_obs, "final_info": infos_of(env, final, over)}, over)


def _with_masks(values: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    return {**values, **{f"_{name}": mask.copy() for name in values}}
