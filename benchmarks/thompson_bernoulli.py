"""A million Bernoulli bandits of two arms, 25 pulls each, Thompson sampling: seconds of wall clock and of CPU.

python benchmarks/thompson_bernoulli.py [--tasks 1000000] [--steps 25] [--threads 2]
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for, keys_for
from icrl.envs.bernoulli_bandit import BernoulliBandit

SIDE_BY_SIDE = 2000  # tasks in one step of the scan
PART = 50_000  # tasks in one jitted call


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    env = BernoulliBandit(num_arms=2, horizon=args.steps)
    agent = agents["thompson-bernoulli"].for_env(env)

    @jax.jit
    def part(first):
        def some(low):
            ids = low + jnp.arange(SIDE_BY_SIDE, dtype=jnp.uint32)
            life = jax.vmap(lambda key, task: interact(key, env, task, agent, args.steps).curves.reward.sum())
            tasks = jax.vmap(env.sample_task)(keys_for(key_for(0, "tasks"), ids))
            return life(keys_for(key_for(0, "lives"), ids), tasks)

        return jax.lax.map(some, first + jnp.arange(0, PART, SIDE_BY_SIDE, dtype=jnp.uint32)).mean()

    part(jnp.uint32(0)).block_until_ready()  # compiles
    wall, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(args.threads) as pool:
        means = list(pool.map(lambda first: float(part(jnp.uint32(first))), range(0, args.tasks, PART)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{args.tasks:,} tasks, {args.steps} steps: {wall:.1f} s, {cpu:.1f} s of CPU, reward {np.mean(means):.4f}")


if __name__ == "__main__":
    main()
