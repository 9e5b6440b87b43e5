"""bsuite's memory and credit tasks against PyPI's ``bsuite``, step by step; it needs ``pip install bsuite``."""

import numpy as np
import pytest
from replays import Draws, episodes_of

from icrl.core.registry import environments

pytest.importorskip("bsuite", reason="needs the extra bsuite")

from bsuite.environments.discounting_chain import DiscountingChain
from bsuite.environments.memory_chain import MemoryChain
from bsuite.environments.umbrella_chain import UmbrellaChain

EPISODES = 200
CASES = [
    ("MemoryLen-v0", {"length": length, "num_bits": bits}) for length, bits in ((2, 40), (1, 1), (30, 1), (100, 1))
] + [
    ("UmbrellaChain-v0", {"length": length, "num_distractors": bits})
    for length, bits in ((20, 20), (1, 20), (100, 20), (20, 100), (20, 0))
]
SHORT = [
    pytest.param(*case, episodes, marks=() if episodes == 3 else pytest.mark.nightly)
    for number, case in enumerate(CASES)
    for episodes in ((3, EPISODES) if number in (0, 4) else (EPISODES,))
]


def replayed(peer, batch, number):
    """(observations [T, O], rewards [T], ends [T]) of an episode's actions there, all but the first observation."""
    found = [peer.step(action) for action in batch.action[number, : batch.steps(number)].tolist()]
    obs = np.stack([each.observation[0] for each in found])
    return obs, [each.reward for each in found], [each.last() for each in found]


def assert_same(peer, first_obs, batch, number):
    np.testing.assert_allclose(first_obs[0], batch.first_obs[number], rtol=0, atol=1e-6)
    steps = batch.steps(number)
    obs, rewards, ends = replayed(peer, batch, number)
    np.testing.assert_allclose(obs, batch.obs[number, :steps], rtol=0, atol=1e-6)
    np.testing.assert_allclose(rewards, batch.reward[number, :steps], rtol=0, atol=1e-6)
    assert ends == batch.over[number, :steps].tolist()


def memory_chain(env, batch, number):
    peer = MemoryChain(memory_length=env.length, num_bits=env.num_bits, seed=0)
    peer.reset()
    peer._context, peer._query = batch.state.context[number, 0], batch.state.query[number, 0]
    return peer, peer._get_observation()


def umbrella_chain(env, batch, number):
    peer = UmbrellaChain(chain_length=env.length, n_distractor=env.num_distractors, seed=0)
    signs, bits = (batch.reward[number] + 1) / 2, batch.obs[number, :, 3:]
    start = batch.state.needed[number, 0], batch.state.taken[number, 0], batch.first_obs[number, 3:]
    steps = [draw for t in range(env.length - 1) for draw in (signs[t], bits[t])]
    peer._rng = Draws(*start, *steps, bits[-1])  # the last reward is no chance
    return peer, peer.reset().observation


@pytest.mark.parametrize(("name", "settings", "episodes"), SHORT)
def test_every_step_is_bsuites(name, settings, episodes):
    """Observations and rewards within 1e-6, ends equal; what bsuite draws is what ours drew."""
    env = environments[name](**settings)
    batch = episodes_of(env, EPISODES, np.linspace(0.0, 1.0, EPISODES), "mix")
    begun = memory_chain if name == "MemoryLen-v0" else umbrella_chain
    for number in np.linspace(0, EPISODES - 1, episodes).astype(int):
        assert_same(*begun(env, batch, number), batch, number)


@pytest.mark.parametrize("best", [2, *(pytest.param(best, marks=pytest.mark.nightly) for best in (0, 1, 3, 4))])
def test_every_step_of_a_discounting_chain_is_bsuites(best):
    env = environments["DiscountingChain-v0"]()
    batch = episodes_of(env, EPISODES, 1.0, "mix", env.task(best))
    for number in range(EPISODES):
        peer = DiscountingChain(mapping_seed=best)
        assert_same(peer, peer.reset().observation, batch, number)
