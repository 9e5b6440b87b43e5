"""UCB-VI on gymnasium's own FrozenLake: a planner with optimism in an environment that icrl has never seen.

    python examples/ucb_vi_on_frozen_lake.py

The agent is told the spaces and the time limit, and nothing else; it learns the map while it walks.
"""

from itertools import count

import gymnasium

import icrl


def returns(name: str, num_episodes: int, horizon: int = 30) -> list[float]:
    """Return of each episode of the agent ``name``, which remembers across episodes."""
    env = gymnasium.make("FrozenLake-v1", is_slippery=False, max_episode_steps=horizon)
    agent = icrl.make_agent(name, env=env)
    agent.reset(seed=0)  # forget everything; the ends of episodes do not
    found = []
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        total = 0.0
        for _ in count():
            action = agent.act(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            agent.observe(obs, action, reward, next_obs, terminated, truncated)
            obs, total = next_obs, total + float(reward)
            if terminated or truncated:
                break
        found.append(total)
    return found


def main(num_episodes: int = 300) -> dict[str, float]:
    """Share of the last third of the episodes in which the goal is reached, by agent."""
    last = num_episodes // 3
    return {name: sum(returns(name, num_episodes)[-last:]) / last for name in ("ucb-vi", "psrl", "uniform")}


if __name__ == "__main__":
    print(main())
