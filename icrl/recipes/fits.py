"""Which parts of a recipe fit together; what does not is refused in one line, before anything is compiled."""

import dataclasses

from icrl.core.errors import InputError, require, require_int
from icrl.core.registry import agents, layouts, objectives
from icrl.core.types import Environment
from icrl.recipes.competitors import competing
from icrl.recipes.parts import HISTORIES, INDEPENDENT, LAST_EPISODE, WHOLE, DataSettings, Prediction
from icrl.recipes.recipe import Recipe, source_agent


def check_fit(recipe: Recipe) -> None:
    """Raise ``InputError``, one line that names both sides, for parts of a recipe that do not fit together."""
    _check_parts(recipe)
    env = recipe.env
    for name in recipe.sources:
        if name != INDEPENDENT:
            try:
                source_agent(env, name, recipe.context_steps)
            except InputError as refusal:
                raise InputError(f"source: {name} does not fit {env.name}: {refusal}") from refusal
    for field in ("competitors", "offline_competitors"):
        names = tuple(name for name in getattr(recipe.evaluation, field) if name != "all")
        for name, reason in competing(env, names).refused.items():
            raise InputError(f"{field}: {name} does not fit {env.name}: {reason}")
    anywhere = type(env).random_state is not Environment.random_state
    hint = f"{env.name} has no uniform distribution over its states"
    require(anywhere or INDEPENDENT not in recipe.sources, "source", INDEPENDENT, "an agent", hint)
    require(anywhere or not recipe.data.elsewhere, "elsewhere", recipe.data.elsewhere, "0", hint)


def _check_parts(recipe: Recipe) -> None:
    data, prediction, env = recipe.data, recipe.prediction, recipe.env.name
    histories, plain = data.kind == HISTORIES, {each.name: each.default for each in dataclasses.fields(DataSettings)}
    if histories:
        hint = "stored histories hold no optimal actions; use --data contexts"
        require(not recipe.needs_labels, "objective", prediction.objective, "ad with data histories", hint)
        require(len(recipe.sources) == 1, "source", ",".join(recipe.sources), "one agent with data histories")
        require(INDEPENDENT not in recipe.sources, "source", INDEPENDENT, "an agent with data histories")
        require_int("context_steps", recipe.context_steps, 2, recipe.kept_steps)
        require_int("segment", recipe.segment, 1, recipe.history_steps)
    for field in ("filter", "noisy_fraction", "keep_every", "streams"):
        value, default = getattr(data, field), plain[field]
        require(histories or value == default, field, value, f"{default} with data contexts", "use --data histories")
    own = {each.name for each in dataclasses.fields(objectives[prediction.objective])}
    for each in dataclasses.fields(Prediction):
        value, belongs = getattr(prediction, each.name), each.name in {"objective", "layout"} | own
        require(
            belongs or value == each.default, each.name, value, f"{each.default} with objective {prediction.objective}"
        )
    if recipe.layout.num_before == 0:
        bandit = recipe.env.spec.is_stationary_bandit and recipe.rule == WHOLE
        others = " or ".join(name for name in layouts if layouts[name](recipe.env.spec).num_before)
        hint = f"it asks one query a context, {prediction.objective} in {env} asks one at every step"
        fixed = recipe.needs_labels and (bandit or recipe.rule == LAST_EPISODE)
        require(fixed, "layout", prediction.layout, others, hint)
    if recipe.rule == LAST_EPISODE:
        hint = f"the last episode of {recipe.episode} steps in a context of {recipe.context_steps}"
        whole = recipe.episode <= recipe.context_steps and recipe.needs_labels
        require(whole, "context", LAST_EPISODE, "rolling, or dpt on contexts of whole episodes", hint)
    if recipe.task_ids is not None:
        held_out = len(recipe.task_ids[1])
        require(held_out >= 2, "train_fraction", data.train_fraction, "a fraction that holds out at least two tasks")
    if recipe.rule == WHOLE:
        require_int("eval_steps", recipe.eval_steps, 1, recipe.context_steps)
    require_int("forget", recipe.forget, 1, recipe.context_steps)
    if data.streams:
        name = recipe.sources[0]
        learns = "num_streams" in agents[name].__dataclass_fields__
        require(learns, "source", name, "one that learns in parallel streams: ppo, a2c", "or set --streams false")
