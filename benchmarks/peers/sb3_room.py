"""Dark Room as a gymnasium environment in plain Python, in stable-baselines3's ``DummyVecEnv``.

Not ours, which would bring a call into jax at every step: this is the environment that somebody writes for
stable-baselines3. ``learner`` false: uniform players; true: its PPO, in the settings of Son et al. 2025.
"""

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from turns import serve, settings

MOVES = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


class Room(gymnasium.Env):
    """9 x 9 cells, 20 steps from the centre, reward 1 for each that ends in the goal."""

    observation_space = spaces.Box(0, 8, (2,), np.float32)
    action_space = spaces.Discrete(len(MOVES))

    def __init__(self, number: int):
        self.goal = (number // 9 % 9, number % 9)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.y, self.time = 4, 4, 0
        return np.array((self.x, self.y), np.float32), {}

    def step(self, action):
        dx, dy = MOVES[action]
        self.x, self.y = min(max(self.x + dx, 0), 8), min(max(self.y + dy, 0), 8)
        self.time += 1
        reward = float((self.x, self.y) == self.goal)
        return np.array((self.x, self.y), np.float32), reward, False, self.time == 20, {}


def main() -> None:
    given = settings()
    count, steps = given["count"], given["steps"]
    rooms = DummyVecEnv([lambda number=number: Room(number) for number in range(count)])
    if given["learner"]:
        learner = PPO("MlpPolicy", rooms, n_steps=steps, batch_size=given["batch"], n_epochs=given["epochs"])

        def work() -> None:
            learner.learn(count * steps)
    else:
        rooms.reset()
        actions = np.random.default_rng(0).integers(len(MOVES), size=(steps, count))

        def work() -> None:
            for row in actions:
                rooms.step(row)

    serve(work, count * steps, "steps", ("stable-baselines3", "gymnasium", "torch", "numpy"))


if __name__ == "__main__":
    main()
