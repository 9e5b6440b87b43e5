"""What any consistent learner must lose in the long run (Lai and Robbins 1985), for families of independent arms."""

import jax
import numpy as np

from icrl.core.tasks import TaskSet
from icrl.core.types import Environment
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.planning.divergence import bernoulli_kl


def lower_bound(env: Environment, tasks: TaskSet, steps: np.ndarray) -> list[float] | None:
    """Mean over tasks of sum_a gap_a / kl_a ln(t kl_a), where positive, [P]; None where no bound is known.

    Lai and Robbins 1985 have ln t; with t kl_a in its place (Lai 1987) the limit is the same, and a task whose arms can
    hardly be told apart counts with what they cost so far and not with an enormous constant.
    """
    if not isinstance(env, BernoulliBandit | GaussianBandit):
        return None
    means = np.asarray(jax.vmap(env.arm_means)(tasks.params), np.float64)
    best = means.max(1, keepdims=True)
    if isinstance(env, GaussianBandit):
        kl = np.square(best - means) / (2 * env.noise_std**2)
    else:
        kl = bernoulli_kl(means, best)
    worse = kl > 0
    rate = np.divide(best - means, kl, out=np.zeros_like(kl), where=worse)
    return [float((rate * np.log(np.maximum(t * np.where(worse, kl, 1.0), 1.0))).sum(1).mean()) for t in steps]
