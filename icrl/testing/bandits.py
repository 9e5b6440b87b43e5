"""Laws of bandits, besides those of all environments."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from icrl.agents.oracle import Oracle
from icrl.agents.ucb import UCB
from icrl.agents.uniform import Uniform
from icrl.core.interact import interact
from icrl.core.seeding import key_for
from icrl.envs import Bandit
from icrl.testing._law import CLOSE, GATE, expect, law


@law
def optimal_return_is_horizon_times_best_mean(bandit: Bandit[Any]) -> None:
    """As ``arm_means`` says."""
    task = bandit.sample_task(key_for(2, "task"))
    means = np.asarray(bandit.arm_means(task))
    found, right = float(bandit.optimal_return(task)), float(means.max()) * bandit.horizon
    expect(np.isclose(found, right, rtol=1e-6), "optimal_return", found, f"{right}")
    best = int(bandit.optimal_action(task))
    expect(best == means.argmax(), "optimal_action", best, f"{means.argmax()}")


@law
def rewards_have_the_mean_and_the_noise_that_they_should(bandit: Bandit[Any]) -> None:
    """Mean and variance of 200 000 pulls of each arm; z = 4.3 is a shift of a hundredth of the noise."""
    task = bandit.sample_task(key_for(4, "task"))
    _, state = bandit.reset(key_for(4, "reset"), task)
    keys = jax.random.split(key_for(4, "pulls"), 200_000)
    pull = jax.jit(jax.vmap(lambda key, arm: bandit.step(key, state, arm, task)[2], in_axes=(0, None)))
    for arm, mean in enumerate(np.asarray(bandit.arm_means(task), np.float64)):
        rewards = np.asarray(pull(keys, jnp.int32(arm)), np.float64)
        is_binary = set(np.unique(rewards)) <= {0.0, 1.0}
        if not is_binary and bandit.noise_std is None:
            variance = rewards.var()  # nothing is said of it
        else:
            variance = mean * (1 - mean) if is_binary else float(bandit.noise_std or 0.0) ** 2
        if variance == 0:
            expect(np.all(rewards == np.float32(mean)), f"rewards of arm {arm}", rewards, f"{mean}, without noise")
            continue
        error = GATE * np.sqrt(variance / rewards.size)
        expect(abs(rewards.mean() - mean) <= error, f"mean reward of arm {arm}", rewards.mean(), f"{mean:.5g}")
        squares = np.square(rewards - mean)
        if getattr(bandit, "df", np.inf) > 4:  # else the squares have no variance; the law has a test of its own
            error = GATE * squares.std() / np.sqrt(rewards.size)
            fits = abs(squares.mean() - variance) <= error
            expect(fits, f"variance of arm {arm}", squares.mean(), f"{variance:.5g}, from noise_std")
        successive = (rewards[1:] - mean) * (rewards[:-1] - mean) / variance
        independent = abs(successive.mean()) <= GATE / np.sqrt(successive.size)
        expect(independent, f"correlation of arm {arm} from key to key", successive.mean(), "none")


@law
def competitors_meet_the_same_noise(bandit: Bandit[Any]) -> None:
    """On one key the rewards of two agents differ only by their arms."""
    task = bandit.sample_task(key_for(6, "task"))
    policies = [cls.for_env(bandit) for cls in (Uniform, UCB, Oracle)]
    histories = [interact(key_for(6, "life"), bandit, task, agent, 60).history for agent in policies]
    means = bandit.arm_means(task)
    for one, other in itertools.combinations(histories, 2):
        same_arm = np.asarray(one.action == other.action)
        expect(0 < same_arm.sum() < 60, "steps with the same arm", int(same_arm.sum()), "some of 60")
        right = "those of the other agent: noise drawn from the key of the step alone"
        expect(np.array_equal(one.reward[same_arm], other.reward[same_arm]), "rewards of the same arm", "others", right)
        if bandit.noise_std is not None:
            noises = (one.reward - means[one.action], other.reward - means[other.action])
            expect(np.allclose(*noises, rtol=1e-7, atol=CLOSE), "noise of two agents at one step", "another", "one")


@law
def the_noise_of_an_agent_can_be_varied_alone(bandit: Bandit[Any]) -> None:
    """With another key of the agent, the same arm still earns the same."""
    task, uniform = bandit.sample_task(key_for(6, "task")), Uniform.for_env(bandit)
    one, other = (
        interact(key_for(6, "life"), bandit, task, uniform, 60, key_for(6, "agent", i)).history for i in (0, 1)
    )
    same_arm = np.asarray(one.action == other.action)
    expect(0 < same_arm.sum() < 60, "steps with the same arm", int(same_arm.sum()), "some of 60")
    expect(np.array_equal(one.reward[same_arm], other.reward[same_arm]), "rewards of the same arm", "others", "equal")


LAWS = (
    optimal_return_is_horizon_times_best_mean,
    rewards_have_the_mean_and_the_noise_that_they_should,
    competitors_meet_the_same_noise,
    the_noise_of_an_agent_can_be_varied_alone,
)
