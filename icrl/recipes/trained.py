"""What another run has pretrained, as an agent of this one: ``--source run:FOLDER``, ``--competitors run:FOLDER``."""

from pathlib import Path
from typing import Any

from icrl.core.errors import InputError, require
from icrl.core.foreign import stored_names
from icrl.core.registry import experiments
from icrl.core.types import Agent, Environment
from icrl.recipes.agent_names import RUN
from icrl.recipes.parts import ROLLING, TRIAL, WHOLE
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import reopen


@stored_names()
def trained_agent(env: Environment, text: str) -> Agent:
    """The first model of the run that ``text`` names, frozen, as an agent that lives in ``env`` for any time.

    It decides by the context rule of its own run. A context that held a whole evaluation there begins anew with each
    trial here if the model learned by acting, and moves along otherwise.

    Raises:
      InputError: no run there, one that pretrains nothing, or spaces that do not fit. DamagedError: nothing intact.
    """
    run = reopen(Path(text.removeprefix(RUN)).expanduser())
    require(isinstance(run.settings, Recipe), text, run.experiment, "a run that pretrains a model")
    experiment: Any = experiments[run.experiment]
    recipe = experiment.models(run.settings)[0].recipe
    theirs, ours = recipe.env.spec, env.spec
    for field in ("num_actions", "obs_shape", "obs_nvec"):
        found, wanted = getattr(theirs, field), getattr(ours, field)
        if found != wanted:
            raise InputError(f"{text}: learned in {theirs.name}, whose {field} is {found}, {ours.name} has {wanted}")
    rule = recipe.rules[0]
    if rule == WHOLE:
        rule = TRIAL if recipe.is_reinforced and recipe.window % recipe.episode == 0 else ROLLING
    return recipe.agent(experiment.restore(run.settings, run, 0), rule)  # type: ignore[no-any-return]
