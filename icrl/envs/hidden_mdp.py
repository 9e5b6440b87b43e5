"""An MDP behind an unknown observation map: what an observation means has to be found out."""

import dataclasses

import numpy as np

from icrl.core.errors import require
from icrl.core.fields import setting
from icrl.core.registry import environments
from icrl.envs._finite_pomdp import FinitePOMDP, steps
from icrl.planning.pomdp import MAX_STATES, Outcomes, Signals, Tables, explored


@environments.register("HiddenMDP-v0", paper="-")
@dataclasses.dataclass(frozen=True)
class HiddenMDP(FinitePOMDP):
    """One known random MDP; a task is one of the O^n maps from its n states to O observations, drawn uniformly.

    Task i shows state s as the s-th digit of i in base O, the first state's digit being the last. Rows of transitions
    are Dirichlet(1, ..., 1) over the states, drawn from ``table_seed``; entering state n - 1 pays 1, all else nothing;
    episodes start in state 0. With O = n some maps are permutations, in which the state is seen under another name.
    """

    horizon: int = steps(10)
    num_states: int = setting(3, low=2, high=12, help="n, states of the MDP")
    num_moves: int = setting(2, low=1, high=64, help="K, actions")
    num_symbols: int = setting(2, low=1, high=12, help="O, observations")
    table_seed: int = setting(0, low=0, high=2**32 - 1, help="seed of the MDP's transitions")

    def __post_init__(self) -> None:
        super().__post_init__()
        found, states = (self.num_states, self.num_symbols), self.num_states * self.num_symbols**self.num_states
        require(states <= MAX_STATES, "num_states, num_symbols", found, f"n O^n of at most {MAX_STATES}, got {states}")

    def tables(self) -> Tables:
        last, symbols = self.num_states - 1, self.num_symbols
        rng = np.random.default_rng(self.table_seed)
        moves = rng.dirichlet(np.full(self.num_states, 0.3), (self.num_states, self.num_moves))

        def outcomes(state: tuple[int, int], action: int) -> Outcomes:
            task, here = state
            return [(float(p), (task, there), float(there == last)) for there, p in enumerate(moves[here, action])]

        def observed(action: int | None, state: tuple[int, int]) -> Signals:
            del action
            task, here = state
            return [(1.0, task // symbols**here % symbols)]

        starts = [[(1.0, (task, 0))] for task in range(symbols**self.num_states)]
        return explored(starts, outcomes, observed, lambda state: False, self.num_moves, symbols)
