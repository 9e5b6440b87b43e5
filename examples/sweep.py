"""A sweep from Python: every combination of two models and two learning rates, on the same tasks and draws.

    python examples/sweep.py

``vary`` is what ``--vary`` is on the command line. All variants end in one report; here the numbers are read off it.
"""

from pathlib import Path

from icrl.recipes import run as runs

GRID = ("model=transformer,s5", "learning_rate=1e-3,1e-2")


def main(out: Path = Path("runs/sweep"), train_steps: int = 1000, eval_tasks: int = 500) -> dict[str, float]:
    """Regret of each variant, and of exact posterior sampling."""
    settings = {"vary": GRID, "train_steps": train_steps, "eval_tasks": eval_tasks, "competitors": ("uniform",)}
    run = runs.start("dpt-bandit", "smoke", seed=0, values=settings, out=out, resume=True)
    results = runs.execute(run)
    return {name: agent["regret"]["mean"][-1] for name, agent in results["online"]["agents"].items()}


if __name__ == "__main__":
    for name, regret in sorted(main().items(), key=lambda pair: pair[1]):
        print(f"{regret:8.2f}  {name}")
