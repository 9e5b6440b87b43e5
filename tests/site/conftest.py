"""What code of pages and examples registers is forgotten after each test."""

import sys
from pathlib import Path

import gymnasium
import pages
import pytest

from icrl.core import foreign
from icrl.core.registry import KINDS


@pytest.fixture
def forgotten(monkeypatch, tmp_path):
    """Registries, gymnasium and Python forget what the test's code registers and imports from files of its own."""
    for registry in KINDS.values():
        list(registry)  # ours are known by then
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(foreign, "_allowed", set())
    ids, modules = set(gymnasium.registry), set(sys.modules)
    yield
    for name in set(gymnasium.registry) - ids:
        del gymnasium.registry[name]
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent in (tmp_path, pages.ROOT / "examples"):
            del sys.modules[name]
