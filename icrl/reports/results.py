"""The results of a run in Python: the document, its numbers as one flat table, and its figures."""

import csv
import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from icrl.core.errors import InputError, near_names
from icrl.reports.charts import to_png
from icrl.reports.figures import draw_figure, figure_names
from icrl.reports.report import print_summary
from icrl.reports.schema import Results, numbers
from icrl.reports.section import Number
from icrl.storage.publish import publish_file

OF_RUN = ("experiment", "preset", "seed")
COLUMNS = (*OF_RUN, *Number._fields)  # of the flat table


class RunResults(Mapping[str, Any]):
    """What a run has measured: ``results["claim"]``, ``results["online"]``, ... are the parts of ``results.json``.

    Example::

        results = icrl.run("dpt-bandit", preset="smoke", out="runs/mine")
        results.to_frame().query("section == 'online' and at == 20")
        results.figure("online_regret").savefig("regret.pdf")
    """

    def __init__(self, document: Results, folder: Path) -> None:
        self.document, self.folder = document, folder

    def __getitem__(self, key: str) -> Any:
        return self.document[key]  # type: ignore[literal-required]

    def __iter__(self) -> Iterator[str]:
        return iter(self.document)

    def __len__(self) -> int:
        return len(self.document)

    def __repr__(self) -> str:
        return f"{self.document['title']}: {self.document['claim']} ({self.folder})"

    def rows(self) -> list[dict[str, Any]]:
        """Every number, one row each of the columns ``COLUMNS``: of which agent, what, at which step, how sure."""
        of_run = {name: self.document[name] for name in OF_RUN}  # type: ignore[literal-required]
        return [{**of_run, **number._asdict()} for number in numbers(self.document)]

    def to_frame(self) -> Any:
        """``rows`` as a data frame of pandas, which is not installed with this package."""
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError as error:
            raise InputError("to_frame: pandas is not installed; rows() and to_csv(path) need no package") from error
        return pandas.DataFrame(self.rows(), columns=list(COLUMNS))

    def csv(self) -> str:
        """``rows`` as text: commas, a header, an empty field for what is not known."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        return text.getvalue()

    def to_csv(self, path: str | Path) -> None:
        """Write ``csv()`` into a file."""
        publish_file(Path(path).expanduser(), self.csv().encode())

    @property
    def figures(self) -> list[str]:
        """The names of the figures."""
        return figure_names(self.document)

    def figure(self, name: str) -> Any:
        """The figure called ``name``, or the only one whose name has it as a part, as a Figure of matplotlib.

        A notebook shows it as it is.

        Raises:
          InputError: no such figure, or several.
        """
        found = [name] if name in self.figures else [each for each in self.figures if name in each]
        if len(found) != 1:
            raise InputError(f"figure: got {name!r}, allowed: {near_names(name, self.figures)}")
        drawn = draw_figure(self.document, found[0])
        drawn._repr_png_ = partial(to_png, drawn)  # without pyplot no notebook knows how to show it
        return drawn

    def summary(self) -> None:
        """Print the tables of the report."""
        print_summary(self.document)
