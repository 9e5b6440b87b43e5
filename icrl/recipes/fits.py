"""Which parts of a recipe fit together; what does not is refused in one line, before anything is compiled."""

import dataclasses
import math
from collections.abc import Iterable

from icrl.core.errors import InputError, require, require_int
from icrl.core.registry import agents, layouts, objectives
from icrl.core.types import Environment
from icrl.models.layers.moe import MoEConfig
from icrl.objectives.rl2 import RL2
from icrl.recipes.agent_names import agent_of, base_name
from icrl.recipes.competitors import competing
from icrl.recipes.parts import (
    BY_TIME,
    CONTEXTS,
    HISTORIES,
    INDEPENDENT,
    LAST_EPISODE,
    ROLLING,
    SORTED,
    STREAM,
    TRIAL,
    WHOLE,
    DataSettings,
    PlanSettings,
    Prediction,
)
from icrl.recipes.recipe import Recipe
from icrl.recipes.recorded import check_unplayed
from icrl.recipes.tuning import check_tuning


def check_fit(recipe: Recipe, others: Iterable[Recipe] = ()) -> None:
    """Raise ``InputError``, one line that names both sides, for parts of a recipe that do not fit together.

    A setting that means nothing to the recipe is refused unless it means something to one of the ``others``, the
    variants that it is compared with.
    """
    run = [recipe, *others]
    if recipe.env.is_recorded:
        check_unplayed(recipe)
    known, objective = recipe.env.spec.knows_optimum, recipe.prediction.objective
    hint = f"the optimal actions of {recipe.env.name} are not known"
    require(known or not recipe.needs_labels or bool(recipe.label), "objective", objective, "ad, or a label", hint)
    if recipe.is_reinforced:
        head, hint = recipe.prediction.action_head, "rl2 learns from actions that are drawn, without a cut"
        require(head in ("", "squashed"), "action_head", head, "squashed with objective rl2", hint)
        _check_trials(recipe, alone=all(each.is_reinforced for each in run))
    else:
        _check_data(recipe)
    used = {each.prediction.objective for each in run}
    _check_prediction(recipe, used)
    _check_evaluation(recipe)
    _check_plans(recipe, used)
    env = recipe.env
    for field, names in (("source", recipe.sources), ("given", recipe.evaluation.given)):
        for name in names:
            if name != INDEPENDENT:
                _check_collector(field, name, recipe)
    for field in ("competitors", "offline_competitors"):
        names = tuple(name for name in getattr(recipe.evaluation, field) if name != "all")
        for name, reason in competing(env, names).refused.items():
            raise InputError(f"{field}: {name} does not fit {env.name}: {reason}")
    anywhere = type(env).random_state is not Environment.random_state
    hint = f"{env.name} has no uniform distribution over its states"
    independent = INDEPENDENT in (*recipe.sources, *recipe.evaluation.given)
    require(anywhere or not independent, "source", INDEPENDENT, "an agent", hint)
    require(anywhere or not recipe.data.elsewhere, "elsewhere", recipe.data.elsewhere, "0", hint)


def _check_collector(field: str, name: str, recipe: Recipe) -> None:
    try:
        agent_of(recipe.env, name, recipe.context_steps)
    except InputError as refusal:
        raise InputError(f"{field}: {name} does not fit {recipe.env.name}: {refusal}") from refusal


def _check_data(recipe: Recipe) -> None:
    data, histories = recipe.data, recipe.data.kind == HISTORIES
    if histories:
        hint = "stored histories hold no optimal actions; use --data contexts"
        objective, base = recipe.prediction.objective, recipe.prediction.base
        named = ("base", base) if objective == "dicp" else ("objective", objective)
        require(not recipe.needs_labels, *named, "ad with data histories", hint)
        _check_sources(recipe)
        require_int("context_steps", recipe.context_steps, 2, recipe.kept_steps)
        require_int("segment", recipe.segment, 1, recipe.history_steps)
        whole = data.keep_every == 1 or not (recipe.env.spec.ends_early or recipe.segment % recipe.episode)
        hint = "what is left out between segments would cut episodes; --keep-every 1"
        require(whole or data.context_order == BY_TIME, "context_order", data.context_order, BY_TIME, hint)
    plain = {each.name: each.default for each in dataclasses.fields(DataSettings)}
    for field in ("filter", "noisy_fraction", "keep_every", "streams", "context_order"):
        value, default = getattr(data, field), plain[field]
        require(histories or value == default, field, value, f"{default} with data contexts", "use --data histories")
    if recipe.label:
        _check_label(recipe)
    require(recipe.needs_labels or not data.label, "label", data.label, "none, or dpt with a label")
    if data.task_pool is not None:
        drawn = recipe.env.num_tasks is None and data.data == CONTEXTS and recipe.env.spec.is_stationary_bandit
        require(drawn, "task_pool", data.task_pool, "none, or contexts in a bandit whose tasks are drawn from a prior")
    for name in recipe.sources if data.streams else ():
        learns = "num_streams" in agents[base_name(name)].__dataclass_fields__
        require(learns, "source", name, "one that learns in parallel streams: ppo, a2c", "or set --streams false")


def _check_sources(recipe: Recipe) -> None:
    """Of histories: they are shared out among the sources."""
    names, data = recipe.sources, recipe.data
    shown = ",".join(names)
    require(INDEPENDENT not in names, "source", INDEPENDENT, "an agent with data histories")
    require(len(set(names)) == len(names), "source", shown, "different agents with data histories")
    require(len(names) <= data.histories, "source", shown, f"at most {data.histories} agents, one a history")
    hint = "a uniform agent would take the place of the last one's histories alone"
    require(len(names) == 1 or not data.noisy_fraction, "noisy_fraction", data.noisy_fraction, "0, or one source", hint)


def _check_label(recipe: Recipe) -> None:
    """An agent that is asked along the contexts."""
    data, name = recipe.data, recipe.label
    _check_collector("label", name, recipe)
    sees = agents[base_name(name)].sees_env_state
    require(not sees, "label", name, "an agent that sees what a model sees, or none: the optimal actions")
    asked = "one history, whose steps follow one another, with a label"
    require(INDEPENDENT not in recipe.sources, "source", INDEPENDENT, asked)
    for field in ("elsewhere", "shuffle", "task_pool"):
        require(not getattr(data, field), field, getattr(data, field), f"0, false or none: {asked}")


def _check_trials(recipe: Recipe, alone: bool) -> None:
    """A policy that makes its own data; ``alone``: no variant is trained on others'."""
    plain = DataSettings()
    own = {"context_steps", "most_steps", "train_fraction", "split", "split_seed", "rule"}
    for each in dataclasses.fields(DataSettings):
        value, default = getattr(recipe.data, each.name), getattr(plain, each.name)
        hint = "its policy makes its own data"
        fits = not alone or each.name in own or value == default
        require(fits, each.name, value, f"{default or 'none'} with objective rl2", hint)
    steps, episode = recipe.context_steps, recipe.episode
    require(steps % episode == 0, "context_steps", steps, f"a trial, a multiple of an episode's {episode} steps")
    objective = recipe.objective()
    assert isinstance(objective, RL2)
    recipe.trials(objective)
    for name in ("micro_batch", "gradient_groups"):
        require(getattr(recipe.fit, name) is None, name, getattr(recipe.fit, name), "none with objective rl2")
    hint = "its policy trains on one device"
    require(not recipe.fit.shard_parameters, "shard_parameters", True, "false with objective rl2", hint)
    together, hint = recipe.fit.seeds_together, "each policy makes its own data"
    require(together == 1, "seeds_together", together, "1 with objective rl2", hint)
    mixture = getattr(recipe.backbone, "mixture", MoEConfig())
    hint = "the experts' own losses are those of batches"
    require(mixture.moe == MoEConfig().moe, "moe", mixture.moe, f"{MoEConfig().moe} with objective rl2", hint)
    layout = recipe.layout
    others = " or ".join(name for name in layouts if layouts[name](recipe.env.spec).num_before)
    require(
        layout.num_before > 0, "layout", recipe.prediction.layout, others, "rl2 reads what it acts upon at every step"
    )


def _check_prediction(recipe: Recipe, used: set[str]) -> None:
    """``used`` are the objectives of the run."""
    prediction, spec = recipe.prediction, recipe.env.spec
    own = {each.name for objective in used for each in dataclasses.fields(objectives[objective])}
    heads = ["action_head"] if spec.action_box is not None else []
    smoothing, hint = prediction.label_smoothing, f"the actions of {spec.name} are not numbered"
    require(not (heads and smoothing), "label_smoothing", smoothing, "0.0", hint)
    for each in dataclasses.fields(Prediction):
        value, belongs = getattr(prediction, each.name), each.name in {"objective", "layout", "one_hot", *heads} | own
        allowed = f"{each.default} with objective {prediction.objective}"
        require(belongs or value == each.default, each.name, value, allowed)
    if recipe.layout.tells_past:
        hint = f"{prediction.layout} shows only states that were acted upon one after the other"
        require(not recipe.data.elsewhere, "elsewhere", recipe.data.elsewhere, "0", hint)
        require(INDEPENDENT not in recipe.sources, "source", INDEPENDENT, "an agent", hint)
        require(LAST_EPISODE not in recipe.rules, "context", LAST_EPISODE, "another rule", hint)
    if recipe.layout.num_before == 0:
        fixed = recipe.rules == (LAST_EPISODE,) or (spec.is_stationary_bandit and recipe.rules == (WHOLE,))
        others = " or ".join(name for name in layouts if layouts[name](spec).num_before)
        hint = f"it asks one query a context, {prediction.objective} in {recipe.env.name} asks one at every step"
        require(fixed and recipe.needs_labels, "layout", prediction.layout, others, hint)


def _check_evaluation(recipe: Recipe) -> None:
    if given := ",".join(recipe.evaluation.given):
        rests = LAST_EPISODE in recipe.rules and recipe.task_ids is not None
        require(rests, "given", given, "none, or --context last-episode in numbered tasks")
        hint = f"a given context is an episode of {recipe.episode} steps, those of {recipe.env.name} can be shorter"
        require(not recipe.env.spec.ends_early, "given", given, "none", hint)
    if LAST_EPISODE in recipe.rules:
        hint = f"the last episode of {recipe.episode} steps in a context of {recipe.context_steps}"
        whole = recipe.episode <= recipe.context_steps and recipe.needs_labels
        require(whole, "context", LAST_EPISODE, "rolling, or dpt on contexts of whole episodes", hint)
    held_out, fraction = recipe.num_held_out, recipe.data.train_fraction
    count = recipe.env.num_tasks or 0
    most = f"at most {math.floor((count - 2) / max(count, 1) * 100) / 100}" if count > 2 else "none"
    require(held_out >= 2, "train_fraction", fraction, f"{most}, to hold out two of the {count} tasks")
    few = f"at most {held_out}, as many as there are held-out tasks"
    require(recipe.train_seeds <= held_out, "train_seeds", recipe.train_seeds, few)
    if SORTED in recipe.rules:
        allowed = f"several whole episodes of {recipe.episode} steps with the rule {SORTED}"
        require(recipe.holds_episodes, "window", recipe.window, allowed, "episodes that end early are not sorted")
    if STREAM in recipe.rules:
        room, hint = recipe.num_tokens, f"this memory of {recipe.model} ends"
        within = f"--attention-window W below the {room} tokens of a context"
        allowed = f"another rule, a recurrent model, or {within}, of a transformer with --positions rotary or none"
        require(recipe.backbone.is_endless(room), "context", STREAM, allowed, hint)
    if TRIAL in recipe.rules:
        window = recipe.window
        allowed = f"a multiple of an episode's {recipe.episode} steps with the rule {TRIAL}"
        require(window % recipe.episode == 0, "window", window, allowed)
    check_tuning(recipe.evaluation.tune, recipe.evaluation.tune_tasks, recipe.task_ids)
    require_int("forget", recipe.forget, 1, recipe.window)


def _check_plans(recipe: Recipe, used: set[str]) -> None:
    """A model that searches what it foretells; ``used`` are the objectives of the run."""
    evaluation = recipe.evaluation
    for each in dataclasses.fields(PlanSettings):
        value = getattr(evaluation, each.name)
        shown = "none" if each.default is None else each.default
        require("dicp" in used or value == each.default, each.name, value, f"{shown} without objective dicp")
    if recipe.prediction.objective == "dicp":
        hint = "what follows an action is read behind the observation it was taken at"
        require(not recipe.data.elsewhere, "elsewhere", recipe.data.elsewhere, "0 with objective dicp", hint)
    if not recipe.plans:
        return
    samples, most = evaluation.plan_samples, recipe.env.num_actions
    require(samples is None or samples <= most, "plan_samples", samples, f"at most {most} actions, or none")
    for rule in recipe.rules:
        allowed = f"{WHOLE} or {ROLLING} where a model plans"
        require(rule in (WHOLE, ROLLING), "context", rule, allowed, "or --beam 0")
        reach, horizon = recipe.plan_reach(rule), evaluation.plan_horizon
        require(horizon <= recipe.window, "plan_horizon", horizon, f"at most {recipe.window}, W, steps of the context")
        room = recipe.context_steps - recipe.reach(rule) + 1
        hint = f"training has seen {recipe.context_steps} steps: a smaller --window, whole episodes, or --beam 0"
        fits = reach == recipe.reach(rule) or horizon <= room
        require(fits, "plan_horizon", horizon, f"at most {max(room, 1)} behind a context of {recipe.reach(rule)}", hint)
