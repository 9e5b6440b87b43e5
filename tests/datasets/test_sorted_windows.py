"""Contexts in order of return: what stands in them, in which order, and how likely; against plain Python."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.registry import experiments
from icrl.core.settings import replaced
from icrl.core.types import History
from icrl.datasets.histories import StoredHistories
from icrl.datasets.pooled import PooledHistories
from icrl.datasets.sorted_windows import SortedWindows
from icrl.datasets.store import store_records
from icrl.datasets.windows import DeviceHistories, Windows
from icrl.recipes.data import RunData, collect_histories
from icrl.recipes.fits import check_fit

T, KIN = 60, np.repeat([7, 3, 5], 4)


def histories(seed=0, every=None) -> History:
    """Twelve histories, four of a task, that tell each step's row and time as its action; small whole rewards tie.

    Episodes end every so many steps, or after each with probability 1/6.
    """
    rng = np.random.default_rng(seed)
    shape = (len(KIN), T)
    ends = rng.random(shape) < 1 / 6 if every is None else np.broadcast_to((np.arange(T) + 1) % every == 0, shape)
    told = (np.arange(len(KIN))[:, None] * T + np.arange(T)).astype(np.int32)
    reward, split = rng.integers(0, 2, shape).astype(np.float32), rng.random(shape) < 0.5
    return History(told.astype(np.float32), told, reward, told.astype(np.float32), ends & split, ends & ~split)


def by_hand(columns: History) -> list[tuple[int, range, float]]:
    """(row, steps, return) of every finished episode."""
    found = []
    for row, ends in enumerate(columns.terminated | columns.truncated):
        edges = np.flatnonzero(ends) + 1
        for low, high in itertools.pairwise([0, *edges]):
            found.append((row, range(low, high), float(columns.reward[row, low:high].sum())))
    return found


def windows(columns, index=tuple(range(12)), length=20, batch=40, **settings) -> SortedWindows:
    source = DeviceHistories(History(*map(jnp.asarray, columns)))
    return SortedWindows(source, np.asarray(index), length, batch, (0, 1), **{"kin": KIN, **settings})


@pytest.mark.parametrize("every", [None, 5, 6])
def test_a_context_is_different_episodes_of_a_task_by_return_then_time(every):
    """Ascending in (return, first step, row); whole but for the front of the first; no transition twice."""
    columns = histories(every=every)
    episodes = by_hand(columns)
    owner = {(row, step): number for number, (row, steps, _) in enumerate(episodes) for step in steps}
    batch = windows(columns)(3)
    for told in np.asarray(batch.action):
        rows, steps = np.divmod(told, T)
        assert len(set(KIN[rows])) == 1 and len(set(told)) == 20
        numbers = [owner[place] for place in zip(rows, steps, strict=True)]  # none of an episode that did not end
        order = [number for number, _ in itertools.groupby(numbers)]
        keys = [(episodes[n][2], episodes[n][1].start, episodes[n][0]) for n in order]
        assert keys == sorted(keys) and len(set(order)) == len(order)
        expected = [(episodes[n][0], step) for n in order for step in episodes[n][1]][-20:]
        assert list(zip(rows, steps, strict=True)) == expected
    for field, column in zip(batch, columns, strict=True):
        np.testing.assert_array_equal(field, column.reshape(-1)[np.asarray(batch.action)])


def test_all_sets_of_episodes_are_alike_likely_and_rows_as_they_were_chosen():
    """Two of the twelve episodes of task 7 in rows 0 and 1; then row 0 chosen three times: 3/4 of first draws."""
    columns = histories(every=10)
    drawn = windows(columns, index=[0, 1], batch=4000).transitions(0)
    firsts = (drawn[0] * T + drawn[1])[:, ::10]
    pairs, counts = np.unique(np.sort(firsts, axis=1), axis=0, return_counts=True)
    assert len(pairs) == 12 * 11 // 2
    assert ((counts - 4000 / 66) ** 2 / (4000 / 66)).sum() < 110  # chi-square of 65 degrees, 0.9996 quantile
    one = windows(columns, index=[0, 0, 1, 0], length=10, batch=4000).transitions(0)[0]
    assert np.mean(one[:, 0] == 0) == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)


def test_episodes_begin_where_the_filter_says():
    rows, steps = windows(histories(every=5), index=[1, 2, 9], first=np.array([0, 40, 20])).transitions(0)
    assert set(rows[rows <= 2]) == {1, 2}
    assert steps[rows == 2].min() == 40 and steps[rows == 9].min() == 20 and steps[rows == 1].min() == 0


def test_pairs_are_of_one_task_and_batches_a_function_of_the_step():
    made = windows(histories(), batch=6, task=KIN)
    for step in range(20):
        task = KIN[made.transitions(step)[0]]
        assert (task == task[:, :1]).all()
        np.testing.assert_array_equal(task[0::2], task[1::2])
        assert len(set(task[0::2, 0])) == 3
    assert all(map(np.array_equal, made(4), made(4))) and not np.array_equal(made(4).action, made(5).action)


@pytest.mark.parametrize("every", [None, 5])
def test_contexts_from_disk_are_those_from_the_device_bit_for_bit(tmp_path, every):
    columns = histories(every=every)
    records = {name: field.reshape(3, 4, T) for name, field in columns._asdict().items()}
    card = {"num_steps": T, "episode_steps": 5, "task_ids": [7, 3, 5], "optimal_return": [10.0] * 3}
    store_records(tmp_path, lambda ids: {name: field[ids] for name, field in records.items()}, 3, card, 2)
    pooled = PooledHistories(((StoredHistories(tmp_path), 4),))
    kept = [SortedWindows(each, np.arange(12), 20, 16, (0,), kin=KIN)(2) for each in (pooled, pooled.on_device())]
    for ours, theirs in zip(*kept, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_task_with_too_few_finished_steps_is_refused():
    columns = histories(every=40)  # of 4 histories of 60 steps 4 episodes of 40 finish
    with pytest.raises(InputError, match="window: got 50, allowed: at most 40, the transitions of finished episodes"):
        windows(columns, index=[0, 5, 6], length=50)


def test_the_order_of_a_recipe(tmp_path):
    """Rewards of a context never fall from episode to episode; pairs are of one goal; by time nothing has changed."""
    recipe = replaced(experiments["t2mir"].presets["smoke"], {"train_tasks": 3, "num_layers": 1})
    check_fit(recipe)
    collect_histories(recipe, tmp_path, 0)
    data = RunData(tmp_path, 0)
    for batch in (data.batches(recipe, 0)(0), data.held_out(recipe, 0, 2)):
        returns = np.asarray(batch.reward).reshape(len(batch.reward), -1, recipe.episode).sum(-1)
        assert returns.shape[1] == 4 and (np.diff(returns, axis=1) >= 0).all()
    by_time = data.batches(replaced(recipe, {"context_order": "time"}), 0)
    assert type(by_time) is Windows


def test_orders_that_do_not_fit_are_refused():
    recipe = experiments["ad"].presets["smoke"]
    refused = [
        ({"env": "CartPole-v0", "context_order": "return", "keep_every": 2}, "context_order: got 'return'.* time"),
        ({"data": "contexts", "context_order": "return"}, "context_order: got 'return', allowed: time with"),
        ({"env": "CartPole-v0", "context": ("sorted",)}, "window: got .*, allowed: several whole episodes"),
        ({"context_order": "worst"}, "context_order: got 'worst', allowed: time or return"),
    ]  # fmt: skip
    for changes, message in refused:
        with pytest.raises(InputError, match=message) as caught:
            check_fit(replaced(recipe, changes))
        assert "\n" not in str(caught.value)
    assert replaced(recipe, {"env": "CartPole-v0", "context_order": "return"}).rules == ("rolling",)
