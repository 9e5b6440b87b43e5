"""A small document of results with every section filled."""

import copy

import numpy as np

T, PREFIX = 40, [0, 1, 2, 5, 10, 20, 40]
AGENTS = {  # name: (kind, label, regret after T steps, width of the band)
    "dpt": ("model", "DPT (ours)", 12.4, 0.6),
    "posterior": ("ideal", "posterior sampling (exact)", 12.1, 0.6),
    "ucb": ("baseline", "UCB, c = 1", 20.0, 0.8),
    "emp": ("baseline", "empirical means", 12.3, 2.0),
    "uniform": ("baseline", "uniform", 160.0, 3.0),
    "oracle": ("oracle", "optimal arm", 0.0, 0.0),
}


def band(mean, width):
    mean = np.asarray(mean, float)
    return {"mean": mean.tolist(), "low": (mean - width).tolist(), "high": (mean + width).tolist()}


def sample_results():
    """A small document with every section filled."""
    steps, prefix = np.arange(1, T + 1), np.array(PREFIX)
    online, offline = {}, {}
    for name, (kind, label, final, width) in AGENTS.items():
        common = {"kind": kind, "label": label, "interval": "95 % t interval, 300 tasks"}
        online[name] = {**common, "regret": band(final * np.sqrt(steps / T), width * steps / T)}
        offline[name] = {**common, "suboptimality": band(final / 40 * np.exp(-prefix / 20), 0.01)}
    losses = [2.0, 1.5, 1.2, 1.1]
    return {
        "schema": 1, "experiment": "dpt-bandit", "preset": "smoke", "seed": 0, "train_seeds": [0, 1],
        "env": {"id": "GaussianBandit-v0", "num_arms": 5, "noise": 0.3}, "num_tasks": 300, "num_steps": T,
        "title": "DPT on Gaussian bandits", "claim": "It explores as well as exact posterior sampling.",
        "online": {"steps": steps.tolist(), "agents": online},
        "offline": {"prefix": PREFIX, "agents": offline},
        "cross_entropy": {"prefix": PREFIX, "model": band(np.full(7, 1.0), 0.1), "ideal": band(np.full(7, 0.9), 0.1),
                          "gap": band(np.full(7, 0.1), 0.01)},
        "training": {"0": {"step": [1, 2, 3, 4], "loss": losses, "val_loss": [None, 1.6, None, 1.2]},
                     "1": {"step": [1, 2, 3, 4], "loss": losses[::-1], "val_loss": None}},
        "checks": [
            {"what": "DPT regret / ideal", "target": "<= 1.10", "ok": True,
             "measured": {"mean": 1.024, "low": 0.98, "high": 1.07}},
            {"what": "gap at 40", "target": "<= 0.05", "ok": False,
             "measured": {"mean": 0.1, "low": 0.09, "high": 0.11}},
        ],
        "published": [{"what": "DPT regret(500)", "value": "about 12", "where": "Lee et al. 2023, figure 3"}],
        "seconds": {"total": 12.5, "training": 10.0}, "device": "cpu", "versions": {"icrl": "0.1.0"},
    }  # fmt: skip


def with_value(path, value):
    """The sample with the item at ``path`` replaced."""
    results = copy.deepcopy(sample_results())
    item = results
    for key in path[:-1]:
        item = item[key]
    item[path[-1]] = value
    return results
