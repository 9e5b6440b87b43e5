"""Maps from codes: the room itself from its cells, whatever the codes are called, and shortest ways on it."""

import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.envs.aliased_room import AliasedRoom
from icrl.evaluation.cognitive_maps import _fewest, places, queries, travelled, walk
from icrl.planning.world_map import NO_NODE, MapSettings, map_of

SETTINGS = MapSettings(burn_in=0)


@pytest.fixture(scope="module")
def walked():
    return walk(AliasedRoom(), 0, "test", 60, 200)


def mapped(walked, codes, settings=SETTINGS):
    return map_of(codes, walked.symbols, walked.actions, 4, settings)


def test_codes_that_are_cells_give_the_room(walked):
    world = mapped(walked, walked.positions[..., None])
    assert len(world.next) == 48
    np.testing.assert_array_equal(world.next, walked.successors[0])
    np.testing.assert_array_equal(world.shows, walked.rooms[0].ravel())
    np.testing.assert_array_equal(world.steps, _fewest(walked.successors[0]))
    assert len(world.edges[0]) == np.sum(walked.successors[0] != np.arange(48)[:, None])


def test_ways_are_shortest_and_lead_where_they_should(walked):
    world = mapped(walked, walked.positions[..., None])
    for start, end in ((0, 47), (7, 40), (13, 13)):
        here = start
        for action in world.way(start, end):
            here = walked.successors[0][here, action]
        assert here == end
        row, column = np.abs(np.subtract(np.divmod(start, 8), np.divmod(end, 8)))
        assert len(world.way(start, end)) == row + column


def test_several_codes_of_a_cell_are_one_node(walked):
    """Codes drawn at random, and codes that tell how one came: both are merged, cells that look alike are not."""
    drawn = 3 * walked.positions + np.random.default_rng(0).integers(3, size=walked.positions.shape)
    came = np.concatenate([np.zeros((60, 1), int), walked.actions], axis=1) + 4 * walked.positions
    for codes in (drawn, came):
        world = mapped(walked, codes[..., None])
        cell, purity = places(world, codes[..., None], walked.positions, 48)
        assert purity == 1.0
        assert sorted(cell) == list(range(48))
    apart = mapped(walked, drawn[..., None], MapSettings(burn_in=0, least_alike=2.0))
    assert len(apart.next) == 144


def test_rare_tuples_join_the_frequent_ones_near_by(walked):
    codes = np.stack([walked.positions // 8, walked.positions % 8, walked.symbols], axis=-1)
    noisy = codes.copy()
    noisy[5, 50, 2] = 9  # one bottleneck of three, once
    world = mapped(walked, noisy, MapSettings(burn_in=0, most_apart=1, least_alike=2.0, least_count=1, least_share=0.0))
    assert world.nodes(noisy[5, 50:51]) == world.nodes(codes[5, 50:51])
    apart = mapped(walked, noisy, MapSettings(burn_in=0, least_alike=2.0))
    assert apart.nodes(noisy[5, 50:51]) != apart.nodes(codes[5, 50:51])


def test_what_was_seldom_or_never_seen_is_not_believed(walked):
    codes = walked.positions[..., None].copy()
    world = mapped(walked, codes, MapSettings(burn_in=0, least_count=10**6))
    assert (world.next == NO_NODE).all()
    assert world.way(0, 1) is None
    assert world.nodes(np.array([[99]])) == NO_NODE
    assert world.way(0, NO_NODE) is None
    with pytest.raises(InputError, match=r"^burn_in: got 200, allowed: below the walks' 200$"):
        mapped(walked, codes, MapSettings(burn_in=200))


def test_journeys_with_a_perfect_map_arrive_by_the_fewest_moves(walked):
    asked = queries(walked, 10, 199, 5, 0)
    gone = travelled([mapped(walked, walked.positions[..., None])], walked.positions[..., None], walked, asked)
    assert gone.arrived.all()
    np.testing.assert_array_equal(gone.length, gone.fewest)
    assert (gone.fallback >= gone.fewest).all()
    here, there = (walked.positions[asked.walk, steps] for steps in (asked.first, asked.last))
    assert (here != there).all()
    assert (asked.first >= 10).all() and (asked.last <= 199).all()
    with pytest.raises(InputError, match="burn_in"):
        queries(walked, 199, 199, 5, 0)


def test_a_wrong_map_does_not_arrive(walked):
    """Codes that only tell the symbol: the plan ends where the symbol is, seldom in the place that was asked for."""
    codes = walked.symbols[..., None]
    asked = queries(walked, 10, 199, 5, 0)
    assert travelled([mapped(walked, codes)], codes, walked, asked).arrived.mean() < 0.5


def test_places_with_the_same_ways_out_that_look_different_are_two():
    """A world with one-way doors: both cells lead to the same place, whatever is done."""
    behind, actions = np.array([[2, 2], [2, 2], [0, 1]]), np.random.default_rng(1).integers(2, size=(5, 60))
    cells = np.zeros((5, 61), int)
    for n in range(60):
        cells[:, n + 1] = behind[cells[:, n], actions[:, n]]
    for shows, count in (([0, 1, 1], 3), ([0, 0, 1], 2)):
        world = map_of(cells[..., None], np.array(shows)[cells], actions, 2, SETTINGS)
        assert len(world.next) == count
