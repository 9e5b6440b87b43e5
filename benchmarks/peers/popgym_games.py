"""A game of PyPI's popgym with a uniform player, one at a time, as it has no batched form; NumPy on one core."""

import popgym.envs
from turns import serve, settings


def main() -> None:
    given = settings()
    env, steps = getattr(popgym.envs, given["world"])(), given["steps"]
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(steps)]

    def play() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    serve(play, steps, "steps", ("popgym", "numpy"))


if __name__ == "__main__":
    main()
