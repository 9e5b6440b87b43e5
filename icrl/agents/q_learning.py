"""Tabular Q-learning with an epsilon-greedy policy: a source of learning histories and a competitor from scratch."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp

from icrl.agents._arm_agent import argmax_any, argmax_random_ties
from icrl.agents._planner import finite_spec
from icrl.core import struct
from icrl.core.fields import setting
from icrl.core.registry import agents
from icrl.core.threefry import below, fraction, words
from icrl.core.types import Agent, Array, Environment, EnvSpec, Grid, Transition


class QState(NamedTuple):
    """What has been learned, and how long it took."""

    q: Array  # [S, K] float32, action values
    time: Array  # [] int32, transitions seen


@agents.register("q-learning", paper="Watkins 1989; Sutton & Barto 2018, section 6.5")
@struct.dataclass
class QLearning(Agent):
    """Q(s, a) += step_size (r + discount max_b Q(s', b) - Q(s, a)), acting epsilon-greedily, ties at random.

    Epsilon falls linearly from ``epsilon`` to ``final_epsilon`` over ``anneal_steps`` transitions. A time limit is not
    an end: only ``terminated`` cuts the target off. ``initial_value`` above what is reachable drives systematic
    exploration (optimism); with 0 the first reward has to be found by chance. Needs observations that number
    finitely many states.

    ``for_env`` makes two learners. Told ``anneal_steps``, as a source of histories is, it explores at random and less
    and less, from Q = 0. Else it is optimistic, greedy and slow, as the environment says: discount 1 - 1/H, and half
    of r_max / (1 - discount) = r_max H as the initial value (an unknown r_max counts as 1). Tuning tries other shares
    of r_max H, and r_max alone, which is enough where a reward is a goal found.
    """

    spec: EnvSpec = struct.field(pytree_node=False)
    step_size: float = setting(0.5, low=0.0, high=1.0, open_low=True, help="share of the error that an update removes")
    discount: float = setting(0.95, low=0.0, high=1.0, help="discount of the value of the next state")
    initial_value: float = setting(0.0, low=-1e6, high=1e6, help="Q before any transition")
    epsilon: float = setting(1.0, low=0.0, high=1.0, help="probability of a random action at the start")
    final_epsilon: float = setting(0.05, low=0.0, high=1.0, help="the same after anneal_steps")
    anneal_steps: float = setting(2000, low=0.0, open_low=True, help="transitions in which epsilon falls")

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        known: dict[str, Any] = {"spec": finite_spec(env)}
        if "anneal_steps" not in settings:
            horizon, top = env.spec.max_steps_in_episode, 1.0 if env.r_max is None else env.r_max
            known |= {"discount": 1.0 - 1.0 / horizon, "initial_value": top * horizon / 2}
            known |= {"step_size": 0.2, "epsilon": 0.0, "final_epsilon": 0.0}
        return cls(**{**known, **settings})

    @classmethod
    def candidates(cls, env: Environment) -> Grid:
        top = 1.0 if env.r_max is None else env.r_max
        ceiling = top * env.spec.max_steps_in_episode
        return (
            {"initial_value": top, "step_size": 1.0},
            {"initial_value": top, "step_size": 1.0, "epsilon": 0.05, "final_epsilon": 0.05},
            {"initial_value": ceiling / 4},
            {"initial_value": 3 * ceiling / 4},
        )

    def init(self, key: Array) -> QState:
        del key
        shape = (self.spec.num_states, self.spec.num_actions)
        return QState(jnp.full(shape, self.initial_value, jnp.float32), jnp.int32(0))

    def act(self, key: Array, state: QState, obs: Array) -> Array:
        explores, anything, tie = words(key, 3)
        progress = jnp.clip(state.time / self.anneal_steps, 0.0, 1.0)
        epsilon = self.epsilon + progress * (self.final_epsilon - self.epsilon)
        best = argmax_any(tie, state.q[self.spec.state_index(obs)])
        return jnp.where(fraction(explores) < epsilon, below(anything, self.spec.num_actions), best)

    def act_greedy(self, key: Array, state: QState, obs: Array) -> Array:
        """The action of the largest value, ties at random."""
        return argmax_random_ties(key, state.q[self.spec.state_index(obs)])

    def update(self, state: QState, transition: Transition) -> QState:
        here, there = self.spec.state_index(transition.obs), self.spec.state_index(transition.next_obs)
        bootstrap = jnp.where(transition.terminated, 0.0, jnp.max(state.q[there]))
        error = transition.reward + self.discount * bootstrap - state.q[here, transition.action]
        return QState(state.q.at[here, transition.action].add(self.step_size * error), state.time + 1)
