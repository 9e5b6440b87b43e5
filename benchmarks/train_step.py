"""Training step of DPT: ours against a plain PyTorch GPT-2 of the same shape with sdpa. Prints a ratio.

python benchmarks/train_step.py [--steps 500] [--heads 4] [--repeats 9]

Each side lives in a process of its own, as its users would run it, and they step in turns: in one process the threads
and the memory of the one slow the other down.
"""

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    sides = {"icrl": our_step, "torch sdpa": torch_step}
    ends = [started(make, args.steps, args.heads) for make in sides.values()]
    pairs = [[seconds(end) for end in ends] for _ in range(args.repeats)]
    for end in ends:
        end.send(False)
    tokens = 64 * args.steps
    for name, times in zip(sides, zip(*pairs, strict=True), strict=True):
        print(f"{name:<11} {tokens / statistics.median(times):,.0f} tokens/s (median of {args.repeats})")
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    print(
        f"ratio icrl / torch, paired: {ratio:.2f}  (T={args.steps}, {args.heads} heads, batch 64, 4 layers, width 32)"
    )


def started(make, length: int, heads: int) -> Connection:
    """Our end of a connection to a process that is ready to step."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, make, length, heads), daemon=True
    )
    process.start()
    ours.recv()
    return ours


def seconds(end: Connection) -> float:
    end.send(True)
    return end.recv()


def serve(end: Connection, make, length: int, heads: int) -> None:
    step = make(length, heads)
    end.send(0.0)
    while end.recv():
        start = time.perf_counter()
        step()
        end.send(time.perf_counter() - start)


def our_step(length: int, heads: int):
    import jax

    from icrl.recipes.bench import training

    work = training(length, heads).work
    jax.block_until_ready(work())  # compiles
    return lambda: jax.block_until_ready(work())


def torch_step(length: int, heads: int):
    import torch
    from torch_gpt2 import GPT2

    model = GPT2(8, 5, length + 1, 32, 4, heads)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    tokens, labels = torch.randn(64, length + 1, 8), torch.zeros(64 * (length + 1), dtype=torch.long)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    return step


if __name__ == "__main__":
    main()
