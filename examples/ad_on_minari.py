"""Algorithm distillation of a Minari dataset: record, import, train, and judge by histories that were held out.

    python examples/ad_on_minari.py        # wants the extra minari

Any Minari dataset with Discrete actions will do; this one is recorded here, by a learner that icrl does not know.
"""

import os
from pathlib import Path

import gymnasium
import numpy as np

import icrl
from icrl.datasets import import_histories


def record(dataset: str, num_episodes: int) -> None:
    """Q-learning on FrozenLake, written as the Minari dataset ``dataset``."""
    import minari

    env = minari.DataCollector(gymnasium.make("FrozenLake-v1", is_slippery=False, max_episode_steps=30))
    draw, q = np.random.default_rng(0), np.zeros((16, 4))
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        done = False
        while not done:
            explores = draw.random() < max(0.05, 1 - 2 * episode / num_episodes)
            best = draw.choice(np.flatnonzero(q[obs] == q[obs].max()))
            action = int(draw.integers(4) if explores else best)
            after, reward, terminated, truncated, _ = env.step(action)
            q[obs, action] += 0.5 * (reward + 0.95 * q[after].max() * (not terminated) - q[obs, action])
            obs, done = after, terminated or truncated
    env.create_dataset(dataset, algorithm_name="Q-learning")
    env.close()


def main(out: Path = Path("runs/minari"), num_episodes: int = 2000, train_steps: int = 1000) -> Path:
    """The folder of the run."""
    datasets = (out / "datasets").resolve()  # Minari wants a whole path
    os.environ["MINARI_DATASETS_PATH"] = str(datasets)
    record("lake/q-learning-v0", num_episodes)
    import_histories(datasets / "lake" / "q-learning-v0", out / "histories")
    settings = {"data": str(out / "histories"), "context_steps": 30, "train_steps": train_steps}
    return icrl.run("ad", preset="smoke", out=out / "run", **settings).folder


if __name__ == "__main__":
    print(main() / "report.html")
