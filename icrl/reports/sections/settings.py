"""The settings of the environment, with the seeds, versions and timings of the run."""

import json
from collections.abc import Iterator
from typing import Any

from icrl.core.errors import require
from icrl.reports.forms import check_dictionary
from icrl.reports.section import Head, Row, Section, Table


def _check(path: str, env: Any) -> None:
    check_dictionary(path, env)
    require("id" in env, path, sorted(env), "a dictionary with 'id'")


def _show(env: dict[str, Any], head: Head) -> Iterator[Table]:
    settings = {
        "experiment": head["experiment"],
        "preset": head["preset"],
        "seed": head["seed"],
        "training seeds": ", ".join(map(str, head["train_seeds"])),
        **{f"environment: {key}": value for key, value in env.items()},
        **{f"seconds: {key}": f"{value:,.1f}" for key, value in head["seconds"].items()},
        "device": head["device"],
        **{f"version: {key}": value for key, value in head["versions"].items()},
    }
    rows = [Row("", [key, _word(value)]) for key, value in settings.items()]
    yield Table("Settings, seeds, versions and timings", ["setting", "value"], rows, is_appendix=True)


def _word(value: Any) -> str:
    """A setting as text; structures as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


SECTION = Section("env", _check, _show)
