"""Laws of environments. ``walk`` is a random rollout; keys are fixed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.agents.oracle import Oracle
from icrl.agents.uniform import Uniform
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import environments
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Environment
from icrl.envs import Bandit
from icrl.testing import bandits
from icrl.testing._law import CLOSE, GATE, expect, expect_same, form_of, law, made

HORIZON = 6  # steps of an episode in which the laws are tried, where it is a setting

Step = tuple[Any, Any, Any, Any]  # key, state before, action, outcome of ``step``


def check_environment(env: Environment | type[Environment] | str) -> None:
    """Raise ``BrokenLawError`` for the first law of environments that ``env`` does not obey.

    Args:
      env: an environment, its class or its registered name. One with a setting ``horizon`` is tried with episodes of
        ``HORIZON`` steps.
    """
    env = made(environments, env)
    expected = "an environment, a class of them or a registered name"
    if not isinstance(env, Environment):
        raise InputError(f"env: got {type(env).__name__}, allowed: {expected}")
    if any(field.name == "horizon" and field.init for field in dataclasses.fields(env)):  # type: ignore[arg-type]
        env = dataclasses.replace(env, horizon=HORIZON)  # type: ignore[type-var]
    laws: tuple[Callable[..., None], ...] = LAWS + (bandits.LAWS if isinstance(env, Bandit) else ())
    for each in laws:
        each(env)


def check_form(env: Environment) -> None:
    """Raise ``BrokenLawError`` unless ``env`` can be run at all; a second, where ``check_environment`` takes many."""
    settings_hash_and_compare(env)
    step_has_the_form_of_gymnax(env)


def walk(env: Environment, num_steps: int, seed: int = 3) -> tuple[Any, list[Step]]:
    """The task of a random rollout, and its steps."""
    task = env.sample_task(key_for(seed, "task"))
    _, state = env.reset(key_for(seed, "reset"), task)
    rows = []
    for t, choice in enumerate(some_actions(env, num_steps, seed)):
        key = key_for(seed, "step", t)
        outcome = env.step(key, state, choice, task)
        rows.append((key, state, choice, outcome))
        state = outcome[1]
    return task, rows


def some_actions(env: Environment, count: int, seed: int = 3) -> Any:
    """Random actions [count, ...]."""
    draws, box = np.random.default_rng(seed), env.spec.action_box
    if box is None:
        return jnp.asarray(draws.integers(env.num_actions, size=count), jnp.int32)
    return box.from_unit(jnp.asarray(draws.uniform(-1, 1, (count, box.dim)), jnp.float32))


def every_action(env: Environment) -> Any:
    """All numbered actions, or some of a box: random ones, its corners in two opposite directions, and its middle."""
    box = env.spec.action_box
    if box is None:
        return jnp.arange(env.num_actions, dtype=jnp.int32)
    ends = box.from_unit(jnp.array([[-1.0], [0.0], [1.0]], jnp.float32) * jnp.ones((1, box.dim), jnp.float32))
    return jnp.concatenate([some_actions(env, 12), ends])


# --- form ---


@law
def settings_hash_and_compare(env: Environment) -> None:
    """Equal settings are one static argument of ``jit``."""
    twin = dataclasses.replace(env)  # type: ignore[type-var]
    expect(env == twin and hash(env) == hash(twin), "environment with the same settings", "another", "an equal one")


@law
def spec_tells_the_truth(env: Environment) -> None:
    """Numbers of actions and steps, shapes and bounds are those of what is seen."""
    spec = env.spec
    if spec.action_box is None:
        right = f"{spec.num_actions}, at least 1"
        expect(env.num_actions == spec.num_actions >= 1, "num_actions", env.num_actions, right)
    expect(env.name == spec.name == type(env).__name__, "spec.name", spec.name, type(env).__name__)
    task, rows = walk(env, 2 * spec.max_steps_in_episode)
    limit = task.max_steps_in_episode
    expect(limit == spec.max_steps_in_episode, "task.max_steps_in_episode", limit, f"{spec.max_steps_in_episode}")
    for _, _, _, (obs, *_, info) in rows:
        for seen in (obs, info["final_observation"]):
            inside = np.all((seen >= spec.obs_low) & (seen <= spec.obs_high))
            expect(inside, "observation", seen, f"numbers in [{spec.obs_low}, {spec.obs_high}], as its spec says")
            if spec.obs_nvec:
                count = np.reshape(spec.obs_nvec, np.shape(seen))
                whole = np.all((seen == np.floor(seen)) & (seen >= 0) & (seen < count))
                expect(whole, "observation", seen, f"integers below {spec.obs_nvec}, the obs_nvec of its spec")


@law
def step_has_the_form_of_gymnax(env: Environment) -> None:
    """(obs, state, reward, terminated, truncated, info) with one structure and plain 32-bit types."""
    task, rows = walk(env, 3)
    _, state = env.reset(key_for(3, "reset"), task)
    for _, _, _, (obs, after, reward, terminated, truncated, info) in rows:
        right = f"float32 of shape {env.spec.obs_shape}"
        expect((obs.shape, obs.dtype) == (env.spec.obs_shape, jnp.float32), "observation", form_of(obs), right)
        forms: list[Any] = [jax.tree.structure(after), jax.tree.structure(state)]
        expect(forms[0] == forms[1], "state", str(forms[0]), f"{forms[1]}, as after reset")
        expect((reward.shape, reward.dtype) == ((), jnp.float32), "reward", form_of(reward), "float32 of shape ()")
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            expect((flag.shape, flag.dtype) == ((), bool), name, form_of(flag), "bool of shape ()")
            expect(info[name] == flag, f"info[{name!r}]", info[name], "the flag itself")
        final = info["final_observation"]
        expect(final.shape == obs.shape, "final_observation", form_of(final), form_of(obs))


@law
def default_params_are_a_fixed_task(env: Environment) -> None:
    """The task that is played when none is given is always the same."""
    expect_same(env.default_params, env.default_params, "default_params", "the same at every call")
    env.validate_task(env.default_params)
    key = key_for(0, "x")
    expect_same(env.reset(key), env.reset(key, env.default_params), "reset without a task", "that of default_params")


# --- one meaning, however it is run ---


@law
def jit_is_eager(env: Environment) -> None:
    """The end of an episode and the step after, compiled and not."""
    task, rows = walk(env, HORIZON + 1)
    for key, state, action, outcome in rows[-2:]:
        with jax.disable_jit():
            expect_same(env.step(key, state, action, task), outcome, "step", "what the compiled one returns")


@law
def vmap_is_a_loop(env: Environment) -> None:
    """Five tasks side by side, and each alone."""
    tasks = TaskSet.draw(env, 0, "vmap", 5).params
    keys = jax.random.split(key_for(0, "keys"), 5)
    _, states = jax.vmap(env.reset)(keys, tasks)
    actions = jnp.resize(every_action(env), (5, *env.spec.action_shape))
    rows = keys, states, actions, tasks, jax.vmap(env.step)(keys, states, actions, tasks)
    for i in range(5):
        key, state, action, task, outcome = jax.tree.map(lambda leaf, i=i: leaf[i], rows)
        expect_same(env.step(key, state, action, task), outcome, "step of a task alone", "as among others")


@law
def a_task_does_not_depend_on_its_batch(env: Environment) -> None:
    """Task i of a stream is one task, however many are drawn; and tasks differ."""
    every = TaskSet.draw(env, 5, "batch", 6)
    part = TaskSet.draw(env, 5, "batch", 2, first_id=3)
    expect_same(part.params, every[3:5].params, "tasks 3 and 4", "as among tasks 0 to 5")
    if env.num_tasks is None:  # in a finite family draws may repeat
        distinct = len(set(every.digests()))
        expect(distinct == 6, "different ones of 6 tasks", distinct, "6, or a family that numbers its tasks")


@law
def no_key_is_used_twice(env: Environment) -> None:
    """Read off the program, which need not run."""

    @jax.jit
    def rollout(key: Any, other: Any) -> Any:
        return interact(key, env, env.sample_task(other), Uniform.for_env(env), HORIZON + 1)

    with jax.debug_key_reuse(True):
        rollout.trace(jax.random.key(1), jax.random.key(0))


@law
def a_short_rollout_is_the_start_of_a_long_one(env: Environment) -> None:
    """What happens until step t does not depend on how long it goes on."""
    task, uniform = env.sample_task(key_for(7, "task")), Uniform.for_env(env)
    short, long = (interact(key_for(7, "life"), env, task, uniform, steps) for steps in (50, 100))
    start = jax.tree.map(lambda leaf: leaf[:50], (long.history, long.curves))
    expect_same((short.history, short.curves), start, "rollout of 50 steps", "the start of one of 100")


# --- episodes ---


@law
def episodes_end_and_restart(env: Environment) -> None:
    """At the end the next episode begins; ``final_observation`` and ``step_env`` still show the old one."""
    limit = env.spec.max_steps_in_episode
    task, rows = walk(env, 2 * limit + 1)
    since = 0
    for key, state, action, (obs, after, reward, terminated, truncated, info) in rows:
        since += 1
        key_step, key_reset = jax.random.split(key)
        last_obs, last_state, last_reward, last_terminated, _ = env.step_env(key_step, state, action, task)
        found, wanted = (info["final_observation"], reward, terminated), (last_obs, last_reward, last_terminated)
        expect_same(found, wanted, "final_observation, reward, terminated", "those of step_env")
        said, over = bool(env.is_truncated(last_state, task)), bool(terminated | truncated)
        expect(bool(truncated) == said, "truncated", bool(truncated), f"{said}, as is_truncated says")
        right = f"at step {limit} of an episode, the max_steps_in_episode of its spec, or terminated before"
        expect(bool(truncated) <= (since == limit) <= over, f"end of an episode at step {since}", over, right)
        fresh = env.reset_env(key_reset, task) if over else (last_obs, last_state)
        right = "those of a new episode" if over else "those of step_env"
        expect_same((obs, after), fresh, "observation and state", right)
        since = 0 if over else since


# --- worth; of environments whose optimum is known ---


def expect_action(env: Environment, action: Any, what: str) -> None:
    """Raise unless ``action`` has the form of one and is one."""
    box, shape = env.spec.action_box, env.spec.action_shape
    dtype: Any = jnp.int32 if box is None else jnp.float32
    right = f"{np.dtype(dtype)} of shape {shape}"
    expect((action.shape, action.dtype) == (shape, dtype), what, form_of(action), right)
    if box is None:
        right, inside = f"an integer in [0, {env.num_actions - 1}]", 0 <= action < env.num_actions
    else:
        right = f"inside of {box.low} .. {box.high}"
        inside = np.all((action >= np.array(box.low, np.float32)) & (action <= np.array(box.high, np.float32)))
    expect(inside, what, np.asarray(action), right)


@law
def regret_is_never_negative_and_nothing_at_the_optimum(env: Environment) -> None:
    """Of all actions, in all states of an episode."""
    if not env.spec.knows_optimum:
        return
    task, rows = walk(env, HORIZON)
    for t, (_, state, _, _) in enumerate(rows):
        regrets = np.array([env.regret(task, state, a) for a in every_action(env)])
        best = env.optimal_action(task, state)
        expect_action(env, best, "optimal_action")
        expect(np.all(regrets >= 0), f"regrets at step {t}", regrets, "0 or more")
        least = env.regret(task, state, best)
        expect(least == 0.0, f"regret of optimal_action {np.asarray(best)} at step {t}", least, "0, of all the least")


@law
def optimal_return_is_what_the_oracle_earns(env: Environment, num_tasks: int = 4000) -> None:
    """One episode of the oracle in each task. A bias of 0.1 standard deviations of the return shows as z = 6."""
    if not env.spec.knows_optimum:
        return
    tasks = TaskSet.draw(env, 1, "optimum", num_tasks).params
    oracle, limit = Oracle.for_env(env), env.spec.max_steps_in_episode

    @jax.jit
    @jax.vmap
    def gap(key: Any, task: Any) -> tuple[Any, Any]:
        rollout = interact(key, env, task, oracle, limit)
        over = rollout.history.terminated | rollout.history.truncated
        first = jnp.cumsum(over) - over == 0  # an episode that ends early is followed by others
        earned = jnp.sum(rollout.curves.reward, where=first)
        return earned - env.optimal_return(task), jnp.sum(rollout.curves.regret)

    gaps, regrets = map(np.asarray, gap(jax.random.split(key_for(1, "lives"), num_tasks), tasks))
    expect(np.all(regrets == 0), "regret of the oracle", regrets.max(), "0")
    error = GATE * gaps.std() / np.sqrt(gaps.size) + CLOSE
    right = f"0 within {error:.2g}"
    expect(abs(gaps.mean()) <= error, "return of the oracle less optimal_return", float(gaps.mean()), right)


# --- tasks from outside ---


@law
def actions_outside_of_the_box_are_clipped(env: Environment) -> None:
    """Those far outside do what the nearest inside does, and cost as much."""
    box = env.spec.action_box
    if box is None:
        return
    task, rows = walk(env, 2)
    for key, state, _, _ in rows:
        for outside in box.from_unit(jnp.ones((2, box.dim))) * jnp.array([[3.0], [-3.0]], jnp.float32):
            nearest = box.clip(outside)
            found, right = (env.step(key, state, action, task) for action in (outside, nearest))
            expect_same(found, right, f"step with the action {outside}", f"that with {nearest}")
            if env.spec.knows_optimum:
                found, right = (env.regret(task, state, action) for action in (outside, nearest))
                expect_same(found, right, f"regret of the action {outside}", f"that of {nearest}")


@law
def validate_task_takes_every_drawn_task(env: Environment) -> None:
    """What the family draws it does not refuse."""
    for seed in range(3):
        env.validate_task(env.sample_task(key_for(seed, "valid")))


@law
def validate_task_refuses_what_is_not_one(env: Environment) -> None:
    """NaN, infinity, other shapes, another length of an episode, another class."""
    task = env.sample_task(key_for(8, "task"))
    for name in (name for name in dataclasses.asdict(task) if name != "max_steps_in_episode"):
        good = np.asarray(getattr(task, name))
        bad = good.copy().astype(np.float32)
        bad.flat[-1] = np.nan
        shorter = [good[..., :-1]] if good.ndim else []
        for wrong in (bad, np.full_like(bad, np.inf), bad[..., None], *shorter):
            _refused(env, task.replace(**{name: jnp.asarray(wrong)}), f"task.{name}")
    for limit in (0, -1, 2.5, 2**40):
        _refused(env, task.replace(max_steps_in_episode=limit), "task.max_steps_in_episode")
    for other in (None, 3.0, {"means": jnp.zeros(5)}, object()):
        _refused(env, other, "task")


def _refused(env: Environment, task: Any, field: str) -> None:
    try:
        env.validate_task(task)
    except InputError as refusal:
        expect(str(refusal).startswith(f"{field}: got "), "refusal", str(refusal), f"one that begins {field}: got")
    else:
        expect(False, f"validate_task of a wrong {field}", "no error", f"InputError: {field}: got ..., allowed: ...")


LAWS = (
    settings_hash_and_compare,
    step_has_the_form_of_gymnax,
    spec_tells_the_truth,
    default_params_are_a_fixed_task,
    jit_is_eager,
    vmap_is_a_loop,
    a_task_does_not_depend_on_its_batch,
    no_key_is_used_twice,
    a_short_rollout_is_the_start_of_a_long_one,
    episodes_end_and_restart,
    actions_outside_of_the_box_are_clipped,
    regret_is_never_negative_and_nothing_at_the_optimum,
    optimal_return_is_what_the_oracle_earns,
    validate_task_takes_every_drawn_task,
    validate_task_refuses_what_is_not_one,
)
