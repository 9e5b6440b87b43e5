"""Small trainings whose parameters are cut over devices, or are not: what the processes of ``test_sharding.py`` run."""

import shutil
import sys
from pathlib import Path
from typing import Any

import jax

from icrl.core.settings import replaced
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.recipes.data import RunData
from icrl.storage.publish import verify_folder
from icrl.training import gradients, placement, step
from icrl.training.learner import Learner, Trainee
from icrl.training.loop import train_together

GROUPS, SEEDS = 8, 2
SIZE = {"horizon": 6, "width": 16, "num_layers": 1, "batch_size": GROUPS, "gradient_groups": GROUPS}
RECIPE = replaced(
    DPTBandit.presets["smoke"], {**SIZE, "train_steps": 4, "warmup_steps": 1, "save_every": 3, "log_every": 2}
)
TOLD = ("seed", "step", "loss", "val_loss", "gradient_norm")  # of a row, what does not tell time


def learner_of(folder: Path, is_cut: bool, seed: int = 0) -> Learner:
    recipe, data = replaced(RECIPE, {"shard_parameters": is_cut}), RunData(folder, 0)
    return recipe.learner(0, seed, data.batches(recipe, seed), data.held_out(recipe, seed))


def train(folder: Path, is_cut: bool, seeds: int = 1) -> None:
    """Train in ``folder``, or go on there; ``seeds`` together."""
    folder.mkdir(exist_ok=True)
    train_together([Trainee(learner_of(folder, is_cut, seed), seed) for seed in range(seeds)], folder)


def check_shares(folder: Path) -> None:
    """Of what is trained every device holds its share and what is small, from the beginning and behind a step."""
    whole, learner = learner_of(folder, False), learner_of(folder, True)
    count, leaves = jax.device_count(), jax.tree.leaves(whole.template.params)
    cut = [leaf.nbytes for leaf in leaves if placement.axis_to_cut(leaf.shape, count) != placement.WHOLE]
    small = sum(leaf.nbytes for leaf in leaves) - sum(cut)
    assert sum(cut) > 5 * small > 0
    share = dict.fromkeys(range(count), sum(cut) // count + small)
    assert held(learner.template.params) == share
    counters = 2 * 4  # int32, of Adam and of the schedule
    state = learner.initial_state()
    for number in (1, 2):
        assert held((state.params, state.opt_state)) == {each: 3 * size + counters for each, size in share.items()}
        state, _ = learner.step(state, number)
    assert len({leaf.sharding.device_set == state.step.sharding.device_set for leaf in jax.tree.leaves(state)}) == 1


def saved(folder: Path) -> dict[str, Any]:
    """What was recorded of each checkpoint: step, leaves, digest of the state, and whose it is."""
    return {f"{place.parent.name}/{place.name}": verify_folder(place) for place in folder.glob("checkpoints/*/step-*")}


def begin_again_behind(step: int, old: Path, new: Path) -> None:
    """Copy a run as it was when it had saved ``step``."""
    shutil.copytree(old, new)
    for place in new.glob("checkpoints/*/step-*"):
        if int(place.name.removeprefix("step-")) > step:
            shutil.rmtree(place)


def held(tree: Any) -> dict[int, int]:
    """Bytes of ``tree`` on each device."""
    found: dict[int, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            found[shard.device.id] = found.get(shard.device.id, 0) + shard.data.nbytes
    return found


def on_many_devices(folder: Path, seeds: int) -> None:
    """Train without cutting, cut, and cut behind what was saved without; one program each for gradients and update."""
    train(folder / "whole", False, seeds)
    programs = gradients._sums_on_mesh, step.updated
    known = [each._cache_size() for each in programs]
    train(folder / "cut", True, seeds)
    begin_again_behind(3, folder / "whole", folder / "cut-behind")
    train(folder / "cut-behind", True, seeds)
    assert [each._cache_size() for each in programs] == [size + 1 for size in known]
    if seeds == 1:
        check_shares(folder)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    placement.SMALL = 128  # there are leaves of 16 x 16 to cut, and some that are not
    where, together = Path(sys.argv[2]), int(sys.argv[3])
    if jax.device_count() > 1:
        on_many_devices(where, together)
    else:
        begin_again_behind(3, where / "cut", where / "whole-behind")
        train(where / "whole-behind", False, together)
