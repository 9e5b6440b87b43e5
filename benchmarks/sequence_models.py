"""Time and memory of every sequence model against the length T of its context, with fitted growth exponents.

python benchmarks/sequence_models.py [--models s5,gru] [--width 64] [--lengths 128,256,...,16384] [--seconds 20]

Three numbers a model and T: seconds of forward and backward over one sequence, temporary bytes of that (what XLA
plans, ``memory_analysis``), and seconds of one acting step behind T - 64 tokens. An exponent is the slope of log value
over log T: for training from T = 1 024 on, for acting over all T. A T whose training would take longer than
``--seconds`` (by the growth so far) is left out. Beside a Flax GRU: rows ``layer-*`` of ``compare.py``.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from icrl.core.registry import models

LONG = 1024  # exponents of training are fitted from here on
PIECE = 64  # tokens read at a time before an acting step is timed


class Row(NamedTuple):
    length: int
    train: float  # seconds
    temporary: int  # bytes
    act: float  # seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default=",".join(models))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--lengths", default=",".join(str(2**n) for n in range(7, 15)))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    lengths = [int(length) for length in args.lengths.split(",")]
    found = {name: measured(name, args.width, lengths, args.seconds, args.repeats) for name in args.models.split(",")}
    show("forward + backward, ms", found, "train", 1e3, LONG)
    show("its temporary memory, MiB", found, "temporary", 2**-20, LONG)
    show("one acting step, us", found, "act", 1e6, 0)


def measured(name: str, width: int, lengths: list[int], limit: float, repeats: int) -> list[Row]:
    rows: list[Row] = []
    for length in lengths:
        if rows and rows[-1].train * (length / rows[-1].length) ** growth(rows) > limit:
            print(f"{name}: T = {length} and more left out", flush=True)
            break
        model = build(name, width, length)
        x = jax.random.normal(jax.random.key(0), (length, width))
        train = jax.jit(jax.grad(energy, argnums=1), static_argnums=0).lower(*model, x).compile()
        act = acting(*model, x)
        seconds = [fastest(work, repeats) for work in (lambda: train(model[1], x), act)]  # noqa: B023 called at once
        rows.append(Row(length, seconds[0], train.memory_analysis().temp_size_in_bytes, seconds[1]))
        print(f"{name}: T = {length}, {seconds[0]:.4f} s, act {seconds[1]:.6f} s", flush=True)
    return rows


def build(name: str, width: int, length: int) -> tuple[Any, Any]:
    """(graphdef, parameters) of one layer."""
    config = models[name].Config(width=width, num_layers=1)
    return nnx.split(models[name](config, length, nnx.Rngs(0)))


def energy(graphdef: Any, params: Any, x: jax.Array) -> jax.Array:
    return jnp.sum(nnx.merge(graphdef, params)(x)[0] ** 2)


def acting(graphdef: Any, params: Any, x: jax.Array) -> Callable[[], Any]:
    """One step behind len(x) - PIECE tokens."""

    @jax.jit
    def read(params: Any, x: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
        return nnx.merge(graphdef, params)(x, None, carry)

    carry = nnx.merge(graphdef, params).initial_carry()
    for low in range(0, len(x) - PIECE, PIECE):
        _, carry = read(params, x[low : low + PIECE], carry)
    return lambda: read(params, x[-1:], carry)


def fastest(work: Callable[[], Any], repeats: int) -> float:
    """The least of several timings, each of enough calls to last 10 ms: what others do to the machine only adds."""
    jax.block_until_ready(work())
    calls = max(1, int(0.01 / max(timed(work, 1), 1e-6)))
    return min(timed(work, calls) for _ in range(repeats))


def timed(work: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        done = work()
    jax.block_until_ready(done)
    return (time.perf_counter() - started) / calls


def growth(rows: list[Row], field: str = "train", from_length: int = 0) -> float:
    """Slope of log field over log T; nan for fewer than two points."""
    chosen = [row for row in rows if row.length >= from_length]
    if len(chosen) < 2:
        return float("nan") if from_length else 1.0
    logs = np.log([[row.length, getattr(row, field)] for row in chosen])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def show(title: str, found: dict[str, list[Row]], field: str, scale: float, from_length: int) -> None:
    lengths = sorted({row.length for rows in found.values() for row in rows})
    print(f"\n| {title} | {' | '.join(f'T = {length}' for length in lengths)} | exponent |")
    print("|---" * (len(lengths) + 2) + "|")
    for name, rows in found.items():
        values = {row.length: f"{getattr(row, field) * scale:.3g}" for row in rows}
        cells = " | ".join(values.get(length, "-") for length in lengths)
        print(f"| {name} | {cells} | {growth(rows, field, from_length):.2f} |")


if __name__ == "__main__":
    main()
