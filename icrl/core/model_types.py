"""What a pretrained policy is made of: the bases of sequence models, objectives and layouts.

Letters: T steps or tokens, K actions, O the shape of one observation, D features of a token, B rows of a batch.
"""

import abc
import dataclasses
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from icrl.core.action_heads import ActionHead, Categorical
from icrl.core.fields import Checked, setting
from icrl.core.types import Array, History, Transition

MATMULS = ("float32", "tensorfloat32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class ModelConfig(Checked):
    """What the settings of every sequence model have; all fields have defaults."""

    width: int = setting(32, low=1, high=65536, help="D, features of the residual stream")
    num_layers: int = setting(4, low=1, high=256, help="layers of the residual stream")
    init_std: float = setting(
        0.02, low=0.0, open_low=True, help="of the token embedding and the action head; in some models of all matrices"
    )
    matmuls: str = setting("float32", choices=MATMULS, help="of linear maps; sums and states are in float32")

    @property
    def sequences_per_task(self) -> int:
        """How many sequences of each task, side by side, the model's training wants in a batch."""
        return 1

    def is_endless(self, capacity: int) -> bool:
        """Whether the memory of a model built with ``capacity`` holds any number of steps, in one size."""
        del capacity
        return False

    @property
    def sizes(self) -> tuple[str, ...]:
        """The settings that a search for a number of parameters changes, the coarse one first."""
        return ("width",)


HIDDEN = 8  # steps that a memory holds besides its capacity, in front of the first start


class SequenceModel(nnx.Module):
    """A causal map over time with ONE call for training (T = the context) and acting (T = 1).

    Built as ``Model(config, capacity, rngs)``: ``capacity`` is the longest context it must hold, which a model whose
    memory does not grow ignores. In front of the first start a memory holds ``HIDDEN`` steps more, which nobody sees.

    ``initial_carry`` is the memory of an empty past; ``carry=None`` means an empty past whose successor is not
    wanted, which lets a model take its fastest parallel form. ``start[t]`` cuts off everything before t.
    """

    Config: ClassVar[type[ModelConfig]]  # the dataclass of its settings
    width: int  # D
    is_endless: bool = False  # as its settings say, see ``ModelConfig``

    def initial_carry(self) -> Any:
        """Memory of an empty past, without batch axes."""
        raise NotImplementedError(f"{type(self).__name__} must define initial_carry")

    def __call__(self, x: Array, start: Array | None = None, carry: Any = None) -> tuple[Array, Any]:
        """Map x [T, D] float32 with start [T] bool (None: no cuts) to (y [T, D], carry)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


class Objective(Checked):
    """What a policy is trained for. Subclasses are frozen dataclasses, so that compiled code is shared by equal ones.

    Fields are the ``layout`` and settings.
    """

    is_reinforced: ClassVar[bool] = False  # whether the policy makes its own data, by acting

    layout: "Layout"

    @property
    def needs_labels(self) -> bool:
        """Whether it predicts the optimal action, which only contexts hold."""
        return False

    @property
    def num_outputs(self) -> int:
        """Numbers that the policy's head gives at each token; the layout's, unless more than actions is predicted."""
        return self.layout.num_outputs


class Supervised(Objective, abc.ABC):
    """What is predicted from what. Batches are ``Contexts`` with ``needs_labels``, else ``History``."""

    tells_layers: ClassVar[bool] = False  # whether ``lesson`` tells what layers with slow values have seen

    @abc.abstractmethod
    def inputs(self, batch: Any, key: Array | None = None) -> Array:
        """Tokens [B, L, D] that the policy reads.

        ``key`` is for what is random in training only (masks, say); without it nothing is.
        """

    @abc.abstractmethod
    def scores(self, logits: Array, batch: Any) -> Array:
        """-log p of the labels in nats, [B, decisions] float32, for the policy's outputs [B, L, num_outputs]."""

    def cross_entropy(self, policy: Any, batch: Any, key: Array | None = None) -> Array:
        """-log p of the labels in nats, [B, decisions] float32, under a ``Policy``."""
        return self.scores(jax.vmap(policy)(self.inputs(batch, key))[0], batch)

    def loss(self, policy: Any, batch: Any, key: Array) -> Array:
        """What training minimises, [] float32: mean cross-entropy, and what layers of the policy ask for besides."""
        key_inputs, key_layers = jax.random.split(key)
        tokens = self.inputs(batch, key_inputs)
        logits, records = jax.vmap(policy.apply_with_aux)(tokens, jax.random.split(key_layers, tokens.shape[0]))
        return jnp.mean(self.scores(logits, batch)) + policy.auxiliary_loss(records)

    def lesson(self, policy: Any, batch: Any, key: Array) -> tuple[Array, Any]:
        """The loss, and with ``tells_layers`` what the layers have seen for their slow values (``Policy.seen``)."""
        return self.loss(policy, batch, key), ()

    def report(self, policy: Any, batch: Any) -> dict[str, Array]:
        """``val_loss``, the frozen policy's mean cross-entropy, and what its layers tell of the batch; [] float32."""
        logits, records = jax.vmap(policy.apply_with_aux)(self.inputs(batch))
        return {"val_loss": jnp.mean(self.scores(logits, batch)), **policy.statistics(records)}


class Layout(Checked, abc.ABC):
    """How transitions become tokens, shared by all objectives. Subclasses are frozen dataclasses.

    A sequence of T steps is ``prompt``, then ``before`` and ``after`` of each step in turn. Decision t is read off
    the last token in front of step t's action: see ``decisions``.
    """

    tells_past: ClassVar[bool] = False  # whether ``before`` tells of the transition before, which ``after`` then omits
    action_token: ClassVar[int | None] = None  # the one of ``after`` that knows the action and nothing of its outcome

    num_prompt: int  # P, tokens in front of the first step
    num_before: int  # B, tokens of a step that precede its action
    num_after: int  # A, tokens of a step that tell action and outcome
    token_names: tuple[str, ...]  # what each of the P + B + A kinds of tokens is

    @property
    @abc.abstractmethod
    def num_actions(self) -> int:
        """K; 0 where actions are not numbered."""

    @property
    def head(self) -> ActionHead:
        """The distribution of actions that a policy's outputs give."""
        return Categorical(self.num_actions)

    @property
    def num_outputs(self) -> int:
        """Numbers that say what to do: the logits of K actions, or what the head of a box of actions takes."""
        return self.head.size

    @property
    @abc.abstractmethod
    def obs_shape(self) -> tuple[int, ...]:
        """O."""

    @property
    @abc.abstractmethod
    def token_dim(self) -> int:
        """D of a raw token."""

    @abc.abstractmethod
    def prompt(self, query: Array) -> Array:
        """Tokens [P, D] for an observation [*O] that is to be acted upon all along."""

    @abc.abstractmethod
    def before(self, obs: Array, past: Transition) -> Array:
        """Tokens [B, D] for the observation [*O] to be acted upon, behind the transition ``past``, or ``no_past``."""

    @abc.abstractmethod
    def after(self, transition: Transition) -> Array:
        """Tokens [A, D] of one transition, read once its outcome is known."""

    def sequence(
        self, history: History, queries: Array, begins: Array | None = None, past: Transition | None = None
    ) -> Array:
        """All tokens [P + T (B + A) + B, D] of history [T, ...] up to the decision after it.

        Args:
          history: what happened.
          queries: [T + 1, *O] the observations to be acted upon, one a decision; a layout with a prompt takes the first
            of them for all.
          begins: [T + 1] bool, the decisions in front of which a new context begins; None: all are of one.
          past: the transition before the first one; None: there is none.
        """
        none = self.no_past()
        first = none if past is None else past
        pasts = jax.tree.map(lambda one, rows: jnp.concatenate([one[None], rows]), first, history)
        if begins is not None:
            pasts = jax.vmap(lambda new, row: jax.tree.map(partial(jnp.where, new), none, row))(begins, pasts)
        before = jax.vmap(self.before)(queries, pasts)
        tokens = jnp.concatenate([before[:-1], jax.vmap(self.after)(history)], axis=1).reshape(-1, self.token_dim)
        return jnp.concatenate([self.prompt(queries[0]), tokens, before[-1]])

    def no_past(self) -> Transition:
        """What stands for the transition before the first one: zeros, and what is no action, -1 or NaN."""
        obs, no = jnp.zeros(self.obs_shape, jnp.float32), jnp.bool_(False)
        return Transition(obs, self.head.no_action(), jnp.float32(0.0), obs, no, no)

    def decisions(self, num_steps: int) -> Array:
        """Positions [T + 1] int32 in ``sequence`` of the tokens whose outputs are decisions 0 .. T."""
        return self.num_prompt + self.num_before - 1 + jnp.arange(num_steps + 1) * (self.num_before + self.num_after)

    def outcomes(self, num_steps: int) -> Array:
        """Positions [T] int32 in ``sequence`` of the action tokens, whose outputs tell what follows an action."""
        assert self.action_token is not None
        first = self.num_prompt + self.num_before + self.action_token
        return first + jnp.arange(num_steps) * (self.num_before + self.num_after)

    def kinds(self, num_tokens: int) -> Array:
        """The kind, an index into ``token_names``, of each of the first ``num_tokens`` in ``sequence``, [L] int32."""
        place, cycle = jnp.arange(num_tokens) - self.num_prompt, self.num_before + self.num_after
        return jnp.where(place < 0, place, place % cycle) + self.num_prompt

    def num_tokens(self, num_steps: int) -> int:
        """Length of ``sequence``."""
        return self.num_prompt + num_steps * (self.num_before + self.num_after) + self.num_before
