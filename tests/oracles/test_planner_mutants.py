"""Ten hand-written faults of UCB-VI and of PSRL each: twins, ranks and moments must see them all.

A fault is a small change that leaves everything running; it is seen when a check of ``test_planners`` turns red.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from test_planners import check_beta_draws, check_optimist, check_psrl_plans, check_ranks

from icrl.agents._arm_agent import argmax_random_ties
from icrl.agents.psrl import PSRL
from icrl.agents.ucbvi import UCBVI
from icrl.core import struct
from icrl.planning.backward_induction import backward_induction, optimistic_induction

TASKS = 100


def mutant(base, **methods):
    return struct.dataclass(type("Mutant", (base,), methods))


def remembering(base, change):
    """The state goes through ``change(before, after, transition)`` at each step."""
    return mutant(base, update=lambda self, state, seen: change(state, base.update(self, state, seen), seen))


def planning_with(base, change):
    """Plans are made of ``change(counts)``."""
    return mutant(base, plan=lambda self, key, counts, q: base.plan(self, key, change(counts), q))


def forgets_every_second(old, new, transition):
    forget = transition.action == 1
    counts = jax.tree.map(lambda a, b: jnp.where(forget, a, b), old.counts, new.counts)
    return new._replace(counts=counts)


def at_first_step(self, key, state, obs):
    """The plan of the episode's first step at every step."""
    return argmax_random_ties(key, state.q[0, self.spec.state_index(obs)])


def shared(base):
    """Faults that both may have."""
    return {
        "forgets": remembering(base, forgets_every_second),
        "never plans again": remembering(base, lambda old, new, _: new._replace(q=old.q)),
        "first step's plan": mutant(base, act=at_first_step),
        "successors reversed": planning_with(base, lambda c: c._replace(visits=c.visits.swapaxes(0, 2))),
        "rewards of the other action": planning_with(base, lambda c: c._replace(reward=c.reward[:, ::-1])),
    }


def with_bonus(bonus):
    """UCB-VI with ``bonus(self, counts)`` before ``bonus_scale``."""
    return mutant(UCBVI, reward_bonus=lambda self, counts: self.bonus_scale * bonus(self, counts))


def drawing(change):
    """PSRL whose draws of a model are ``change(self, key, counts)``."""
    return mutant(PSRL, draw_model=change)


def psrl_with(**settings):
    """PSRL that plans with other settings than those it was given."""

    def draw_model(self, key, counts):
        return PSRL.draw_model(self.replace(**settings), key, counts)

    return mutant(PSRL, draw_model=draw_model)


def same_plan_key(old, new, _):
    return new._replace(key=old.key)


def discounted(self, key, counts, q):
    transition, reward = self.draw_model(key, counts)
    return backward_induction(0.9 * transition, jnp.broadcast_to(reward, q.shape))


def untried_worth_nothing(self, key, counts, q):
    reward = jnp.where(counts.tries > 0, counts.mean_reward + self.reward_bonus(counts), 0.0)
    return optimistic_induction(partial(self.successor, counts), reward, self.ceiling(q))


def posterior_mean(self, key, counts):
    transition = self.concentration + counts.visits
    return transition / transition.sum(-1, keepdims=True), PSRL.draw_model(self, key, counts)[1]


FAULTS = {
    "ucb-vi": {
        "no steps left in the bonus": with_bonus(lambda a, c: jnp.sqrt(a.log_term(c) / c.tried)),
        "no root": with_bonus(lambda a, c: a.left * a.log_term(c) / c.tried),
        "swapped counts": with_bonus(lambda a, c: a.left * jnp.sqrt(a.log_term(c) / c.tried[:, ::-1])),
        "no logarithm": with_bonus(lambda a, c: a.left * jnp.sqrt(6.0 / c.tried)),
        "untried pairs are worth nothing": mutant(UCBVI, plan=untried_worth_nothing),
        **shared(UCBVI),
    },
    "psrl": {
        "one key for all plans": remembering(PSRL, same_plan_key),
        "discounted": mutant(PSRL, plan=discounted),
        "posterior mean of transitions": drawing(posterior_mean),
        "prior mean 0": psrl_with(prior_mean=0.0),
        "noise 1": psrl_with(noise_std=1.0),
        **shared(PSRL),
    },
}


def checks_of(name, base):
    """One after another, those that should hold for a right one."""
    if name == "ucb-vi":
        check_optimist(name, base, TASKS)
    else:
        check_psrl_plans(base, TASKS)
        check_ranks(base)
        check_beta_draws(base)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "base"), [("ucb-vi", UCBVI), ("psrl", PSRL)])
def test_every_fault_is_seen(name, base):
    checks_of(name, mutant(base))  # the right one passes
    missed = []
    assert len(FAULTS[name]) == 10
    for fault, wrong in FAULTS[name].items():
        try:
            checks_of(name, wrong)
            missed.append(fault)
        except AssertionError as error:
            print(f"{name}, {fault}: {str(error).splitlines()[0]}", flush=True)
    assert not missed
