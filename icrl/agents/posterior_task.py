"""Exact posterior action sampling in families of finitely many deterministic tasks: what a perfect DPT would do."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp

from icrl.agents._clock import next_step
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.types import Agent, Array, Environment, Transition

MEMORIES = ("all", "episode", "now")


class PosteriorState(NamedTuple):
    """Which tasks are possible, and where the agent would be in each of them."""

    known: Array  # [N] bool, tasks that agree with the context; actions rest on these
    recent: Array  # [N] bool, tasks that agree with the episode under way
    states: Any  # environment states [N, ...], one under each task
    step: Array  # [] int32 in 0 .. H - 1, steps done in the episode


@agents.register("posterior-task", paper="Lee et al. 2023, section 6")
@struct.dataclass
class PosteriorTask(Agent):
    """At each step draws a task from the posterior over all tasks and plays its optimal action (Lee et al., theorem 1).

    The posterior of a deterministic family is uniform over the tasks that explain everything in the context. As in
    the online protocol of the paper, what an episode shows enters the context at its end; ``memory`` says whether
    the context is "all" episodes so far or only the last "episode" (their released code). With "now" it is all steps
    so far, those of the episode under way too: what a rolling context shows. Needs a family that numbers its tasks
    (``num_tasks``, ``task``, ``begin``, ``advance``).

    Episodes are cut where they are terminated or truncated, at the latest after H steps. When no task explains what the
    context shows (another environment than was said, or rewards with noise), the posterior begins again: all tasks are
    possible.
    """

    env: Any = struct.field(pytree_node=False)
    memory: str = setting("all", choices=MEMORIES, static=True, help="episodes that the context holds")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.env, Environment), "env", self.env, "an Environment")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        numbered = env.num_tasks is not None and env.is_deterministic
        require(numbered, f"environment {env.name}", "no numbered tasks", "a numbered family", "this agent needs it")
        return cls(**{"env": env, **settings})

    def init(self, key: Array) -> PosteriorState:
        del key
        everything = jnp.ones(self.env.num_tasks, bool)
        return PosteriorState(everything, everything, self._begin(jnp.zeros(2, jnp.float32)), jnp.int32(0))

    def act(self, key: Array, state: PosteriorState, obs: Array) -> Array:
        drawn = jax.random.categorical(key, jnp.where(state.known, jnp.float32(0.0), -jnp.inf))
        there = jax.tree.map(lambda leaf: leaf[drawn], self._states(state, obs))
        return self.env.optimal_action(self.env.task(drawn), there)

    def update(self, state: PosteriorState, transition: Transition) -> PosteriorState:
        tasks, before = jax.vmap(self.env.task)(jnp.arange(self.env.num_tasks)), self._states(state, transition.obs)
        after, reward = jax.vmap(self.env.advance, in_axes=(0, 0, None))(tasks, before, transition.action)
        explains = (reward == transition.reward) & jnp.all(after.position == transition.next_obs[None], axis=-1)
        recent = state.recent & explains
        step, over = next_step(self.env.spec.max_steps_in_episode, state.step, transition)
        context = recent if self.memory == "episode" else state.known & recent
        refuted = ~jnp.any(context)
        known = jnp.where(over | refuted | (self.memory == "now"), context | refuted, state.known)
        return PosteriorState(known, recent | over | refuted, after, step)

    def _states(self, state: PosteriorState, obs: Array) -> Any:
        """States [N, ...] under each task, those of a new episode at its first step."""
        first = state.step == 0
        return jax.tree.map(lambda new, old: jnp.where(first, new, old), self._begin(obs), state.states)

    def _begin(self, obs: Array) -> Any:
        begun = self.env.begin(obs.astype(jnp.int32))
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.env.num_tasks, *leaf.shape)), begun)
