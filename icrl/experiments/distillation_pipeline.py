"""What the algorithm-distillation experiments share: collect histories, filter, distil, let the models live, report.

An experiment is a subclass of ``DistillationExperiment`` with presets. Every combination of a kind of data ("clean",
"noisy") and a filter is one variant; each variant is trained with each training seed, all of them live through the
same episodes of the same held-out tasks. Model m of a run is variant m // S with training seed m % S.
"""

import dataclasses
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from icrl.agents.rolling_context import RollingContextAgent
from icrl.artifacts import make_folder
from icrl.config import check_following, flat, follows
from icrl.datasets.histories import HistoryGenerator, Part, StoredHistories, store_histories
from icrl.datasets.pooled import PooledHistories, kept_steps
from icrl.datasets.windows import Windows, WindowSource
from icrl.envs.splits import shuffled_split
from icrl.envs.streams import Streams
from icrl.errors import require, require_float, require_int
from icrl.evaluation import online_returns
from icrl.experiments.pretraining import PretrainingExperiment, untrained_policy
from icrl.filters.selection import provenance_of, save_selection
from icrl.filters.table import HistoryTable
from icrl.learning_curves import trailing_mean
from icrl.models.token_policy import FrozenPolicy
from icrl.models.transformer import TransformerConfig
from icrl.objectives.ad import AD
from icrl.registry import agents, filters, layouts, models
from icrl.runs import Run
from icrl.statistics import Interval, interval, ratio_interval
from icrl.tasks import TaskSet
from icrl.training import FitSettings
from icrl.types import Agent, Environment, Layout, ModelConfig

VALIDATION_WINDOWS = 128
DEVICE_BYTES = 2**30  # of histories in compact dtypes: a larger set stays on disk, its windows are read from there
CONDITIONS = ("clean", "noisy")
SMOOTHED = 20  # episodes of the trailing mean behind the numbers of Chen et al. 2025


# Transformer and optimiser of Son et al. 2025 and Chen et al. 2025 on grids, for the presets "paper". Not theirs: the
# initial weights, and no dropout.
PAPER: dict[str, Any] = {
    "backbone": TransformerConfig(
        width=32, num_layers=4, num_heads=4, norm="rms", positions="rotary", mlp="swiglu", final_norm=False
    ),
    "fit": FitSettings(
        train_steps=50_000,
        batch_size=512,
        learning_rate=1e-2,
        warmup_steps=0,
        weight_decay=0.01,
        log_every=500,
        save_every=5000,
    ),
    "train_seeds": 5,
}


@dataclasses.dataclass(frozen=True)
class DistillationSettings:
    """All settings of a distillation experiment."""

    env: Environment
    backbone: ModelConfig = dataclasses.field(metadata=follows("model", models))
    fit: FitSettings
    model: str = "transformer"  # registered sequence model
    layout: str = "pairs"  # registered layout: how a step becomes tokens
    source: str = "ppo"  # agent whose lives are distilled
    streams: bool = True  # histories of a task are parallel streams of one learner, not independent learners
    histories: int = 100  # histories of each training task
    history_steps: int = 1000  # transitions in a history
    noisy_fraction: float = 0.3  # of a task's histories that are a uniform player's, in the noisy data
    data: str = ""  # folder of the source's histories (icrl collect); empty: collect them in the output folder
    conditions: tuple[str, ...] = ("clean",)  # kinds of data compared: clean, noisy
    filters: tuple[str, ...] = ("keep-all",)  # filters compared
    keep_every: int = 1  # of every so many episodes of a history the first is kept
    window: int = 80  # transitions in a training window and in the context
    label_smoothing: float = 0.0  # of the source's actions
    mask_prob: float = 0.0  # of an input token in training
    train_fraction: float = 0.9  # of the family's tasks
    split_seed: int = 0  # which tasks those are
    train_tasks: int | None = None  # at most so many of them; none: all
    eval_tasks: int | None = None  # at most so many of the held-out tasks; none: all
    train_seeds: int = 1  # independently trained models of each variant
    eval_episodes: int = 50  # episodes lived in each held-out task
    eval_lives: int = 25  # lives in each held-out task
    competitors: tuple[str, ...] = ()  # agents that learn the same tasks from scratch

    def __post_init__(self) -> None:
        check_following(self)
        layouts.entry(self.layout)
        for name in (self.source, *self.competitors):
            agents.entry(name)
        require_int("histories", self.histories, 1, 2**20)
        require_int("history_steps", self.history_steps, 1, 2**24)
        require_float("noisy_fraction", self.noisy_fraction, 0.0, 1.0)
        for field, known in (("conditions", CONDITIONS), ("filters", tuple(filters))):
            names = getattr(self, field)
            distinct = len(names) > 0 and len(set(names)) == len(names) and set(names) <= set(known)
            require(distinct, field, ",".join(names), f"different ones of {', '.join(known)}")
        require_int("keep_every", self.keep_every, 1, 2**20)
        require_int("window", self.window, 2, 2**16)
        require(self.window <= self.kept_steps, "window", self.window, f"at most the {self.kept_steps} steps kept")
        for name in ("train_tasks", "eval_tasks"):
            if getattr(self, name) is not None:
                require_int(name, getattr(self, name), 1 if name == "train_tasks" else 2, 2**31 - 1)
        require_int("train_seeds", self.train_seeds, 1, 1000)
        require_int("eval_episodes", self.eval_episodes, 1, 2**20)
        require_int("eval_lives", self.eval_lives, 1, 2**20)
        reads_each = self.objective().layout.num_before > 0
        require(
            reads_each, "layout", self.layout, "a layout that reads the observation of every step: pairs, interleaved"
        )
        held_out = len(self.task_ids[1])
        require(held_out >= 2, "train_fraction", self.train_fraction, "a fraction that holds out at least two tasks")

    @property
    def episode(self) -> int:
        """H, steps in an episode."""
        return self.env.spec.max_steps_in_episode

    @property
    def kept_steps(self) -> int:
        """Transitions of a history that training sees."""
        return len(kept_steps(self.history_steps, self.episode, self.keep_every))

    @property
    def forget(self) -> int:
        """Transitions that leave a full context: an episode if it holds several, else one."""
        return self.episode if self.window > self.episode and self.window % self.episode == 0 else 1

    @property
    def task_ids(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Training tasks and held-out tasks."""
        count = getattr(self.env, "num_tasks", None)
        require(count is not None, "env", self.env.name, "a family that numbers its tasks")
        train, held_out = shuffled_split(count, self.train_fraction, self.split_seed)  # type: ignore[arg-type]
        return train[: self.train_tasks], held_out[: self.eval_tasks]

    @property
    def variants(self) -> list[tuple[str, str]]:
        """(kind of data, filter) of every variant, in order."""
        return list(product(self.conditions, self.filters))

    def new_layout(self) -> Layout:
        """The layout for this environment."""
        return layouts[self.layout](self.env.spec)

    def objective(self) -> AD:
        """The objective with its layout."""
        return AD(self.new_layout(), self.label_smoothing, self.mask_prob)

    def new_policy(self, seed: int, train_seed: int) -> FrozenPolicy:
        """An untrained network; models of the same training seed begin alike, whatever their data."""
        layout = self.new_layout()
        return untrained_policy(self, layout, layout.num_tokens(self.window), seed, train_seed)

    def agent(self, policy: FrozenPolicy) -> RollingContextAgent:
        """The distilled policy as an agent of the family's environments."""
        query = self.env.reset(jax.random.key(0))[0]
        return RollingContextAgent(
            policy=policy, query=query, layout=self.new_layout(), max_steps=self.window, forget=self.forget
        )


class DistillationExperiment(PretrainingExperiment[DistillationSettings]):
    """Base of the distillation recipes; what differs between them is a class attribute."""

    @classmethod
    def num_models(cls, settings: DistillationSettings) -> int:
        """One of each variant for each training seed."""
        return len(settings.variants) * settings.train_seeds

    @classmethod
    def validate(cls, settings: DistillationSettings, seed: int) -> None:
        """Raise ``InputError`` for an agent that does not fit the environment."""
        del seed
        _source(settings)
        for name in settings.competitors:
            agents[name].for_env(settings.env)
        if settings.data:
            _stored(settings)

    @classmethod
    def collect(cls, settings: DistillationSettings, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the histories of the first ``num_tasks`` training tasks."""
        require_int("num-tasks", num_tasks, 1, len(settings.task_ids[0]))
        _store(settings, seed, folder, _source(settings), num_tasks)

    @classmethod
    def pretrain(cls, settings: DistillationSettings, run: Run) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """Collect the histories, and distil every variant."""
        started = time.monotonic()
        histories = _collected(settings, run)
        unions = {data: _union(settings, histories, data) for data in settings.conditions}
        digest = "+".join(histories[part].digest for part in sorted(histories))
        collected, policies = time.monotonic(), []
        for model in range(cls.num_models(settings)):
            batches = _windows(settings, run, unions, digest, model)
            held_out = dataclasses.replace(batches, batch_size=VALIDATION_WINDOWS, seed=(*batches.seed[:2], 2))(0)
            policies.append(cls._fit(settings, run, model, batches, held_out))
        return policies, {"collection": collected - started, "training": time.monotonic() - collected}

    @classmethod
    def evaluate(cls, settings: DistillationSettings, run: Run, policies: list[FrozenPolicy]) -> dict[str, Any]:
        """Section ``episodes`` and the checks."""
        returns = _evaluate(settings, run.seed, policies)
        curves = {name: _curve(settings, name, interval(values)) for name, values in returns.items()}
        curves |= _source_lines(settings, _source_histories(settings, run))
        return {
            "claim": _claim(settings, returns),
            "num_tasks": len(settings.task_ids[1]),
            "num_steps": settings.eval_episodes * settings.episode,
            "episodes": {"episode": list(range(1, settings.eval_episodes + 1)), "agents": curves},
            "checks": _checks(settings, returns) if run.preset != "smoke" else [],
        }


def _windows(
    settings: DistillationSettings,
    run: Run,
    unions: dict[str, tuple[HistoryTable, WindowSource]],
    digest: str,
    model: int,
) -> Windows:
    """What ``model`` is trained on; which histories those are is written down."""
    variant, train_seed = divmod(model, settings.train_seeds)
    data, name = settings.variants[variant]
    (table, source), rule = unions[data], filters[name]()
    chosen = rule.select(table, np.random.default_rng([run.seed, train_seed, 0]))
    path = run.folder / "data" / f"selection-{data}-{name}-{train_seed}.json"
    make_folder(path.parent)
    save_selection(path, chosen, provenance_of(name, rule, table, run.seed, digest))
    stride = settings.episode if settings.forget == settings.episode else 1
    draws = (run.seed, train_seed, 1)
    first = -(-chosen.first_episode // settings.keep_every) * settings.episode
    return Windows(source, chosen.index, settings.window, settings.fit.batch_size, draws, stride, first)


def _source(settings: DistillationSettings) -> Part:
    env = Streams(settings.env, settings.histories) if settings.streams else settings.env
    agent = agents[settings.source].for_env(env)
    able = not settings.streams or hasattr(agent, "num_streams")
    require(able, "source", settings.source, "one that learns in parallel streams: ppo, a2c", "or set --streams false")
    return Part(agent, settings.histories, settings.streams)


def _num_random(settings: DistillationSettings) -> int:
    """Histories of each task that are a uniform player's in the noisy data."""
    return round(settings.noisy_fraction * settings.histories)


def _collected(settings: DistillationSettings, run: Run) -> dict[str, StoredHistories]:
    """The data sets of the run, collected as far as they are not there yet."""
    num_tasks, parts = len(settings.task_ids[0]), {"source": _source(settings)}
    if "noisy" in settings.conditions and _num_random(settings):
        parts["random"] = Part(agents["uniform"].for_env(settings.env), _num_random(settings))
    found = {"source": _stored(settings)} if settings.data else {}
    for name in parts.keys() - found.keys():
        _store(settings, run.seed, run.folder / "data" / name, parts[name], num_tasks)
    return {name: StoredHistories(run.folder / "data" / name) for name in parts.keys() - found.keys()} | found


def _source_histories(settings: DistillationSettings, run: Run) -> StoredHistories:
    """The source's histories of a run that has been collected."""
    return StoredHistories(settings.data or run.folder / "data" / "source", verify=False)


def _stored(settings: DistillationSettings) -> StoredHistories:
    """The histories that the settings name; those of another seed are data of the same kind."""
    stored, ids = StoredHistories(settings.data), np.asarray(settings.task_ids[0])
    expected = {**_card(settings, _source(settings)), "num_steps": settings.history_steps, "task_ids": ids.tolist()}
    wrong = sorted(name for name, value in json.loads(json.dumps(expected)).items() if stored.card.get(name) != value)
    require(not wrong, "data", settings.data, f"histories of this experiment; {', '.join(wrong)} differ")
    return stored


def _card(settings: DistillationSettings, part: Part) -> dict[str, Any]:
    """What made a set of histories, but for the seed."""
    env = {"id": settings.env.name, **flat(settings.env)}
    made_by = {"source": type(part.source).__name__, "streams": part.shared, "histories": part.num_histories}
    return {"env": env, **made_by}


def _store(settings: DistillationSettings, seed: int, folder: Path, part: Part, num_tasks: int) -> None:
    ids, card = np.asarray(settings.task_ids[0][:num_tasks]), {**_card(settings, part), "seed": seed}
    store_histories(folder, HistoryGenerator(settings.env, (part,), settings.history_steps, ids, seed), card)


def _union(
    settings: DistillationSettings, histories: dict[str, StoredHistories], data: str
) -> tuple[HistoryTable, WindowSource]:
    """Returns and transitions of one kind of data; in the noisy one random players replace the last of each task."""
    num_random = _num_random(settings) if data == "noisy" else 0
    counts = {"source": settings.histories - num_random, "random": num_random}
    parts = tuple((histories[name], count) for name, count in counts.items() if count)
    pooled = PooledHistories(parts, settings.keep_every)
    return pooled.table(), pooled.on_device() if pooled.nbytes <= DEVICE_BYTES else pooled


def _evaluate(settings: DistillationSettings, seed: int, policies: list[FrozenPolicy]) -> dict[str, np.ndarray]:
    """Return of each episode [S, goals, E], means over the lives in a task; S = 1 for all but the models."""
    env, ids = settings.env, np.asarray(settings.task_ids[1])
    tasks = TaskSet.of(env, ids).lives(settings.eval_lives)

    def lived(agent: Agent, agent_seed: int, label: str) -> np.ndarray:
        returns = online_returns(env, tasks, agent, settings.eval_episodes, seed, agent_seed, label)
        return returns.reshape(len(ids), settings.eval_lives, -1).mean(1)

    found = {}
    for number, variant in enumerate(settings.variants):
        name = _variant_name(settings, *variant)
        each = policies[number * settings.train_seeds : (number + 1) * settings.train_seeds]
        found[name] = np.stack([lived(settings.agent(policy), s, f"{name}, seed {s}") for s, policy in enumerate(each)])
    for name in settings.competitors:
        found[name] = lived(agents[name].for_env(env), 0, name)[None]
    return found


def _variant_name(settings: DistillationSettings, data: str, rule: str) -> str:
    name = "AD" if rule == "keep-all" else f"AD + {rule}"
    return name if len(settings.conditions) == 1 else f"{name}, {data}"


def _curve(settings: DistillationSettings, name: str, measured: Interval) -> dict[str, Any]:
    models_of_run = {_variant_name(settings, *variant) for variant in settings.variants}
    kind = "model" if name in models_of_run else "ideal" if name == "oracle" else "baseline"
    label = {"oracle": "optimum"}.get(name, name)
    return {"kind": kind, "label": label, "interval": measured.method, "returns": measured.band()}


def _source_lines(settings: DistillationSettings, source: StoredHistories) -> dict[str, Any]:
    """The source on its own training tasks: at the same episode, and at the end of its histories."""
    returns = source.episode_returns().reshape(source.num_tasks, source.num_histories, -1).mean(1)
    count = settings.eval_episodes
    last = returns[:, -max(1, returns.shape[1] // 10) :].mean(1)
    lines = {f"{settings.source}, its last tenth": np.repeat(last[:, None], count, 1)}
    if returns.shape[1] >= count:
        lines[f"{settings.source}, same episode"] = returns[:, :count]
    return {name: _curve(settings, name, interval(values[None])) for name, values in lines.items()}


def _checks(settings: DistillationSettings, returns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Improvement in context of every variant, and the relative enhancement of every filter over keep-all."""
    rows = []
    for data, rule in settings.variants:
        name = _variant_name(settings, data, rule)
        curve, fifth = returns[name], max(1, settings.eval_episodes // 5)
        gain = interval(curve[..., -fifth:].mean(-1) - curve[..., :fifth].mean(-1))
        rows.append(_check(f"{name}: last fifth of episodes minus first fifth", gain))
        base = _variant_name(settings, data, "keep-all")
        if rule != "keep-all" and "keep-all" in settings.filters:
            raw = ratio_interval(curve.mean(-1), returns[base].mean(-1))
            smooth = ratio_interval(*(trailing_mean(returns[n], SMOOTHED).mean(-1) for n in (name, base)))
            rows.append(_check(f"E of {name}, raw", _minus_one(raw)))
            rows.append(_check(f"E of {name}, trailing mean of {SMOOTHED}", _minus_one(smooth)))
    return rows


def _minus_one(ratio: Interval) -> Interval:
    return Interval(ratio.mean - 1.0, ratio.low - 1.0, ratio.high - 1.0, ratio.method)


def _check(what: str, measured: Interval) -> dict[str, Any]:
    return {"what": what, "measured": measured.band(), "target": "> 0", "ok": bool(measured.mean > 0)}


def _claim(settings: DistillationSettings, returns: dict[str, np.ndarray]) -> str:
    name = _variant_name(settings, *settings.variants[-1])
    first, last = (returns[name][..., at].mean() for at in (0, -1))
    return (
        f"{name}: with frozen weights the return of an episode goes from {first:.2f} to {last:.2f} "
        f"within {settings.eval_episodes} episodes of unseen tasks."
    )
