"""The rows of the comparisons: which of our sides against which peer, in what settings."""

import dataclasses
from typing import Any

from icrl.envs._levels import LEVELS

PEERS = {  # program in ``peers``: the packages that it wants besides ours, and what it is called
    "torch_transformer": ("torch", "PyTorch"),
    "torch_evaluation": ("torch", "PyTorch, the whole context at each step"),
    "sb3_room": ("torch", "stable-baselines3"),
    "gymnax_worlds": ("", "gymnax"),
    "xminigrid_worlds": ("xminigrid", "XLand-MiniGrid"),
    "popgym_games": ("popgym", "popgym"),
    "rlberry_ucbvi": ("rlberry", "rlberry-scool"),
    "flax_gru": ("", "Flax GRU"),
    "flax_ppo": ("", "PPO around Flax's GRU"),
    "numpy_bandit": ("", "NumPy"),
    "ours": ("", "icrl, one seed"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    Args:
      name: by which it is asked for.
      what: is compared, in words.
      side: ours, of ``ours.py``.
      peer: the other, of ``PEERS``; "": ours alone.
      settings: of both.
      ours: settings of ours alone.
      theirs: settings of the peer alone.
      small: what a smoke run has in place of those that are there.
      note: what a reader has to know.
      limit: seconds.
    """

    name: str
    what: str
    side: str
    peer: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    ours: dict[str, Any] = dataclasses.field(default_factory=dict)
    theirs: dict[str, Any] = dataclasses.field(default_factory=dict)
    small: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    limit: float = 300.0


SDPA, COMPILED = {"compiled": False}, {"compiled": True}


def training(name: str, what: str, theirs: dict[str, Any], limit: float = 300.0, **sizes: Any) -> Row:
    """A training step of DPT beside PyTorch's."""
    small = {"length": 15, "batch": 4}
    return Row(name, what, "bandits", "torch_transformer", ours=sizes, theirs=theirs, small=small, limit=limit)


def paper(name: str, what: str, theirs: dict[str, Any], **settings: Any) -> Row:
    """A training step of a preset ``paper`` beside PyTorch's of the same shape."""
    small = {"batch_size": 4, "num_layers": 1}
    return Row(name, what, "preset", "torch_transformer", ours=settings, theirs=theirs, small=small)


AD = {"experiment": "ad-darkroom", "batch_size": 512, "num_layers": 4}
TADM = {"experiment": "tadm-bernoulli", "vary": [], "batch_size": 128, "num_layers": 8}
ROOMS = {"count": 1024, "steps": 2000}
PLAY = {"env": "DarkRoom-v0", "agent": "uniform"}
BANDITS = {"count": 1024, "steps": 500}
FEW = {"count": 8, "steps": 20}
UCBVI = {"env": "DarkRoom-v0", "agent": "ucb-vi", "count": 256, "steps": 1000}
FEW_UCBVI = {"count": 2, "steps": 40, "episodes": 2}
LAYER = {"width": 64, "batch": 8, "length": 1024}
SHORT_LAYER = {"batch": 2, "length": 32, "width": 8}

CPU = (
    training("train-500-heads-4", "DPT training step, T = 500, 4 heads, batch 64", SDPA, length=500, heads=4, batch=64),
    training("train-500-heads-1", "DPT training step, T = 500, 1 head, batch 64", SDPA, length=500, heads=1, batch=64),
    training(
        "train-500-compiled", "DPT training step, T = 500, 4 heads, batch 64, torch.compile", COMPILED, limit=600,
        length=500, heads=4, batch=64,
    ),
    training("train-2000", "DPT training step, T = 2 000, 4 heads, batch 16", SDPA, length=2000, heads=4, batch=16),
    training(
        "train-4000", "DPT training step, T = 4 000, 4 heads, batch 16", SDPA, limit=600, length=4000, heads=4, batch=16
    ),
    paper("train-ad", "AD training step, window of 80, batch 512", SDPA, **AD),
    paper("train-ad-compiled", "AD training step, window of 80, batch 512, torch.compile", COMPILED, **AD),
    paper("train-tadm", "TaDM training step, 8 layers of ReLU attention, T = 200", SDPA, **TADM),
    paper("train-tadm-compiled", "TaDM training step, 8 layers of ReLU attention, T = 200, compiled", COMPILED, **TADM),
    Row(
        "evaluation", "DPT's model in context, 200 tasks, 500 steps", "evaluation", "torch_evaluation",
        {"count": 200, "steps": 500}, {"heads": 4}, {"stride": 25}, {"count": 2, "steps": 50},
    ),
    Row(
        "rooms-gymnax", "Dark Room, uniform play", "agent", "gymnax_worlds", ROOMS, PLAY,
        {"world": "FourRooms-misc"}, FEW, "the peer: FourRooms",
    ),
    Row(
        "rooms-xminigrid", "Dark Room, uniform play", "agent", "xminigrid_worlds", ROOMS, PLAY,
        {"world": "MiniGrid-EmptyRandom-8x8"}, FEW, "the peer: an empty grid, seen as pictures",
    ),
    Row(
        "rooms-sb3", "Dark Room, uniform play", "agent", "sb3_room", ROOMS, PLAY,
        {"count": 64, "steps": 200, "learner": False}, FEW,
    ),
    Row(
        "room-contexts", "DPT's contexts of Dark Rooms, H = 100", "contexts", ours={"count": 4096, "steps": 100},
        small=FEW,
    ),
    Row(
        "ppo-sb3", "PPO, 100 Dark Rooms, 20 epochs", "learner", "sb3_room",
        {"count": 100, "steps": 20, "batch": 50, "epochs": 20}, theirs={"learner": True},
        small={"count": 5, "epochs": 1, "batch": 10},
    ),
    Row(
        "rl2-flax", "RL^2 training step, GRU of width 64, 64 bandits of 100 pulls", "recurrent", "flax_ppo",
        {"width": 64, "horizon": 100}, {"environments": 64}, {"count": 64},
        {"width": 4, "horizon": 5, "environments": 4, "count": 4},
    ),
    *(
        Row(f"bandit-{agent}", f"Gaussian bandits, {agent}", "agent", "numpy_bandit", BANDITS,
            {"env": "GaussianBandit-v0", "agent": agent}, small=FEW, note="NumPy: Thompson sampling")
        for agent in ("thompson-gaussian", "ucb", "posterior-gaussian")
    ),
    Row(
        "ucb-vi", "UCB-VI, 9 x 9 cells, H = 20, 50 episodes", "agent", "rlberry_ucbvi", ours=UCBVI,
        theirs={"episodes": 5, "horizon": 20, "real_time": False}, small=FEW_UCBVI, note="peer: 5 episodes, a plan",
    ),
    Row(
        "ucb-vi-real-time", "UCB-VI, 9 x 9 cells, H = 20, 50 episodes", "agent", "rlberry_ucbvi", ours=UCBVI,
        theirs={"episodes": 50, "horizon": 20, "real_time": True}, small=FEW_UCBVI, note="peer: a step at a time",
    ),
    *(
        Row(f"layer-{model}", f"{model}, forward and backward, width 64, batch 8, T = 1 024", "layer", "flax_gru",
            LAYER, {"model": model}, small=SHORT_LAYER)
        for model in ("s5", "mamba2", "gated-deltanet")
    ),
)  # fmt: skip

GAMES = {  # ours: popgym's; steps of ours
    "RepeatPrevious": "RepeatPrevious",
    "RepeatFirst": "RepeatFirst",
    "Autoencode": "Autoencode",
    "CountRecall": "CountRecall",
    "HigherLower": "HigherLower",
    "MultiarmedBandit": "MultiarmedBandit",
    "Battleship": "Battleship",
    "Concentration": "Concentration",
    "MineSweeper": "MineSweeper",
    "CartPole": "PositionOnlyCartPole",
}


def game(name: str, level: str) -> Row:
    """A game of POPGym's, 1 024 of ours beside one of popgym's."""
    world = f"{GAMES[name]}{level.capitalize()}"
    ours = {"env": f"{name}-v0", "level": level, "count": 1024, "steps": 200}
    return Row(
        f"popgym-{name}-{level}", f"{name}, {level}, uniform play", "game", "popgym_games", ours=ours,
        theirs={"world": world, "steps": 10_000}, small={"count": 8, "steps": 20}, note="popgym: one core",
    )  # fmt: skip


def wide(width: int, heads: int) -> Row:
    """A training step in bfloat16 beside compiled PyTorch with its fused kernels."""
    ours = {"length": 1023, "heads": heads, "batch": 64, "width": width, "layers": 8, "matmuls": "bfloat16"}
    small = {"length": 15, "batch": 4, "width": 16, "layers": 1, "heads": 2}
    what = f"DPT training step in bfloat16, width {width}, 8 layers, {heads} heads, T = 1 024, batch 64"
    theirs = {"compiled": True, "autocast": True}
    return Row(f"train-width-{width}", what, "bandits", "torch_transformer", {}, ours, theirs, small, limit=120)


def projected(experiment: str, **changes: Any) -> Row:
    """How long the steps of a preset ``paper`` take, without what makes their data."""
    ours, small = {"experiment": experiment, "batch_size": None, **changes}, {"batch_size": 4}
    return Row(
        f"paper-{experiment}",
        f"training steps of {experiment} --preset paper",
        "preset",
        ours=ours,
        small=small,
        limit=60,
    )


WIDE_LAYER = {"width": 64, "batch": 64, "length": 1024}
GPU = (
    Row("product", "a square product of bfloat16, 8 192", "product", ours={"size": 8192}, small={"size": 64}, limit=60),
    *(wide(width, heads) for width, heads in ((64, 4), (256, 4), (512, 8), (1024, 8))),
    Row("seeds-5", "training steps of five seeds in one program, over those of one, width 32", "seeds", "ours",
        {"length": 500, "heads": 4}, {"count": 5}, {"count": 1}, {"length": 15}, limit=90),
    Row("evaluation-10000", "DPT's model in context, 10 000 tasks, 500 steps", "evaluation",
        ours={"count": 10_000, "steps": 500, "heads": 4}, small=FEW, limit=90),
    Row("bandits-million", "a million Bernoulli bandits, 25 pulls of Thompson sampling", "agent",
        ours={"env": "BernoulliBandit-v0", "agent": "thompson-bernoulli", "num_arms": 2, "horizon": 25, "count": 10**6,
              "steps": 25}, small=FEW, limit=60),
    Row("ucb-vi-4096", "UCB-VI in 4 096 Dark Rooms of 9 x 9 cells, H = 20, 50 episodes", "agent",
        ours={**UCBVI, "count": 4096}, small=FEW_UCBVI, limit=60),
    *(
        Row(f"layer-wide-{model}", f"{model}, forward and backward, width 64, batch 64, T = 1 024", "layer", "flax_gru",
            WIDE_LAYER, {"model": model}, small=SHORT_LAYER, limit=60)
        for model in ("s5", "mamba2", "gated-deltanet")
    ),
    *(projected(name) for name in ("dpt-bandit", "dpt-linear-bandit", "dpt-darkroom", "ad-darkroom", "lhf-darkroom")),
    *(projected(name, vary=[]) for name in ("tadm-bernoulli", "tadm-linear")),
)  # fmt: skip
POPGYM = tuple(game(name, level) for name in GAMES for level in LEVELS)
SETS = {"cpu": (*CPU, game("RepeatPrevious", "medium"), game("Autoencode", "hard")), "gpu": GPU, "popgym": POPGYM}
