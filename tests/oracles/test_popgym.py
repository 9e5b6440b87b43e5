"""POPGym's games against PyPI's ``popgym``, step by step: its environment is dealt what ours has drawn.

Actions are a mixture of the optimal and the uniform one, in another share in every episode, so that games are won, lost
and left unfinished. All 200 episodes of a game are one compiled program; by day three of the easy ones are replayed.
"""

import re
from functools import cache, partial

import jax
import numpy as np
import popgym.envs as reference
import pytest
from replays import Draws, episodes_of

from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.core.seeding import key_for
from icrl.core.threefry import normal, uniform
from icrl.envs._decks import shuffled
from icrl.envs._levels import LEVELS

EPISODES = 200
GATE = 4.0  # standard errors
NOISES = dict(zip(LEVELS, (0.1, 0.2, 0.3), strict=True))
CART_POLES = {
    "PositionOnlyCartPole": {},
    "VelocityOnlyCartPole": {"shows": "velocity"},
    "NoisyPositionOnlyCartPole": {},
}
DECKS = ("RepeatPrevious", "RepeatFirst", "Autoencode", "CountRecall", "HigherLower")
GAMES = (*DECKS, "MultiarmedBandit", "Battleship", "Concentration", "MineSweeper", *CART_POLES)

DAY = [
    pytest.param(game, level, episodes, marks=() if episodes == 3 else pytest.mark.nightly)
    for game in GAMES
    for level in LEVELS
    for episodes in ((3, EPISODES) if level == "easy" else (EPISODES,))
]


def ours(game, level):
    if game == "NoisyPositionOnlyCartPole":
        return environments["CartPole-v0"](noise=NOISES[level])
    name = "CartPole" if game in CART_POLES else game
    return environments[f"{name}-v0"](level=level, **CART_POLES.get(game, {}))


def theirs(game, level):
    return getattr(reference, f"{game}{level.capitalize()}")()


@cache
def played(game, level, purpose):
    """Episodes of ours; those to ``mix`` are played optimally at first, and uniformly in the end."""
    env = ours(game, level)
    return env, episodes_of(env, EPISODES, np.linspace(0.0, 1.0, EPISODES) if purpose == "mix" else 1.0, purpose)


uniform_of, normal_of = jax.jit(jax.vmap(uniform)), jax.jit(jax.vmap(lambda key: normal(key, (2,))))


# -- their environment with our draws ---------------------------------------------------------------------------------


def cards_of(kinds, kind_of_card):
    """Cards of the kinds that are wanted, in that order."""
    cards = np.empty(len(kinds), int)
    for kind in np.unique(kinds):
        cards[kinds == kind] = np.flatnonzero(kind_of_card == kind)
    return cards


def dealt(game, peer, batch, number):
    """What a generator of theirs has to draw to deal, hide and jolt as ours did in an episode."""
    first_obs, state = batch.first_obs[number], jax.tree.map(lambda leaf: leaf[number, 0], batch.state)
    seen = np.concatenate([first_obs[None], batch.obs[number]]).astype(int)
    if game == "CountRecall":
        return [cards_of(seen[:, column], peer.deck_idx_type)[::-1] for column in (0, 1)]
    if game in DECKS:
        kinds = peer.deck.ranks_idx if game == "HigherLower" else peer.deck.suits_idx
        return [cards_of(seen[: peer.deck.num_cards, -1], kinds)[::-1]]
    if game == "Concentration":
        return [cards_of(state.faces, peer.deck_idx_type)]
    if game == "MineSweeper":
        return [np.flatnonzero(state.mines)]
    if game == "MultiarmedBandit":
        return [state.arms, *np.asarray(uniform_of(batch.keys[number, 1:]))]
    start = state.physics.astype(float)
    if not game.startswith("Noisy"):
        return [start]
    noise = peer.noise_sigma * np.asarray(normal_of(batch.keys[number, 1:]))
    return [start, first_obs - start[[0, 2]], *noise]


def begun(game, peer, batch, number):
    """Their first observation, [O], after their environment was set to the start of an episode of ours."""
    if game != "Battleship":
        peer._np_random = Draws(*dealt(game, peer, batch, number))
    obs, _ = peer.reset()
    if game == "Battleship":  # they draw until ships fit: only the board can be given
        ships = unpacked(batch.state.ships[number, 0])
        assert ships.sum() == peer.needed_hits
        peer.board[:] = ships
    return flat(obs)


def unpacked(rows):
    """The cells [..., n, n] of a board that is given as words [..., n], lowest bits first."""
    return rows[..., None] >> np.arange(rows.shape[-1]) & 1


def flat(obs):
    return np.asarray(obs, float).reshape(-1)


@pytest.mark.parametrize(("game", "level", "episodes"), DAY)
def test_every_step_is_popgyms(game, level, episodes):
    """Observations and ends are equal, rewards within 1e-6; CartPole's steps begin at our state and agree to 1e-5."""
    env, batch = played(game, level, "mix")
    peer = theirs(game, level)
    pairs = hasattr(peer.action_space, "nvec")
    assert env.num_actions == (np.prod(peer.action_space.nvec) if pairs else peer.action_space.n)
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-5 if game in CART_POLES else 0.0)
    for number in np.linspace(0, EPISODES - 1, episodes).astype(int):
        close(begun(game, peer, batch, number), batch.first_obs[number])
        steps, found = batch.steps(number), []
        for t, action in enumerate(batch.action[number, :steps].tolist()):
            if game in CART_POLES:
                peer.state = batch.state.physics[number, t].astype(float)
            found.append(peer.step(np.array(divmod(action, peer.action_space.nvec[1])) if pairs else action))
        seen, rewards, *ends = zip(*(each[:4] for each in found), strict=True)
        close([flat(each) for each in seen], batch.obs[number, :steps], err_msg=f"episode {number}")
        np.testing.assert_allclose(rewards, batch.reward[number, :steps], rtol=0, atol=1e-6)
        assert np.flatnonzero(np.logical_or(*ends)).tolist() == [steps - 1]


def test_a_cart_pole_that_runs_on_its_own_is_gymnasiums():
    """Above, steps begin at our state; here only the start is ours, and float32 drifts by less than 1e-4."""
    game, number = "PositionOnlyCartPole", EPISODES - 1
    _, batch = played(game, "easy", "mix")
    peer = theirs(game, "easy")
    begun(game, peer, batch, number)
    steps = batch.steps(number)
    for t in range(steps):
        seen, _, terminated, *_ = peer.step(int(batch.action[number, t]))
        np.testing.assert_allclose(seen, batch.obs[number, t], rtol=0, atol=1e-4)
        assert terminated == (t == steps - 1)


# -- worth ------------------------------------------------------------------------------------------------------------

RANDOM = {  # mean return of uniform play, measured with popgym 1.0.7 (standard errors up to 0.003): easy, medium, hard
    "RepeatPrevious": (-0.5, -0.5, -0.5),
    "RepeatFirst": (-0.5, -0.5, -0.5),
    "Autoencode": (-0.5, -0.5, -0.5),
    "CountRecall": (-0.925, -0.926, -0.884),
    "HigherLower": (0.0, 0.0, 0.0),
    "MultiarmedBandit": (0.0, 0.0, 0.0),
    "Battleship": (-0.455, -0.423, -0.399),
    "Concentration": (-0.191, -0.184, -0.835),
    "MineSweeper": (-0.233, -0.399, -0.432),
    "PositionOnlyCartPole": (0.112, 0.056, 0.037),
}


def agrees(returns, wanted, rounding=5e-4):
    """Within 4 standard errors of the mean, and what is not known of the number that is wanted."""
    return abs(returns.mean() - wanted) <= GATE * returns.std() / np.sqrt(returns.size) + rounding


def by_day(game, level):
    is_day = level == "easy" and game in ("RepeatFirst", "MineSweeper")
    return pytest.param(game, level, marks=() if is_day else pytest.mark.nightly)


@pytest.mark.parametrize(("game", "level"), [by_day(game, level) for game in RANDOM for level in LEVELS])
def test_uniform_play_earns_what_it_earns_there(game, level):
    _, batch = played(game, level, "uniform")
    assert agrees(batch.sums(batch.reward), RANDOM[game][LEVELS.index(level)], 3e-3)


@pytest.mark.nightly
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("game", [game for game in GAMES if game != "NoisyPositionOnlyCartPole"])
def test_regrets_are_what_is_missing_from_the_optimum(game, level):
    """Their sum is the optimal return less that of the episode; the optimum is reached in every single episode.

    The bandit's hold for expected rewards, and its optimum as that of Higher Lower for the average over episodes.
    """
    env, batch = played(game, level, "mix")
    optimum = float(env.optimal_return(env.default_params))
    earned, missed = batch.sums(batch.reward), batch.sums(batch.regret)
    best = optimum
    if game == "MultiarmedBandit":
        arms = batch.state.arms[:, 0].astype(float)
        chances = np.take_along_axis(arms, batch.action, axis=1)
        earned, best = np.mean(2 * chances - 1, axis=1), 2 * arms.max(1) - 1
        assert abs(best.mean() - optimum) <= GATE * best.std() / np.sqrt(EPISODES)
    if game == "HigherLower":
        best = earned + missed
        assert abs(best.mean() - optimum) <= GATE * best.std() / np.sqrt(EPISODES)
    np.testing.assert_allclose(earned + missed, best, rtol=0, atol=2e-5)
    assert missed[0] == 0 and batch.regret.min() >= 0


def total(env, choose, purpose):
    """Returns [B] of one episode each, in which step t takes the actions ``choose(t, obs [B, 1])``."""
    task, steps = env.default_params, env.spec.max_steps_in_episode
    keys = jax.random.split(key_for(1, purpose), (steps + 1, EPISODES))
    step = jax.jit(jax.vmap(lambda key, state, action: env.step_env(key, state, action, task)[:4]))
    obs, state = jax.vmap(lambda key: env.reset_env(key, task))(keys[0])
    earned, over = np.zeros(EPISODES), np.zeros(EPISODES, bool)
    for t in range(steps):
        obs, state, reward, terminated = step(keys[t + 1], state, choose(t, np.asarray(obs)).astype(np.int32))
        earned += np.where(over, 0.0, np.asarray(reward))
        over |= np.asarray(terminated)
    return earned


@pytest.mark.nightly
@pytest.mark.parametrize(("level", "counting"), list(zip(LEVELS, (0.529, 0.518, 0.511), strict=True)))
def test_going_by_the_rank_and_counting_cards(level, counting):
    """What two policies would have earned with the cards that were dealt, as nothing that is done changes them."""
    env, batch = played("HigherLower", level, "uniform")
    cards = np.concatenate([batch.first_obs[:, None], batch.obs], axis=1)[..., 0].astype(int)  # [B, n]
    now, following = cards[:, :-1], cards[:, 1:]
    dealt = np.cumsum(np.eye(13, dtype=int)[cards], axis=1)[:, :-1]
    left = env.num_cards // 13 - dealt  # [B, n - 1, 13]
    more = np.sign(np.arange(13) - now[..., None])  # of each rank against that of the card on the table
    for leans, wanted in ((6 - now, 0.497), ((left * more).sum(-1), counting)):
        guess = np.where(leans >= 0, 1, -1)
        assert agrees((guess * np.sign(following - now)).sum(1) / env.num_cards, wanted)


@pytest.mark.nightly
@pytest.mark.parametrize(("level", "wanted"), list(zip(LEVELS, (0.638, 0.737, 0.773), strict=True)))
def test_thompson_sampling_in_the_bandit(level, wanted):
    env, rng = ours("MultiarmedBandit", level), np.random.default_rng(0)
    counts, rows, arms = np.ones((2, EPISODES, env.num_actions)), np.arange(EPISODES), []

    def choose(t, obs):
        if t:
            counts[obs[:, 0].astype(int), rows, arms[-1]] += 1
        arms.append(rng.beta(counts[1], counts[0]).argmax(1))
        return arms[-1]

    assert agrees(total(env, choose, "thompson"), wanted)


@pytest.mark.nightly
@pytest.mark.parametrize("level", LEVELS)
def test_the_balance_holds(level):
    batch = episodes_of(ours("PositionOnlyCartPole", level), 1000, 0.0, "balance")
    np.testing.assert_allclose(batch.sums(batch.reward), 1.0, rtol=0, atol=1e-5)


@pytest.mark.nightly
def test_shots_that_hit_no_cell_twice():
    env, rng = ours("Battleship", "easy"), np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(env.num_actions), (EPISODES, 1)), axis=1)
    assert agrees(total(env, lambda t, obs: order[:, t], "order"), 0.077)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("RepeatPrevious-v0", {"level": "extreme"}, "level: got 'extreme', allowed: easy or medium or hard"),
        ("RepeatPrevious-v0", {"decks": 2, "k": 104}, "k: got 104, allowed: an integer in [1, 103]"),
        ("RepeatPrevious-v0", {"level": "hard", "decks": 1}, "k: got 64, allowed: an integer in [1, 51]"),
        ("RepeatFirst-v0", {"decks": 0}, "decks: got 0, allowed: an integer in [1, 64]"),
        ("CountRecall-v0", {"cards": "jokers"}, "cards: got 'jokers', allowed: colors or suits or ranks"),
        ("Battleship-v0", {"size": 4}, "size: got 4, allowed: an integer in [5, 31]"),
        ("MineSweeper-v0", {"size": 3, "mines": 7}, "mines: got 7, allowed: an integer in [1, 6]"),
        ("MineSweeper-v0", {"size": 3, "level": "hard"}, "mines: got 10, allowed: an integer in [1, 6]"),
        ("Concentration-v0", {"cards": "suits"}, "cards: got 'suits', allowed: colors or ranks"),
        ("CartPole-v0", {"shows": "nothing"}, "shows: got 'nothing', allowed: position or velocity or all"),
    ],
)
def test_a_game_that_cannot_be_played_is_refused_in_one_line(name, settings, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        environments[name](**settings)


def test_a_small_board_still_holds_its_ships():
    """Random boards of the smallest size all have twelve cells of ships, so that none found no place."""
    begin = jax.jit(jax.vmap(lambda key: environments["Battleship-v0"](size=5).reset_env(key, None)[1].ships))
    boards = unpacked(np.asarray(begin(jax.random.split(key_for(0, "boards"), 20_000))))
    assert (boards.sum((1, 2)) == 12).all()


@pytest.mark.nightly
def test_ships_lie_as_often_in_each_cell_as_theirs():
    """20 000 boards of ours and 4 000 of theirs on the smallest board, where ships are most in each other's way."""
    begin = jax.jit(jax.vmap(lambda key: environments["Battleship-v0"](size=5).reset_env(key, None)[1].ships))
    mine = unpacked(np.asarray(begin(jax.random.split(key_for(2, "boards"), 20_000))))
    peer = reference.Battleship(board_size=5)
    others = np.stack([peer.reset(seed=seed)[1] or peer.board.copy() for seed in range(4_000)])
    p = others.mean(0)
    assert (np.abs(mine.mean(0) - p) <= 4.5 * np.sqrt(p * (1 - p) * (1 / 20_000 + 1 / 4_000))).all()


@pytest.mark.nightly
@pytest.mark.parametrize("size", [9, 52, 104])
def test_shuffled_numbers_are_a_uniform_permutation(size):
    """Each number as often in each place, and each pair of neighbours as often in order as not."""
    found = np.asarray(jax.jit(jax.vmap(partial(shuffled, size=size)))(jax.random.split(key_for(0, "decks"), 20_000)))
    assert (np.sort(found, axis=1) == np.arange(size)).all()
    often = np.stack([(found == number).mean(0) for number in range(size)])
    assert np.abs(often - 1 / size).max() <= 5.5 * np.sqrt((size - 1) / size**2 / 20_000)
    assert np.abs((found[:, 1:] > found[:, :-1]).mean(0) - 0.5).max() <= 5 * 0.5 / np.sqrt(20_000)
