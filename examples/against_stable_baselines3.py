"""A pretrained agent against PPO of stable-baselines3, in environments that stable-baselines3 makes.

    pip install stable-baselines3
    python examples/against_stable_baselines3.py

PPO is trained anew in each task; the pretrained agent sees a task for the first time and learns in its context alone.
"""

from pathlib import Path

import gymnasium
import numpy as np

import icrl
from icrl.gym.agents import HostAgent

ENV, SETTINGS = "icrl:icrl/GaussianBandit-v0", {"num_arms": 5, "horizon": 100}


def play(agent: HostAgent, seed: int) -> float:
    """Return of one task, from the first pull on."""
    env = gymnasium.make(ENV, **SETTINGS)
    obs, _ = env.reset(seed=seed)
    agent.reset(seed=seed)
    total = 0.0
    for _ in range(SETTINGS["horizon"]):
        action = agent.act(obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.observe(obs, action, reward, next_obs, terminated, truncated)
        obs, total = next_obs, total + float(reward)
    return total


def ppo(seed: int, num_steps: int) -> float:
    """Return of PPO in the same task after ``num_steps`` steps in it."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy

    env = gymnasium.make(ENV, **SETTINGS)
    env.reset(seed=seed)  # the task of this seed; later resets keep it
    model = PPO("MlpPolicy", env, seed=seed, n_steps=100, batch_size=50).learn(num_steps)
    return float(evaluate_policy(model, env, n_eval_episodes=1, warn=False)[0])


def main(out: Path = Path("runs/against-sb3"), train_steps: int = 2000, num_tasks: int = 10, ppo_steps: int = 5000):
    """Mean returns: (pretrained agent with no step in the task before, PPO after ``ppo_steps``)."""
    agent = icrl.load_agent(icrl.pretrain("dpt-bandit", preset="smoke", out=out, train_steps=train_steps, **SETTINGS))
    ours = np.mean([play(agent, seed) for seed in range(num_tasks)])
    return float(ours), float(np.mean([ppo(seed, ppo_steps) for seed in range(num_tasks)]))


if __name__ == "__main__":
    print("pretrained {:.1f}, PPO {:.1f}".format(*main()))
