"""What a policy's head says of the world besides what to do: next observation, reward and return-to-go.

Numbered observations and rewards of few values have a categorical distribution, real numbers a Gaussian one (Son et
al. 2025, section 4: p(r_t, o_{t+1}, R_t | context, o_t, a_t), with R_t the rewards from t to the end of the episode).

Letters: D numbers of the head, O the shape of one observation, ``...`` any axes in front.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icrl.core.errors import require
from icrl.core.fields import Checked, setting
from icrl.core.types import Array, EnvSpec

MOST_CLASSES = 1024  # observations that are one choice; of more each coordinate is a choice of its own
LEAST_STD = 0.01  # of a Gaussian whose deviation is learned


class Outcome(NamedTuple):
    """What follows an action."""

    next_obs: Array  # [..., *O] float32
    reward: Array  # [...] float32
    returns: Array  # [...] float32, R_t


@dataclasses.dataclass(frozen=True)
class Dynamics(Checked):
    """Heads for the outcomes of one environment; static in jitted code.

    Departures from the paper: observations that are a few coordinates are one choice among all of them while they are
    at most 1 024 (as its code has it), so that what is predicted is one of them; R_t is learned as R_t / H, so that
    one deviation suits both.
    """

    spec: EnvSpec
    rewards: tuple[float, ...] = ()  # the values that a reward can take; (): real numbers
    std: float | None = setting(0.3, low=0.0, open_low=True, help="of the Gaussian heads; none: learned")

    def __post_init__(self) -> None:
        super().__post_init__()
        finite = all(map(math.isfinite, self.rewards)) and len(set(self.rewards)) == len(self.rewards) != 1
        require(finite, "reward_values", self.rewards, "none, or at least two different numbers")

    @property
    def obs_classes(self) -> tuple[int, ...]:
        """Sizes of the choices that make the next observation; (): real numbers."""
        count = self.spec.num_states
        return self.spec.obs_nvec if count is None or count > MOST_CLASSES else (count,)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of the head for the next observation, the reward and the return-to-go."""
        obs = sum(self.obs_classes) or self._moments * self.spec.obs_dim
        return obs, len(self.rewards) or self._moments, self._moments

    @property
    def num_outputs(self) -> int:
        """D."""
        return sum(self.sizes)

    @property
    def _moments(self) -> int:
        return 1 if self.std is not None else 2

    def scores(self, outputs: Array, seen: Outcome) -> Outcome:
        """-log p of each part of what was seen, in nats, [...] float32 each, for outputs [..., D]."""
        obs, reward, returns = self._split(outputs)
        batch = seen.reward.shape
        flat = seen.next_obs.reshape(*batch, self.spec.obs_dim)
        if not self.obs_classes:
            of_obs = jnp.sum(self._gaussian_nll(obs, flat), axis=-1)
        else:
            labels = self._classes(flat)
            chosen = zip(self._choices(obs), labels, strict=True)
            of_obs = sum((_categorical_nll(logits, label) for logits, label in chosen), jnp.zeros(batch, jnp.float32))
        if self.rewards:
            of_reward = _categorical_nll(reward, self._reward_class(seen.reward))
        else:
            of_reward = self._gaussian_nll(reward, seen.reward[..., None])[..., 0]
        return Outcome(of_obs, of_reward, self._gaussian_nll(returns, self._scaled(seen.returns)[..., None])[..., 0])

    def predicted(self, outputs: Array) -> Outcome:
        """The most likely outcome, for outputs [..., D]."""
        obs, reward, returns = self._split(outputs)
        shape = (*outputs.shape[:-1], *self.spec.obs_shape)
        if not self.obs_classes:
            next_obs = obs[..., : self.spec.obs_dim]
        else:
            picked = [jnp.argmax(logits, axis=-1).astype(jnp.int32) for logits in self._choices(obs)]
            numbers = picked if self.obs_classes == self.spec.obs_nvec else self._coordinates(picked[0])
            next_obs = jnp.stack(numbers, axis=-1).astype(jnp.float32)
        likely = jnp.asarray(self.rewards, jnp.float32)[jnp.argmax(reward, axis=-1)] if self.rewards else reward[..., 0]
        return Outcome(next_obs.reshape(shape), likely, returns[..., 0] * self.spec.max_steps_in_episode)

    def _split(self, outputs: Array) -> tuple[Array, Array, Array]:
        obs, reward, _ = self.sizes
        return outputs[..., :obs], outputs[..., obs : obs + reward], outputs[..., obs + reward :]

    def _scaled(self, returns: Array) -> Array:
        return returns / self.spec.max_steps_in_episode

    def _choices(self, obs: Array) -> list[Array]:
        """Logits of each choice."""
        ends = [sum(self.obs_classes[:place]) for place in range(1, len(self.obs_classes))]
        return jnp.split(obs, ends, axis=-1)

    def _classes(self, flat: Array) -> list[Array]:
        """The class of each choice, [...] int32, for observations [..., obs_dim]."""
        numbers = list(jnp.moveaxis(flat.astype(jnp.int32), -1, 0))
        if self.obs_classes == self.spec.obs_nvec:
            return numbers
        index = jnp.zeros(flat.shape[:-1], jnp.int32)
        for number, count in zip(numbers, self.spec.obs_nvec, strict=True):
            index = index * count + number  # row-major, as ``EnvSpec.state_index``
        return [index]

    def _coordinates(self, index: Array) -> list[Array]:
        """The numbers of observation ``index`` [...]."""
        found = []
        for count in reversed(self.spec.obs_nvec):
            index, number = jnp.divmod(index, count)
            found.append(number)
        return found[::-1]

    def _reward_class(self, reward: Array) -> Array:
        """The nearest of the values, [...] int32."""
        distances = jnp.stack([jnp.abs(reward - value) for value in self.rewards], axis=-1)
        return jnp.argmin(distances, axis=-1)

    def _gaussian_nll(self, outputs: Array, x: Array) -> Array:
        """-log N(x; mean, std^2) of x [..., n] under outputs [..., n] or [..., 2 n], without the constant."""
        mean, std = outputs[..., : x.shape[-1]], jnp.float32(self.std or 0.0)
        if self.std is None:
            std = LEAST_STD + jax.nn.softplus(outputs[..., x.shape[-1] :])
        return ((x - mean) / std) ** 2 / 2 + (jnp.log(std) if self.std is None else 0.0)


def _categorical_nll(logits: Array, label: Array) -> Array:
    """-log softmax(logits)[label] of logits [..., n] and label [...]."""
    chosen = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    return -jnp.sum(jax.nn.log_softmax(logits) * chosen, axis=-1)
