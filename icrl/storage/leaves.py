"""The leaves of a state: the name, shape, dtype and bytes that must be the same again."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.core.errors import InputError, require

PyTree = Any


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves of ``tree`` by name; ``InputError`` for one that is no array."""
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        require(name not in leaves, "leaf", name, "a name that no other leaf has")
        require(hasattr(leaf, "shape") and hasattr(leaf, "dtype"), f"leaf {name}", leaf, "an array")
        leaves[name] = np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
    require(bool(leaves), "state", "no leaf", "a pytree with at least one array")
    return leaves


def describe(leaves: dict[str, Any]) -> list[dict[str, Any]]:
    """Path, shape and dtype of each leaf, as JSON."""
    return [{"path": name, "shape": list(leaf.shape), "dtype": str(leaf.dtype)} for name, leaf in leaves.items()]


def require_exact(name: str, leaf: Any) -> None:
    """Refuse what would not come back as it is: dtypes that JAX would narrow (float64 without x64), 0 keys."""
    if is_key(leaf):
        require(leaf.size > 0, f"leaf {name}: shape", leaf.shape, "at least one key")
    else:
        held = jax.dtypes.canonicalize_dtype(leaf.dtype)
        require(held == leaf.dtype, f"leaf {name}: dtype", str(leaf.dtype), f"{held}, or enable jax_enable_x64")


def require_same_leaves(path: Path, stored: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Raise ``InputError`` naming the first leaf in which the checkpoint at ``path`` differs from what is wanted."""
    stored_by, wanted_by = ({leaf["path"]: leaf for leaf in leaves} for leaves in (stored, wanted))
    different = [name for name in {**stored_by, **wanted_by} if stored_by.get(name) != wanted_by.get(name)]
    if different:
        name = different[0]
        more = f" (and {len(different) - 1} more leaves differ)" if len(different) > 1 else ""
        raise InputError(
            f"{path}: leaf {name}: the checkpoint holds {_kind(stored_by.get(name))}, "
            f"the model expects {_kind(wanted_by.get(name))}{more}; restore with the settings it was saved with"
        )


def _kind(leaf: dict[str, Any] | None) -> str:
    return "no such leaf" if leaf is None else f"{leaf['dtype']}{leaf['shape']}"


def digest_of_leaves(leaves: dict[str, Any]) -> str:
    """sha256 over names and bytes of all leaves: equal states have equal digests, whatever files hold them."""
    total = hashlib.sha256()
    for name in sorted(leaves):
        leaf = leaves[name]
        array = np.ascontiguousarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        total.update(f"{name}:{leaf.dtype}{list(leaf.shape)}:".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def is_key(leaf: Any) -> bool:
    """Whether ``leaf`` holds typed PRNG keys."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
