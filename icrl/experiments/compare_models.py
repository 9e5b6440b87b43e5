"""All sequence models side by side: the same contexts, the same budget, as many parameters, several training seeds.

Each model learns DPT on Gaussian bandits from the very same batches (training seed s sees the same contexts whatever
the model), is frozen, and explores the same held-out bandits under the same noise. The report has its loss above the
exact posterior's, its regret, what it remembers in bytes and how fast it trains and acts here, one after the other in
turns on the same machine. It promises no order: the literature disagrees, and a budget of minutes favours models that
learn early.

Measured, preset cpu, seed 0 (2026-11-26, two CPU cores, 13 min 51 s beside a run of low priority): regret(50), five
seeds x 500 tasks, where exact posterior sampling loses 2.73 and uniform play 12.3: sLSTM 3.45 [3.11, 3.79], GRU 3.68
[3.49, 3.86], Gated DeltaNet 4.07, DeltaNet 4.15, Mamba 4.31, Mamba-2 4.38, LSTM 4.70, hybrid 4.89, S4D 5.21, LRU
5.34, mLSTM 5.69, transformer 6.12 [4.36, 7.88], S5 6.26, linear attention 7.50 [6.23, 8.77]. It is the order after
300 steps: with 6 500 of them (``dpt-bandit``) the transformer is within 8 % of the exact sampler.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from icrl.core.errors import require_int
from icrl.core.registry import agents, experiments, models
from icrl.core.settings import replaced
from icrl.core.tasks import TaskSet
from icrl.core.types import Array
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.evaluation.offline import ideal_cross_entropy, model_cross_entropy
from icrl.evaluation.statistics import interval, ratio_interval
from icrl.models._sizes import matched, size_of
from icrl.models._token_policy import FrozenPolicy
from icrl.models.transformer import TransformerConfig
from icrl.recipes.dpt_pipeline import (
    DPTExperiment,
    DPTSettings,
    held_out_contexts,
    online_section,
    regrets_of,
    training_batches,
)
from icrl.recipes.run import Run
from icrl.training.step import FitSettings, initial_state, train_step

SHARED: dict[str, Any] = {"competitors": ("posterior-gaussian", "uniform"), "ideal": "posterior-gaussian"}
ACTING = 64  # tasks side by side when acting is timed
TOLERANCE = 0.06  # of the parameters: some models have no setting that is finer than the width


@dataclasses.dataclass(frozen=True)
class CompareSettings(DPTSettings):
    """DPT's settings; every model takes from ``backbone`` what it shares with it, but for its sizes."""

    compared: tuple[str, ...] = ()  # registered models; none: all of them
    parameters: int = 12_000  # of every model, embedding and head included, within 6 %
    timings: int = 5  # turns in which every model's speed is measured; the median counts

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.compared:
            models.entry(name)
        require_int("parameters", self.parameters, 1, 2**40)
        require_int("timings", self.timings, 1, 1000)

    @property
    def names(self) -> tuple[str, ...]:
        """The models compared."""
        return self.compared or tuple(models)

    def of_model(self, name: str) -> DPTSettings:
        """The settings with ``name`` as the model, of the wanted size."""
        return _of_model(self, name)


@functools.lru_cache(maxsize=256)
def _of_model(settings: CompareSettings, name: str) -> DPTSettings:
    chosen = replaced(settings, {"model": name})
    layout = settings.objective().layout
    tokens, actions = layout.num_tokens(settings.context_steps), settings.env.num_actions
    outside = layout.token_dim + 1 + actions  # parameters of embedding and head for each feature
    wanted = settings.parameters - actions
    backbone = matched(name, wanted, chosen.backbone, tokens, outside, TOLERANCE)
    return dataclasses.replace(chosen, backbone=backbone)


@experiments.register("compare-models", paper="-")
class CompareModels(DPTExperiment):
    """Every registered sequence model on DPT. Model m of a run is model m // S with training seed m % S."""

    title = "Sequence models side by side on Gaussian bandits"
    presets = {
        "smoke": CompareSettings(
            **SHARED,
            env=GaussianBandit(num_arms=3, horizon=20),
            backbone=TransformerConfig(width=8, num_layers=1, num_heads=1, positions="none", init_std=0.2),
            fit=FitSettings(
                train_steps=20, batch_size=16, learning_rate=3e-3, warmup_steps=5, log_every=10, save_every=20
            ),
            compared=("gru", "transformer"),
            parameters=1500,
            train_seeds=2,
            eval_tasks=20,
            timings=1,
        ),
        "cpu": CompareSettings(
            **SHARED,
            env=GaussianBandit(num_arms=3, horizon=50),
            backbone=TransformerConfig(width=32, num_layers=2, num_heads=1, positions="none", init_std=0.2),
            fit=FitSettings(
                train_steps=300, batch_size=32, learning_rate=1e-2, warmup_steps=50, log_every=50, save_every=300
            ),
            train_seeds=5,
            eval_tasks=500,
        ),
        "paper": CompareSettings(
            **SHARED,
            env=GaussianBandit(horizon=500),
            backbone=TransformerConfig(width=64, num_layers=4, num_heads=4, positions="none", init_std=0.2),
            fit=FitSettings(train_steps=100_000, batch_size=64, log_every=500, save_every=5000),
            parameters=200_000,
            train_seeds=5,
            eval_tasks=4000,
        ),
    }

    @classmethod
    def validate(cls, settings: CompareSettings, seed: int) -> None:  # type: ignore[override]
        """Raise ``InputError`` for a model that cannot have the wanted size, or what ``DPTExperiment`` refuses."""
        super().validate(settings, seed)
        for name in settings.names:
            settings.of_model(name)

    @classmethod
    def kinds(cls, settings: CompareSettings) -> list[str]:  # type: ignore[override]
        return list(settings.names)

    @classmethod
    def _untrained(cls, settings: CompareSettings, run: Run, model: int) -> FrozenPolicy:  # type: ignore[override]
        number, train_seed = divmod(model, settings.train_seeds)
        return settings.of_model(settings.names[number]).new_policy(run.seed, train_seed)

    @classmethod
    def pretrain(  # type: ignore[override]
        cls, settings: CompareSettings, run: Run
    ) -> tuple[list[FrozenPolicy], dict[str, float]]:
        """One policy per model and training seed, each training seed with the same contexts for all models."""
        started, policies = time.monotonic(), []
        held_out = cls.held_out(settings, run)
        for model in range(cls.num_models(settings)):
            batches = training_batches(settings, run.seed, model % settings.train_seeds)
            policies.append(cls._fit(settings, run, model, batches, held_out))
        return policies, {"training": time.monotonic() - started}

    @classmethod
    def evaluate(  # type: ignore[override]
        cls, settings: CompareSettings, run: Run, policies: list[FrozenPolicy]
    ) -> dict[str, Any]:
        """Section ``online`` and the table; nothing is promised, so nothing is checked."""
        count = settings.train_seeds
        groups = {name: policies[i * count : (i + 1) * count] for i, name in enumerate(settings.names)}
        players = {name: [settings.agent(policy) for policy in group] for name, group in groups.items()}
        tasks = TaskSet.draw(settings.env, run.seed, "test", settings.eval_tasks)
        regrets = regrets_of(settings.env, tasks, players, settings.competitors, settings.context_steps, run.seed)
        online = online_section(regrets, {name: name for name in groups}, settings.ideal)
        finals = {name: regrets[name][..., -1] for name in groups}
        return {
            "claim": _claim(settings, finals, regrets[settings.ideal]),
            "num_tasks": settings.eval_tasks,
            "num_steps": settings.context_steps,
            "online": online,
            "tables": [_table(settings, run.seed, groups, finals, regrets[settings.ideal][..., -1])],
            "checks": [],
        }


def _table(
    settings: CompareSettings,
    seed: int,
    groups: dict[str, list[FrozenPolicy]],
    finals: dict[str, np.ndarray],
    ideal: np.ndarray,
) -> dict[str, Any]:
    """A row for each model, least regret first."""
    excess, speeds = _excess_loss(settings, seed, groups), _speeds(settings, seed, groups)
    capacity = settings.objective().layout.num_tokens(settings.context_steps)
    rows = []
    for name in sorted(groups, key=lambda name: float(finals[name].mean())):
        size = size_of(name, settings.of_model(name).backbone, capacity)
        ratio = float(ratio_interval(finals[name], ideal[0]).mean)
        measured = [interval(values).band() for values in (excess[name], finals[name])]
        rows.append([name, groups[name][0].num_parameters, size.state_bytes, *measured, ratio, *speeds[name]])
    steps = settings.context_steps
    return {
        "title": "Model by model, least regret first",
        "columns": [
            "model",
            "parameters",
            "bytes",
            "excess loss",
            f"regret({steps})",
            "/ exact",
            "train tokens/s",
            "act steps/s",
        ],
        "rows": rows,
        "note": "Excess loss: cross-entropy above the exact posterior's in nats, mean over the prefixes of held-out "
        f"contexts; / exact: regret over that of exact posterior sampling. Bytes of one context's state, a "
        f"transformer's cache full. Speed: median of {settings.timings} turns of all "
        f"models; training in batches of {settings.fit.batch_size} contexts, acting for {ACTING} tasks side by side, "
        f"one token at a time up to {steps}.",
    }


def _excess_loss(settings: CompareSettings, seed: int, groups: dict[str, list[FrozenPolicy]]) -> dict[str, np.ndarray]:
    """Cross-entropy above the exact posterior's on the same contexts, mean over prefixes, [S, N] of each model."""
    contexts, objective = held_out_contexts(settings, seed), settings.objective()
    exact = agents[settings.ideal].for_env(settings.env)
    ideal = ideal_cross_entropy(exact, contexts, np.arange(settings.context_steps + 1)).mean(-1)
    return {
        name: np.stack([model_cross_entropy(objective, policy, contexts).mean(-1) - ideal for policy in policies])
        for name, policies in groups.items()
    }


def _speeds(
    settings: CompareSettings, seed: int, groups: dict[str, list[FrozenPolicy]]
) -> dict[str, tuple[float, float]]:
    """Tokens a second in training and steps a second in acting, all models in turns."""
    batch, objective = training_batches(settings, seed, 0)(0), settings.objective()
    tokens = objective.inputs(held_out_contexts(settings, seed))[:ACTING]
    length, key = tokens.shape[1], jax.random.key(0)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in groups}
    for turn in range(settings.timings + 1):
        for name, (policy, *_) in groups.items():
            state = initial_state(settings.fit, policy)
            train = functools.partial(train_step, settings.fit, objective, policy.structure, state, batch, key)
            seconds = _seconds(train), _seconds(functools.partial(_read, policy, tokens))
            if turn:  # the first one compiles
                taken[name].append(seconds)
    medians = {name: [statistics.median(each) for each in zip(*turns, strict=True)] for name, turns in taken.items()}
    amounts = settings.fit.batch_size * length, tokens.shape[0] * length
    return {name: (amounts[0] / train, amounts[1] / act) for name, (train, act) in medians.items()}


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


@jax.jit
def _read(policy: FrozenPolicy, tokens: Array) -> Array:
    """Logits [N, T, K] of tokens [N, T, D], read one at a time as in acting."""

    def step(carry: Any, token: Array) -> tuple[Any, Array]:
        logits, carry = policy(token[None], None, carry)
        return carry, logits[0]

    return jax.vmap(lambda row: jax.lax.scan(step, policy.initial_carry(), row)[1])(tokens)


def _claim(settings: CompareSettings, finals: dict[str, np.ndarray], ideal: np.ndarray) -> str:
    mean = {name: float(values.mean()) for name, values in finals.items()}
    best, worst = min(mean, key=lambda name: mean[name]), max(mean, key=lambda name: mean[name])
    span = f"{mean[best]:.2f} ({best}) to {mean[worst]:.2f} ({worst})"
    return (
        f"{len(mean)} models of about {settings.parameters:,} parameters, {settings.fit.train_steps:,} steps on "
        f"the same contexts: regret({settings.context_steps}) from {span}, exact posterior sampling "
        f"{float(ideal[..., -1].mean()):.2f}; {settings.train_seeds} training seeds each."
    )
