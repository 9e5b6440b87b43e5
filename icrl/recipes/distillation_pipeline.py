"""What the algorithm-distillation experiments share: collect histories, filter, distil, let the models live, report.

An experiment is a subclass of ``DistillationExperiment`` with presets. Every combination of a kind of data ("clean",
"noisy") and a filter is one variant; each variant is trained with each training seed, all of them live through the
same episodes of the same held-out tasks. Model m of a run is variant m // S with training seed m % S.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from icrl.core.errors import require_int
from icrl.core.registry import agents
from icrl.core.tasks import TaskSet
from icrl.core.types import Agent, History
from icrl.datasets.histories import StoredHistories
from icrl.datasets.windows import Windows, WindowSource
from icrl.evaluation.learning_curves import trailing_mean
from icrl.evaluation.online import online_returns
from icrl.evaluation.statistics import Interval, interval, ratio_interval
from icrl.filters._table import HistoryTable
from icrl.models._token_policy import FrozenPolicy
from icrl.recipes.distillation_data import (
    collected_histories,
    source_histories,
    source_part,
    store_part,
    stored_histories,
    union_of,
    windows_of,
)
from icrl.recipes.distillation_settings import DistillationSettings
from icrl.recipes.pretraining import PretrainingExperiment
from icrl.recipes.run import Run

VALIDATION_WINDOWS = 128
SMOOTHED = 20  # episodes of the trailing mean behind the numbers of Chen et al. 2025


class DistillationExperiment(PretrainingExperiment[DistillationSettings]):
    """Base of the distillation recipes; what differs between them is a class attribute."""

    @classmethod
    def kinds(cls, settings: DistillationSettings) -> list[str]:
        return [_variant_name(settings, *variant) for variant in settings.variants]

    @classmethod
    def validate(cls, settings: DistillationSettings, seed: int) -> None:
        """Raise ``InputError`` for an agent that does not fit the environment."""
        del seed
        source_part(settings)
        for name in settings.competitors:
            agents[name].for_env(settings.env)
        if settings.data:
            stored_histories(settings)

    @classmethod
    def collect(cls, settings: DistillationSettings, seed: int, folder: Path, num_tasks: int) -> None:
        """Store the histories of the first ``num_tasks`` training tasks."""
        require_int("num-tasks", num_tasks, 1, len(settings.task_ids[0]))
        store_part(settings, seed, folder, source_part(settings), num_tasks)

    @classmethod
    def held_out(cls, settings: DistillationSettings, run: Run) -> History:
        """The validation windows of the first model."""
        return _validation(windows_of(settings, run, *_prepared(settings, run), 0))

    @classmethod
    def pretrain(cls, settings: DistillationSettings, run: Run) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """Collect the histories, and distil every variant."""
        started = time.monotonic()
        unions, digest = _prepared(settings, run)
        collected, policies = time.monotonic(), []
        for model in range(cls.num_models(settings)):
            batches = windows_of(settings, run, unions, digest, model)
            policies.append(cls._fit(settings, run, model, batches, _validation(batches)))
        return policies, {"collection": collected - started, "training": time.monotonic() - collected}

    @classmethod
    def evaluate(cls, settings: DistillationSettings, run: Run, policies: list[FrozenPolicy]) -> dict[str, Any]:
        """Section ``episodes`` and the checks."""
        returns = _evaluate(settings, run.seed, policies)
        curves = {name: _curve(settings, name, interval(values)) for name, values in returns.items()}
        curves |= _source_lines(settings, source_histories(settings, run))
        return {
            "claim": _claim(settings, returns),
            "num_tasks": len(settings.task_ids[1]),
            "num_steps": settings.eval_episodes * settings.episode,
            "episodes": {"episode": list(range(1, settings.eval_episodes + 1)), "agents": curves},
            "checks": _checks(settings, returns) if run.preset != "smoke" else [],
        }


def _prepared(settings: DistillationSettings, run: Run) -> tuple[dict[str, tuple[HistoryTable, WindowSource]], str]:
    """Returns and transitions of each kind of data, and a digest of all of it; collected if they are not there yet."""
    histories = collected_histories(settings, run)
    unions = {data: union_of(settings, histories, data) for data in settings.conditions}
    return unions, "+".join(histories[part].digest for part in sorted(histories))


def _validation(batches: Windows) -> History:
    """Windows [128, C, ...] of the training histories from a stream of their own, the same for every model."""
    return dataclasses.replace(batches, batch_size=VALIDATION_WINDOWS, seed=(*batches.seed[:2], 2), task=None)(0)


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
