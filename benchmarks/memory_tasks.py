"""POPGym's games with uniform players: 1 024 of ours side by side, and PyPI's popgym one at a time. Prints ratios.

Both restart at the end of an episode. popgym is NumPy on one core and has no batched form.

python benchmarks/memory_tasks.py [--level easy] [--steps 200]
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import popgym.envs as reference

from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.envs._levels import LEVELS

MANY, PEER_SECONDS = 1024, 1.0
GAMES = {
    "RepeatPrevious": "RepeatPrevious",
    "RepeatFirst": "RepeatFirst",
    "Autoencode": "Autoencode",
    "CountRecall": "CountRecall",
    "HigherLower": "HigherLower",
    "MultiarmedBandit": "MultiarmedBandit",
    "Battleship": "Battleship",
    "Concentration": "Concentration",
    "MineSweeper": "MineSweeper",
    "CartPole": "PositionOnlyCartPole",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--level", choices=LEVELS, action="append", help="one level; may stand several times")
    parser.add_argument("--game", choices=GAMES, action="append", help="one game; may stand several times")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    for level in args.level or LEVELS:
        for game in args.game or GAMES:
            peer = peer_rate(f"{GAMES[game]}{level.capitalize()}")
            ours = our_rate(game, level, args.steps)
            print(
                f"{game:<17} {level:<7} {ours:12,.0f} steps/s, popgym {peer:8,.0f}, ratio {ours / peer:6,.0f}",
                flush=True,
            )


def our_rate(game: str, level: str, steps: int) -> float:
    env = environments[f"{game}-v0"](level=level)
    task, player = env.default_params, agents["uniform"].for_env(env)
    keys = jax.random.split(jax.random.key(0), MANY)

    @jax.jit
    @jax.vmap
    def lives(key: jax.Array) -> jax.Array:
        history = interact(key, env, task, player, steps).history
        return jnp.sum(history.reward) + jnp.sum(history.next_obs)  # CartPole's rewards alone need no pole

    lives(keys).block_until_ready()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        lives(keys).block_until_ready()
        times.append(time.perf_counter() - start)
    return MANY * steps / statistics.median(times)


def peer_rate(name: str) -> float:
    env = getattr(reference, name)()
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(10_000)]
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < PEER_SECONDS:
        _, _, terminated, truncated, _ = env.step(actions[steps % len(actions)])
        steps += 1
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
