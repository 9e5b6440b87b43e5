"""Algorithm distillation (Laskin et al. 2022, section 3): predict the source's own action from its past."""

import dataclasses

import jax
import jax.numpy as jnp

from icrl.core.fields import setting
from icrl.core.model_types import Layout, Supervised
from icrl.core.registry import objectives
from icrl.core.types import Array, History


@objectives.register("ad", paper="Laskin et al. 2022")
@dataclasses.dataclass(frozen=True)
class AD(Supervised):
    """-log p(a_t | h_{t-1}, o_t) at every step of a window that crosses the borders of episodes.

    ``label_smoothing`` e puts e / K on every action (their Dark Room Hard: 0.2). In training each input token is
    blanked with probability ``mask_prob`` (their sequence masking, 0.3 to 0.5; blank means zero in all its slots).
    """

    layout: Layout
    label_smoothing: float = setting(0.0, low=0.0, high=1.0, help="e, spread over all actions")
    mask_prob: float = setting(0.0, low=0.0, high=1.0, help="probability that an input token is blanked in training")

    def inputs(self, batch: History, key: Array | None = None) -> Array:
        """Tokens [B, L, D] of windows [B, C, ...], masked if there is a key."""
        tokens = jax.vmap(self._tokens)(batch)
        if key is not None and self.mask_prob > 0:
            tokens *= jax.random.bernoulli(key, jnp.float32(1 - self.mask_prob), (*tokens.shape[:2], 1))
        return tokens

    def scores(self, logits: Array, batch: History) -> Array:
        """-log p of the source's actions in nats, [B, C] float32."""
        read = logits[:, self.layout.decisions(batch.action.shape[1] - 1)]
        return self.layout.head.smoothed(self.label_smoothing).neg_log_prob(read, batch.action)

    def _tokens(self, window: History) -> Array:
        """Tokens [L, D] of one window, up to the decision of its last step."""
        earlier = jax.tree.map(lambda field: field[:-1], window)
        return self.layout.sequence(earlier, window.obs)
