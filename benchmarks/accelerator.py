"""What an accelerator brings: S5 beside GRUs, transformers as a share of the chip's bfloat16 rate, the papers' steps.

python benchmarks/accelerator.py [--parts rate,recurrent,transformer,papers] [--peak TFLOPS] [--repeats 10]

- rate: a square bfloat16 product, what a program can reach at best, and a copy through the chip's memory.
- recurrent: forward and backward of one layer, batch 64, T = 1 024; milliseconds, and those of a Flax GRU over them.
- transformer: whole training steps (DPT, AdamW) in bfloat16, widths 512 to 2 048, T = 1 024. Counted are the products
  of linear maps and the lower half of the attention square, three times (forward, and twice as much backward).
- papers: training steps of the presets ``paper`` of AD and of Transformers as Decision Makers.

Times are whole calls from Python with the device busy all along: N calls, then one wait.

Measured, NVIDIA H200 (2026-11-26, jax 0.11.2): see README.md beside this file.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sequence_models import gradient

from icrl.core.registry import experiments, models
from icrl.core.types import Contexts, History
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.models.transformer import TransformerConfig
from icrl.recipes.parts import Prediction
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings, initial_state, train_step

PEAKS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}  # dense bfloat16, TFLOP/s, of the maker's data sheets (SXM)
BATCH, LENGTH = 64, 1024
RECURRENT = ("s5", "lru", "s4d", "mamba", "mamba2", "gated-deltanet", "mlstm", "linear-attention", "gru", "lstm")
SHAPES = ((512, 8, 8, 64), (512, 8, 4, 64), (1024, 8, 8, 64), (2048, 4, 16, 32))  # width, layers, heads, batch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", default="rate,recurrent,transformer,papers")
    parser.add_argument("--peak", type=float, default=None, help="TFLOP/s of the chip in bfloat16")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--widths", default="64,256")
    parser.add_argument("--models", default=",".join(RECURRENT))
    args = parser.parse_args()
    device = jax.devices()[0]
    peak = args.peak or next((rate for name, rate in PEAKS.items() if name in device.device_kind), float("nan"))
    print(f"{device.device_kind}, jax {jax.__version__}", flush=True)
    parts = {
        "rate": rate,
        "recurrent": partial(recurrent, args.models.split(","), [int(width) for width in args.widths.split(",")]),
        "transformer": partial(transformers, peak),
        "papers": papers,
    }
    for name in args.parts.split(","):
        parts[name](args.repeats)


def seconds(work: Callable[[], Any], repeats: int, rounds: int = 5) -> float:
    """Median over rounds of the seconds of one of ``repeats`` calls that are waited for together."""
    jax.block_until_ready(work())
    jax.block_until_ready(work())
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(repeats):
            done = work()
        jax.block_until_ready(done)
        found.append((time.perf_counter() - started) / repeats)
    return statistics.median(found)


def rate(repeats: int) -> None:
    size = 8192
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    print(f"product of bfloat16: {2 * size**3 / seconds(lambda: product(a, b), repeats) / 1e12:.0f} TFLOP/s")
    x = jnp.ones(2**28, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    print(f"copy: {2 * x.nbytes / seconds(lambda: add(x), repeats) / 1e12:.2f} TB/s", flush=True)


def recurrent(names: list[str], widths: list[int], repeats: int) -> None:
    for width in widths:
        xs = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, width))
        rnn = nnx.RNN(nnx.GRUCell(width, width, rngs=nnx.Rngs(0)))
        base = seconds(gradient(rnn, partial(from_zeros, jnp.zeros((BATCH, width))), xs), 1)
        print(f"width {width}, batch {BATCH}, T = {LENGTH}: Flax GRU {1e3 * base:.2f} ms", flush=True)
        for name in names:
            build = models[name].Config
            sizes = {"state_size": width} if name == "s5" else {}
            stack = models[name](build(width=width, num_layers=1, **sizes), LENGTH, nnx.Rngs(0))
            mixer, start = stack.layers[0].mixer, jnp.zeros(LENGTH, bool)
            alone = seconds(gradient(mixer, partial(mixed, start), xs), repeats)
            layer = seconds(gradient(stack, whole, xs), repeats)
            times = f"recurrence {1e3 * alone:.2f} ms, layer {1e3 * layer:.2f} ms"
            print(f"  {name}: {times}; Flax GRU / it {base / alone:.1f}, {base / layer:.1f}", flush=True)


def from_zeros(carry: jax.Array, rnn: nnx.RNN, xs: jax.Array) -> jax.Array:
    return rnn(xs, initial_carry=carry)


def mixed(start: jax.Array, mixer: Any, xs: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: mixer(x, start, mixer.initial_carry())[0])(xs)


def whole(stack: Any, xs: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: stack(x)[0])(xs)


def transformers(peak: float, repeats: int) -> None:
    for width, layers, heads, batch in SHAPES:
        first = (width, layers, heads, batch) == SHAPES[0]
        for matmuls in ("bfloat16", "tensorfloat32", "float32") if first else ("bfloat16",):
            config = TransformerConfig(width=width, num_layers=layers, num_heads=heads, matmuls=matmuls)
            settings = Recipe(
                env=GaussianBandit(horizon=LENGTH - 1),
                backbone=config,
                fit=FitSettings(batch_size=batch),
                prediction=Prediction(layout="query-first"),
            )
            took = seconds(training(settings, bandit_contexts(settings, batch)), repeats, 3)
            tokens = batch * LENGTH
            linear = 12 * width**2 * layers  # multiplications a token
            attention = layers * width * LENGTH  # q k and weights v, half of the square
            flops = 6 * (linear + attention) * tokens
            print(
                f"width {width}, {layers} layers, {heads} heads, batch {batch}, T = {LENGTH}, {matmuls}: "
                f"{1e3 * took:.1f} ms, {tokens / took:,.0f} tokens/s, {flops / took / 1e12:.0f} TFLOP/s, "
                f"{flops / took / 1e12 / peak:.1%} of peak",
                flush=True,
            )


def bandit_contexts(settings: Recipe, batch: int) -> Contexts:
    """Contexts of the right shapes; what is in them costs nothing."""
    steps, rng = settings.env.horizon, np.random.default_rng(0)
    obs = jnp.ones((batch, steps, *settings.env.spec.obs_shape), jnp.float32)
    action, flag = jnp.asarray(rng.integers(5, size=(batch, steps)), jnp.int32), jnp.zeros((batch, steps), bool)
    history = History(obs, action, jnp.asarray(rng.normal(size=(batch, steps)), jnp.float32), obs, flag, flag)
    return Contexts(history, obs[:, :1], action[:, :1])


def training(settings: Any, batch: Any, objective: Any = None) -> Callable[[], Any]:
    """One step after another on the same batch."""
    policy = settings.new_policy(0, 0)
    fit = settings.fit.resolved(policy)
    one_step = partial(train_step, fit, objective or settings.objective(), policy.structure)
    state = [initial_state(fit, policy)]

    def step() -> Any:
        state[0] = one_step(state[0], batch, jax.random.key(0))
        return state[0].step

    return step


def papers(repeats: int) -> None:
    tadm = experiments["tadm-bernoulli"].presets["paper"]
    contexts = bandit_contexts(tadm, tadm.fit.batch_size)
    objective = tadm.objective("dpt:0")
    report("tadm-bernoulli, decides", seconds(training(tadm, contexts, objective), repeats))
    one_head = dataclasses.replace(tadm, backbone=dataclasses.replace(tadm.backbone, num_heads=1, mlp_ratio=1.0))
    report("the same, 1 head, MLP 1x", seconds(training(one_head, contexts, objective), repeats))
    ad = experiments["ad-darkroom"].presets["paper"]
    report("ad-darkroom", seconds(training(ad, windows(ad)), repeats))
    low = dataclasses.replace(ad, backbone=dataclasses.replace(ad.backbone, matmuls="bfloat16"))
    report("ad-darkroom, bfloat16", seconds(training(low, windows(ad)), repeats))


def report(what: str, took: float) -> None:
    print(f"preset paper of {what}: {1e3 * took:.2f} ms a step", flush=True)


def windows(settings: Any) -> History:
    rng, shape = np.random.default_rng(0), (settings.fit.batch_size, settings.window)
    obs = jnp.asarray(rng.integers(9, size=(*shape, *settings.env.spec.obs_shape)), jnp.float32)
    flag = jnp.zeros(shape, bool)
    return History(obs, jnp.asarray(rng.integers(5, size=shape), jnp.int32), jnp.zeros(shape), obs, flag, flag)


if __name__ == "__main__":
    main()
