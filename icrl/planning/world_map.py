"""Maps of a world that is seen through codes: counted from walks, merged, and searched for shortest ways.

A code stands for a place: of a transformer with a discrete bottleneck (Dedieu et al. 2024), or a hidden state of a
clone-structured graph (George et al. 2021). Both papers count (code, action, next code) along walks, keep what is
counted often enough, and hand the graph to any shortest-path solver. The rest is ours, as the paper's body could not
be read. A network has several codes for one place. In a deterministic world two codes are one place if they show the
same and the same follows them under every action: such codes are merged, which makes more of their followers the same,
and so on until nothing changes. Of several bottlenecks a node is a tuple of codes, and a rare tuple may be merged at
once with a frequent one that differs in few of them.

Letters: B walks of T + 1 observations and T actions; K actions, N nodes. Everything here runs on the host.
"""

import dataclasses

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from icrl.core.errors import require
from icrl.core.fields import Checked, setting

NO_NODE = -1


@dataclasses.dataclass(frozen=True)
class MapSettings(Checked):
    """What is counted, and what is believed of it."""

    burn_in: int = setting(50, low=0, high=2**20, help="steps of a walk before it counts: until then a place is unsure")
    least_count: int = setting(3, low=1, high=2**20, help="transitions that an edge needs")
    least_share: float = setting(0.3, low=0.0, high=1.0, help="share of a node's transitions that an edge needs")
    least_alike: float = setting(
        0.6, low=0.0, high=2.0, help="overlap of what follows two codes from which on they are one node; 2: never"
    )
    most_apart: int = setting(
        0, low=0, high=64, help="bottlenecks in which a rare tuple of codes may differ from the one it is merged with"
    )


@dataclasses.dataclass(frozen=True)
class WorldMap:
    """A deterministic graph of N nodes."""

    node_of: dict[tuple[int, ...], int]  # of each tuple of codes that is on the map
    next: np.ndarray  # [N, K] int, the node behind each action; NO_NODE: unknown
    shows: np.ndarray  # [N] int, the observation
    visits: np.ndarray  # [N] int, how often the walks were there
    steps: np.ndarray  # [N, N] float, actions of the shortest way; infinite: there is none

    def nodes(self, codes: np.ndarray) -> np.ndarray:
        """The node of each of ``codes`` [..., M] int, [...] int; NO_NODE where it is not on the map."""
        flat = codes.reshape(-1, codes.shape[-1])
        found = [self.node_of.get(tuple(code), NO_NODE) for code in flat.tolist()]
        return np.array(found, int).reshape(codes.shape[:-1])

    def way(self, start: int, end: int) -> list[int] | None:
        """The actions of a shortest way between two nodes; None: the map has none."""
        if NO_NODE in (start, end) or not np.isfinite(self.steps[start, end]):
            return None
        actions: list[int] = []
        here = start
        while here != end:
            behind = self.next[here]
            actions.append(int(np.argmin(np.where(behind == NO_NODE, np.inf, self.steps[behind, end]))))
            here = int(self.next[here, actions[-1]])
        return actions

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """(node, action) [E] int each of the known edges that lead to another node."""
        node, action = np.nonzero((self.next != NO_NODE) & (self.next != np.arange(len(self.next))[:, None]))
        return node, action


def map_of(
    codes: np.ndarray, symbols: np.ndarray, actions: np.ndarray, num_actions: int, settings: MapSettings
) -> WorldMap:
    """The map that walks tell.

    Args:
      codes: [B, T + 1, M] int, of each observation and all before it.
      symbols: [B, T + 1] int, the observations.
      actions: [B, T] int in 0 .. K - 1.
      num_actions: K.
      settings: what is counted.

    Raises:
      InputError: walks that end before they count.
    """
    require(settings.burn_in < actions.shape[1], "burn_in", settings.burn_in, f"below the walks' {actions.shape[1]}")
    late = slice(settings.burn_in, None)
    tuples, numbers = np.unique(codes[:, late].reshape(-1, codes.shape[-1]), axis=0, return_inverse=True)
    numbers = numbers.reshape(codes[:, late].shape[:2])
    counts = np.zeros((len(tuples), num_actions, len(tuples)))
    np.add.at(counts, (numbers[:, :-1], actions[:, late], numbers[:, 1:]), 1)
    shown = np.zeros((len(tuples), int(symbols.max()) + 1))
    np.add.at(shown, (numbers, symbols[:, late]), 1)
    group = _near(tuples, shown, settings.most_apart)
    group = _merged(counts, shown, group, settings)
    return _graph(tuples, counts, shown, group, settings)


def _near(tuples: np.ndarray, shown: np.ndarray, most_apart: int) -> np.ndarray:
    """The group [n] of each tuple: its own, or that of a more frequent tuple near by that shows the same."""
    visits, look = shown.sum(1), shown.argmax(1)
    group = np.arange(len(tuples))
    if most_apart:
        for tuple_ in np.argsort(-visits, kind="stable"):
            apart = np.sum(tuples != tuples[tuple_], axis=1)
            heads = (apart <= most_apart) & (look == look[tuple_]) & (group == np.arange(len(tuples)))
            heads &= visits > visits[tuple_]
            if heads.any():
                group[tuple_] = np.flatnonzero(heads)[np.argmax(visits[heads])]
    return group


def _merged(counts: np.ndarray, shown: np.ndarray, group: np.ndarray, settings: MapSettings) -> np.ndarray:
    """Groups [n] that behave alike made one.

    Each, from the most to the least visited, joins the one of those that were kept that it is most like, or is kept.
    How alike two are is the Bhattacharyya coefficient of their next groups, sum_x sqrt(p(x) q(x)), the mean over the
    actions that both have been seen to do.
    """
    while True:
        heads = np.unique(group)
        number, (sums, looks) = _summed(counts, shown, group)
        alike = _alikeness(sums) * (looks.argmax(1)[:, None] == looks.argmax(1))
        kept: list[int] = []
        joined = np.arange(len(heads))
        for node in np.argsort(-looks.sum(1), kind="stable"):
            best = max(kept, key=lambda other, node=node: alike[node, other], default=None)  # type: ignore[misc]
            if best is not None and alike[node, best] >= settings.least_alike:
                joined[node] = best
            else:
                kept.append(int(node))
        if len(kept) == len(heads):
            return group
        group = heads[joined][number]


def _alikeness(counts: np.ndarray) -> np.ndarray:
    """The Bhattacharyya coefficients [N, N] of counts [N, K, N] under the same action, means over common actions."""
    totals = counts.sum(-1)
    roots = np.sqrt(counts / np.maximum(totals, 1)[..., None])
    done = (totals > 0).astype(float)
    return np.einsum("ikx,jkx->ij", roots, roots, optimize=True) / np.maximum(done @ done.T, 1)


def _summed(
    counts: np.ndarray, shown: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The number of the group of each tuple, [n], and the counts [N, K, N] and [N, O] of the groups."""
    heads, number = np.unique(group, return_inverse=True)
    member = np.zeros((len(heads), len(group)))
    member[number, np.arange(len(group))] = 1
    return number, (np.einsum("in,nkm,jm->ikj", member, counts, member, optimize=True), member @ shown)


def _graph(
    tuples: np.ndarray, counts: np.ndarray, shown: np.ndarray, group: np.ndarray, settings: MapSettings
) -> WorldMap:
    number, (counts, shown) = _summed(counts, shown, group)
    share = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    believed = np.where((counts >= settings.least_count) & (share >= settings.least_share), counts, 0)
    behind = np.where(believed.any(-1), believed.argmax(-1), NO_NODE)
    nodes, actions = np.nonzero(behind != NO_NODE)
    edges = csr_array((np.ones(len(nodes)), (nodes, behind[nodes, actions])), shape=(len(behind), len(behind)))
    node_of = dict(zip(map(tuple, tuples.tolist()), number.tolist(), strict=True))
    steps = shortest_path(edges, unweighted=True)
    return WorldMap(node_of, behind, shown.argmax(1), shown.sum(1).astype(int), steps)
