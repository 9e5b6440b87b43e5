"""Checkpoints: a pytree of arrays on disk, whole, verified and bit for bit. The only module that calls Orbax.

Orbax writes the arrays; what it does not promise is added here. Every file it wrote is covered by the digest manifest
of ``publishing_folder`` (a flipped bit is otherwise restored silently). Each leaf is compared with the template by
path, shape and dtype before anything is restored (Orbax otherwise casts silently). A save returns after the last
fsync, so an acknowledged step cannot be lost. Steps are ordered by their number, never by the clock.

One process writes; the caller holds the ``RunLock`` of the run while saving. Of several that train together each reads
for itself, and none waits for another.
"""

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.errors import DamagedError, InputError, require, require_int
from icrl.storage.leaves import describe, digest_of_leaves, named_leaves, require_exact, require_same_leaves
from icrl.storage.paths import disk_full, out_of_space, refuse_links, show
from icrl.storage.publish import (
    discard_folder,
    make_folder,
    publishing_folder,
    sweep_temporaries,
    verify_folder,
)
from icrl.storage.quiet import Quiet
from icrl.storage.typed import conform

PyTree = Any
_STATE = "state"  # the folder inside a step that Orbax fills
_STEP = re.compile(r"step-(\d{8,})")
_CONTENTS = {"step": int, "leaves": [{"path": str, "shape": [int], "dtype": str}], "state_sha256": str, "meta": dict}
_NOT_STATE = ("commit_success.txt", "_CHECKPOINT_METADATA")  # hold the absolute path and the time of the save
_ATTEMPTS = 10  # to read a step of a run that goes on and removes its older steps
_log = logging.getLogger("icrl")


def save(folder: Path | str, step: int, state: PyTree, meta: dict[str, Any] | None = None, *, keep: int = 2) -> Path:
    """Publish ``state`` (a pytree of arrays, typed PRNG keys included) as ``step`` and return its folder.

    When this returns the step is on disk. Then all but the ``keep`` newest steps are removed. Steps only go forward:
    a later or equal step that is intact is refused; a damaged one, which ``restore`` has stepped over, is replaced.
    Orbax names its files at random: to compare two saves, compare ``verify_folder(...)["state_sha256"]``.
    """
    step = require_int("step", step, 0, 10**12)
    keep = require_int("keep", keep, 1, 10**6)
    leaves = named_leaves(state)
    for name, leaf in leaves.items():
        require_exact(name, leaf)
    contents = {"step": step, "leaves": describe(leaves), "state_sha256": digest_of_leaves(leaves), "meta": meta or {}}
    folder = Path(folder).absolute()
    refuse_links(folder)
    make_folder(folder)
    sweep_temporaries(folder)
    abandoned = _damaged_from(folder, step)
    if step in abandoned:
        discard_folder(_step_folder(folder, step))
    final = _step_folder(folder, step)
    with publishing_folder(final, contents) as temporary:
        _orbax_save(temporary / _STATE, leaves, final)
    older = [other for other in steps(folder) if other < step]
    for other in [*abandoned, *older[: max(len(older) + 1 - keep, 0)]]:
        if other != step:
            discard_folder(_step_folder(folder, other))
    return final


def restore(
    folder: Path | str, template: PyTree, step: int | None = None, owner: dict[str, Any] | None = None
) -> tuple[PyTree, int, dict[str, Any]]:
    """Return ``(state, step, meta)`` of ``step``, by default of the newest step that is intact.

    ``template`` has the structure, shapes and dtypes that the state must have (arrays or ``jax.ShapeDtypeStruct``);
    its shardings, where it has any, say where the arrays go. Any difference is an ``InputError`` that names the leaf.
    A damaged newest step is stepped over with a warning; a step asked for by number is not. ``owner`` is what its
    ``meta`` must say of the run it belongs to: the step of another run is a ``DamagedError``.
    """
    folder = Path(folder).absolute()
    for _ in range(_ATTEMPTS):
        known = steps(folder)
        try:
            return _restore(folder, known, template, step, owner or {})
        except (DamagedError, InputError):  # of a step that the run, still going on, has removed meanwhile?
            if set(known) <= set(steps(folder)):
                raise
    raise InputError(f"{show(folder)}: its steps are removed faster than they can be read; wait for the run")


def _restore(
    folder: Path, known: list[int], template: PyTree, step: int | None, owner: dict[str, Any]
) -> tuple[PyTree, int, dict[str, Any]]:
    """``restore`` as long as no step of ``known`` goes."""
    if not known:
        raise InputError(f"{folder}: holds no checkpoint; train first, or check the path")
    if step is None:
        step, contents = newest_intact(folder, known)
    else:
        require(step in known, "step", step, f"a saved step, one of {known}")
        contents = verified(folder, step)
    wanted = named_leaves(template)
    path = _step_folder(folder, step)
    require_owner(path, contents["meta"], owner)
    require_same_leaves(path, contents["leaves"], describe(wanted))
    restored = _orbax_restore(path / _STATE, wanted)
    expected, found = contents["state_sha256"], digest_of_leaves(restored)
    if found != expected:
        raise DamagedError(f"{path}: sha256 of the restored arrays: expected {expected}, found {found}")
    return jax.tree.unflatten(jax.tree.structure(template), restored.values()), step, contents["meta"]


def steps(folder: Path | str) -> list[int]:
    """The steps saved in ``folder``, ascending; damaged ones are included, unfinished saves are not."""
    folder = Path(folder)
    found = [_STEP.fullmatch(each.name) for each in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match and match[0] == f"step-{int(match[1]):08d}")


def _step_folder(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def verified(folder: Path, step: int, owner: dict[str, Any] | None = None) -> dict[str, Any]:
    """What ``save`` recorded about a step whose every byte has been checked: step, leaves, state_sha256 and meta.

    Raises:
      DamagedError: it is damaged, another step, or not of the run that ``owner`` tells of.
    """
    path = _step_folder(folder, step)
    contents = verify_folder(path)
    conform(contents, _CONTENTS, f"{show(path)}: meta")
    if contents["step"] != step:
        raise DamagedError(f"{path}: expected the checkpoint of step {step}, found {contents['step']!r}")
    require_owner(path, contents["meta"], owner or {})
    return contents


def require_owner(path: Path, meta: dict[str, Any], owner: dict[str, Any]) -> None:
    """Raise ``DamagedError`` unless the ``meta`` of the step at ``path`` is of the run that ``owner`` tells of."""
    stranger = {name: value for name, value in owner.items() if meta.get(name) != value}
    if stranger:
        told = "; ".join(f"{name} expected {value!r}, found {meta.get(name)!r}" for name, value in stranger.items())
        raise DamagedError(f"{show(path)}: is a checkpoint of another run: {show(told)}")


def newest_intact(folder: Path, known: list[int]) -> tuple[int, dict[str, Any]]:
    """The newest of the ``known`` steps whose every byte is right, and what ``save`` recorded about it.

    Raises:
      DamagedError: there is none.
    """
    reasons = []
    for step in reversed(known):
        try:
            contents = verified(folder, step)
        except DamagedError as error:
            reasons.append(error)
            continue
        for reason in reasons:
            _log.warning("damaged checkpoint passed over, continuing from step %d: %s", step, reason)
        return step, contents
    raise DamagedError(f"{folder}: every checkpoint is damaged; the newest: {reasons[0]}") from reasons[0]


def newest_common(folders: Sequence[Path]) -> int:
    """The newest step that is intact in all ``folders``; 0 where no step is in all of them.

    Raises:
      DamagedError: in one of them all steps that the others have are damaged.
    """
    known = sorted(set.intersection(*(set(steps(folder)) for folder in folders)))
    while known:
        newest = {newest_intact(folder, known)[0] for folder in folders}
        if len(newest) == 1:
            return newest.pop()
        known = [step for step in known if step <= min(newest)]
    return 0


def discard_after(folder: Path, step: int, owner: dict[str, Any]) -> None:
    """Remove the steps behind ``step``, which are made again.

    Raises:
      DamagedError: one is intact, and not of the run that ``owner`` tells of.
    """
    for later in (each for each in steps(folder) if each > step):
        try:
            meta = verified(folder, later)["meta"]
        except DamagedError:
            meta = owner
        require_owner(_step_folder(folder, later), meta, owner)
        discard_folder(_step_folder(folder, later))


def _damaged_from(folder: Path, step: int) -> list[int]:
    """The saved steps >= ``step``, all of which must be damaged: otherwise two histories would be mixed."""
    later = [other for other in steps(folder) if other >= step]
    for other in later:
        with contextlib.suppress(DamagedError):
            verified(folder, other)
            raise InputError(f"step: got {step}, but {folder} already holds step {other}; use another --out")
    return later


# --- Orbax ---


def _orbax_save(path: Path, leaves: dict[str, Any], final: Path) -> None:
    """Let Orbax write the leaves as one flat dict, so that no name or container of the tree is left to it."""
    stored = {name: leaf for name, leaf in leaves.items() if leaf.size}  # it refuses arrays without elements
    reason = None
    with Quiet() as quiet:
        try:
            with _checkpointer() as checkpointer:
                checkpointer.save(path, args=_orbax().args.PyTreeSave(stored))
        except Exception as error:
            reason = _full_disk_reason(error)
            if reason is None:
                raise
        if reason is not None:
            quiet.stay()  # what nobody waits for any more complains when it is collected, whenever that is
    if reason is not None:
        raise out_of_space(final, sum(leaf.nbytes for leaf in stored.values()), reason)
    for name in _NOT_STATE:
        (path / name).unlink(missing_ok=True)


def _orbax_restore(path: Path, wanted: dict[str, Any]) -> dict[str, jax.Array]:
    orbax = _orbax()
    target = {name: _abstract(leaf) for name, leaf in wanted.items() if leaf.size}
    arguments = orbax.checkpoint_utils.construct_restore_args(target)
    with Quiet(), _checkpointer() as checkpointer:
        try:
            found = checkpointer.restore(path, args=orbax.args.PyTreeRestore(item=target, restore_args=arguments))
        except Exception as error:
            reason = (str(error) or repr(error)).splitlines()[0]
            raise DamagedError(
                f"{path}: its bytes are those that were saved, but Orbax cannot read it: {reason}"
            ) from error
    return {name: found[name] if leaf.size else jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in wanted.items()}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, dtype and always a sharding: without one, Orbax returns typed keys as plain numbers."""
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _full_disk_reason(error: BaseException | None) -> str | None:
    """Orbax reports a full disk as one of several errors, at times only in words."""
    while error is not None:
        for words in ("No space left on device", "File too large", "Disk quota exceeded"):
            if words in str(error):
                return words
        if disk_full(error):
            return str(error)
        error = error.__cause__ or error.__context__
    return None


def _orbax() -> Any:
    import orbax.checkpoint as orbax  # slow, and not needed by those who only list steps

    return orbax


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    """A synchronous Orbax writer and reader."""
    orbax = _orbax()
    with _as_if_alone(), orbax.Checkpointer(orbax.PyTreeCheckpointHandler(use_ocdbt=True)) as checkpointer:
        yield checkpointer  # OCDBT: 15 files, not 200


@contextlib.contextmanager
def _as_if_alone() -> Iterator[None]:
    """A block in which Orbax does not meet the other processes of ``jax.distributed``: they have nothing to save.

    Asked to leave them out it still refuses arrays that one process holds alone, and looks for their service.
    """
    known = jax.process_count
    if known() > 1:
        jax.process_count = lambda *backend: 1
    try:
        yield
    finally:
        jax.process_count = known
