"""One pretrained agent in one file that can be sent: its weights and a card, and nothing that is executed.

The card says what the agent is (all settings, where it learned, which versions), what it learned from, what was
measured of it, and under which licence it is given away. The settings are those that rebuild it anywhere: what the
recipe left to the environment is spelled out, folders and competitors of the run are left out.
"""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icrl.core.errors import DamagedError, InputError, require, require_int
from icrl.core.foreign import UntrustedError, stored_names
from icrl.core.registry import environments, experiments, models
from icrl.core.settings import flat, replaced
from icrl.core.types import Agent
from icrl.models._token_policy import Policy
from icrl.recipes.agent_names import RUN
from icrl.recipes.parts import CONTEXTS
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import RESULTS, reopen
from icrl.reports.report import read_results
from icrl.storage.documents import DIGEST, digest_of, sealed
from icrl.storage.leaves import digest_of_leaves, named_leaves
from icrl.storage.paths import show
from icrl.storage.run_folder import read_config
from icrl.storage.safetensors import read_arrays, write_arrays
from icrl.storage.strict_json import decode_json, encode_json
from icrl.storage.typed import conform
from icrl.training.step import FitSettings

SUFFIX, CARD, SCHEMA = ".safetensors", "icrl", 1  # of a file; the text of its header that is the card
NO_LICENCE = "not stated"
_FORM = {
    "schema": int, "seed": int, "train_seed": int, "settings": dict, "spec": dict, "weights_sha256": str,
    "experiment": str, "variant": str, "licence": str, "description": str,
    "versions": dict,
}  # fmt: skip


class Shared(NamedTuple):
    """What a file holds."""

    card: dict[str, Any]
    recipe: Recipe
    policy: Policy

    def agent(self) -> Agent:
        """The frozen agent, under the context rule it was evaluated with first."""
        return self.recipe.agent(self.policy)


def export_agent(folder: Path | str, path: Path | str, number: int = 0, licence: str = NO_LICENCE) -> dict[str, Any]:
    """Write model ``number`` of the run in ``folder`` to ``path``, and return its card.

    Raises:
      InputError: no run there, one that pretrains nothing, no such model, or a file of another name.
      DamagedError: nothing intact there.
    """
    folder, path = Path(folder).expanduser(), Path(path).expanduser()
    require(path.suffix == SUFFIX, "file", str(path), f"a name that ends in {SUFFIX}")
    run = reopen(folder)
    require(isinstance(run.settings, Recipe), "folder", run.experiment, "a run that pretrains a model")
    experiment: Any = experiments[run.experiment]
    require_int("number", number, 0, experiment.num_models(run.settings) - 1)
    model, policy = experiment.models(run.settings)[number], experiment.restore(run.settings, run, number)
    recipe = _alone(model.recipe)
    weights = {name: np.asarray(leaf) for name, leaf in named_leaves(policy).items()}
    config = read_config(folder)
    body = {
        "schema": SCHEMA,
        "experiment": run.experiment,
        "preset": run.preset,
        "variant": model.label,
        "seed": run.seed,
        "train_seed": model.train_seed,
        "settings": flat(recipe),
        "spec": dataclasses.asdict(recipe.env.spec),
        "data": _data_of(model.recipe),
        "results": _results_of(folder),
        "versions": config["versions"],
        "device": config["device"],
        "licence": licence,
        "num_parameters": policy.num_parameters,
        "weights_sha256": digest_of_leaves(weights),
    }
    body["description"] = _described(body)
    card = encode_json(sealed(json.loads(encode_json(body)))).decode()
    write_arrays(path, weights, {CARD: card, "description": body["description"]})
    return body


@stored_names()
def read_shared(path: Path) -> Shared:
    """What ``export_agent`` wrote to ``path``, every byte of it checked.

    Raises:
      InputError: no such file, one of a newer version, or one that needs a module that may not be imported.
      DamagedError: it is cut or changed, its weights are not those of its settings, or no agent of ours is in it.
    """
    weights, texts = read_arrays(path)
    card, where = _checked_card(texts, show(path)), show(path)
    try:
        recipe: Recipe = replaced(_any_recipe(), card["settings"])
        template = jax.eval_shape(lambda: recipe.new_policy(card["seed"], card["train_seed"]))
    except UntrustedError:
        raise
    except InputError as error:
        raise DamagedError(f"{where}: settings: not those of an agent this version knows ({error})") from error
    spec = json.loads(encode_json(dataclasses.asdict(recipe.env.spec)))
    if card["spec"] != spec:
        field = next(name for name in {**spec, **card["spec"]} if spec.get(name) != card["spec"].get(name))
        found = f"{card['spec'].get(field)!r}, its environment here has {spec.get(field)!r}"
        raise DamagedError(f"{where}: spec: {show(str(field))} is {show(found)}")
    return Shared(card, recipe, _policy(where, template, weights, card))


def _checked_card(texts: dict[str, str], where: str) -> dict[str, Any]:
    if CARD not in texts:
        raise DamagedError(f"{where}: expected an agent of `icrl export-agent`, found no card of one")
    card = decode_json(texts[CARD].encode(), f"{where}: card")
    conform(card, {"schema": int}, f"{where}: card")
    require(card["schema"] == SCHEMA, f"{where}: schema", card["schema"], f"{SCHEMA}, or a newer icrl")
    stated = card.pop(DIGEST, None)
    if stated != (found := digest_of(card)):
        raise DamagedError(f"{where}: card: {DIGEST}: expected {show(repr(stated)[:80])}, found {found!r}")
    conform(card, _FORM, f"{where}: card")
    if texts != {CARD: texts[CARD], "description": card["description"]}:
        raise DamagedError(f"{where}: expected the card and its description as texts, found others")
    return card  # type: ignore[no-any-return]


def _policy(where: str, template: Policy, weights: dict[str, np.ndarray], card: dict[str, Any]) -> Policy:
    """``template`` with the ``weights``, which must be its leaves by name, shape and dtype."""
    wanted = named_leaves(template)
    for name in sorted(wanted.keys() ^ weights.keys()):
        what = "no such array" if name in wanted else "one that the model does not have"
        raise DamagedError(f"{where}: {show(name)}: found {what}")
    for name, leaf in wanted.items():
        found, form = weights[name], f"{leaf.dtype} of shape {list(leaf.shape)}"
        if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise DamagedError(f"{where}: {name}: expected {form}, found {found.dtype} of shape {list(found.shape)}")
    if (digest := digest_of_leaves(weights)) != card["weights_sha256"]:
        raise DamagedError(f"{where}: sha256 of the weights: expected {card['weights_sha256']}, found {digest}")
    ordered = [jnp.asarray(weights[name]) for name in wanted]
    made: Policy = jax.tree.unflatten(jax.tree.structure(template), ordered)
    return made


def _alone(recipe: Recipe) -> Recipe:
    """The recipe of the same agent that needs no folder, no competitor, and nothing that follows from the data."""
    said = {
        "context_steps": recipe.context_steps, "history_steps": recipe.history_steps, "eval_steps": recipe.eval_steps,
        "window": recipe.window, "context": recipe.rules, "data": CONTEXTS, "vary": (), "competitors": (),
        "offline_competitors": (), "given": (), "source": tuple(n for n in recipe.data.source if RUN not in n),
    }  # fmt: skip
    said |= {} if RUN not in recipe.data.label else {"label": ""}
    said |= {"forget": recipe.forget} if recipe.forget < recipe.window else {}
    return replaced(recipe, said)


@functools.cache
def _any_recipe() -> Recipe:
    """A recipe to start from: a card says every setting."""
    return Recipe(env=environments["GaussianBandit-v0"](), backbone=models["transformer"].Config(), fit=FitSettings())


def _data_of(recipe: Recipe) -> dict[str, Any]:
    kinds = ("kind", "filter", "train_tasks", "histories", "pool", "task_pool")
    named = {name: getattr(recipe.data, name) for name in kinds}
    return {**named, "source": list(recipe.sources), "label": recipe.label, "steps": recipe.fit.train_steps}


def _results_of(folder: Path) -> dict[str, Any] | None:
    """What the report says in words, and its promises; None before the evaluation."""
    if not (folder / RESULTS).is_file():
        return None
    results = read_results(folder / RESULTS)
    return {
        "title": results["title"],
        "claim": results["claim"],
        "checks": results["checks"],
        "run": results.get("run"),
    }


def _described(body: dict[str, Any]) -> str:
    """The card for readers of the header."""
    env, settings = body["spec"]["name"], body["settings"]
    claim = body["results"]["claim"] if body["results"] else "not evaluated"
    return (
        f"{body['variant']}: a {settings['model']} of {body['num_parameters']:,} parameters, pretrained by icrl "
        f"({body['experiment']}, preset {body['preset']}, seed {body['seed']}) in {env}. {claim} "
        f"Licence: {body['licence']}. Load it with icrl.load_agent(FILE); all settings are in the text {CARD!r}."
    )
