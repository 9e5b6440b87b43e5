"""An own gridworld in gymnax's convention, and a learner of ours in many tasks of it at once.

    python examples/own_gridworld.py

gymnax's environments know one task and no optimum. ``task_sampler`` makes a family of one: here the goal moves.
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.envs import GymnaxEnvironment
from icrl.evaluation.online import Trial

SIDE, MOVES = 5, jnp.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


@struct.dataclass
class Position(environment.EnvState):
    cell: jax.Array  # [2] int32
    time: int


@struct.dataclass
class Goal(environment.EnvParams):
    cell: jax.Array = struct.field(default_factory=lambda: jnp.array([SIDE - 1, SIDE - 1]))
    max_steps_in_episode: int = 20


class Grid(environment.Environment[Position, Goal]):
    name, num_actions, default_params = "Grid", 4, Goal()

    def reset_env(self, key, params):
        return jnp.zeros(2), Position(cell=jnp.zeros(2, jnp.int32), time=0)

    def step_env(self, key, state, action, params):
        cell = jnp.clip(state.cell + MOVES[action], 0, SIDE - 1)
        arrived = jnp.all(cell == params.cell)
        return cell / (SIDE - 1), Position(cell=cell, time=state.time + 1), jnp.float32(arrived), arrived, {}

    def action_space(self, params=None):
        return spaces.Discrete(4)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (2,), jnp.float32)


def main(num_tasks: int = 64, num_steps: int = 4000, learner: str = "ppo") -> tuple[float, float]:
    """Reward a step of a learner in the first and in the last tenth of its time, mean over tasks."""
    env = GymnaxEnvironment(Grid(), task_sampler=lambda key: Goal(cell=jax.random.randint(key, (2,), 1, SIDE)))
    trial = Trial(env, TaskSet.draw(env, seed=0, purpose="goals", num_tasks=num_tasks), num_steps, seed=0)
    reward = trial.curves(agents[learner].for_env(env), label="", fields=("reward",))["reward"]  # [N, T]
    return float(reward[:, : num_steps // 10].mean()), float(reward[:, -num_steps // 10 :].mean())


if __name__ == "__main__":
    print("reward a step, first and last tenth: {:.3f}, {:.3f}".format(*main()))
