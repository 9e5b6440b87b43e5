"""Contexts: the distribution of section A.3, the order of batches, and storing them without changing a bit."""

import jax
import numpy as np
import pytest
from siblings import by_day

from icrl.core.errors import DamagedError, InputError
from icrl.core.registry import agents, environments
from icrl.core.seeding import key_for
from icrl.datasets.contexts import (
    HELD_AT_ONCE,
    Batches,
    ContextGenerator,
    HeldContexts,
    StoredContexts,
    context_in,
    store_contexts,
)

IDS = ("GaussianBandit-v0", "BernoulliBandit-v0", "LinearBandit-v0", "ShownLinearBandit-v0")


def generator(env_id="GaussianBandit-v0", source="dirichlet-mix", horizon=12, seed=0):
    env = environments[env_id](horizon=horizon)
    return ContextGenerator(env, agents[source].for_env(env), horizon, seed)


def equal(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_a_context_depends_on_its_id_alone():
    contexts = generator()
    together, alone = contexts.fetch(np.array([3, 7, 5])), contexts.fetch(np.array([7]))
    assert equal(jax.tree.map(lambda x: x[1:2], together), alone)
    assert not equal(alone, contexts.fetch(np.array([8])))
    assert not equal(alone, generator(seed=1).fetch(np.array([7])))


def test_rollout_and_query_have_draws_of_their_own():
    """By day of a world whose observations are drawn, so that a query consumes its key."""
    env = environments["ContextualLinearBandit-v0"](horizon=4)
    task, key = env.sample_task(key_for(0, "task")), key_for(0, "context")
    with jax.debug_key_reuse(True):
        context_in(env, task, agents["uniform"].for_env(env), 4, key)


@pytest.mark.parametrize("count", [5, HELD_AT_ONCE + 3])
def test_held_contexts_are_those_of_their_source(count):
    contexts, ids = generator(horizon=3), np.array([4, 0, 4, count - 1])
    held = HeldContexts.of(contexts, count)
    assert held.num_steps == 3 and held.contexts.label.shape[0] == count
    assert equal(held.fetch(ids), contexts.fetch(ids))
    assert equal(Batches(held, 4, 0, count)(1), Batches(contexts, 4, 0, count)(1))


def test_labels_are_the_best_arms_and_mixes_follow_the_paper():
    contexts = generator(horizon=400).fetch(np.arange(4000))
    shares = np.stack([(np.asarray(contexts.history.action) == arm).mean(1) for arm in range(5)], 1)
    # w = 1 (one context in eleven) plays a single arm; overall every arm is played equally often
    assert abs((shares.max(1) == 1.0).mean() - 1 / 11) < 4.3 * np.sqrt(1 / 11 * 10 / 11 / 4000)
    np.testing.assert_allclose(shares.mean(0), 0.2, atol=4.3 * shares.std() / np.sqrt(4000))
    # E[max share] of w * e + (1 - w) * Dir(1) is larger than Dirichlet's own H_5 / 5 = 0.4567
    assert 0.55 < shares.max(1).mean() < 0.75
    counts = np.bincount(np.asarray(contexts.label[:, 0]), minlength=5) / 4000
    np.testing.assert_allclose(counts, 0.2, atol=4.3 * np.sqrt(0.16 / 4000))


def test_batches_of_fresh_tasks_never_repeat_and_pools_visit_each_task_once_an_epoch():
    fresh = Batches(generator(), 8, seed=0)
    assert np.array_equal(np.concatenate([fresh.ids(step) for step in range(5)]), np.arange(40))
    pool = Batches(generator(), 8, seed=0, num_tasks=20)
    ids = np.concatenate([pool.ids(step) for step in range(10)])
    for epoch in range(4):
        assert sorted(ids[epoch * 20 : epoch * 20 + 20]) == list(range(20))
    assert list(ids[:20]) != list(ids[20:40])


def test_shuffling_permutes_transitions_and_nothing_else():
    plain, mixed = (Batches(generator(), 8, seed=0, shuffle=flag)(3) for flag in (False, True))
    assert not np.array_equal(plain.history.reward, mixed.history.reward)
    order = np.argsort(plain.history.reward, axis=1), np.argsort(mixed.history.reward, axis=1)
    pairs = list(zip((plain, mixed), order, strict=True))
    for field in ("reward", "action"):
        rows = [np.take_along_axis(np.asarray(getattr(c.history, field)), o, 1) for c, o in pairs]
        assert np.array_equal(*rows)
    assert np.array_equal(plain.label, mixed.label)


@pytest.mark.parametrize(
    "env_id", [by_day(env_id, day=env_id == "GaussianBandit-v0" or "Shown" in env_id) for env_id in IDS]
)
@pytest.mark.parametrize("shard_tasks", [7, pytest.param(64, marks=pytest.mark.nightly)])
def test_stored_contexts_are_the_generated_ones(tmp_path, env_id, shard_tasks):
    source = generator(env_id)
    store_contexts(tmp_path / "data", source, 20, {"env": env_id}, shard_tasks)
    stored = StoredContexts(tmp_path / "data")
    ids = np.array([0, 19, 6, 7, 6])
    assert stored.num_tasks == 20
    assert equal(stored.fetch(ids), source.fetch(ids))


def test_collecting_goes_on_where_it_stopped_and_refuses_another_card(tmp_path):
    source = generator()
    store_contexts(tmp_path, source, 14, {"a": 1}, 7)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    store_contexts(tmp_path, source, 20, {"a": 1}, 7)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert equal(StoredContexts(tmp_path).fetch(np.arange(20)), source.fetch(np.arange(20)))
    store_contexts(tmp_path, source, 23, {"a": 1}, 7)  # the last shard was short
    assert equal(StoredContexts(tmp_path).fetch(np.arange(23)), source.fetch(np.arange(23)))
    store_contexts(tmp_path, source, 5, {"a": 1}, 7)  # asking for less takes nothing away
    assert StoredContexts(tmp_path).num_tasks == 23
    with pytest.raises(InputError, match="a differ"):
        store_contexts(tmp_path, source, 20, {"a": 2}, 7)


def test_a_flipped_bit_or_a_lost_shard_is_found(tmp_path):
    store_contexts(tmp_path, generator(), 21, {}, 7)
    victim = tmp_path / "tasks-0000000007-0000000014" / "reward.npy"
    data = bytearray(victim.read_bytes())
    data[-5] ^= 4
    victim.write_bytes(data)
    with pytest.raises(DamagedError, match=r"reward\.npy"):
        StoredContexts(tmp_path)
    for path in victim.parent.iterdir():
        path.unlink()
    victim.parent.rmdir()
    with pytest.raises(DamagedError, match="missing"):
        StoredContexts(tmp_path)
    with pytest.raises(InputError, match="task ids"):
        store_contexts(tmp_path / "b", generator(), 5, {})
        StoredContexts(tmp_path / "b").fetch(np.array([5]))
