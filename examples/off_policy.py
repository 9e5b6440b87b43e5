"""Off-policy evaluation of logged bandit data: what would another policy have earned?

    python examples/off_policy.py

A log holds contexts, actions, rewards and propensities: how likely the logging policy made its choice. Here logs are
simulated, so that the three estimators can be held against the true value.
"""

import numpy as np

from icrl.evaluation.off_policy import Log, off_policy_value

NUM_ACTIONS, DIM = 4, 3
WEIGHTS = np.random.default_rng(7).normal(size=(DIM, NUM_ACTIONS))  # of the rewards' log-odds


def chances(context: np.ndarray) -> np.ndarray:
    """P(reward 1) of every action, [n, K]."""
    return 1 / (1 + np.exp(-context @ WEIGHTS))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities [n, K]."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def policy(context: np.ndarray) -> np.ndarray:
    """The policy that is asked about: mostly the best action."""
    return softmax(4 * context @ WEIGHTS)


def recorded(num_rows: int, seed: int) -> Log:
    """A log of another policy, which hardly looks at the context."""
    draw = np.random.default_rng(seed)
    context = draw.normal(size=(num_rows, DIM))
    behaviour = softmax(0.5 * context @ WEIGHTS)
    action = np.array([draw.choice(NUM_ACTIONS, p=row) for row in behaviour])
    rows = np.arange(num_rows)
    reward = (draw.random(num_rows) < chances(context)[rows, action]).astype(float)
    return Log(context, action, reward, behaviour[rows, action])


def main(num_rows: int = 2000, num_logs: int = 200) -> dict[str, tuple[float, float]]:
    """Of each estimator: its mean error over ``num_logs`` logs, and how often its 95 % interval has the true value."""
    many = np.random.default_rng(1).normal(size=(500_000, DIM))
    true = float((policy(many) * chances(many)).sum(axis=1).mean())
    found: dict[str, list[tuple[float, bool]]] = {"ips": [], "snips": [], "dr": []}
    for seed in range(num_logs):
        log = recorded(num_rows, seed)
        value = off_policy_value(log, policy(log.context))
        for name, rows in found.items():
            estimate = getattr(value, name)
            rows.append((estimate.mean - true, estimate.low <= true <= estimate.high))
    return {name: tuple(np.mean(rows, axis=0).tolist()) for name, rows in found.items()}


if __name__ == "__main__":
    print(main())
