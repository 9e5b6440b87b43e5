"""Variants as models: size, memory, loss above the exact posterior's, and speed here, all in turns on one machine."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from icrl.core.model_types import Supervised
from icrl.core.registry import agents
from icrl.core.types import Array
from icrl.evaluation.offline import ideal_cross_entropy, model_cross_entropy
from icrl.evaluation.statistics import interval
from icrl.models._sizes import size_of
from icrl.models._token_policy import Policy
from icrl.recipes.checks import Measured
from icrl.recipes.data import RunData
from icrl.recipes.held_out import Groups
from icrl.recipes.recipe import Recipe
from icrl.recipes.run import Run
from icrl.training.step import initial_state, train_step

ACTING = 64  # tasks side by side when acting is timed
TIMINGS = {"smoke": 1, "cpu": 5, "paper": 5}  # turns in which every model's speed is measured; the median counts


def table_of_models(recipe: Recipe, run: Run, groups: Groups, measured: Measured) -> dict[str, Any]:
    """A row for each variant, least regret first."""
    finals = {name: measured[name]["regret"][..., -1] for name in groups}
    exact = measured.get(recipe.env.spec.exact_sampler, {}).get("regret")
    ideal = 0.0 if exact is None else float(exact[0, :, -1].mean())
    excess, speeds = _excess_loss(run, groups), _speeds(run, groups)
    rows = []
    for name in sorted(groups, key=lambda name: float(finals[name].mean())):
        variant, policies = groups[name]
        capacity = variant.layout.num_tokens(variant.context_steps)
        size = size_of(variant.model, variant.backbone, capacity)
        loss = interval(excess[name]).band() if name in excess else "-"
        ratio = float(finals[name].mean() / ideal) if ideal else "-"
        lost = interval(finals[name]).band()
        rows.append([variant.model, policies[0].num_parameters, size.state_bytes, loss, lost, ratio, *speeds[name]])
    steps = recipe.eval_steps
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
        "contexts; / exact: regret over that of exact posterior sampling. Bytes of one context's state, a "
        f"transformer's cache full. Speed: median of {TIMINGS[run.preset]} turns of all "
        f"models; training in batches of {recipe.fit.batch_size} contexts, acting for {ACTING} tasks side by side, "
        f"one token at a time up to {steps}.",
    }


def _excess_loss(run: Run, groups: Groups) -> dict[str, np.ndarray]:
    """Cross-entropy above the exact posterior's on the same contexts, mean over prefixes, [S, N] of each variant.

    Of bandits whose exact posterior is known and of models that predict optimal actions; no variant else.
    """
    found = {}
    for name, (variant, policies) in groups.items():
        spec = variant.env.spec
        if not (spec.is_stationary_bandit and spec.exact_sampler and variant.needs_labels):
            continue
        exact: Any = agents[spec.exact_sampler].for_env(variant.env)
        if not hasattr(exact, "optimal_action_probs"):
            continue
        contexts = RunData(run.folder, run.seed).held_out(variant)
        ideal = ideal_cross_entropy(exact, contexts, np.arange(variant.context_steps + 1)).mean(-1)
        entropies = [model_cross_entropy(variant.objective(), policy, contexts).mean(-1) for policy in policies]
        found[name] = np.stack(entropies) - ideal
    return found


def _speeds(run: Run, groups: Groups) -> dict[str, tuple[float, float]]:
    """Tokens a second in training and steps a second in acting, all models in turns."""
    first, of_run = next(iter(groups.values()))[0], RunData(run.folder, run.seed)
    batch, objective = of_run.batches(first, 0)(0), first.objective()
    assert isinstance(objective, Supervised)
    tokens = objective.inputs(of_run.held_out(first))[:ACTING]
    length, key = tokens.shape[1], jax.random.key(0)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in groups}
    for turn in range(TIMINGS[run.preset] + 1):
        for name, (variant, (policy, *_)) in groups.items():
            state = initial_state(variant.fit, policy)
            train = functools.partial(train_step, variant.fit, objective, policy.structure, state, batch, key)
            seconds = _seconds(train), _seconds(functools.partial(_read, policy, tokens))
            if turn:  # the first one compiles
                taken[name].append(seconds)
    medians = {name: [statistics.median(each) for each in zip(*turns, strict=True)] for name, turns in taken.items()}
    amounts = first.fit.batch_size * length, tokens.shape[0] * length
    return {name: (amounts[0] / train, amounts[1] / act) for name, (train, act) in medians.items()}


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


@jax.jit
def _read(policy: Policy, tokens: Array) -> Array:
    """Logits [N, T, K] of tokens [N, T, D], read one at a time as in acting."""

    def step(carry: Any, token: Array) -> tuple[Any, Array]:
        logits, carry = policy(token[None], None, carry)
        return carry, logits[0]

    return jax.vmap(lambda row: jax.lax.scan(step, policy.initial_carry(), row)[1])(tokens)
