"""Thompson sampling on Gaussian bandits in NumPy, vectorised over tasks."""

import numpy as np
from turns import serve, settings


def rollout(num_tasks: int, steps: int, arms: int = 5, noise: float = 0.3) -> float:
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


def main() -> None:
    given = settings()
    count, steps = given["count"], given["steps"]
    serve(lambda: rollout(count, steps), count * steps, "steps", ("numpy",))


if __name__ == "__main__":
    main()
