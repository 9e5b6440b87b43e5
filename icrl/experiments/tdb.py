"""TDB: a transformer with a discrete bottleneck makes a map of a room of look-alike cells and plans on it.

Dedieu et al., "Learning Cognitive Maps from Transformer Representations for Efficient Planning in Partially Observed
Environments", ICML 2024, arXiv 2401.05946. Of the abstract: the bottleneck keeps the accuracy of a transformer and an
LSTM in predicting the next observation, and makes shortest paths cheap. The paper's body could not be read; the room
is the demo room of George et al. 2021 (6 x 8 cells, 4 symbols), the settings are ours. Beside the model stand the same
network without a bottleneck, an LSTM, and the exact competitor, a clone-structured graph (``clone_graph.py``). The
exact filter of the known room is the most that can be predicted.

A model is trained on random walks to predict the next symbols. Frozen, it reads other walks; its codes are counted into
a map (``world_map.py``), and on the map ways are planned between two places of yet other walks, and done with eyes
closed. With ``--colouring fresh`` every walk is in a room of its own, and has a map of its own.

Measured, preset cpu, seed 0 (2026-11-30, two CPU cores shared with others: 7 minutes of CPU time), 100 walks after 50
steps, 961 queries: TDB predicts .9987 [.9980, .9992] of the next symbols, the transformer .9995, the LSTM and the graph
1.0000, the exact filter 1.0000. On TDB's map of 49 nodes .995 [.988, .999] of the ways arrive, with 1.000 times the
fewest moves; on the graph's, 52 nodes, all do, with 1.00 [1.00, 1.01]. The fallback is 12.9 [12.2, 13.5] times as long.
Without merging codes that behave alike (``--least-alike 2``) the map has 91 nodes, and .974 arrive with 1.064 times.
Seed 1, TDB alone: .9992 [.9987, .9996]; on 48 nodes .997 [.989, 1] arrive, with 1.001 times the fewest moves.
"""

from typing import Any

from icrl.core.errors import require
from icrl.core.registry import experiments
from icrl.core.settings import flat, replaced
from icrl.envs.aliased_room import AliasedRoom
from icrl.models._token_policy import Policy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.model_experiment import Model, ModelExperiment
from icrl.recipes.run import Run
from icrl.recipes.walk_recipe import WalkRecipe
from icrl.recipes.walk_results import sections_of
from icrl.training.learner import Learner
from icrl.training.step import FitSettings

BASE = WalkRecipe(
    env=AliasedRoom(),
    backbone=TransformerConfig(
        width=64, num_layers=3, num_heads=4, positions="rotary", attention_window=24, mlp_ratio=2.0, init_std=0.1
    ),
    fit=FitSettings(train_steps=2500, batch_size=32, learning_rate=2e-3, warmup_steps=100),
    vary=("discrete+model+num_layers=true:transformer:3,false:transformer:3,false:lstm:1",),
)
LABELS = {
    "discrete true, model transformer, num layers 3": "TDB",
    "discrete false, model transformer, num layers 3": "transformer",
    "discrete false, model lstm, num layers 1": "LSTM",
}
SMOKE = {
    "width": 16, "num_layers": 1, "num_heads": 2, "train_steps": 20, "batch_size": 8, "log_every": 10, "save_every": 20,
    "warmup_steps": 5, "walk_steps": 12, "num_codes": 16, "code_dim": 8, "decoder_width": 16, "num_targets": 2,
    "eval_walks": 6, "eval_steps": 30, "map_walks": 6, "burn_in": 10, "journeys": 4, "clones": 6, "graph_walks": 6,
    "graph_steps": 40, "em_steps": 4, "vary": ("discrete=true,false",),
}  # fmt: skip
LARGE = {
    "width": 256, "num_layers": 4, "num_heads": 8, "mlp_ratio": 4.0, "init_std": 0.02, "train_steps": 20_000,
    "batch_size": 128, "learning_rate": 5e-4, "warmup_steps": 500, "walk_steps": 128, "log_every": 200,
    "save_every": 2000, "train_seeds": 5, "eval_walks": 1000, "map_walks": 500, "clones": 70, "em_steps": 1000,
    "vary": ("discrete+model+num_layers=true:transformer:4,false:transformer:4,false:lstm:1",),
}  # fmt: skip


@experiments.register("tdb", paper="Dedieu et al. 2024; George et al. 2021")
class TDB(ModelExperiment[WalkRecipe]):
    """Next-observation models with and without a bottleneck, and the maps of those that have one."""

    title = "A map from a transformer with a discrete bottleneck"
    labels = {
        **LABELS,
        "discrete true": "TDB",
        "discrete false": "transformer",
        **{label.replace("layers 3", "layers 4"): name for label, name in LABELS.items()},
    }
    presets = {
        "smoke": replaced(BASE, SMOKE),
        "cpu": BASE,
        "paper": replaced(BASE, LARGE),
    }

    @classmethod
    def validate(cls, settings: WalkRecipe, seed: int) -> None:
        """Raise ``InputError`` for variants that do not walk in the same rooms, or have no map between them."""
        variants = cls.variants(settings)
        for label, variant in variants.items():
            shared = (variant.env, variant.survey, variant.mapping) == (settings.env, settings.survey, settings.mapping)
            require(shared, "vary", label, "settings of model, bottleneck or training: all variants see the same walks")
            variant.new_policy(seed, 0)
        discrete = any(variant.discrete for variant in variants.values())
        require(discrete, "discrete", "false", "true in one variant at least: a map is made of codes")

    @classmethod
    def learner(cls, model: Model, run: Run) -> Learner:
        recipe: WalkRecipe = model.recipe
        batches = recipe.batches(run.seed, model.train_seed)
        return recipe.learner(run.seed, model.train_seed, batches, recipe.held_out(run.seed))

    @classmethod
    def sections(cls, settings: WalkRecipe, run: Run, policies: list[Policy]) -> dict[str, Any]:
        measured = sections_of(settings, run, list(zip(cls.models(settings), policies, strict=True)))
        return {"env": {"id": settings.env.name, **flat(settings.env)}, **measured}
