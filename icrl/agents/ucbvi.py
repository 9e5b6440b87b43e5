"""UCB-VI: optimistic planning in an empirical model, for episodic tasks with numbered states (Azar et al. 2017)."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import struct

from icrl.agents.arm_agent import argmax_random_ties
from icrl.agents.q_learning import finite_spec
from icrl.registry import agents
from icrl.types import Agent, Array, Environment, EnvSpec, Transition


class UCBVIState(NamedTuple):
    """Counts of all that happened, and the plan of the episode under way."""

    visits: Array  # [S, K, S] int32, transitions seen
    reward: Array  # [S, K] float32, sum of rewards
    q: Array  # [H, S, K] float32, optimistic values by step of the episode
    step: Array  # [] int32 in 0 .. H - 1, steps done in the episode


@agents.register("ucb-vi", paper="Azar et al. 2017")
@struct.dataclass
class UCBVI(Agent):
    """Backward induction at the end of each episode: Q_h = min((H - h) r_max, r + bonus + P V_{h+1}).

    The bonus is Hoeffding's form, ``bonus_scale`` r_max (H - h) sqrt(ln(5 S K N / delta) / n(s, a)) with N transitions
    so far; pairs never tried keep (H - h) r_max. The paper's UCBVI-CH has a scale of 7 sqrt(ln ...), which explores for
    all of a short life; the default is a practical one. Rewards are estimated, transitions do not depend on the step,
    every episode lasts H = ``max_steps_in_episode`` steps. Ties are broken at random.
    """

    spec: EnvSpec = struct.field(pytree_node=False)
    bonus_scale: Any = 0.01
    delta: Any = 0.05
    r_max: Any = 1.0

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        return cls(spec=finite_spec(env), **settings)

    def init(self, key: Array) -> UCBVIState:
        del key
        states, actions = self.spec.num_states, self.spec.num_actions
        assert states is not None
        visits, reward = jnp.zeros((states, actions, states), jnp.int32), jnp.zeros((states, actions), jnp.float32)
        return UCBVIState(visits, reward, self._plan(visits, reward), jnp.int32(0))

    def act(self, key: Array, state: UCBVIState, obs: Array) -> Array:
        return argmax_random_ties(key, state.q[state.step, self.spec.state_index(obs)])

    def update(self, state: UCBVIState, transition: Transition) -> UCBVIState:
        here, there = self.spec.state_index(transition.obs), self.spec.state_index(transition.next_obs)
        visits = state.visits.at[here, transition.action, there].add(1)
        reward = state.reward.at[here, transition.action].add(transition.reward)
        # counted here and not read off the transition, so that tasks side by side plan together and only then
        step = (state.step + 1) % self.spec.max_steps_in_episode
        q = jax.lax.cond(step == 0, self._plan, lambda *_: state.q, visits, reward)
        return UCBVIState(visits, reward, q, step)

    def _plan(self, visits: Array, reward: Array) -> Array:
        """Optimistic Q [H, S, K]."""
        horizon = self.spec.max_steps_in_episode
        n = visits.sum(-1)
        mean, transition = reward / jnp.maximum(n, 1), visits / jnp.maximum(n, 1)[..., None]
        log = jnp.log(5.0 * n.size * jnp.maximum(n.sum(), 1) / self.delta)
        width = self.bonus_scale * self.r_max * jnp.sqrt(log / jnp.maximum(n, 1))

        def backwards(value: Array, left: Array) -> tuple[Array, Array]:
            q = jnp.minimum(left * self.r_max, mean + left * width + transition @ value)
            q = jnp.where(n > 0, q, left * self.r_max)
            return q.max(-1), q

        _, q = jax.lax.scan(backwards, jnp.zeros(n.shape[0]), jnp.arange(1, horizon + 1, dtype=jnp.float32))
        return q[::-1]
