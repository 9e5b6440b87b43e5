"""Gaussian bandit with Thompson sampling, many tasks side by side: ours against vectorised NumPy. Prints a ratio.

python benchmarks/bandit_steps.py [--tasks 1024] [--steps 500]
"""

import argparse
import statistics
import time

import jax
import numpy as np

from icrl.core.interact import interact
from icrl.core.registry import agents
from icrl.core.seeding import key_for, keys_for
from icrl.core.tasks import TaskSet
from icrl.envs.gaussian_bandit import GaussianBandit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    total = args.tasks * args.steps
    peer = total / median_seconds(lambda: numpy_rollout(args.tasks, args.steps))
    print(f"numpy, thompson-gaussian {peer:,.0f} steps/s")
    for name in ("thompson-gaussian", "ucb", "uniform", "posterior-gaussian"):
        ours = total / median_seconds(our_rollout(name, args.tasks, args.steps))
        print(f"icrl, {name:<18} {ours:,.0f} steps/s, {ours / peer:.1f} x numpy's Thompson sampling")


def median_seconds(call, repeats: int = 7) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def our_rollout(name: str, num_tasks: int, steps: int):
    env = GaussianBandit(horizon=steps)
    tasks, agent = TaskSet.draw(env, 0, "test", num_tasks), agents[name].for_env(env)
    keys = keys_for(key_for(0, "benchmark"), tasks.ids)
    run = jax.jit(jax.vmap(lambda key, task: interact(key, env, task, agent, steps).curves.regret.sum()))
    return lambda: run(keys, tasks.params).block_until_ready()


def numpy_rollout(num_tasks: int, steps: int, arms: int = 5, noise: float = 0.3) -> float:
    rng = np.random.default_rng(0)
    means = rng.uniform(size=(num_tasks, arms))
    counts, totals = np.zeros((num_tasks, arms)), np.zeros((num_tasks, arms))
    rows, regret = np.arange(num_tasks), 0.0
    for _ in range(steps):
        precision = 12.0 + counts / noise**2
        mean = (6.0 + totals / noise**2) / precision
        arm = np.argmax(mean + rng.standard_normal((num_tasks, arms)) / np.sqrt(precision), axis=1)
        totals[rows, arm] += means[rows, arm] + noise * rng.standard_normal(num_tasks)
        counts[rows, arm] += 1
        regret += (means.max(1) - means[rows, arm]).sum()
    return regret


if __name__ == "__main__":
    main()
