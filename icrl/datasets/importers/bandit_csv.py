"""Logs of a bandit in CSV: a line for each decision, with its context, action, reward and propensity."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from icrl.core.fields import setting
from icrl.core.registry import importers
from icrl.datasets._checks import ACTIONS, OBSERVATIONS, PROPENSITIES, REWARDS, TERMINATED, TRUNCATED
from icrl.datasets._tasks import Tasks
from icrl.datasets.importers._importer import HistoryImporter, pieces
from icrl.datasets.importers._tables import Columns, header_of, matching, one_hot, read_columns

STREAM = "the rows are one stream in their order, cut into histories of equal length; no episode ends"


@importers.register("csv", paper="-")
@dataclasses.dataclass(frozen=True)
class BanditCsv(HistoryImporter):
    """Columns for ``action`` (0 .. K - 1), ``reward``, ``propensity`` in (0, 1], and any of ``context``.

    Numbers of the context are taken as they are, columns of ``categories`` become one-hot. The rows of a task are one
    stream in their order, cut into histories of equal length. Propensities may not be missing in part: off-policy
    values (``icrl evaluate-logs``) divide by them.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)

    action: str = setting("action", help="column of the actions")
    reward: str = setting("reward", help="column of the rewards")
    propensity: str = setting("propensity", help="column of the probabilities of the actions; empty: not recorded")
    context: tuple[str, ...] = setting(("context*",), help="columns of numbers in the context; x* names all with x")
    categories: tuple[str, ...] = setting((), help="columns of the context with names, which become one-hot")
    task: str = setting("", help="column that names the task of a row; empty: all are of one")
    history_steps: int | None = setting(
        None, low=2, high=2**24, help="rows of a history; none: 1000 or a tenth of a task's, at most"
    )

    def tasks(self, source: Path) -> Tasks:
        header = header_of(source)
        context, categories = (matching(source, header, names) for names in (self.context, self.categories))
        context = [name for name in context if name not in categories]
        numbers = [self.action, self.reward, *filter(None, [self.propensity]), *context]
        table = read_columns(source, numbers, [*categories, *filter(None, [self.task])])
        arrays = self._arrays(table, context, categories)
        streams = [np.arange(len(table.lines))]
        if self.task:
            _, first, number = np.unique(table.texts[self.task], return_index=True, return_inverse=True)
            streams = [np.flatnonzero(number == task) for task in np.argsort(first)]

        def read(at: int) -> dict[str, np.ndarray]:
            count, length = pieces(len(streams[at]), self.history_steps)
            rows = streams[at][: count * length].reshape(count, length)
            over = np.zeros(rows.shape, bool)
            return {**{name: field[rows] for name, field in arrays.items()}, TERMINATED: over, TRUNCATED: over}

        def where(at: int) -> str:
            row = streams[at][0]
            return f"{table.name}: {self.task} {table.texts[self.task][row]}" if self.task else table.name

        return Tasks(range(len(streams)), read, where)

    def _arrays(self, table: Columns, context: list[str], categories: list[str]) -> dict[str, np.ndarray]:
        """The columns as fields of a history, every row checked."""
        action = table.numbers[self.action]
        limit = self.num_actions or 65536
        inside = (action == np.rint(action)) & (action >= 0) & (action < limit)
        table.refuse(~inside, self.action, f"an integer in [0, {limit - 1}]")
        parts = [table.numbers[name].astype(np.float32)[:, None] for name in context]
        parts += [one_hot(table, name) for name in categories]
        seen = np.concatenate(parts, axis=1) if parts else np.zeros((len(action), 1), np.float32)
        found: dict[str, np.ndarray] = {
            OBSERVATIONS: seen,
            ACTIONS: action.astype(np.int64),
            REWARDS: table.numbers[self.reward],
        }
        if self.propensity:
            chance = found[PROPENSITIES] = table.numbers[self.propensity]
            inside = (chance > 0) & (chance <= 1)
            table.refuse(~inside, self.propensity, "a number in (0, 1], how likely the action was")
        return found

    def assumed(self) -> tuple[str, ...]:
        return (STREAM,) if self.propensity else (STREAM, "no propensities are recorded")
