"""Distillation for in-context planning (Son et al. 2025): the actions of a base objective, and what comes of them."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.model_types import Layout, Supervised
from icrl.core.registry import objectives
from icrl.core.types import Array, Contexts, History
from icrl.layouts._features import SpecLayout
from icrl.models._dynamics import Dynamics, Outcome
from icrl.objectives.ad import AD
from icrl.objectives.dpt import DPT

BASES = ("ad", "dpt")


@dataclasses.dataclass(frozen=True)
class DynamicsSettings(Checked):
    """What ``DICP`` can be told besides what its base can be, and so every recipe."""

    base: str = setting(
        "ad", choices=BASES, help="what the actions are: ad, the source's own; dpt, the optimal ones (dicp)"
    )
    dynamics_weight: float = setting(1.0, low=0.0, help="w, of the loss of what actions lead to (dicp)")
    dynamics_std: float | None = setting(
        0.3, low=0.0, open_low=True, help="deviation of the Gaussian heads, for real numbers; none: learned (dicp)"
    )
    reward_values: tuple[str, ...] = setting(
        (), help="values that a reward can take; none: as the environment says, else real numbers (dicp)"
    )

    @property
    def reward_numbers(self) -> tuple[float, ...]:
        """``reward_values`` as numbers."""
        try:
            return tuple(map(float, self.reward_values))
        except ValueError:
            require(False, "reward_values", ",".join(self.reward_values), "numbers separated by commas")
            raise


@objectives.register("dicp", paper="Son et al. 2025")
@dataclasses.dataclass(frozen=True)
class DICP(DynamicsSettings, Supervised):
    """L = L_base + w L_dynamics, with L_dynamics = -log g(r_t, o_{t+1}, R_t | h_{t-1}, o_t, a_t).

    The head gives the numbers of the base first, then those of ``Dynamics``. What an action leads to is read off a
    token that has seen the action and nothing of its outcome, so the layout must have one (``Layout.action_token``).
    R_t is the return from t to the end of the episode; where a window ends before, it is left out of the loss.
    The three parts of L_dynamics are means over steps, in nats. ``val_loss`` is that of the base, so that it can be
    compared with the base's own.

    Departures from the paper: every prefix of a window has labels, not its end alone; the return-to-go is learned
    everywhere (the released code has none), and planning uses it where it is asked to.
    """

    layout: Layout = dataclasses.field(kw_only=True)
    label_smoothing: float = setting(0.0, low=0.0, high=1.0, help="e, spread over all actions (ad)")
    mask_prob: float = setting(0.0, low=0.0, high=1.0, help="probability that an input token is blanked (ad)")

    def __post_init__(self) -> None:
        super().__post_init__()
        layout, allowed = self.layout, "one with an action token, such as outcomes or interleaved, with objective dicp"
        fits = isinstance(layout, SpecLayout) and layout.action_token is not None
        require(fits, "layout", _name(layout), allowed)
        numbered = layout.num_outputs == layout.num_actions
        require(numbered, "objective", "dicp", "another where actions are no numbers", "it plans over numbered actions")
        require(
            self.base == "ad" or not self.label_smoothing, "label_smoothing", self.label_smoothing, "0 with base dpt"
        )
        require(self.base == "ad" or not self.mask_prob, "mask_prob", self.mask_prob, "0 with base dpt")
        assert self.dynamics

    @property
    def needs_labels(self) -> bool:
        return self.actions.needs_labels

    @functools.cached_property
    def actions(self) -> Supervised:
        """The base objective."""
        if self.base == "dpt":
            return DPT(self.layout)
        return AD(self.layout, self.label_smoothing, self.mask_prob)

    @functools.cached_property
    def dynamics(self) -> Dynamics:
        """The other heads."""
        assert isinstance(self.layout, SpecLayout)
        return Dynamics(self.layout.spec, self.reward_numbers, self.dynamics_std)

    @property
    def num_outputs(self) -> int:
        return self.layout.num_outputs + self.dynamics.num_outputs

    def inputs(self, batch: Any, key: Array | None = None) -> Array:
        """Tokens [B, L, D] of the base."""
        return self.actions.inputs(batch, key)

    def scores(self, logits: Array, batch: Any) -> Array:
        """-log p of the base's labels in nats, [B, decisions] float32."""
        return self.actions.scores(logits[..., : self.layout.num_outputs], batch)

    def dynamics_scores(self, outputs: Array, batch: Contexts | History) -> Outcome:
        """Mean -log p of next observations, rewards and returns-to-go in nats, [] float32 each, of outputs [B, L, D].

        Of the steps whose action token is among the L tokens: all, or with base ad all but the last.
        """
        history = batch.history if isinstance(batch, Contexts) else batch
        steps = history.action.shape[1] - (self.base == "ad")
        at = self.layout.outcomes(steps)
        read = outputs[:, at, self.layout.num_outputs :]
        returns, known = jax.vmap(returns_to_go)(history)
        seen = Outcome(history.next_obs, history.reward, returns)
        found = self.dynamics.scores(read, jax.tree.map(lambda field: field[:, :steps], seen))
        known = known[:, :steps].astype(jnp.float32)
        of_returns = jnp.sum(found.returns * known) / jnp.maximum(jnp.sum(known), 1.0)
        return Outcome(jnp.mean(found.next_obs), jnp.mean(found.reward), of_returns)

    def loss(self, policy: Any, batch: Any, key: Array) -> Array:
        key_inputs, key_layers = jax.random.split(key)
        tokens = self.inputs(batch, key_inputs)
        outputs, records = jax.vmap(policy.apply_with_aux)(tokens, jax.random.split(key_layers, tokens.shape[0]))
        of_actions = jnp.mean(self.scores(outputs, batch)) + policy.auxiliary_loss(records)
        return of_actions + self.dynamics_weight * sum(self.dynamics_scores(outputs, batch))

    def report(self, policy: Any, batch: Any) -> dict[str, Array]:
        """As the base's, and ``val_next_obs``, ``val_reward`` and ``val_return``, [] float32 nats."""
        outputs, records = jax.vmap(policy.apply_with_aux)(self.inputs(batch))
        next_obs, reward, returns = self.dynamics_scores(outputs, batch)
        said = {"val_loss": jnp.mean(self.scores(outputs, batch)), "val_next_obs": next_obs, "val_reward": reward}
        return {**said, "val_return": returns, **policy.statistics(records)}


class _Ahead(NamedTuple):
    """What is known of the rest of an episode."""

    returns: Array  # [] float32
    known: Array  # [] bool, whether its end is in the window


def returns_to_go(history: History) -> tuple[Array, Array]:
    """R_t, the rewards from t to the end of its episode, [T] float32, and whether that end is in history, [T] bool."""

    def step(later: _Ahead, now: tuple[Array, Array]) -> tuple[_Ahead, _Ahead]:
        reward, over = now
        found = _Ahead(reward + jnp.where(over, 0.0, later.returns), over | later.known)
        return found, found

    none = _Ahead(jnp.float32(0.0), jnp.bool_(False))
    seen = history.reward, history.terminated | history.truncated
    found = jax.lax.scan(step, none, seen, reverse=True)[1]
    return found.returns, found.known


def _name(layout: Layout) -> str:
    return type(layout).__name__
