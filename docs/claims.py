"""What is published, how it is read off our results, and the runs of one change that explain what is missed.

``reproductions.py`` makes a page of them. A number is read from ``results.json`` by a ``Reader``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from icrl.evaluation.learning_curves import trailing_mean
from icrl.recipes.checks import SMOOTHED

Value = dict[str, float]  # {"mean", "low", "high"}
Reader = Callable[[dict[str, Any], dict[str, Any]], list[Value | None]]  # (results, settings of the run)


class Claim(NamedTuple):
    """How a published number is held against a run."""

    read: Reader  # our numbers, one for each of theirs; None where the run has none
    better: str  # "lower", "higher", or "same": a competitor, whose number ours should be
    size: Mapping[str, Any] = {}  # settings of the paper without which its number cannot be expected
    because: str = ""  # why a miss was to be expected, where an experiment has shown it


# --- how numbers are read off results.json ---


def regret(*names: str) -> Reader:
    """Of these agents after all steps."""
    return lambda results, settings: [_at(results.get("online"), name, "regret", -1) for name in names]


def returns(name: str, *numbers: int) -> Reader:
    """Of an agent in the episodes ``numbers``, counted from 1."""
    return lambda results, settings: [_at(results.get("episodes"), name, "returns", number - 1) for number in numbers]


def returns_after(name: str, *steps: int) -> Reader:
    """Of an agent in the episode that ends after so many steps."""

    def read(results: dict[str, Any], settings: dict[str, Any]) -> list[Value | None]:
        return returns(name, *(each // settings["horizon"] for each in steps))(results, settings)

    return read


def smoothed_mean(name: str) -> Reader:
    """Mean over all episodes of the trailing mean, as Chen et al. 2025 have it; its bounds are means of bounds."""

    def read(results: dict[str, Any], settings: dict[str, Any]) -> list[Value | None]:
        agent = ((results.get("episodes") or {}).get("agents") or {}).get(name)
        if agent is None:
            return [None]
        band = agent["returns"]
        return [{part: float(trailing_mean(np.array(band[part]), SMOOTHED).mean()) for part in band}]

    return read


def check(what: str) -> Reader:
    """What a check of the report measured."""
    return lambda results, settings: [
        next((row["measured"] for row in results["checks"] if row["what"] == what), None),
    ]


def given(model: str, source: str) -> Reader:
    """The return of a model that plays on a given episode of ``source``."""

    def read(results: dict[str, Any], settings: dict[str, Any]) -> list[Value | None]:
        rows = [row for table in results.get("tables") or [] for row in table["rows"] if row[:2] == [model, source]]
        return [next((row[2] for row in rows if isinstance(row[2], dict)), None)]

    return read


def both(*readers: Reader) -> Reader:
    """What each of the readers reads, one behind the other."""
    return lambda results, settings: [value for read in readers for value in read(results, settings)]


def slope(name: str, column: int) -> Reader:
    """A cell of the table that says what the logits of tadm-bernoulli's models follow."""

    def read(results: dict[str, Any], settings: dict[str, Any]) -> list[Value | None]:
        tables = (table for table in results.get("tables") or [] if table["title"] == "What logits follow")
        return [next((row[column] for table in tables for row in table["rows"] if row[0] == name), None)]

    return read


def nowhere(count: int) -> Reader:
    """Numbers that no preset measures."""
    return lambda results, settings: [None] * count


def _at(section: dict[str, Any] | None, name: str, field: str, index: int) -> Value | None:
    agent = ((section or {}).get("agents") or {}).get(name)
    if agent is None or index >= len(agent[field]["mean"]):
        return None
    return {part: agent[field][part][index] for part in ("mean", "low", "high")}


# --- the claims, by experiment and by what it calls them ---

_STREAMS = "parallel streams of one learner differ by luck alone; its report says what the filter changed"
_LONG = {"horizon": 200}
_LINEAR = {"horizon": 200, "num_arms": 10, "dim": 5, "noise_std": 1.5}
CLAIMS: dict[str, dict[str, Claim]] = {
    "ad-darkroom": {
        "AD, episode 1 / 25 / 50": Claim(returns("AD", 1, 25, 50), "higher"),
        "AD after 1 000 episodes": Claim(returns("AD", 1000), "higher"),
    },
    "ad-key-to-door": {
        "AD after 2 000 / 5 000 / 10 000 / 50 000 steps": Claim(
            returns_after("AD", 2000, 5000, 10_000, 50_000), "higher"
        ),
        "AD with contexts of 100 / 50 steps, at 30 000 steps": Claim(nowhere(2), "higher"),
    },
    "dicp": {
        "DICP-AD, episode 1 / 25 / 50": Claim(returns("DICP", 1, 25, 50), "higher"),
        "AD without planning, episode 1 / 25 / 50": Claim(returns("DICP, no plan", 1, 25, 50), "higher"),
        "DICP-AD / AD, episode 50, in other hands": Claim(
            both(returns("DICP", 50), returns("DICP, no plan", 50)), "higher"
        ),
        "DICP-AD - AD, episode 50": Claim(check("return in episode 50 of DICP - that of DICP, no plan"), "higher"),
    },
    "dpt-bandit": {
        "DPT regret(500), 200 tasks": Claim(regret("DPT"), "lower", {"horizon": 500}),
        "TS regret(500), 200 tasks": Claim(regret("thompson-gaussian"), "same", {"horizon": 500}),
        "UCB regret(500), 200 tasks": Claim(regret("ucb"), "same", {"horizon": 500}),
    },
    "dpt-darkroom": {
        "DPT offline, random data": Claim(given("DPT", "independent"), "higher"),
        "DPT offline, expert data": Claim(given("DPT", "oracle"), "higher"),
        "DPT online, episode 5 / 10 / 40": Claim(returns("DPT, last episode", 5, 10, 40), "higher"),
    },
    "dpt-linear-bandit": {
        "DPT regret(200), 200 tasks": Claim(regret("DPT"), "lower", _LONG),
        "LinUCB regret(200), 200 tasks": Claim(regret("linucb"), "same", _LONG),
        "TS (the source) regret(200), 200 tasks": Claim(regret("thompson-gaussian"), "same", _LONG),
    },
    "lhf-darkroom": {
        "E of LHF for AD, clean, smoothed": Claim(
            check(f"E of AD + lhf, clean, trailing mean of {SMOOTHED}"), "higher", because=_STREAMS
        ),
        "E of LHF for AD, 30 % noisy, smoothed": Claim(
            check(f"E of AD + lhf, noisy, trailing mean of {SMOOTHED}"), "higher"
        ),
        "AD without filter, mean over 100 episodes, smoothed": Claim(
            smoothed_mean("AD, clean"), "higher", {"eval_steps": 2000}
        ),
    },
    "tadm-bernoulli": {
        "TF imitating UCB, regret(200)": Claim(regret("imitates ucb"), "lower", _LONG),
        "UCB, regret(200)": Claim(regret("ucb"), "same", _LONG, "the paper's code runs another UCB than its text"),
        "TF on 0, 10, 50, 100 % TS, regret(200)": Claim(
            regret(*(f"DPT, {share} % of data TS" for share in (0, 10, 50, 100))), "lower", _LONG
        ),
        "TS, regret(200)": Claim(regret("thompson-bernoulli"), "same", _LONG),
    },
    "tadm-linear": {
        "TF, regret(200)": Claim(regret("AD"), "lower", _LINEAR),
        "LinUCB, regret(200)": Claim(regret("linucb"), "same", _LINEAR),
        "TS, regret(200)": Claim(regret("lin-ts"), "same", _LINEAR),
    },
}


class Change(NamedTuple):
    """A run that differs from its preset in one thing, to find out why a number is missed."""

    experiment: str
    question: str
    flags: str  # behind ``icrl run EXPERIMENT``
    numbers: dict[str, Reader]  # one number each, by what it is


CHANGES = {
    "holding-sampler": Change(
        "dpt-darkroom",
        "Does a model keep to what it has found when its source does? Contexts of the exact posterior sampler that "
        "holds its drawn goal through an episode.",
        "--objective ad --source posterior-task@memory=steps@drawn=held --skip-episodes 3 --elsewhere 0 "
        "--context rolling --given= --one-hot true",
        {
            "the model, episode 5": returns("AD", 5),
            "the model, episode 20": returns("AD", 20),
            "exact posterior of the model's memory, episode 20": returns("posterior-task@memory=window", 20),
            "exact posterior that holds its goal, episode 20": returns("posterior-task@memory=steps@drawn=held", 20),
        },
    ),
    "relu-by-position": Change(
        "tadm-bernoulli",
        "Does uniform data mislead a model whose ReLU attention is divided by the position, as the paper's is? 200 "
        "pulls, learned positions, 100 000 contexts seen again and again, 2 000 steps of two layers.",
        "--attention relu --positions learned --horizon 200 --eval-tasks 1000 --train-steps 2000 --pool 100000 "
        "--vary objective+source=dpt:uniform,dpt:0.5*thompson-bernoulli+0.5*uniform",
        {
            "regret(200), DPT on uniform data (published 24.6)": regret("DPT, 0 % of data TS"),
            "regret(200), DPT on half of Thompson sampling (published 11.1)": regret("DPT, 50 % of data TS"),
            "regret(200), Thompson sampling": regret("thompson-bernoulli"),
            "slope of its logits in pulls at t = 200, uniform data": slope("DPT, 0 % of data TS", 3),
            "the same, half of Thompson sampling": slope("DPT, 50 % of data TS", 3),
            "the same of the exact posterior": slope("exact posterior (thompson-bernoulli)", 3),
        },
    ),
    "labels-of-linucb": Change(
        "tadm-linear",
        "Does the model copy the last action of its teacher? Histories of LinUCB and uniform play, labelled with "
        "LinUCB's choice (as DAgger does, Ross et al. 2011), beside plain imitation.",
        "--vary objective+label+source=ad::linucb,dpt:linucb:0.5*linucb+0.5*uniform "
        "--competitors linucb,linucb@beta=2.0,lin-ts,uniform,oracle",
        {
            "regret(100), imitates LinUCB": regret("objective ad, label , source linucb"),
            "regret(100), labels of LinUCB on both": regret(
                "objective dpt, label linucb, source 0.5*linucb+0.5*uniform"
            ),
            "regret(100), LinUCB, width by the noise": regret("linucb"),
            "regret(100), LinUCB, beta 2": regret("linucb@beta=2.0"),
        },
    ),
}
