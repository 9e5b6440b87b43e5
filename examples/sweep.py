"""A sweep from Python: every combination of two models and two learning rates, on the same tasks and draws.

    python examples/sweep.py

``vary`` is what ``--vary`` is on the command line. All variants end in one report and one flat table.
"""

from pathlib import Path

import icrl

GRID = ("model=transformer,s5", "learning_rate=1e-3,1e-2")


def main(out: Path = Path("runs/sweep"), train_steps: int = 1000, eval_tasks: int = 500) -> dict[str, float]:
    """Regret of each variant after all pulls, and of uniform play; the best first."""
    sizes = {"train_steps": train_steps, "eval_tasks": eval_tasks, "competitors": ("uniform",)}
    results = icrl.run("dpt-bandit", preset="smoke", out=out, vary=GRID, **sizes)
    results.figure("online_regret").savefig(out / "sweep.pdf")  # a figure of matplotlib
    results.to_csv(out / "sweep.csv")  # or to_frame(), with pandas
    regret = {name: agent["regret"]["mean"][-1] for name, agent in results["online"]["agents"].items()}
    return dict(sorted(regret.items(), key=lambda pair: pair[1]))


if __name__ == "__main__":
    for name, regret in main().items():
        print(f"{regret:8.2f}  {name}")
