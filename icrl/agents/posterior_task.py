"""Exact posterior sampling in families of finitely many deterministic tasks: what a perfect DPT would do."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.agents._clock import next_step
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import categorical, split
from icrl.core.types import Agent, Array, Environment, Transition

ALL, LAST, STEPS, WINDOW = "all", "last", "steps", "window"
EACH_STEP, EACH_EPISODE, HELD = "each-step", "each-episode", "held"


class PosteriorState(NamedTuple):
    """Which tasks are possible, and where the agent would be in each of them."""

    known: Array  # [N] bool, tasks that agree with the context; actions rest on these
    recent: Array  # [N] bool, tasks that agree with the episode under way
    past: Array  # [W, N] bool, tasks that agree with each of the latest W episodes; W = 0 unless memory is a window
    states: Any  # environment states [N, ...], one under each task
    step: Array  # [] int32 in 0 .. H - 1, steps done in the episode
    task: Array  # [] int32, the one that is played, unless a new one is drawn at each step
    key: Array  # typed key of the draws to come


@agents.register("posterior-task", paper="Lee et al. 2023, section 6")
@struct.dataclass
class PosteriorTask(Agent):
    """Draws a task from the posterior over all tasks of the family and plays its optimal action.

    The posterior of a deterministic family is uniform over the tasks that explain everything in the context. Its
    ``memory`` is what the context holds:

    - "all": all episodes, each from its end on (the online protocol of Lee et al.); "last": the last one alone (their
      released code).
    - "steps": all steps so far, those of the episode under way too; "window": of these the latest ``window`` episodes
      and the one under way, what a rolling context shows.

    How often a task is ``drawn``: at "each-step", which is what a model does that samples from its prediction, a random
    walk between hypotheses; at the start of "each-episode", which is the posterior sampling of Lee et al.'s theorem 1;
    or it is "held" until the context refutes it.

    Needs a family that numbers its tasks (``num_tasks``, ``task``, ``begin``, ``advance``). Episodes are cut where they
    are terminated or truncated, at the latest after H steps. When no task explains what the context shows (another
    environment than was said, or rewards with noise), the posterior begins again: all tasks are possible.
    """

    env: Any = struct.field(pytree_node=False)
    memory: str = setting(ALL, choices=(ALL, LAST, STEPS, WINDOW), static=True, help="what the context holds")
    window: int = setting(1, low=1, high=64, static=True, help="W, whole episodes in a memory that is a window")
    drawn: str = setting(
        EACH_STEP, choices=(EACH_STEP, EACH_EPISODE, HELD), static=True, help="when a new task is drawn"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.env, Environment), "env", self.env, "an Environment")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        numbered = env.num_tasks is not None and env.is_deterministic
        allowed = "one that is_deterministic, with num_tasks, task, begin and advance"
        require(numbered, "env", env.name, allowed, "this agent needs to count the tasks that explain what it saw")
        return cls(**{"env": env, **settings})

    def init(self, key: Array) -> PosteriorState:
        key_task, key_later = split(key)
        everything = jnp.ones(self.env.num_tasks, bool)
        past = jnp.ones((self.window if self.memory == WINDOW else 0, self.env.num_tasks), bool)
        begun, task = self._begin(jnp.zeros(2, jnp.float32)), _one_of(key_task, everything)
        return PosteriorState(everything, everything, past, begun, jnp.int32(0), task, key_later)

    def act(self, key: Array, state: PosteriorState, obs: Array) -> Array:
        task = _one_of(key, state.known) if self.drawn == EACH_STEP else state.task
        there = jax.tree.map(lambda leaf: leaf[task], self._states(state, obs))
        return self.env.optimal_action(self.env.task(task), there)

    def update(self, state: PosteriorState, transition: Transition) -> PosteriorState:
        tasks, before = jax.vmap(self.env.task)(jnp.arange(self.env.num_tasks)), self._states(state, transition.obs)
        after, reward = jax.vmap(self.env.advance, in_axes=(0, 0, None))(tasks, before, transition.action)
        explains = (reward == transition.reward) & jnp.all(after.position == transition.next_obs[None], axis=-1)
        step, over = next_step(self.env.spec.max_steps_in_episode, state.step, transition)
        state = self._remember(state, state.recent & explains, over)._replace(states=after, step=step)
        return state if self.drawn == EACH_STEP else self._draw(state, over)

    def _remember(self, state: PosteriorState, recent: Array, over: Array) -> PosteriorState:
        """The memory once ``recent`` [N] are the tasks that agree with the episode, which may be ``over``."""
        possible: dict[str, Array | bool] = {ALL: state.known, STEPS: state.known, LAST: True}
        older = jnp.all(state.past, axis=0) if self.memory == WINDOW else possible[self.memory]
        refuted = ~jnp.any(recent & older)
        past = jnp.where(over, jnp.concatenate([state.past, recent[None]])[1:], state.past) | refuted
        if self.memory == WINDOW:  # an older episode leaves as one ends
            context = jnp.all(past, axis=0) & (recent | over)
        else:
            enters = over | (self.memory == STEPS)
            context = jnp.where(enters, recent & older, state.known)
        return state._replace(known=context | refuted, recent=recent | over | refuted, past=past)

    def _draw(self, state: PosteriorState, over: Array) -> PosteriorState:
        """A new task to play, if it is time for one."""
        key_task, key_later = split(state.key)
        ends = over if self.drawn == EACH_EPISODE else ~state.known[state.task]
        return state._replace(task=jnp.where(ends, _one_of(key_task, state.known), state.task), key=key_later)

    def _states(self, state: PosteriorState, obs: Array) -> Any:
        """States [N, ...] under each task, those of a new episode at its first step."""
        first = state.step == 0
        return jax.tree.map(lambda new, old: jnp.where(first, new, old), self._begin(obs), state.states)

    def _begin(self, obs: Array) -> Any:
        begun = self.env.begin(obs.astype(jnp.int32))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.env.num_tasks, *leaf.shape)), begun)


def _one_of(key: Array, possible: Array) -> Array:
    """One of the ``possible`` [N], uniformly, [] int32; the typed key is consumed."""
    return categorical(key, jnp.where(possible, jnp.float32(0.0), -jnp.inf))
