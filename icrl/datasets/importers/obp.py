"""Open Bandit Pipeline (Saito et al. 2021, arXiv 2008.07146): its logs of a fashion store, by the names of columns."""

import dataclasses
from typing import ClassVar

from icrl.core.fields import setting
from icrl.core.registry import importers
from icrl.datasets.importers.bandit_csv import BanditCsv


@importers.register("obp", paper="Saito et al. 2021")
@dataclasses.dataclass(frozen=True)
class OpenBandit(BanditCsv):
    """Columns item_id, click, propensity_score, position and user_feature_*, which are hashes and become one-hot.

    The context is the position in the list and the user; ``user-item_affinity_*`` describe single items and are left
    out (``--context user-item_affinity_*`` takes them all).
    """

    suffixes: ClassVar[tuple[str, ...]] = ()

    action: str = setting("item_id", help="column of the actions")
    reward: str = setting("click", help="column of the rewards")
    propensity: str = setting("propensity_score", help="column of the probabilities of the actions")
    context: tuple[str, ...] = setting((), help="columns of numbers in the context; x* names all with x")
    categories: tuple[str, ...] = setting(
        ("position", "user_feature_*"), help="columns of the context with names, which become one-hot"
    )
