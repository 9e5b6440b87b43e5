"""Mixture of experts in place of a feed-forward layer, T2MIR (Wu et al. 2025, arXiv 2506.05426).

Two branches side by side, each R^D -> R^(D/2), their outputs concatenated:

- token-wise: a router logit for each token's u, noisy in training (Shazeer et al. 2017), kept even by w_bal (CV^2 of
  importance + CV^2 of load);
- task-wise: routed by the task, that is by the mean of u over time ("hard") or by each token ("soft"), and taught to
  tell tasks apart by w_con InfoNCE between the router and a slow copy of it.

A branch is sum_e g_e f_e(u), f_e a two-layer MLP with leaky ReLU, g the softmax over the K largest of the router's
logits V tanh(U u). Nothing is dropped and no token or sequence meets another: either all experts are evaluated and
those with g = 0 weigh nothing (``dispatch`` dense), or for each token its K alone (sparse), which is the same sum.

Departures from the released code: the hard router's mean runs over the past alone (``task_mean`` "running"); theirs,
"whole", sees in training the tokens that follow and in play only those so far. The load estimator is Shazeer's, theirs
compares the wrong number. The slow router starts equal to the router. No dropout; biases start at 0.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.types import Array
from icrl.models.layers.auxiliary import AuxiliaryLayer, Slow
from icrl.models.layers.grouped import grouped_dot
from icrl.models.layers.recurrence import DiagonalRecurrence
from icrl.models.layers.routing import contrastive_loss, cv_squared, expected_load, top_gates

KINDS = ("none", "token", "task", "token-task")
ROUTINGS = ("hard", "soft")
MEANS = ("running", "whole")
DENSE, SPARSE, AUTO = "dense", "sparse", "auto"
DISPATCHES = (AUTO, DENSE, SPARSE)
FEW = 8  # E / K below which all experts are evaluated; the sparse form was faster from 2 to 8 on, by width and batch


@dataclasses.dataclass(frozen=True)
class MoEConfig(Checked):
    """Shape and losses of the mixtures."""

    moe: str = setting(
        "none",
        choices=KINDS,
        help="experts in place of the MLP: none, routed by token, by task, or one branch of each",
    )
    moe_layers: int = setting(1, low=1, high=256, help="how many of the last layers have them")
    token_experts: int = setting(6, low=1, high=1024, help="E, experts of the token-wise branch")
    task_experts: int = setting(8, low=1, high=1024, help="E, experts of the task-wise branch")
    top_experts: int = setting(2, low=1, high="fewest_experts", help="K, experts that serve a token in each branch")
    expert_ratio: int = setting(2, low=1, high=64, help="hidden width of an expert / width")
    task_routing: str = setting(
        "hard", choices=ROUTINGS, help="route by the mean over time (hard) or by each token (soft)"
    )
    task_mean: str = setting(
        "running",
        choices=MEANS,
        help="mean over the past (running, causal) or over the whole sequence (whole: leaks)",
    )
    dispatch: str = setting(
        AUTO,
        choices=DISPATCHES,
        help="evaluate all experts (dense), a token's own K (sparse), or what is faster (auto)",
    )
    balance_weight: float = setting(
        0.01, low=0.0, help="w_bal, weight of the token-wise branch's importance and load loss"
    )
    contrast_weight: float = setting(0.01, low=0.0, help="w_con, weight of the task-wise branch's InfoNCE")
    slow_rate: float = setting(0.005, low=0.0, high=1.0, help="tau, rate at which the slow router follows")

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches by name, in the order of their outputs."""
        return () if self.moe == "none" else tuple(self.moe.split("-"))

    @property
    def fewest_experts(self) -> int:
        """The least number of experts of a branch that is there, of both if none is."""
        return min(getattr(self, f"{name}_experts") for name in self.branches or ("token", "task"))

    @property
    def sequences_per_task(self) -> int:
        """2 if the contrastive loss wants the sequences of a batch in pairs of one task, else 1."""
        return 2 if "task" in self.branches and self.contrast_weight > 0 else 1

    def evaluated(self, count: int) -> int:
        """How many of ``count`` experts are evaluated for a token: all, or the K that serve it."""
        is_sparse = count >= FEW * self.top_experts if self.dispatch == AUTO else self.dispatch == SPARSE
        return self.top_experts if is_sparse else count


class Experts(nnx.Module):
    """sum_e g_e (V_e leaky_relu(U_e u + b_e) + c_e); all U_e side by side are one matrix, and so are all V_e."""

    def __init__(self, width: int, hidden: int, out: int, count: int, rngs: nnx.Rngs, evaluated: int | None = None):
        """``evaluated``: for each token so many, those with the largest gates, the others' being 0; None: all."""
        self.evaluated = count if evaluated is None else evaluated
        uniform = partial(nnx.initializers.variance_scaling, 1 / 3, "fan_in", "uniform")  # U(-1, 1) / sqrt(fan in)
        self.U = nnx.Param(uniform(in_axis=0, batch_axis=1)(rngs.params(), (width, count, hidden), jnp.float32))
        self.b = nnx.Param(jnp.zeros((count, hidden), jnp.float32))
        self.V = nnx.Param(uniform(in_axis=1, batch_axis=0)(rngs.params(), (count, hidden, out), jnp.float32))
        self.c = nnx.Param(jnp.zeros((count, out), jnp.float32))

    @classmethod
    def new(cls, config: MoEConfig, count: int, width: int, out: int, rngs: nnx.Rngs) -> "Experts":
        """As the settings have them."""
        return cls(width, config.expert_ratio * width, out, count, rngs, config.evaluated(count))

    def idle(self, top: int) -> int:
        """Scalars of the parameters of those that do not serve a token which ``top`` of them serve."""
        count = self.b.shape[0]
        return (count - top) * (sum(part.size for part in (self.U, self.b, self.V, self.c)) // count)

    def __call__(self, u: Array, gates: Array) -> Array:
        """Map u [T, D] with gates [T, E] to [T, out]."""
        U, b, V, c = self.U[...], self.b[...], self.V[...], self.c[...]
        if self.evaluated < b.shape[0]:
            gates, chosen = jax.lax.top_k(gates, self.evaluated)
            e = chosen.reshape(-1)  # token after token
            h = jax.nn.leaky_relu(grouped_dot(jnp.repeat(u, self.evaluated, axis=0), jnp.swapaxes(U, 0, 1), e) + b[e])
            each = grouped_dot(h, V, e) + c[e]
            return jnp.sum(gates[..., None] * each.reshape(*gates.shape, -1), axis=1)
        h = jax.nn.leaky_relu(u @ U.reshape(u.shape[1], -1) + b.reshape(1, -1))
        return (jnp.repeat(gates, b.shape[1], axis=1) * h) @ V.reshape(h.shape[1], -1) + gates @ c


class Router(nnx.Module):
    """Logits V tanh(U u), without biases."""

    def __init__(self, U: nnx.Variable, V: nnx.Variable):
        self.U, self.V = U, V

    @classmethod
    def new(cls, width: int, count: int, rngs: nnx.Rngs) -> "Router":
        """A router with fresh parameters."""
        init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # U(-1, 1) / sqrt(fan in)
        U, V = (init(rngs.params(), (size, count), jnp.float32) for size in (width, count))
        return cls(nnx.Param(U), nnx.Param(V))

    def slow_copy(self) -> "Router":
        """A router that starts equal and gets no gradient."""
        return Router(Slow(self.U[...]), Slow(self.V[...]))

    def __call__(self, u: Array) -> Array:
        """Map u [..., D] to logits [..., E]."""
        return jnp.tanh(u @ self.U[...]) @ self.V[...]


class TokenRecord(NamedTuple):
    """What one sequence tells of the token-wise routing."""

    gates: Array  # [T, E]
    load: Array  # [E], expected number of tokens of each expert


class TokenExperts(AuxiliaryLayer):
    """The token-wise branch: a noisy top-K gate in training, the top K in play."""

    def __init__(self, config: MoEConfig, width: int, out: int, label: str, rngs: nnx.Rngs):
        super().__init__(f"{label}_token")
        self.config = config
        self.router = Router.new(width, config.token_experts, rngs)
        self.W_noise = nnx.Param(jnp.zeros((width, config.token_experts), jnp.float32))
        self.experts = Experts.new(config, config.token_experts, width, out, rngs)

    @property
    def idle(self) -> int:
        return self.experts.idle(self.config.top_experts) + self.W_noise.size

    def initial_carry(self) -> tuple[()]:
        return ()

    def __call__(self, u: Array, start: Array, carry: tuple[()]) -> tuple[Array, tuple[()]]:
        """Map u [T, D] to y [T, out]."""
        del start
        K, logits = self.config.top_experts, self.router(u)
        if self.key is None:
            gates = top_gates(logits, K)
            load = jnp.sum(gates > 0, axis=0).astype(jnp.float32)
        else:
            std = jax.nn.softplus(u @ self.W_noise[...]) + 0.01
            noisy = logits + std * jax.random.normal(self.key, logits.shape, logits.dtype)
            gates = top_gates(noisy, K)
            load = jnp.sum(expected_load(logits, noisy, std, K), axis=0)
        if self.watched:
            self.record = TokenRecord(gates, load)
        return self.experts(u, gates), carry

    def loss(self, record: TokenRecord) -> Array:
        importance, load = record.gates.sum((0, 1)), record.load.sum(0)
        return self.config.balance_weight * (cv_squared(importance) + cv_squared(load))

    def statistics(self, record: TokenRecord) -> dict[str, Array]:
        return gate_statistics(record.gates)


class TaskCarry(NamedTuple):
    """The running mean of the hard router."""

    total: Array  # [D] float32, sum of u since the latest start
    steps: Array  # [] int32, terms of it


class TaskRecord(NamedTuple):
    """What one sequence tells of the task-wise routing."""

    gates: Array  # [T, E]
    q: Array  # [E], the router's output for the sequence
    k: Array  # [E], the slow router's


class TaskExperts(AuxiliaryLayer):
    """The task-wise branch: one choice for all seen of a task so far ("hard"), or for each token ("soft"); no noise."""

    def __init__(self, config: MoEConfig, width: int, out: int, label: str, rngs: nnx.Rngs):
        super().__init__(f"{label}_task")
        self.config, self.width = config, width
        self.router = Router.new(width, config.task_experts, rngs)
        self.slow = self.router.slow_copy()
        self.W = nnx.Param(jax.random.normal(rngs.params(), (config.task_experts, config.task_experts), jnp.float32))
        self.experts = Experts.new(config, config.task_experts, width, out, rngs)

    @property
    def idle(self) -> int:
        return self.experts.idle(self.config.top_experts) + self.W.size

    def initial_carry(self) -> TaskCarry | tuple[()]:
        if self.config.task_routing == "soft":
            return ()
        return TaskCarry(jnp.zeros(self.width, jnp.float32), jnp.int32(0))

    def __call__(self, u: Array, start: Array, carry: Any) -> tuple[Array, Any]:
        """Map u [T, D] with start [T] and the running mean before to (y [T, out], the running mean after)."""
        routed = u
        if self.config.task_routing == "hard":
            routed, carry = running_mean(u, start, carry)
            if self.config.task_mean == "whole":
                routed = routed[_last_of_segment(start)]
        logits = self.router(routed)
        gates = top_gates(logits, self.config.top_experts)
        if self.watched:
            self.record = TaskRecord(gates, *self._summary(u))
        return self.experts(u, gates), carry

    def _summary(self, u: Array) -> tuple[Array, Array]:
        """The whole sequence's q and k [E]: outputs of the router and of the slow one. No gradient goes through k."""
        fixed = jax.lax.stop_gradient(u)
        if self.config.task_routing == "hard":
            return self.router(u.mean(0)), self.slow(fixed.mean(0))
        return self.router(u).mean(0), self.slow(fixed).mean(0)

    def loss(self, record: TaskRecord) -> Array:
        if self.config.contrast_weight == 0:
            return jnp.float32(0.0)
        rows = record.q.shape[0]
        require(rows % 2 == 0, "micro-batch", rows, "an even number of sequences, in pairs of one task")
        return self.config.contrast_weight * contrastive_loss(record.q, record.k, self.W[...])

    def statistics(self, record: TaskRecord) -> dict[str, Array]:
        return gate_statistics(record.gates)

    def follow(self, seen: Any) -> None:
        del seen
        tau = self.config.slow_rate
        for slow, fast in ((self.slow.U, self.router.U), (self.slow.V, self.router.V)):
            slow[...] = (1 - tau) * slow[...] + tau * fast[...]


class MixtureOfExperts(nnx.Module):
    """The branches side by side, y [T, D] the concatenation of what they say."""

    def __init__(self, config: MoEConfig, width: int, label: str, rngs: nnx.Rngs):
        kinds: dict[str, Any] = {"token": TokenExperts, "task": TaskExperts}
        names = config.branches
        require(width >= len(names), "width", width, f"at least {len(names)}, a feature for each branch of the experts")
        sizes = [width // len(names) + (i < width % len(names)) for i in range(len(names))]
        parts = [kinds[name](config, width, size, label, rngs) for name, size in zip(names, sizes, strict=True)]
        self.branches: Any = nnx.List(parts)

    def initial_carry(self) -> tuple[Any, ...]:
        return tuple(branch.initial_carry() for branch in self.branches)

    def __call__(self, u: Array, start: Array, carry: tuple[Any, ...]) -> tuple[Array, tuple[Any, ...]]:
        """Map u [T, D] with start [T] bool to (y [T, D], carry)."""
        parts = [branch(u, start, state) for branch, state in zip(self.branches, carry, strict=True)]
        return jnp.concatenate([y for y, _ in parts], axis=-1), tuple(state for _, state in parts)


def running_mean(u: Array, start: Array, carry: TaskCarry) -> tuple[Array, TaskCarry]:
    """Mean [T, D] of u [T, D] over the steps since the latest start, the present one included; and its carry."""
    add = DiagonalRecurrence(lambda item: (jnp.ones_like(item), item), lambda total, item: total)
    totals, total = add(u, start, carry.total)
    time = jnp.arange(u.shape[0])
    latest = jax.lax.cummax(jnp.where(start, time, -1))
    counts = jnp.where(latest >= 0, time - latest + 1, carry.steps + time + 1)
    return totals / counts[:, None], TaskCarry(total, counts[-1].astype(jnp.int32))


def _last_of_segment(start: Array) -> Array:
    """For each step the last one [T] int32 before the next start."""
    length = start.shape[0]
    time = jnp.arange(length)
    ends = jnp.append(start[1:], True)
    return jax.lax.cummin(jnp.where(ends, time, length), reverse=True)


def gate_statistics(gates: Array) -> dict[str, Array]:
    """Curves of gates [B, T, E]: each expert's share, their evenness (1: all alike), nats a token is undecided by."""
    share = gates.mean((0, 1))
    evenness = _entropy(share) / jnp.log(jnp.float32(max(share.shape[0], 2)))
    shares = {f"share_{expert}": value for expert, value in enumerate(share)}
    return {**shares, "evenness": evenness, "gate_entropy": jnp.mean(_entropy(gates))}


def _entropy(p: Array) -> Array:
    return -jnp.sum(jax.scipy.special.xlogy(p, p), axis=-1)
