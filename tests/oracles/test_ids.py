"""Information-directed sampling: its integrals in float64 on a fine grid, its pair of arms against a search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icrl.agents._arm_agent import ArmStats
from icrl.agents.ids import IDS, best_pair

POINTS = 20_001


def twin(count, total):
    """Regret and information [K] of each arm, under uniform priors."""
    x, arms = (np.arange(POINTS) + 0.5) / POINTS, np.arange(len(count))
    law = [stats.beta(1 + total[a], 1 + count[a] - total[a]) for a in arms]
    mass, below = np.array([each.pdf(x) for each in law]) / POINTS, np.array([each.cdf(x) for each in law])
    part = np.cumsum(mass * x, axis=1) - mass * x / 2
    best, given = np.zeros(len(arms)), np.zeros((len(arms), len(arms)))
    for a in arms:
        best[a] = np.sum(mass[a] * np.prod(below[arms != a], axis=0))
        for b in arms:
            rest = np.prod(below[(arms != a) & (arms != b)], axis=0)
            given[a, b] = np.sum(mass[a] * rest * (x if a == b else part[b])) / best[a]
    mean = mass @ x
    return best @ np.diag(given) - mean, best @ (given - mean) ** 2


@pytest.mark.parametrize(
    ("count", "total"), [((0, 0, 0), (0, 0, 0)), ((5, 0, 2), (3, 0, 2)), ((300, 40, 9), (240, 25, 4))]
)
def test_integrals(count, total):
    state = ArmStats(jnp.array(count, jnp.int32), jnp.array(total, jnp.float32))
    regret, information = jax.jit(IDS(num_arms=3).regret_and_information)(state)
    expected_regret, expected_information = twin(np.array(count), np.array(total))
    np.testing.assert_allclose(regret, expected_regret, rtol=1e-2)  # the grid has 256 points
    np.testing.assert_allclose(information, expected_information, rtol=1e-2)


def test_no_pair_of_arms_and_no_share_is_better():
    regret, information = np.random.default_rng(0).uniform(0.01, 1.0, (2, 50, 4))
    keys = jax.random.split(jax.random.key(0), 50)
    first, second, share = jax.jit(jax.vmap(best_pair))(keys, regret, information**3)
    q = np.linspace(0, 1, 2001)[:, None, None]
    for task in range(50):
        D, v = regret[task], information[task] ** 3
        ratios = (q * D[:, None] + (1 - q) * D) ** 2 / (q * v[:, None] + (1 - q) * v)
        i, j, s = int(first[task]), int(second[task]), float(share[task])
        found = (s * D[i] + (1 - s) * D[j]) ** 2 / (s * v[i] + (1 - s) * v[j])
        assert found <= ratios.min() * (1 + 1e-5)
    assert np.unique(np.asarray(share)).size > 10  # mixed pairs among them
