"""Laws of agents, each in an environment that the agent fits: ``TASKS`` rollouts of ``STEPS`` steps side by side."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import InputError
from icrl.core.interact import interact, replay
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Array, Environment, Interaction, Transition
from icrl.testing._law import as_numbers, expect, expect_same, form_of, law, made, title_of
from icrl.testing.environments import expect_action

STEPS, TASKS = 24, 8


class Rollouts(NamedTuple):
    """What an agent did in ``TASKS`` tasks of an environment."""

    env: Environment
    agent: Agent
    keys: Array  # [TASKS] typed
    tasks: Any  # leaves [TASKS, ...]
    together: Interaction  # leaves [TASKS, STEPS, ...]

    @property
    def title(self) -> str:
        """The agent and where it acted."""
        return f"{title_of(self.agent)} in {self.env.name}"


def check_agent(agent: Agent | type[Agent] | str, env: Environment | str = "BernoulliBandit-v0") -> None:
    """Raise ``BrokenLawError`` for the first law of agents that ``agent`` does not obey in ``env``.

    Args:
      agent: an agent made for ``env``, or a class or a registered name, of which ``for_env`` makes one.
      env: an environment that it fits, or its registered name; take one with episodes of a few steps.
    """
    home: Environment = made(environments, env)
    given: Any = agents[agent] if isinstance(agent, str) else agent
    is_class = isinstance(given, type) and issubclass(given, Agent)
    agent = given.for_env(home) if is_class else given
    if not isinstance(agent, Agent):
        raise InputError(f"agent: got {type(agent).__name__}, allowed: an agent, a class of them or a registered name")
    check_form(agent, home)
    rollouts = rollouts_of(home, agent)
    for each in LAWS:
        each(rollouts)


def check_form(agent: Agent, env: Environment) -> None:
    """Raise ``BrokenLawError`` unless ``agent`` can act in ``env`` at all; traced, not run."""
    is_a_pytree(agent)
    settings_hash_into_one_structure(agent)
    act_and_update_keep_their_form(agent, env)


def rollouts_of(env: Environment, agent: Agent) -> Rollouts:
    """The rollouts that the laws look at; ``BrokenLawError`` if there are none because something is raised."""
    keys = jax.random.split(key_for(0, "lives"), TASKS)
    tasks = TaskSet.draw(env, 0, "tasks", TASKS).params
    found: list[Interaction] = []
    it_can_act(agent, env, keys, tasks, found)
    return Rollouts(env, agent, keys, tasks, found[0])


TRACED: list[Agent] = []  # by ``rollout``


@partial(jax.jit, static_argnames="env")
def rollout(key: Array, env: Environment, task: Any, agent: Agent) -> Interaction:
    """One rollout; an argument may be any setting of the agent that is a number."""
    TRACED.append(agent)
    return interact(key, env, task, agent, STEPS)


@partial(jax.jit, static_argnames="env")
def _side_by_side(keys: Array, env: Environment, tasks: Any, agent: Agent) -> Interaction:
    return jax.vmap(lambda key, task: interact(key, env, task, agent, STEPS))(keys, tasks)


def one_of(tasks: Any, i: int = 0) -> Any:
    """Task ``i`` of stacked ones."""
    return jax.tree.map(lambda leaf: leaf[i], tasks)


@law
def is_a_pytree(agent: Agent) -> None:
    """Its numbers are leaves, which ``vmap`` runs over."""
    right = "@icrl.core.struct.dataclass above the class"
    expect("is_pytree" in vars(type(agent)), "class", "no pytree of ours", right)


@law
def settings_hash_into_one_structure(agent: Agent) -> None:
    """Two agents of equal settings are one program."""
    first: Any = jax.tree.structure(agent)
    second: Any = jax.tree.structure(agent.replace())  # type: ignore[attr-defined]
    expect(
        first == second and hash(first) == hash(second),
        "structure of a copy",
        "another",
        "the same: static settings that compare",
    )


@law
def act_and_update_keep_their_form(agent: Agent, env: Environment) -> None:
    """An action is one, in form; structure, shapes and types of the state after ``update`` are those after ``init``."""

    def first_step(key: Array, task: Any) -> tuple[Any, Array, Any]:
        ready = agent.for_task(task)
        obs, env_state = env.reset(key, task)
        state = ready.init(key)
        action = ready.act(key, state, env_state if ready.sees_env_state else obs)
        transition = Transition(obs, action, jnp.float32(0), obs, jnp.bool_(False), jnp.bool_(False))
        return state, action, ready.update(state, transition)

    key = jax.random.key(0)
    before, action, after = jax.eval_shape(first_step, key, jax.eval_shape(env.sample_task, key))
    right = f"{_dtype(env)} of shape {env.spec.action_shape}"
    expect((action.shape, action.dtype) == (env.spec.action_shape, _dtype(env)), "act", form_of(action), right)
    forms: list[Any] = [jax.tree.structure(after), jax.tree.structure(before)]
    expect(forms[0] == forms[1], "state after update", str(forms[0]), str(forms[1]))
    for (path, a), b in zip(jax.tree.leaves_with_path(after), jax.tree.leaves(before), strict=True):
        where = f"state{jax.tree_util.keystr(path)} after update"
        expect((a.shape, a.dtype) == (b.shape, b.dtype), where, form_of(a), f"{form_of(b)}, as after init")


@law
def it_can_act(agent: Agent, env: Environment, keys: Array, tasks: Any, found: list[Interaction]) -> None:
    """The rollouts side by side, which are put into ``found``."""
    found.append(_side_by_side(keys, env, tasks, agent))


@law
def actions_are_actions(seen: Rollouts) -> None:
    """Numbers 0 .. K - 1 in int32, or float32 [A] inside of the box."""
    action, shape = seen.together.history.action, (TASKS, STEPS, *seen.env.spec.action_shape)
    right = f"{_dtype(seen.env)} of shape {shape}"
    expect((action.shape, action.dtype) == (shape, _dtype(seen.env)), "actions", form_of(action), right)
    for one in np.asarray(action).reshape(-1, *seen.env.spec.action_shape):
        expect_action(seen.env, one, "actions")


def _dtype(env: Environment) -> Any:
    return np.dtype(jnp.int32 if env.spec.action_box is None else jnp.float32)


@law
def regret_is_never_negative(seen: Rollouts) -> None:
    """And finite; 0 for an oracle. Where the optimum is unknown it is NaN."""
    if not seen.env.spec.knows_optimum:
        return
    regret = seen.together.curves.regret
    expect(np.all(np.isfinite(regret)) and np.all(regret >= 0), "regret", np.min(regret), "finite, 0 or more")


@law
def vmap_is_a_loop_and_the_key_decides(seen: Rollouts) -> None:
    """The same key gives the same rollout, alone or among others."""
    for i in (0, TASKS - 1):
        alone, again = (rollout(seen.keys[i], seen.env, one_of(seen.tasks, i), seen.agent) for _ in range(2))
        leaves = zip(*(map(as_numbers, jax.tree.leaves(each)) for each in (alone, again)), strict=True)
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in leaves)  # an unknown regret is NaN
        expect(same, "two rollouts on one key", "different ones", "equal ones: draws from the key alone")
        actions = seen.together.history.action[i]
        expect_same(alone.history.action, actions, "actions alone", "those among others")
        expect_same(alone.curves.regret, seen.together.curves.regret[i], "regret alone", "that among others")


@law
def an_agent_that_saw_nothing_can_act(seen: Rollouts) -> None:
    """Also greedily."""
    agent, env = seen.agent, seen.env

    @jax.jit
    def choose(keys: Array, task: Any) -> tuple[Array, Array]:
        ready = agent.for_task(task)
        obs, env_state = env.reset(keys[0], task)
        state, shown = ready.init(keys[1]), env_state if ready.sees_env_state else obs
        return ready.act(keys[2], state, shown), ready.act_greedy(keys[2], state, shown)

    for name, action in zip(("act", "act_greedy"), choose(seen.keys, one_of(seen.tasks)), strict=True):
        expect_action(env, action, name)


@law
def what_it_decides_is_how_it_acts(seen: Rollouts) -> None:
    """``decide`` is ``act``, and what it works out changes nothing that is learned."""
    agent, env = seen.agent, seen.env
    if agent.sees_env_state:
        return

    @jax.jit
    def both_ways(key: Array, task: Any, lived: Any) -> Any:
        def step(state: Any, told: tuple[Array, Transition]) -> tuple[Any, Any]:
            draw, transition = told
            action, decided = ready.decide(draw, state, transition.obs)
            after = [ready.update(before, transition) for before in (decided, state)]
            return after[0], (action, ready.act(draw, state, transition.obs), *after)

        ready = agent.for_task(task)
        return jax.lax.scan(step, ready.init(key), (jax.random.split(key, STEPS), lived))[1]

    own, acted, decided, shown = both_ways(seen.keys[0], one_of(seen.tasks), one_of(seen.together.history))
    expect_same(own, acted, f"actions of decide in {env.name}", "those of act")
    for (path, a), b in zip(jax.tree.leaves_with_path(decided), jax.tree.leaves(shown), strict=True):
        where = f"state{jax.tree_util.keystr(path)} after decide and update"
        expect_same(a, b, where, "that after update alone")


@law
def no_key_is_used_twice(seen: Rollouts) -> None:
    """Read off the program, which need not run."""
    agent, env = seen.agent, seen.env

    @jax.jit
    def both(keys: Array, task: Any) -> Any:
        lived = interact(keys[0], env, task, agent, 3)
        return lived if agent.sees_env_state else replay(keys[1], agent, lived.history)

    with jax.debug_key_reuse(True):
        both.trace(seen.keys, one_of(seen.tasks))


@law
def settings_are_swept_without_a_new_trace(seen: Rollouts) -> None:
    """Numbers among the settings are leaves, and other numbers are the same program."""
    task = one_of(seen.tasks)
    rollout(seen.keys[0], seen.env, task, seen.agent)
    traced = len(TRACED)
    other = jax.tree.map(lambda leaf: leaf * 1.5 if isinstance(leaf, float) else leaf, seen.agent)
    rollout(seen.keys[1], seen.env, task, other)
    expect(len(TRACED) == traced > 0, "traces for other numbers", len(TRACED) - traced, "none")


LAWS = (
    actions_are_actions,
    regret_is_never_negative,
    an_agent_that_saw_nothing_can_act,
    what_it_decides_is_how_it_acts,
    no_key_is_used_twice,
    vmap_is_a_loop_and_the_key_decides,
    settings_are_swept_without_a_new_trace,
)
