"""Promises of an experiment: checks over measured quantities by name, one row of the report each.

A promise is a function of (recipe, measured) to rows, so that an experiment lists what it promises and nothing else.
Variants are called by their labels, "ours" is the first one unless another is named; a promise about somebody who did
not play makes no row.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from icrl.core.errors import InputError
from icrl.core.registry import agents
from icrl.core.settings import replaced
from icrl.evaluation.learning_curves import trailing_mean
from icrl.evaluation.online import episode_returns
from icrl.evaluation.statistics import Interval, interval, paired_difference, ratio_interval
from icrl.recipes.agent_names import base_name, in_words
from icrl.recipes.parts import KEEP_ALL
from icrl.recipes.recipe import Recipe

# By agent: "regret" [S, N, T] cumulative, "reward" [S, N, T], and where episodes end early "returns" [S, N, E] of the
# first E of each rollout; of models also "given AGENT" [S, N], the return of an episode that is played on a given one.
Measured = dict[str, dict[str, np.ndarray]]
Row = dict[str, Any]
Promise = Callable[[Recipe, Measured], list[Row]]

SMOOTHED = 20  # episodes of the trailing mean behind the numbers of Chen et al. 2025


def row(what: str, measured: Interval, target: str, ok: bool) -> Row:
    """One check of the results."""
    return {"what": what, "measured": measured.band(), "target": target, "ok": ok, "interval": measured.method}


def kept(rows: Callable[[], list[Row]]) -> list[Row]:
    """What ``rows`` gives; one row that says why, where it cannot be computed (a ratio to nearly zero, say)."""
    try:
        return rows()
    except InputError as refusal:
        return [{"what": "a check that cannot be computed", "measured": None, "target": str(refusal), "ok": False}]


def at_most(what: str, measured: Interval, limit: float) -> Row:
    """The mean is at most ``limit``."""
    return row(what, measured, f"<= {limit:g}", bool(measured.mean <= limit))


def within(what: str, measured: Interval, low: float, high: float) -> Row:
    """The mean lies in low .. high."""
    return row(what, measured, f"in {low:g} .. {high:g}", bool(low <= measured.mean <= high))


def above_zero(what: str, measured: Interval) -> Row:
    """The mean is above 0."""
    return row(what, measured, "> 0", bool(measured.mean > 0))


def beyond_zero(what: str, difference: Interval) -> Row:
    """The whole interval is above 0."""
    return row(what, difference, "> 0 beyond the interval", bool(difference.low > 0))


def regret_ratio(other: str, limit: float, ours: str | None = None) -> Promise:
    """Regret(T) of our model is at most ``limit`` times that of ``other`` on the same tasks."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        name = ours or next(iter(measured))
        if not {name, other} <= measured.keys():
            return []
        ratio = ratio_interval(measured[name]["regret"][..., -1], measured[other]["regret"][0, :, -1])
        return [at_most(f"regret({recipe.eval_steps}) of {name} / {other}", ratio, limit)]

    return promise


def regret_limit(limit: float) -> Promise:
    """Regret(T) of our model is at most ``limit``, at the preset's own T."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        name = next(iter(measured))
        what = f"regret({recipe.eval_steps}) of {name}"
        return [at_most(what, interval(measured[name]["regret"][..., -1]), limit)]

    return promise


def order(*names: str) -> Promise:
    """Each of the variants ``names`` loses more than the next, beyond the interval of the difference."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        del recipe
        rows = []
        for worse, better in itertools.pairwise(names):
            if {worse, better} <= measured.keys():
                difference = paired_difference(measured[worse]["regret"][..., -1], measured[better]["regret"][..., -1])
                rows.append(beyond_zero(f"regret of {worse} - that of {better}", difference))
        return rows

    return promise


def given_return(source: str, low: float, high: float) -> Promise:
    """The return of our model on given episodes of ``source`` lies in low .. high."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        del recipe
        values = next(iter(measured.values())).get(f"given {source}")
        if values is None:
            return []
        return [within(f"return on a given episode, {in_words(source)}", interval(values), low, high)]

    return promise


def episode_return(episode: int, low: float, high: float) -> Promise:
    """The return of our model in the given episode, counted from 1, lies in low .. high."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        name = next(iter(measured))
        if recipe.num_episodes < episode:
            return []
        returns = returns_of(recipe, measured[name])[..., episode - 1]
        return [within(f"return in episode {episode} of {name}", interval(returns), low, high)]

    return promise


def gain(name: str, base: str) -> Promise:
    """The mean return over all episodes is higher under ``name`` than under ``base``."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        if not {name, base} <= measured.keys():
            return []
        ours, theirs = (returns_of(recipe, measured[each]) for each in (name, base))
        return [above_zero(f"mean return of {name} - that of {base}", interval((ours - theirs).mean(-1)))]

    return promise


def ahead(name: str, base: str, episode: int) -> Promise:
    """``name`` earns more than ``base`` in the given episode, counted from 1, beyond the interval of the difference."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        if not {name, base} <= measured.keys() or recipe.num_episodes < episode:
            return []
        ours, theirs = (returns_of(recipe, measured[each])[..., episode - 1] for each in (name, base))
        what = f"return in episode {episode} of {name} - that of {base}"
        return [beyond_zero(what, paired_difference(ours, theirs))]

    return promise


def improvement(recipe: Recipe, measured: Measured) -> list[Row]:
    """Every variant earns more in the last fifth of the episodes than in the first."""
    rows, fifth = [], max(1, recipe.num_episodes // 5)
    for name in (name for name in measured if base_name(name) not in agents):  # the others are competitors
        returns = returns_of(recipe, measured[name])
        gain = interval(returns[..., -fifth:].mean(-1) - returns[..., :fifth].mean(-1))
        rows.append(above_zero(f"{name}: last fifth of episodes minus first fifth", gain))
    return rows


def enhancement(name: str, base: str) -> Promise:
    """E, the mean return of variant ``name`` relative to that of ``base``, is above 0: raw, and as published."""

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        if not {name, base} <= measured.keys():
            return []
        ours, theirs = (returns_of(recipe, measured[each]) for each in (name, base))
        raw = ratio_interval(ours.mean(-1), theirs.mean(-1))
        smooth = ratio_interval(*(trailing_mean(returns, SMOOTHED).mean(-1) for returns in (ours, theirs)))
        return [
            above_zero(f"E of {name}, raw", _minus_one(raw)),
            above_zero(f"E of {name}, trailing mean of {SMOOTHED}", _minus_one(smooth)),
        ]

    return promise


def enhancements(labels: Mapping[str, str]) -> Promise:
    """E of every variant with a filter, relative to the variant that differs from it in having none.

    ``labels`` are what readers call the variants that are not called by their settings.
    """

    def promise(recipe: Recipe, measured: Measured) -> list[Row]:
        variants = {labels.get(label, label): variant for label, variant in recipe.variants().items()}
        unfiltered = {variant: name for name, variant in variants.items() if variant.data.filter == KEEP_ALL}
        rows = []
        for name, variant in variants.items():
            base = unfiltered.get(replaced(variant, {"filter": KEEP_ALL}))
            if base not in (None, name):
                rows += enhancement(name, base)(recipe, measured)
        return rows

    return promise


def leak(gap: np.ndarray) -> list[Row]:
    """A model below the exact posterior's cross-entropy beyond noise sees something that it must not see.

    ``gap`` [S, N, P] is its excess at each prefix.
    """
    excess = interval(gap.mean(-1))
    what = "cross-entropy above the exact posterior's, nats (below 0: a leak)"
    return [row(what, excess, ">= 0 within the interval", bool(excess.high >= 0))]


def returns_of(recipe: Recipe, curves: dict[str, np.ndarray]) -> np.ndarray:
    """Return of each whole episode, [S, N, E] float64."""
    if "returns" in curves:
        return curves["returns"]
    return episode_returns(curves["reward"][..., : recipe.num_episodes * recipe.episode], recipe.num_episodes)


def _minus_one(ratio: Interval) -> Interval:
    return Interval(ratio.mean - 1.0, ratio.low - 1.0, ratio.high - 1.0, ratio.method)
