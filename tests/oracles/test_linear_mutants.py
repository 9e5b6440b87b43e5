"""Ten hand-written faults of LinUCB and of LinTS each: the float64 twins must see at least 95 % of them.

A fault is a small change that leaves everything running; it is seen when the check of ``test_twins`` turns red.
"""

import jax
import jax.numpy as jnp
import pytest
from test_twins import check_lin_ts, check_linucb

from icrl.agents._linear_agent import LinearStats
from icrl.agents.lin_ts import LinTS
from icrl.agents.linucb import LinUCB
from icrl.core.registry import environments

ENV = environments["LinearBandit-v0"](horizon=60)
TASKS = 100
SAME_KEY = jax.random.key(1)


def mutant(base, settings=None, **methods):
    """An agent of ``base`` for ``ENV`` with some settings or methods exchanged."""
    return type("Mutant", (base,), methods).for_env(ENV, **(settings or {}))


def learning(base, change):
    """What is remembered goes through ``change(before, after, transition)``."""

    def update(self, state, transition):
        return change(state, base.update(self, state, transition), transition)

    return mutant(base, update=update)


def looking(base, change):
    """What was remembered goes through ``change(state)`` before each choice."""

    def act(self, key, state, obs):
        return base.act(self, key, change(state), obs)

    return mutant(base, act=act)


def indexed(bonus):
    """LinUCB with ``bonus(squared width, time)`` [K]."""

    def act(self, key, state, obs):
        arms, moment = self.whiten(state, obs, self.lam)
        index = moment @ arms + bonus(jnp.sum(arms**2, axis=0), state.time)
        random = jax.random.randint(key, (), 0, self.num_arms)
        return jnp.where(state.time == 0, random, jnp.argmax(index)).astype(jnp.int32)

    return mutant(LinUCB, act=act)


def drawn(value):
    """LinTS with ``value(self, key, state, obs)`` [K]."""
    return mutant(LinTS, act=lambda self, key, state, obs: jnp.argmax(value(self, key, state, obs)).astype(jnp.int32))


def every_second(old, new, _):
    """Every second transition is forgotten."""
    kept = jax.tree.map(lambda a, b: jnp.where(new.time % 2 == 0, b, a), old, new)
    return kept._replace(time=new.time)


def shared(base):
    """Faults that both agents may have."""
    return {
        "first reward lost": learning(
            base, lambda old, new, _: new._replace(moment=jnp.where(old.time == 0, 0.0, new.moment))
        ),
        "stale": learning(
            base,
            lambda old, new, _: jax.tree.map(lambda a, b: jnp.where(new.time % 2 == 0, b, a), old, new)._replace(
                time=new.time
            ),
        ),
        "gram forgets its corners": looking(base, lambda s: s._replace(gram=jnp.diag(jnp.diag(s.gram)))),
        "gram of one step less": learning(
            base, lambda old, new, _: LinearStats(new.time, jnp.where(new.time > 1, new.gram, old.gram), new.moment)
        ),
        "rewards fade": looking(base, lambda s: s._replace(moment=s.moment * 0.98)),
    }


FAULTS = {
    "linucb": {
        "beta 1.05": mutant(LinUCB, {"beta": 1.05}),
        "lam 1.1": mutant(LinUCB, {"lam": 1.1}),
        "no root": indexed(lambda square, time: square),
        "growing bonus": indexed(lambda square, time: jnp.sqrt(square * jnp.log(time + 2.0))),
        "widths of other arms": indexed(lambda square, time: jnp.sqrt(square[::-1])),
        **shared(LinUCB),
    },
    "lin-ts": {
        "key reused": drawn(lambda self, key, s, obs: self.values(s, obs, jax.random.normal(SAME_KEY, (self.dim,)))),
        "noise 0.33": mutant(LinTS, {"noise_std": 0.33}),
        "prior 1": mutant(LinTS, {"prior_var": 1.0}),
        "noise not scaled": drawn(
            lambda self, key, s, obs: self.values(s, obs, jax.random.normal(key, (self.dim,)) / self.noise_std)
        ),
        "each arm on its own draw": drawn(
            lambda self, key, s, obs: jnp.diag(
                jax.vmap(lambda k: self.values(s, obs, jax.random.normal(k, (self.dim,))))(
                    jax.random.split(key, self.num_arms)
                )
            )
        ),
        **shared(LinTS),
    },
}


@pytest.mark.nightly
def test_at_least_95_of_100_faults_are_seen():
    missed = []
    for name, faults in FAULTS.items():
        assert len(faults) == 10
        for fault, agent in faults.items():
            try:
                if name == "linucb":
                    check_linucb(ENV, agent, TASKS, steps=60)
                else:
                    check_lin_ts(ENV, agent, TASKS, steps=60, noise_std=ENV.noise_std, prior_var=0.5)
                missed.append(f"{name}, {fault}")
            except AssertionError as error:
                print(f"{name}, {fault}: {str(error).splitlines()[0]}", flush=True)
    assert len(missed) <= 1, missed
