"""What all tabular MDPs share: numbered states shown as they are, episodes of H steps, exact values.

A task is two tables, P(s' | s, a) and the expected reward r(s, a), with the optimal values that follow from them.
The values are kept in the task because the loop asks for them at every step and a plan costs as much as an episode.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core import struct
from icrl.core.errors import require, require_int
from icrl.core.fields import setting
from icrl.core.scenes import Episode, Graph, circle
from icrl.core.threefry import apart, normal, uniform
from icrl.core.types import Array, Environment, EnvSpec, TaskParams
from icrl.planning.backward_induction import backward_induction

MAX_STATES = 512  # the table of transitions has its square
MAX_ACTIONS = 256
MAX_HORIZON = 4096  # the table of values has a layer for each step
START = 0  # every episode begins here
TOLERANCE = 1e-4  # of a row's sum, and of values relative to the largest


@struct.dataclass
class TabularTask(TaskParams):
    """The tables of one MDP and its optimal values; ``TabularMDP.task_of`` makes it from the first two."""

    transition: Array = struct.field(default_factory=lambda: jnp.ones((1, 1, 1)))  # P [S, K, S] float32, rows sum to 1
    reward: Array = struct.field(default_factory=lambda: jnp.zeros((1, 1)))  # [S, K] float32, expected
    q: Array = struct.field(default_factory=lambda: jnp.zeros((1, 1, 1)))  # Q* [H, S, K] float32, by step


@struct.dataclass
class TabularState:
    """Where and when the agent is."""

    position: Array  # [] int32 in 0 .. S - 1
    time: Array  # [] int32, steps of this episode


@dataclasses.dataclass(frozen=True)
class TabularMDP(Environment[TabularTask]):
    """S states, K actions, episodes of H steps from state 0; the observation is the state's number, [1] float32.

    Rewards are r(s, a) + ``noise_at(s)`` N(0, 1). The end of an episode is a time limit (``truncated``); only an
    ``EndingMDP`` terminates. The next state is read off one uniform number and the noise is added to the mean, so that
    competitors on one key who stand in the same state and act alike see the same.
    """

    keys_in_place = True

    num_states: int = setting(10, low=2, high=MAX_STATES, help="S, states")
    num_actions: int = setting(5, low=1, high=MAX_ACTIONS, help="K, actions")
    horizon: int = setting(10, low=1, high=MAX_HORIZON, help="H, steps in an episode")
    noise_std: float = setting(1.0, low=0.0, help="standard deviation of the reward noise")

    def noise_at(self, position: Array) -> Array | float:
        """Standard deviation of the rewards of a state."""
        del position
        return self.noise_std

    def is_end(self, params: TabularTask, position: Array) -> Array:
        """Whether entering a state terminates the episode, [] bool."""
        del params, position
        return jnp.bool_(False)

    def task_of(self, transition: Array, reward: Array) -> TabularTask:
        """The task with P [S, K, S] and r [S, K], float32; traceable, what is no task ``validate_task`` refuses."""
        q = backward_induction(transition, jnp.broadcast_to(reward, (self.horizon, *reward.shape)))
        return TabularTask(transition=transition, reward=reward, q=q, max_steps_in_episode=self.horizon)

    @property
    def spec(self) -> EnvSpec:
        states = (self.num_states,)
        return EnvSpec(type(self).__name__, self.num_actions, (1,), 0.0, self.num_states - 1.0, self.horizon, states)

    def reset_env(self, key: Array, params: TabularTask) -> tuple[Array, TabularState]:
        del key, params
        return begin(jnp.int32(START))

    def random_state(self, key: Array, params: TabularTask) -> tuple[Array, TabularState]:
        """A uniformly drawn state at the start of an episode."""
        del params
        return begin(jax.random.randint(key, (), 0, self.num_states, jnp.int32))

    def step_env(
        self, key: Array, state: TabularState, action: Array, params: TabularTask
    ) -> tuple[Array, TabularState, Array, Array, dict[str, Array]]:
        key_next, key_noise = apart(key)
        noise = self.noise_at(state.position) * normal(key_noise)
        reward = params.reward[state.position, action] + noise
        position = draw(key_next, params.transition[state.position, action])
        ended = self.is_end(params, position)
        return _observe(position), TabularState(position, state.time + 1), reward, ended, {}

    def is_truncated(self, state: TabularState, params: TabularTask) -> Array:
        return state.time >= params.max_steps_in_episode

    def optimal_action(self, params: TabularTask, state: TabularState) -> Array:
        """The first of the actions with the largest Q* at this step."""
        return jnp.argmax(params.q[state.time, state.position]).astype(jnp.int32)

    def regret(self, params: TabularTask, state: TabularState, action: Array) -> Array:
        """V*(state) - Q*(state, action), what the action is expected to cost of this episode's return, [] float32."""
        q = params.q[state.time, state.position]
        return jnp.max(q) - q[action]

    def optimal_return(self, params: TabularTask) -> Array:
        """V* at the start of an episode, [] float32."""
        return jnp.max(params.q[0, START])

    def places(self) -> np.ndarray:
        """Where a picture puts the states, [S, 2] in [0, 1] from left to right and from top to bottom."""
        return circle(self.num_states)

    def scene(self, params: TabularTask, state: TabularState, episode: Episode) -> Graph:
        reach, worth = (np.asarray(table[state.position]) for table in (params.transition, params.reward))
        labels = tuple(map(str, range(self.num_states)))
        return Graph(self.places(), np.asarray(episode.obs).astype(int)[:, 0], reach, worth, labels)

    def validate_task(self, params: TabularTask) -> None:
        require(type(params) is TabularTask, "task", type(params).__name__, "TabularTask")
        require_int("task.max_steps_in_episode", params.max_steps_in_episode, self.horizon, self.horizon)
        table = (self.num_states, self.num_actions)
        shapes = {"transition": (*table, self.num_states), "reward": table, "q": (self.horizon, *table)}
        for name, shape in shapes.items():
            found = np.asarray(getattr(params, name))
            require(found.shape == shape, f"task.{name}", found.shape, f"shape {shape}")
            require(found.dtype == np.float32, f"task.{name}", str(found.dtype), "float32")
            require(bool(np.isfinite(found).all()), f"task.{name}", "NaN or infinity", "finite numbers")
        rows = np.asarray(params.transition)
        lowest, worst = rows.min(), np.abs(rows.sum(-1) - 1.0).max()
        require(bool(lowest >= 0.0), "task.transition", float(lowest), "probabilities")
        require(bool(worst <= TOLERANCE), "task.transition", f"a row {worst:.2g} off", "rows that sum to 1")
        q = np.asarray(self.task_of(params.transition, params.reward).q)
        error = np.abs(np.asarray(params.q) - q).max()
        right = bool(error <= TOLERANCE * max(1.0, np.abs(q).max()))
        require(right, "task.q", f"values {error:.2g} off", "those of its tables; use task_of")


def begin(position: Array) -> tuple[Array, TabularState]:
    """The start of an episode in the state ``position`` [] int32: (obs [1], state)."""
    return _observe(position), TabularState(position, jnp.int32(0))


def _observe(position: Array) -> Array:
    return position.astype(jnp.float32)[None]


def draw(key: Array, probs: Array) -> Array:
    """A number from ``probs`` [S], by inversion, [] int32; never one of probability zero."""
    below = jnp.cumsum(probs)
    # the sum as it came out in float32 is the scale, so that no draw falls behind the last possible state
    return jnp.sum(uniform(key) * below[-1] >= below[:-1]).astype(jnp.int32)
