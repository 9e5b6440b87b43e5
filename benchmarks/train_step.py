"""Training step of DPT: ours against a plain PyTorch GPT-2 of the same shape with sdpa. Prints a ratio.

python benchmarks/train_step.py [--steps 500] [--heads 4] [--repeats 9]
"""

import argparse
import statistics
import time
from functools import partial

import jax
import numpy as np
import torch
from torch_gpt2 import GPT2

from icrl.datasets.contexts import ContextGenerator
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.experiments.dpt_pipeline import DPTSettings
from icrl.models.transformer import TransformerConfig
from icrl.registry import agents
from icrl.train_step import FitSettings, initial_state, train_step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    ours, theirs = our_step(args.steps, args.heads), torch_step(args.steps, args.heads)
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(args.repeats)]
    tokens = 64 * args.steps
    for name, times in zip(("icrl", "torch sdpa"), zip(*pairs, strict=True), strict=True):
        print(f"{name:<11} {tokens / statistics.median(times):,.0f} tokens/s (median of {args.repeats})")
    ratio = statistics.median(b / a for a, b in pairs)
    print(
        f"ratio icrl / torch, paired: {ratio:.2f}  (T={args.steps}, {args.heads} heads, batch 64, 4 layers, width 32)"
    )


def seconds(step) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def our_step(length: int, heads: int):
    settings = DPTSettings(
        env=GaussianBandit(horizon=length),
        backbone=TransformerConfig(num_heads=heads),
        fit=FitSettings(),
        competitors=("uniform",),
        ideal="uniform",
    )
    source = agents["dirichlet-mix"].for_env(settings.env)
    batch = ContextGenerator(settings.env, source, length, seed=0).fetch(np.arange(64))
    policy = settings.new_policy(0, 0)
    one_step = partial(train_step, settings.fit, settings.objective(), policy.graphdef)
    holder = [jax.block_until_ready(one_step(initial_state(settings.fit, policy), batch, jax.random.key(0)))]

    def step() -> None:
        holder[0] = jax.block_until_ready(one_step(holder[0], batch, jax.random.key(0)))

    return step


def torch_step(length: int, heads: int):
    model = GPT2(8, 5, length + 1, 32, 4, heads)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    tokens, labels = torch.randn(64, length + 1, 8), torch.zeros(64 * (length + 1), dtype=torch.long)

    def step() -> None:
        loss = nn_cross_entropy(model(tokens).flatten(0, 1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    nn_cross_entropy = torch.nn.functional.cross_entropy
    step()
    return step


if __name__ == "__main__":
    main()
