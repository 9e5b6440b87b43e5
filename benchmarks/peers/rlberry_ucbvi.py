"""UCB-VI of rlberry-scool (numba) in its 9 x 9 grid, a plan at the end of each episode, or one step of it at each step.

The first is our algorithm; ``real_time`` asks for the second, real-time dynamic programming, which plans less.
"""

import logging

from rlberry_scool.agents import UCBVIAgent
from rlberry_scool.envs import GridWorld
from turns import serve, settings


def main() -> None:
    given = settings()
    logging.disable()
    episodes, horizon = given["episodes"], given["horizon"]

    def learn() -> None:
        env = GridWorld(nrows=9, ncols=9, walls=())
        agent = UCBVIAgent(env, horizon=horizon, real_time_dp=given["real_time"], stage_dependent=False, seeder=0)
        agent.fit(episodes)

    serve(learn, episodes * horizon, "steps", ("rlberry-scool", "rlberry", "numba", "numpy"))


if __name__ == "__main__":
    main()
