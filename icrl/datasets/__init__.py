"""Pretraining data: streams generated on the device, the same data stored, and data that others recorded."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icrl.datasets.foreign import store_histories as store_histories
    from icrl.datasets.importing import import_histories as import_histories

__all__ = ["import_histories", "store_histories"]


def __getattr__(name: str) -> Any:
    if name == "store_histories":
        from icrl.datasets.foreign import store_histories

        return store_histories
    if name == "import_histories":
        from icrl.datasets.importing import import_histories

        return import_histories
    raise AttributeError(f"module 'icrl.datasets' has no attribute {name!r}")
