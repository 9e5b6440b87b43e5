"""The report of a finished experiment: results.json, figures, one self-contained page, and tables in the terminal.

The schema of the document is in ``schema.py`` beside this file, what it shows in ``sections``, the page in ``page.py``.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from icrl.reports.charts import to_png
from icrl.reports.check import check_results, to_json
from icrl.reports.figures import draw_figures
from icrl.reports.numbers import NO_NUMBER
from icrl.reports.page import render_html
from icrl.reports.schema import Results, contents
from icrl.reports.section import Figure, Row, Table
from icrl.reports.sections import tables as numbers
from icrl.storage.documents import read_document, sealed
from icrl.storage.publish import make_folder, publish_file

ABREAST = 7  # columns of a table in the terminal, beside the first
STYLES = {"model": "bold", "ideal": "bold", "oracle": "dim", "ok": "green", "not-ok": "bold red"}  # by look of a row


def write_report(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """Write results.json, figures/*.png and report.html into ``folder``; return their paths in this order.

    ``results`` is a ``Results``; a value that breaks the schema raises ``InputError`` before anything is written.
    """
    document = check_results(results)
    make_folder(folder)
    publish_file(folder / "results.json", to_json(sealed(document)).encode())  # whatever becomes of the pictures
    pictures = {name: to_png(figure) for name, figure in draw_figures(document).items()}
    files = {f"figures/{name}.png": png for name, png in pictures.items()}
    files["report.html"] = render_html(document, pictures).encode()
    for name, content in files.items():
        make_folder((folder / name).parent)
        publish_file(folder / name, content)
    return [folder / name for name in ("results.json", *files)]


def read_results(path: Path) -> Results:
    """Read and check a results.json, which holds its own digest."""
    return check_results(read_document(path))


def print_summary(results: Results, file: TextIO | None = None) -> None:
    """Print the tables of the report, those that count most last, where the reader of a terminal looks first.

    Plain text at least 100 columns wide when ``file`` is no terminal.
    """
    shown = [part for items in reversed(contents(results)) for item in items for part in _for_terminal(item)]
    _print(shown, [results["title"], results["claim"]] if shown else [], file)


def print_tables(tables: list[Any], file: TextIO | None = None) -> None:
    """Print tables of numbers, as the section ``tables`` of a report holds them."""
    _print([part for item in numbers.SECTION.show(tables, cast(Any, {})) for part in _for_terminal(item)], [], file)


def _print(tables: list[Table], head: list[str], file: TextIO | None) -> None:
    """Print ``tables`` under the lines of ``head``, the first of which is bold."""
    from rich import table as rich_table
    from rich.console import Console
    from rich.text import Text

    out = sys.stdout if file is None else file
    terminal = out.isatty()
    console = Console(file=out, force_terminal=terminal, no_color=not terminal, width=None if terminal else 110)

    def text(words: str, style: str = "") -> Text:
        """``words`` as they are: a plain str would be read as markup, but "[red]" in a name is a name."""
        return Text(_encodable(words, out), style if terminal else "")

    if head:
        console.print(text(head[0], "bold"), *map(text, head[1:]), sep="\n")
    for title, columns, rows, *_ in tables:
        drawn = rich_table.Table()
        for index, column in enumerate(columns):
            drawn.add_column(text(column), justify="left" if index == 0 else "right")
        for look, cells in rows:
            drawn.add_row(*map(text, cells), style=STYLES.get(look, "") if terminal else "")
        console.print(text(title, "bold"), drawn, sep="\n")


def _for_terminal(item: Table | Figure) -> list[Table]:
    """A table without its details, cut into parts of similar width, each with the first column; else nothing."""
    if isinstance(item, Figure) or item.is_appendix:
        return []
    kept = [index for index, column in enumerate(item.columns) if column not in item.details]
    count = max(1, math.ceil((len(kept) - 1) / ABREAST))
    parts = []
    for columns in ([*kept[:1], *map(int, part)] for part in np.array_split(kept[1:], count)):
        rows = [Row(look, [cells[index] for index in columns]) for look, cells in item.rows]
        if count > 1:  # agents that have no number in this part would be a row of dashes
            rows = [row for row in rows if set(row.cells[1:]) != {NO_NUMBER}]
        parts.append(item._replace(columns=[item.columns[index] for index in columns], rows=rows))
    return parts


def _encodable(text: str, file: TextIO) -> str:
    """Replace what the stream cannot encode, so that a terminal without Unicode does not end a run in an error."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
