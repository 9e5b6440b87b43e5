"""Histories of others as ours: every number checked on the host, what is wrong named by task, history and step.

Letters: R histories of one task, T steps each, O the shape of one observation, K actions.
"""

from collections.abc import Mapping

import numpy as np

from icrl.core.errors import require, shown
from icrl.core.types import EnvSpec

OBSERVATIONS, ACTIONS, REWARDS = "observations", "actions", "rewards"
TERMINATED, TRUNCATED = "terminated", "truncated"
NEXT, PROPENSITIES = "next_observations", "propensities"
NEEDED = (OBSERVATIONS, ACTIONS, REWARDS, TERMINATED, TRUNCATED)
NAMES = {  # of our fields
    "obs": OBSERVATIONS,
    "action": ACTIONS,
    "reward": REWARDS,
    "next_obs": NEXT,
    "terminated": TERMINATED,
    "truncated": TRUNCATED,
    "propensity": PROPENSITIES,
}
EXACT = 2**24  # the largest integer up to which float32 has all of them
LARGEST = 3.4028234e38  # of float32


def checked(arrays: Mapping[str, np.ndarray], spec: EnvSpec, where: str) -> dict[str, np.ndarray]:
    """The fields of our record from ``arrays`` [R, T, ...] under the names above, next observations too.

    Observations stay integers of 8 or 16 bits where they are such and become float32 otherwise.

    Raises:
      InputError: another shape, an action beyond K, a number that is not finite, a flag that is none, a propensity
        outside (0, 1], or observations that do not follow one another although no flag says that an episode ended.
    """
    leading = arrays[ACTIONS].shape
    for name, array in arrays.items():
        shape = (*leading, *spec.obs_shape) if name in (OBSERVATIONS, NEXT) else leading
        require(array.shape == shape, f"{where}: {name}: shape", array.shape, f"{shape}")
    found = {
        "obs": _observations(OBSERVATIONS, arrays[OBSERVATIONS], spec, where),
        "action": _actions(arrays[ACTIONS], spec.num_actions, where),
        "reward": _reals(REWARDS, arrays[REWARDS], where),
        "next_obs": _observations(NEXT, arrays[NEXT], spec, where),
        "terminated": _flags(TERMINATED, arrays[TERMINATED], where),
        "truncated": _flags(TRUNCATED, arrays[TRUNCATED], where),
    }
    if PROPENSITIES in arrays:
        found["propensity"] = _reals(PROPENSITIES, arrays[PROPENSITIES], where)
        outside = ~((found["propensity"] > 0) & (found["propensity"] <= 1))
        refuse(outside, PROPENSITIES, arrays[PROPENSITIES], "a number in (0, 1], how likely the action was", where)
    _refuse_jumps(found, where)
    return found


def refuse(bad: np.ndarray, name: str, values: np.ndarray, allowed: str, where: str) -> None:
    """Raise ``InputError`` for the first of the ``bad`` [R, T, ...], which it names by its place."""
    if bad.any():
        place = np.unravel_index(int(np.argmax(bad)), bad.shape)
        inner = [f"{axis} {index}" for axis, index in zip(("history", "step"), place, strict=False)]
        value = values[place].item()
        require(False, f"{where}: {name} of {', '.join(inner)}", value, allowed)


def integers(name: str, array: np.ndarray, place: str, hint: str) -> np.ndarray:
    """``array`` if it is of integers; ``InputError`` with the ``hint`` if not."""
    require(array.dtype.kind in "iu", f"{place}: {name}", f"{array.dtype}", "integers", hint)
    return array


def _actions(array: np.ndarray, num_actions: int, where: str) -> np.ndarray:
    integers(ACTIONS, array, where, "continuous actions cannot be predicted here")
    outside = (array < 0) | (array >= num_actions)
    refuse(outside, ACTIONS, array, f"an integer in [0, {num_actions - 1}], K = {num_actions} actions", where)
    return array.astype(np.int32)


def _reals(name: str, array: np.ndarray, where: str) -> np.ndarray:
    require(array.dtype.kind in "fiub", f"{where}: {name}", f"{array.dtype}", "numbers")
    refuse(~(np.abs(array.astype(np.float64)) <= LARGEST), name, array, "a finite number", where)
    return array.astype(np.float32)


def _flags(name: str, array: np.ndarray, where: str) -> np.ndarray:
    require(array.dtype.kind in "biuf", f"{where}: {name}", f"{array.dtype}", "booleans, or 0 and 1")
    refuse((array != 0) & (array != 1), name, array, "true or false, 0 or 1", where)
    return array.astype(bool)


def _observations(name: str, array: np.ndarray, spec: EnvSpec, where: str) -> np.ndarray:
    if spec.obs_nvec:
        counts = np.reshape(spec.obs_nvec, spec.obs_shape)
        outside = ~((array >= 0) & (array < counts)) | (array != np.rint(array))
        refuse(outside, name, array, f"integers below {shown(spec.obs_nvec)}", where)
    if kept_dtype(array.dtype) != np.float32:
        return array.astype(kept_dtype(array.dtype))
    if array.dtype.kind in "iu":
        inside = (array >= -EXACT) & (array <= EXACT)
        refuse(~inside, name, array, f"an integer in [-{EXACT}, {EXACT}], which float32 holds exactly", where)
    return _reals(name, array, where)


def kept_dtype(dtype: np.dtype) -> np.dtype:
    """In which observations of ``dtype`` are stored."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return dtype if dtype.kind in "iu" and dtype.itemsize <= 2 else np.dtype(np.float32)


def _refuse_jumps(found: Mapping[str, np.ndarray], where: str) -> None:
    """Inside an episode the observation after a step is the one before the next."""
    over = (found["terminated"] | found["truncated"])[..., :-1]
    differs = (found["next_obs"][:, :-1] != found["obs"][:, 1:]).reshape(*over.shape, -1).any(-1)
    allowed = "the observation of the next step, or a flag that the episode ended"
    refuse(differs & ~over, NEXT, np.full(over.shape, "another observation"), allowed, where)


def shifted(observations: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Next observations [..., T, *O] from ``observations`` alone; ``over`` [..., T] ends episodes.

    That of the last step of an episode, and of a history, is not recorded: the observation before it stands for it.
    """
    axis = over.ndim - 1
    after = np.concatenate([observations.take(range(1, over.shape[-1]), axis), observations.take([-1], axis)], axis)
    kept = over.reshape(*over.shape, *(1 for _ in observations.shape[over.ndim :])) != 0
    return np.where(kept, observations, after)
