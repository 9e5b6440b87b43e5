"""RL^2: the return of a whole trial, by reinforcement of a policy with memory (Duan et al. 2016)."""

import dataclasses

from icrl.core.fields import Checked, setting
from icrl.core.model_types import Layout, Objective
from icrl.core.registry import objectives


@dataclasses.dataclass(frozen=True)
class TrialSettings(Checked):
    """How to learn from trials: what ``RL2`` can be told, and so every recipe."""

    rollout_steps: int | None = setting(
        None, low=1, high=2**24, help="n, steps between updates, a divisor of C; none: C, whole trials (rl2)"
    )
    num_epochs: int = setting(4, low=1, high=1000, help="passes over a rollout (rl2)")
    minibatches: int = setting(4, low=1, high=2**20, help="updates in a pass, each on a part of the environments (rl2)")
    discount: float = setting(0.99, low=0.0, high=1.0, help="discount of rewards a step later (rl2)")
    gae_lambda: float = setting(0.95, low=0.0, high=1.0, help="lambda of generalised advantage estimation (rl2)")
    clip: float = setting(0.2, low=0.0, open_low=True, help="largest change of the probability ratio that pays (rl2)")
    value_weight: float = setting(0.5, low=0.0, help="weight of the value loss (rl2)")
    entropy_weight: float = setting(0.01, low=0.0, help="weight of the entropy bonus (rl2)")
    across_episodes: bool = setting(
        True, help="rewards of later episodes of a trial count; false: memory alone stays (rl2)"
    )
    max_grad: float = setting(0.5, low=0.0, open_low=True, help="largest global norm of the gradient (rl2)")
    reward_scale: float | None = setting(
        None,
        low=0.0,
        open_low=True,
        help="rewards are multiplied by it; none: so that values are about 1 at most (rl2)",
    )


@objectives.register("rl2", paper="Duan et al. 2016; Wang et al. 2016; Schulman et al. 2017 (PPO)")
@dataclasses.dataclass(frozen=True)
class RL2(TrialSettings, Objective):
    """The discounted return of a trial, which is C steps in one task however many episodes they are.

    Rewards of later episodes count for the actions of earlier ones, so that exploring can pay; where a trial ends
    nothing follows. Where every step pays until a fall ends the episode, they had better not (``across_episodes``):
    what a fall costs is then only seen at the end of the trial, behind the discount.

    Maximised by PPO: clipped surrogate, clipped values, generalised advantages, normalised in each minibatch of whole
    rollouts. ``--num-epochs 1 --minibatches 1`` is A2C, whose gradient PPO's then is (Huang et al. 2022).
    """

    is_reinforced = True

    layout: Layout = dataclasses.field(kw_only=True)
