"""Share a pretrained agent: one file with weights and a card, no code in it, loaded without the run that made it.

    python examples/share_agent.py

On the command line: ``icrl export-agent runs/share/run runs/share/bandit.safetensors``.
"""

from pathlib import Path

import gymnasium

import icrl
from icrl.gym.agents import HostAgent

PULLS = 20


def play(agent: HostAgent, seed: int) -> float:
    """Return of one task that the agent has never seen."""
    env = gymnasium.make("icrl:icrl/GaussianBandit-v0", num_arms=3, horizon=PULLS)
    obs, _ = env.reset(seed=seed)
    agent.reset(seed=seed)
    total = 0.0
    for _ in range(PULLS):
        action = agent.act(obs)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.observe(obs, action, reward, next_obs, terminated, truncated)
        obs, total = next_obs, total + float(reward)
    return total


def main(out: Path = Path("runs/share"), train_steps: int = 1000) -> tuple[float, float]:
    """The return in one task of the agent as it was trained, and of the agent read from the file: equal."""
    folder = icrl.pretrain("dpt-bandit", preset="smoke", out=out / "run", train_steps=train_steps)
    file = out / "bandit.safetensors"
    card = icrl.export_agent(folder, file, licence="CC-BY-4.0")
    print(f"{file}: {file.stat().st_size:,} bytes, {card['num_parameters']:,} parameters, {card['licence']}")
    trained, shared = icrl.load_agent(folder), icrl.load_agent(file)
    return play(trained, seed=1), play(shared, seed=1)


if __name__ == "__main__":
    print(main())
