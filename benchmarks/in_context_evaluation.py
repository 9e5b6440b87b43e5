"""Online in-context evaluation: our cached rollout against reading the whole context at every step. Prints a ratio.

The second is what the DPT paper's code does (PyTorch, 200 tasks side by side). Only every 25th of its steps is run
and the time multiplied, because all of them take minutes.

python benchmarks/in_context_evaluation.py [--steps 500] [--tasks 200] [--heads 1]
"""

import argparse
import time

import torch
from torch_gpt2 import GPT2

from icrl.recipes.bench import evaluating, seconds_of

STRIDE = 25


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--heads", type=int, default=1)
    args = parser.parse_args()
    ours = args.tasks * args.steps / our_seconds(args.steps, args.tasks, args.heads)
    half = args.tasks * args.steps / 2 / our_seconds(args.steps // 2, args.tasks, args.heads)
    theirs = args.tasks * args.steps / torch_seconds(args.steps, args.tasks, args.heads)
    print(f"icrl, KV cache       {ours:,.0f} steps/s at T={args.steps}; {half:,.0f} at T={args.steps // 2}")
    print(f"torch, whole context {theirs:,.0f} steps/s")
    print(f"ratio {ours / theirs:.0f}")


def our_seconds(steps: int, num_tasks: int, heads: int) -> float:
    return seconds_of(evaluating(steps, num_tasks, heads))[1]


@torch.no_grad()
def torch_seconds(steps: int, num_tasks: int, heads: int) -> float:
    model = GPT2(8, 5, steps + 1, 32, 4, heads).eval()
    model(torch.randn(num_tasks, 10, 8))
    start = time.perf_counter()
    for length in range(STRIDE, steps + 1, STRIDE):
        torch.distributions.Categorical(logits=model(torch.randn(num_tasks, length + 1, 8))[:, -1]).sample()
    return (time.perf_counter() - start) * STRIDE


if __name__ == "__main__":
    main()
