"""The report of a finished experiment: results.json, figures, one self-contained page, and a table in the terminal.

The schema of the document is in ``schema.py`` beside this file, the figures in ``figures.py``, the page in ``page.py``.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from icrl.reports.charts import to_png
from icrl.reports.check import check_results, to_json
from icrl.reports.figures import draw_figures
from icrl.reports.numbers import format_cell, format_ratio, format_value, short_number
from icrl.reports.page import render_html
from icrl.reports.schema import Results, final_rows, leaderboard, return_rows, world_title
from icrl.storage.documents import read_document, sealed
from icrl.storage.publish import make_folder, publish_file

WORLDS_ABREAST = 5  # in a table in the terminal


def write_report(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """Write results.json, figures/*.png and report.html into ``folder``; return their paths in this order.

    ``results`` is a ``Results``; a value that breaks the schema raises ``InputError`` before anything is written.
    """
    document = check_results(results)
    pictures = {name: to_png(figure) for name, figure in draw_figures(document).items()}
    files = {"results.json": to_json(sealed(document)).encode()}
    files |= {f"figures/{name}.png": png for name, png in pictures.items()}
    files["report.html"] = render_html(document, pictures).encode()
    for name, content in files.items():
        make_folder((folder / name).parent)
        publish_file(folder / name, content)
    return [folder / name for name in files]


def read_results(path: Path) -> Results:
    """Read and check a results.json, which holds its own digest."""
    return check_results(read_document(path))


def print_summary(results: Results, file: TextIO | None = None) -> None:
    """Print final regrets and checks as tables; plain text at least 100 columns wide when ``file`` is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = sys.stdout if file is None else file
    terminal = out.isatty()
    console = Console(file=out, force_terminal=terminal, no_color=not terminal, width=None if terminal else 110)

    def show(title: str, columns: list[str], rows: Iterable[tuple[str, list[str]]]) -> None:
        table = Table(title=Text(_encodable(title, out)), title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for style, cells in rows:
            # Text, because a plain str would be read as markup: "[red]" in a name is a name
            table.add_row(*(Text(_encodable(cell, out)) for cell in cells), style=style if terminal else "")
        console.print(table)

    styles = {"model": "bold", "ideal": "bold", "baseline": "", "oracle": "dim"}
    returns = [
        (styles[agent["kind"]], [agent["label"], short_number(mean), format_value(last)])
        for _, agent, mean, last in return_rows(results)
    ]
    if returns:
        show(results["title"], ["agent", "mean return", "return of the last episode [95 % interval]"], returns)
    rows = list(final_rows(results))
    if rows:
        columns = ["agent", f"regret({results['num_steps']}) [95 % interval]", "ratio to ideal"]
        lines = [
            (styles[agent["kind"]], [agent["label"], format_value(v), format_ratio(ratio)])
            for _, agent, v, ratio in rows
        ]
        show(results["title"], columns, lines)
    for found in results.get("tables") or []:
        show(found["title"], found["columns"], (("", [format_cell(cell) for cell in row]) for row in found["rows"]))
    worlds, shares = leaderboard(results)
    if worlds:
        for low in range(0, len(worlds), WORLDS_ABREAST):
            part = slice(low, low + WORLDS_ABREAST)
            here = [(kind, label, row[part]) for kind, label, row in shares if set(row[part]) != {None}]
            head = ["regret / uniform's", *(world_title(name) for name in worlds[part])]
            lines = [(styles[kind], [label, *map(format_ratio, row)]) for kind, label, row in here]
            show(results["title"], head, lines)
    if results["checks"]:
        verdicts = {True: "ok", False: "NOT OK"}
        colors = {True: "green", False: "bold red"}
        checks = [
            (colors[row["ok"]], [row["what"], format_value(row["measured"], 4), row["target"], verdicts[row["ok"]]])
            for row in results["checks"]
        ]
        show(results["claim"], ["check", "measured [95 % interval]", "target", ""], checks)


def _encodable(text: str, file: TextIO) -> str:
    """Replace what the stream cannot encode, so that a terminal without Unicode does not end a run in an error."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
