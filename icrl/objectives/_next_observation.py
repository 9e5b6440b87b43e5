"""Next observation (Dedieu et al. 2024): predict o_{n+1} .. o_{n+S} from what was seen and done, and what will be done.

It is in no registry, as its network's outputs are no scores of actions: no recipe could act with it. The module of
``ObservationModel`` says what is the paper's and what is ours.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.model_types import Layout, Supervised
from icrl.core.types import Array, History


@dataclasses.dataclass(frozen=True)
class NextObservation(Supervised):
    """-log p of the S observations behind each of the first T steps of walks of T + S steps.

    Observations are numbers below O, tokens those of a layout with one token a step. Rewards are blanked: where they
    are paid at a goal they would give the place away.
    """

    tells_layers = True

    layout: Layout
    num_observations: int = setting(4, low=2, high=65536, help="O")
    num_targets: int = setting(1, low=1, high=16, help="S, coming observations that are predicted at each step")

    @property
    def num_outputs(self) -> int:
        """S O, of each token."""
        return self.num_targets * self.num_observations

    def inputs(self, batch: History, key: Array | None = None) -> Array:
        """Tokens [B, T, D + S K] of walks [B, T + S, ...]: the past, and the actions to come."""
        del key
        return jax.vmap(self._tokens)(batch._replace(reward=jnp.zeros_like(batch.reward)))

    def _tokens(self, walk: History) -> Array:
        steps = walk.action.shape[0] - self.num_targets
        past = self.layout.sequence(jax.tree.map(lambda field: field[: steps - 1], walk), walk.obs[:steps])
        actions = jax.nn.one_hot(walk.action, self.layout.num_actions, dtype=jnp.float32)
        plan = [actions[ahead : ahead + steps] for ahead in range(self.num_targets)]
        return jnp.concatenate([past, *plan], axis=-1)

    def scores(self, logits: Array, batch: History) -> Array:
        """-log p in nats, the mean over the S targets, [B, T] float32, for outputs [B, T, S O]."""
        log_p = jax.nn.log_softmax(self._by_target(logits))
        chosen = jax.nn.one_hot(self.targets(batch), self.num_observations, dtype=jnp.float32)
        return -jnp.mean(jnp.sum(log_p * chosen, axis=-1), axis=-1)

    def targets(self, batch: History) -> Array:
        """o_{n+1} .. o_{n+S} at each step, [B, T, S] int32."""
        steps = batch.action.shape[1] - self.num_targets
        seen = batch.next_obs[..., 0].astype(jnp.int32)
        return jnp.stack([seen[:, ahead : ahead + steps] for ahead in range(self.num_targets)], axis=-1)

    def hits(self, logits: Array, batch: History) -> Array:
        """Whether the likeliest next observation is the one that came, [B, T] bool."""
        likeliest = jnp.argmax(self._by_target(logits)[:, :, 0], axis=-1)
        return likeliest == self.targets(batch)[..., 0]

    def _by_target(self, logits: Array) -> Array:
        return logits.reshape(*logits.shape[:2], self.num_targets, self.num_observations)

    def lesson(self, policy: Any, batch: History, key: Array) -> tuple[Array, Any]:
        tokens = self.inputs(batch)
        logits, records = jax.vmap(policy.apply_with_aux)(tokens, jax.random.split(key, tokens.shape[0]))
        loss = jnp.mean(self.scores(logits, batch)) + policy.auxiliary_loss(records)
        return loss, policy.seen(records)

    def report(self, policy: Any, batch: History) -> dict[str, Array]:
        """``val_loss``, ``accuracy`` of the next observation in the second half, and what the bottleneck tells."""
        logits, records = jax.vmap(policy.apply_with_aux)(self.inputs(batch))
        hits = self.hits(logits, batch)[:, logits.shape[1] // 2 :]
        said = {"val_loss": jnp.mean(self.scores(logits, batch)), "accuracy": jnp.mean(hits.astype(jnp.float32))}
        return {**said, **policy.statistics(records)}
