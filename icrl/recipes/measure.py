"""What a recipe's frozen models are worth: everything that can be measured in its environment is measured.

Regret by step everywhere; return by episode where there are several; where the exact posterior sampler is known, the
offline choice and the cross-entropy by prefix beside it. All agents meet the same held-out tasks and draws.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from icrl.core.devices import host_workers
from icrl.core.errors import InputError
from icrl.core.progress import Progress
from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, Curves, Environment, History
from icrl.evaluation.offline import (
    action_cross_entropy,
    ideal_cross_entropy,
    model_cross_entropy,
    offline_returns,
    offline_suboptimality,
    recorded_contexts,
)
from icrl.evaluation.online import OVER, Trial, episode_returns
from icrl.evaluation.statistics import Interval, interval
from icrl.models._token_policy import Policy
from icrl.recipes.agent_names import agent_of, base_name, in_words, parsed
from icrl.recipes.checks import Measured, Row, leak, returns_of
from icrl.recipes.competitors import UNIFORM, competing
from icrl.recipes.data import filter_effects, given_episodes, histories_by_source, source_histories
from icrl.recipes.ledger import Ledger
from icrl.recipes.parts import BY_TIME, CONTEXTS, KEEP_ALL, LAST_EPISODE, NONE, WHOLE
from icrl.recipes.recipe import Recipe
from icrl.recipes.task_split import tasks_for
from icrl.recipes.tuning import TUNE, Choice, Tuner

POINTS = 500  # of a curve of regret, evenly spaced


def held_out_tasks(recipe: Recipe, seed: int, each: int) -> TaskSet:
    """The held-out tasks, each of them ``each`` times in a row."""
    ids = None if recipe.task_ids is None else recipe.task_ids[1]
    return tasks_for(recipe.env, ids, seed, "test", recipe.evaluation.eval_tasks, each)


def tuner_of(recipe: Recipe, seed: int, quick: bool, ledger: Ledger) -> Tuner | None:
    """Chooses settings on training tasks of a numbered family, or on drawn ones of their own; None: nobody is tuned."""
    settings = recipe.evaluation
    if settings.tune == NONE:
        return None
    ids = None if recipe.task_ids is None else recipe.task_ids[0]
    count = settings.tune_tasks or recipe.num_held_out
    tasks = tasks_for(recipe.env, ids, seed, TUNE, count, settings.rollouts_per_task)
    like = recipe.num_held_out * settings.rollouts_per_task
    return Tuner(Trial(recipe.env, tasks, recipe.eval_steps, seed, quick, TUNE, like), ledger)


class Rollouts(NamedTuple):
    """What was measured online."""

    measured: Measured
    refused: dict[str, str]  # who does not fit, and why
    choices: list[Choice]  # of the tuned


def rollouts(recipe: Recipe, seed: int, models: dict[str, list[Agent]], ledger: Ledger) -> Rollouts:
    """Curves of the models, S training seeds each, and of the competitors, S = 1, with defaults and tuned.

    Those that ``ledger`` holds are not measured again.
    """
    env, steps, each = recipe.env, recipe.eval_steps, recipe.evaluation.rollouts_per_task
    tasks = held_out_tasks(recipe, seed, each)
    field, everybody = competing(env, recipe.evaluation.competitors), "all" in recipe.evaluation.competitors
    trial, tuner = Trial(env, tasks, steps, seed, quick=everybody), tuner_of(recipe, seed, everybody, ledger)
    players = [(name, s, agent) for name, group in models.items() for s, agent in enumerate(group)]
    players += [(name, 0, agent) for name, agent in field.players.items()]

    def played(player: tuple[str, int, Agent]) -> tuple[dict[str, dict[str, np.ndarray]], Choice | None]:
        name, agent_seed, agent = player
        curves = {name: ledger.once(f"{name}, seed {agent_seed}", lambda: measured(agent, agent_seed))}
        choice = tuner.choice(name) if tuner and name in field.players and name in agents else None
        if choice and choice.best not in field.players:
            best = choice.best
            curves[best] = ledger.once(f"{best}, seed 0", lambda: measured(agent_of(env, best), 0))
        return curves, choice

    def measured(agent: Agent, agent_seed: int) -> dict[str, np.ndarray]:
        fields = (*Curves._fields, OVER) if env.spec.ends_early else Curves._fields
        curves = trial.curves(agent, agent_seed, "", fields)
        regret = np.cumsum(curves["regret"], axis=1, dtype=np.float64)
        values = {"regret": regret, "reward": curves["reward"].astype(np.float64)}
        if env.spec.ends_early and recipe.num_episodes:
            values["returns"] = episode_returns(curves["reward"], recipe.num_episodes, curves[OVER])
        return {name: array.reshape(-1, each, array.shape[1]).mean(1) for name, array in values.items()}

    found: dict[str, list[dict[str, np.ndarray]]] = {}
    choices = []
    with Progress("evaluating", len(players), "agents") as bar, ThreadPoolExecutor(host_workers()) as pool:
        for (name, _, _), (curves, choice) in zip(players, pool.map(played, players), strict=True):
            for each_name, values in curves.items():
                found.setdefault(each_name, []).append(values)
            choices += [choice] if choice else []
            bar.advance(1, name)
    if everybody:
        jax.clear_caches()  # a competitor's code is used once
    stacked = {
        name: {field: np.stack([each[field] for each in group]) for field in group[0]} for name, group in found.items()
    }
    return Rollouts(stacked, field.refused, choices)


def online_section(
    recipe: Recipe, measured: Measured, models: dict[str, str], choices: Iterable[Choice] = ()
) -> dict[str, Any] | None:
    """Regret by step, at most ``POINTS`` of them; None where no optimum is known."""
    if not recipe.env.spec.knows_optimum:
        return None
    at = np.unique(np.linspace(1, recipe.eval_steps, min(POINTS, recipe.eval_steps)).round().astype(int))
    curves = {
        name: curve(name, "regret", interval(curves["regret"][..., at - 1]), models, *exact_agents(recipe.env))
        for name, curves in measured.items()
    }
    return {"steps": at.tolist(), "agents": with_choices(curves, choices)}


def episodes_section(
    recipe: Recipe, measured: Measured, models: dict[str, str], folder: Path, choices: Iterable[Choice] = ()
) -> dict[str, Any] | None:
    """Return by episode, where there are several; the source's own, if it made histories cut like them.

    Where episodes end early: of the first E = T // H, which every rollout has; what comes after them is left out.
    """
    if recipe.num_episodes < 2:
        return None
    returns = {name: returns_of(recipe, curves) for name, curves in measured.items()}
    if recipe.data.kind != CONTEXTS and recipe.segment == recipe.episode and not recipe.env.spec.ends_early:
        returns |= _source_returns(recipe, folder)
    exact = exact_agents(recipe.env)
    curves = {name: curve(name, "returns", interval(values), models, *exact) for name, values in returns.items()}
    return {"episode": list(range(1, recipe.num_episodes + 1)), "agents": with_choices(curves, choices)}


def _source_returns(recipe: Recipe, folder: Path) -> dict[str, np.ndarray]:
    """The sources on their own training tasks: at the same episode, and at the end of their histories, [1, N, E]."""
    stored, count, lines, low = source_histories(recipe, folder), recipe.num_episodes, {}, 0
    every = stored.episode_returns().reshape(stored.num_tasks, stored.num_histories, -1)
    bases = [base_name(name) for name in recipe.sources]
    for name, made in histories_by_source(recipe).items():
        returns, low = every[:, low : low + made].mean(1), low + made
        last = returns[:, -max(1, returns.shape[1] // 10) :].mean(1)
        base = base_name(name)
        name = base if bases.count(base) == 1 else name  # a chart has no room for settings
        lines[f"{name}, its last tenth"] = np.repeat(last[:, None], count, 1)[None]
        if returns.shape[1] >= count:
            lines[f"{name}, same episode"] = returns[None, :, :count]
    return lines


def offline_sections(
    recipe: Recipe, seed: int, policies: list[Policy], name: str, label: str
) -> tuple[dict[str, Any], list[Row]]:
    """Sections ``offline`` and ``cross_entropy`` of one variant, where the exact sampler of a bandit is known.

    Contexts are the first source's. And the check that the model knows nothing that it must not know.
    """
    env, steps = recipe.env, recipe.context_steps
    sampler = env.spec.exact_sampler
    measurable = env.spec.is_stationary_bandit and recipe.data.kind == CONTEXTS and recipe.needs_labels
    measurable = measurable and not recipe.label
    if not sampler or not measurable or recipe.rules != (WHOLE,):
        return {}, []
    exact = agent_of(env, sampler)
    tasks = TaskSet.draw(env, seed, "offline", recipe.evaluation.offline_tasks)
    recorded = recorded_contexts(env, tasks, agent_of(env, recipe.sources[0], steps), steps, seed)
    contexts = recorded.contexts
    at = np.unique(np.concatenate([[0, steps], np.geomspace(1, steps, 24).round()]).astype(int))
    groups: dict[str, list[Any]] = {name: [recipe.agent(policy) for policy in policies]}
    for other in recipe.evaluation.offline_competitors or (sampler,):
        groups[other] = [agent_of(env, other)]
    curves = {}
    for each, group in groups.items():
        losses = np.stack([offline_suboptimality(env, tasks, agent, recorded, seed)[:, at] for agent in group])
        curves[each] = curve(each, "suboptimality", interval(losses), {name: label}, sampler)
    offline = {"prefix": at.tolist(), "agents": curves, "num_tasks": len(tasks)}

    entropy = np.stack([model_cross_entropy(recipe.objective(), policy, contexts) for policy in policies])[..., at]
    section: dict[str, Any] = {"prefix": at.tolist(), "model": interval(entropy).band(), "ideal": None, "gap": None}
    section["num_tasks"] = len(tasks)
    if not hasattr(exact, "optimal_action_probs"):
        return {"offline": offline, "cross_entropy": section}, []
    ideal = ideal_cross_entropy(exact, contexts, at)
    section |= {"ideal": interval(ideal[None]).band(), "gap": interval(entropy - ideal).band()}
    return {"offline": offline, "cross_entropy": section}, leak(entropy - ideal)


def imitator_of(recipe: Recipe) -> Agent | None:
    """What imitates the recipe's source without error, where the law of its windows is known; else None."""
    data, env = recipe.data, recipe.env
    if recipe.prediction.objective != "ad" or data.kind == CONTEXTS or data.is_foreign:
        return None
    known = base_name(recipe.sources[0]) == "annealed-oracle" and data.filter == "keep-all" and data.keep_every == 1
    plain = not data.noisy_fraction and not recipe.prediction.label_smoothing and recipe.forget == recipe.episode
    plain = plain and data.context_order == BY_TIME
    if not (known and plain):
        return None
    known_law = {"history_steps": recipe.history_steps, "window": recipe.context_steps, **parsed(recipe.sources[0])[1]}
    try:
        made: Agent = agents["exact-imitator"].for_env(env, **known_law)
    except InputError:  # tasks without numbers, too many of them, or windows that are no whole episodes
        return None
    return made


def imitation_section(recipe: Recipe, policies: list[Policy], windows: History) -> dict[str, Any] | None:
    """Section ``cross_entropy`` of what imitates a source: on windows [B, C, ...], beside the exact imitator's."""
    imitator = imitator_of(recipe)
    if imitator is None:
        return None
    count, steps = windows.action.shape
    at = np.unique(np.concatenate([[0, steps - 1], np.geomspace(1, steps - 1, 24).round()]).astype(int))
    entropy = np.stack([model_cross_entropy(recipe.objective(), policy, windows) for policy in policies])[..., at]
    floor = action_cross_entropy(imitator, windows)[:, at]
    return {
        "prefix": at.tolist(),
        "model": interval(entropy).band(),
        "ideal": interval(floor[None]).band(),
        "gap": interval(entropy - floor).band(),
        "num_tasks": count,
        "what": "the source's action",
        "over": f"{count:,} validation windows",
    }


def table(recipe: Recipe, measured: Measured, models: dict[str, str], refused: dict[str, str]) -> dict[str, Any]:
    """Regret and reward of everybody over the whole evaluation, least regret first; without one by reward."""
    why = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    note = f"Not here: {why}." if why else "All agents on the same tasks and draws."
    if not recipe.env.spec.knows_optimum:
        earned = {name: interval(curves["reward"].sum(-1)) for name, curves in measured.items()}
        best_first = sorted(earned, key=lambda name: -float(earned[name].mean))
        return {
            "title": f"Reward after {recipe.eval_steps:,} steps, most first",
            "columns": ["agent", "reward"],
            "rows": [[models.get(name) or in_words(name), earned[name].band()] for name in best_first],
            "note": note,
        }
    uniform = measured[UNIFORM]["regret"][..., -1].mean() if UNIFORM in measured else 0.0
    rows: list[list[Any]] = []
    for name in sorted(measured, key=lambda name: float(measured[name]["regret"][..., -1].mean())):
        regret = interval(measured[name]["regret"][..., -1])
        reward = interval(measured[name]["reward"].sum(-1))
        rows.append(
            [
                models.get(name) or in_words(name),
                regret.band(),
                reward.band(),
                float(regret.mean / uniform) if uniform else "-",
            ]
        )
    return {
        "title": f"Regret and reward after {recipe.eval_steps:,} steps, least regret first",
        "columns": ["agent", "regret", "reward", "/ uniform"],
        "rows": rows,
        "note": note,
    }


def exact_agents(env: Environment) -> tuple[str, str]:
    """The exact posterior sampler of a family and its Bayes-optimal policy; "" for one that is not known."""
    return env.spec.exact_sampler, env.spec.exact_policy


def curve(
    name: str, field: str, measured: Interval, models: dict[str, str], ideal: str, policy: str = ""
) -> dict[str, Any]:
    """One agent's curve in a section of the results; ``models`` are labels, the others as in ``exact_agents``.

    The ideal is the Bayes-optimal policy where it is known, else the exact sampler.
    """
    kinds = {policy or ideal: "ideal", "oracle": "oracle", "": "baseline"} | dict.fromkeys(models, "model")
    base = name if name in models else base_name(name)
    if name in models:
        label = models[name]
    elif base == ideal:  # its settings by their values alone: a chart has room for 30 letters
        values = [each.partition("=")[2] for each in name.split("@")[1:]]
        label = ", ".join(["exact posterior", *values]) if values else "exact posterior sampling"
    else:
        label = "optimum" if name == "oracle" else in_words(name)
    return {"kind": kinds.get(base, "baseline"), "label": label, "interval": measured.method, field: measured.band()}


def with_choices(curves: dict[str, Any], choices: Iterable[Choice]) -> dict[str, Any]:
    """``curves`` by name, those of tuned agents marked as such."""
    tuned = {choice.best: {"tuned_from": choice.agent} for choice in choices}
    return {name: each | tuned.get(name, {}) for name, each in curves.items()}


def given_returns(recipe: Recipe, seed: int, policies: list[Policy]) -> dict[str, np.ndarray]:
    """Return of an episode played greedily with another one as its context, [S, N] by who made that other one."""
    if not recipe.evaluation.given:
        return {}
    env, count = recipe.env, recipe.evaluation.given_contexts
    tasks = held_out_tasks(recipe, seed, count)
    players = [recipe.agent(policy, LAST_EPISODE, greedy=True) for policy in policies]
    found = {}
    for source in recipe.evaluation.given:
        shown = given_episodes(recipe, source, seed, tasks)
        each = [offline_returns(env, tasks, player, shown, seed).reshape(-1, count).mean(1) for player in players]
        found[source] = np.stack(each)
    return found


def given_table(given: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    """What a given episode is worth to each model."""
    rows = [
        [name, in_words(source), interval(values).band()]
        for name, own in given.items()
        for source, values in own.items()
    ]
    return {
        "title": "Return of one episode, played greedily on a given one",
        "columns": ["model", "given by", "return"],
        "rows": rows,
        "note": "The given episode is the model's whole context, it does not change while the other is played.",
    }


def filter_tables(variants: dict[str, Recipe], folder: Path, seed: int) -> list[dict[str, Any]]:
    """What the filters did to the data they were given, one table; none where no variant has a filter."""
    rows: list[list[Any]] = []
    for label, recipe in variants.items():
        if recipe.data.kind == CONTEXTS or recipe.data.filter == KEEP_ALL:
            continue
        each = filter_effects(recipe, folder, seed)
        for what, (before, _) in each[0].items():
            after = float(np.mean([found[what].after for found in each]))
            rows.append([label, what, before, after, f"{after / before - 1:+.1%}" if before else "-"])
    note = "Where the data hardly change, no gain of a model trained on them is to be expected."
    columns = ["variant", "of the histories", "collected", "filtered", "change"]
    title = "What the filter did to the data, means over training seeds"
    return [{"title": title, "columns": columns, "rows": rows, "note": note}] if rows else []
