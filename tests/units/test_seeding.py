"""Every purpose, seed and id has a stream of its own."""

import itertools

import jax
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.seeding import MAX_SEED, key_for, keys_for

STREAMS = [(0, "task"), (0, "tasks"), (0, "test"), (1, "task"), (MAX_SEED, "task"), (0, "task", 0), (0, "task", 1)]
STREAMS += [(0, "task", 0, 1), (0, "task", 1, 0), (0, "pretrain/0"), (0, "pretrain/1")]


def test_streams_are_distinct_and_keys_of_ids_are_the_same_in_any_batch():
    streams = [tuple(np.asarray(jax.random.key_data(key_for(*each))).tolist()) for each in STREAMS]
    assert all(a != b for a, b in itertools.combinations(streams, 2))
    key = key_for(0, "task")
    many, one = keys_for(key, np.arange(5)), keys_for(key, np.array([3]))
    assert (many[3] == one[0]).all() and many[3] == key_for(0, "task", 3)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 0.5, True, None])
def test_seeds_that_would_wrap_are_refused(seed):
    with pytest.raises(InputError, match="seed: got"):
        key_for(seed, "task")
