"""Presets: what a size of an experiment, or a paper's transformer and optimiser, change of its base recipe."""

from collections.abc import Mapping
from typing import Any

from icrl.core.settings import replaced
from icrl.recipes.parts import NONE
from icrl.recipes.recipe import Recipe

SMOKE: dict[str, Any] = {  # a preset of seconds: what all experiments make small
    "width": 16, "num_layers": 1, "num_heads": 1, "init_std": 0.2, "train_steps": 20, "batch_size": 16,
    "learning_rate": 3e-3, "warmup_steps": 5, "log_every": 10, "save_every": 20, "positions": "learned",
    "tune": NONE,
}  # fmt: skip
LEE_2023: dict[str, Any] = {  # transformer and optimiser of the DPT paper
    "width": 32, "num_layers": 4, "num_heads": 4, "init_std": 0.02, "positions": "learned",
    "batch_size": 64, "learning_rate": 1e-4, "schedule": "constant", "warmup_steps": 0,
    "train_seeds": 5, "eval_tasks": 4000,
}  # fmt: skip
LIN_2023: dict[str, Any] = {  # of TaDM: 2 000 epochs of 80 000 contexts
    "width": 32, "num_layers": 8, "num_heads": 4, "init_std": 0.02, "positions": "learned", "attention": "relu",
    "norm_first": False, "final_norm": False, "train_steps": 1_250_000, "batch_size": 128, "learning_rate": 1e-3,
    "schedule": "constant", "warmup_steps": 0, "log_every": 1000, "save_every": 20_000, "train_seeds": 5,
    "eval_tasks": 4000,
}  # fmt: skip
SON_2025: dict[str, Any] = {  # of AD on grids (also Chen et al. 2025); not theirs: the initial weights, and no dropout
    "width": 32, "num_layers": 4, "num_heads": 4, "init_std": 0.02, "norm": "rms", "positions": "rotary",
    "mlp": "swiglu", "final_norm": False, "train_steps": 50_000, "batch_size": 512, "learning_rate": 1e-2,
    "warmup_steps": 0, "weight_decay": 0.01, "log_every": 500, "save_every": 5000, "train_seeds": 5,
}  # fmt: skip


def sizes(base: Recipe, **presets: Mapping[str, Any]) -> dict[str, Recipe]:
    """The presets of an experiment: each says what differs from ``base``, by the names of the flags."""
    return {name: replaced(base, dict(changes)) for name, changes in presets.items()}
