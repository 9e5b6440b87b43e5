"""Registered things so much like another one that by day the other one stands for them; all are tested by night."""

import pytest

SIBLINGS = frozenset(
    (
        # environments that differ from another in settings or tables alone, or in little else
        "Chain-v0",
        "ContextualLogisticBandit-v0",
        "Corridor-v0",
        "CorrelatedBandit-v0",
        "DarkRoomCorner-v0",
        "DarkRoomLarge-v0",
        "DeepSeaStochastic-v0",
        "Garnet-v0",
        "HeavyTailedBandit-v0",
        "HiddenMDP-v0",
        "OddEvenBandit-v0",
        "POMDPFile-v0",
        "PermutedBandit-v0",
        "ProjectedCartPole-v0",
        "RandomMLPBandit-v0",
        "RandomWalkBandit-v0",
        "RockSample-v0",
        "TMaze-v0",
        "TMazePOBAX-v0",
        # games of one task, of which MineSweeper is tried by day; all are held to their originals in tests/oracles
        "Autoencode-v0",
        "Battleship-v0",
        "CartPole-v0",
        "Concentration-v0",
        "CountRecall-v0",
        "DiscountingChain-v0",
        "HigherLower-v0",
        "MultiarmedBandit-v0",
        "Pendulum-v0",
        "RepeatFirst-v0",
        "RepeatPrevious-v0",
        "UmbrellaChain-v0",
        # agents that are another but for their plan, or a few lines over a base that they share with it
        "a2c",
        "belief-sampling",
        "exact-imitator",
        "exp3-s",
        "ids",
        "mixture",
        "neu-fast-cb",
        "neu-square-cb",
        "neural-epsilon",
        "neural-greedy",
        "neural-ucb",
        "opsrl",
        "point-based",
        "qmdp",
        "ucb-vi-bf",
        "ucb-vi-ch",
        # models, and variants of them, whose mechanism another has, with a gate or a choice of parameters more or less
        "gated-deltanet",
        "gru",
        "linear-attention",
        "lru",
        "lstm",
        "mamba",
        "s4d",
        "s5-bilinear-False",
        "transformer-1-none-50",
    )
)

# An environment of each kind: by day they stand for all where what is tested hardly depends on the environment.
KINDS = frozenset(("ContextualLinearBandit-v0", "DarkKeyToDoor-v0", "GaussianBandit-v0", "RiverSwim-v0"))


def by_day(name, *others, day=True):
    """A parameter set that begins with a registered name, for the night if that is a sibling or ``day`` is false."""
    return pytest.param(name, *others, marks=() if day and name not in SIBLINGS else pytest.mark.nightly)
