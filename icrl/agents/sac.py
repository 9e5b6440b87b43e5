"""Soft actor-critic, small and pure: the learner whose histories are distilled where actions are vectors."""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from icrl.agents._arm_agent import MAX_DIM
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.action_heads import log_tanh_slope, normal_neg_log_prob
from icrl.core.boxes import Box
from icrl.core.errors import require
from icrl.core.fields import required, setting
from icrl.core.registry import agents
from icrl.core.types import Agent, Array, Environment, Grid, Transition

LOG_STD = (-5.0, 2.0)  # of the policy in front of tanh: outputs beyond are cut
MAX_BUFFER = 2**22
Layers = list[dict[str, Array]]


class Buffer(NamedTuple):
    """The latest N transitions, in a ring."""

    obs: Array  # [N, D] float32
    action: Array  # [N, A] float32, with the box as [-1, 1]
    reward: Array  # [N] float32
    next_obs: Array  # [N, D] float32
    terminated: Array  # [N] bool


class Networks(NamedTuple):
    """All that an update changes."""

    actor: Layers
    critics: Layers  # leaves with a leading axis [2]
    targets: Layers  # the critics of the past, [2]
    log_alpha: Array  # [] float32
    optimizers: tuple[Any, Any, Any]  # of actor, critics and log_alpha
    key: Array  # typed; split at every update


class SACState(NamedTuple):
    """What was learned and from what."""

    networks: Networks
    buffer: Buffer
    count: Array  # type: ignore[assignment]  # [] int32, transitions seen (hides tuple.count, which nobody needs here)


@agents.register("sac", paper="Haarnoja et al. 2018")
@struct.dataclass
class SAC(Agent):
    """Maximum-entropy actor-critic with two critics and a replay buffer, for boxes of actions.

    One update of every network behind each transition from the ``random_steps``-th on. Only a termination cuts the
    value of what follows off, a time limit does not. ``alpha`` follows an ``entropy``, -1 nat a component as in the
    authors' "Soft actor-critic algorithms and applications" (2018, section 5), unless it is not ``tuned``.

    Batch, discount and tau are the authors', whose layers are 256 wide. Their step size is 3e-4, and Wu et al. 2025's;
    1e-3 learns sooner in the two worlds here: in Pendulum -153 behind 10 000 steps, not -388, on two goals of
    Point-Robot behind 12 000 steps 1.02 times the optimum's cost, not 1.06 (2026-11-30, two CPU cores, one seed, the
    mean of 100 greedy episodes). Wu et al. have 128 units, 256 for Point-Robot, and fix alpha at .2.

    The state has one counter for all that happens, so that learners side by side (``vmap`` over tasks) learn together.
    """

    obs_dim: int = required(low=1, high=MAX_DIM, static=True, help="D, scalars of an observation")
    box: Box = struct.field(pytree_node=False, kw_only=True)
    hidden: int = setting(128, low=1, high=4096, static=True, help="units in each of two layers")
    buffer_size: int = setting(20_000, low=1, high=MAX_BUFFER, static=True, help="N, transitions remembered")
    batch_size: int = setting(256, low=1, high=2**16, static=True, help="transitions in an update")
    random_steps: int = setting(100, low=1, high=2**24, static=True, help="transitions in front of the first update")
    learning_rate: float = setting(1e-3, low=0.0, open_low=True, help="step size of Adam")
    discount: float = setting(0.99, low=0.0, high=1.0, help="discount of rewards a step later")
    tau: float = setting(0.005, low=0.0, high=1.0, help="share of the critics that their targets take over")
    alpha: float = setting(0.2, low=0.0, open_low=True, help="what a nat of entropy is worth; tuned, where it begins")
    tuned: bool = setting(True, static=True, help="move alpha so that the policy has the entropy wanted")
    entropy: float = setting(-1.0, low=-20.0, high=0.6, help="that entropy, nats of each component scaled to [-1, 1]")

    grid: ClassVar[Grid] = each("learning_rate", 1e-4, 3e-4, 2e-3, 4e-3)

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        spec = env.spec
        hint = "sac needs actions that are vectors"
        require(spec.action_box is not None, "env", spec.name, "one with a box of actions", hint)
        return cls(**{"obs_dim": spec.obs_dim, "box": spec.action_box, **settings})

    def init(self, key: Array) -> SACState:
        key_actor, key_critics, key_updates = jax.random.split(key, 3)
        actor = _init_mlp(key_actor, (self.obs_dim, self.hidden, self.hidden, 2 * self.box.dim))
        sizes = (self.obs_dim + self.box.dim, self.hidden, self.hidden, 1)
        critics = jax.vmap(lambda k: _init_mlp(k, sizes))(jax.random.split(key_critics))
        log_alpha = jnp.log(jnp.float32(self.alpha))
        optimizers = tuple(self._adam.init(params) for params in (actor, critics, log_alpha))
        rows = self.buffer_size
        obs, zero = jnp.zeros((rows, self.obs_dim), jnp.float32), jnp.zeros(rows, jnp.float32)
        empty = Buffer(obs, jnp.zeros((rows, self.box.dim), jnp.float32), zero, obs, zero.astype(bool))
        targets = jax.tree.map(jnp.array, critics)
        networks = Networks(actor, critics, targets, log_alpha, optimizers, key_updates)
        return SACState(networks, empty, jnp.int32(0))

    def act(self, key: Array, state: SACState, obs: Array) -> Array:
        key_random, key_policy = jax.random.split(key)
        unit, _ = self._sampled(key_policy, state.networks.actor, obs.reshape(-1))
        return jnp.where(state.count < self.random_steps, self.box.draw(key_random), self.box.from_unit(unit))

    def act_greedy(self, key: Array, state: SACState, obs: Array) -> Array:
        """The middle of the policy, tanh of its mean."""
        del key
        mean, _ = _policy(state.networks.actor, obs.reshape(-1))
        return self.box.from_unit(jnp.tanh(mean))

    def update(self, state: SACState, transition: Transition) -> SACState:
        row = Buffer(
            transition.obs.reshape(-1),
            self.box.to_unit(transition.action),
            transition.reward,
            transition.next_obs.reshape(-1),
            transition.terminated,
        )
        place = state.count % self.buffer_size
        buffer = jax.tree.map(lambda rows, new: rows.at[place].set(new), state.buffer, row)
        count = state.count + 1
        filled = jnp.minimum(count, self.buffer_size)
        networks = jax.lax.cond(  # of the networks alone: a buffer that went through it would be copied
            count >= self.random_steps, lambda old: self._learned(old, buffer, filled), lambda old: old, state.networks
        )
        return SACState(networks, buffer, count)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def _sampled(self, key: Array, actor: Layers, obs: Array) -> tuple[Array, Array]:
        """Actions [..., A] in [-1, 1] of the policy at ``obs`` [..., D], and log p of each, [...]."""
        mean, std = _policy(actor, obs)
        z = mean + std * jax.random.normal(key, mean.shape, jnp.float32)
        return jnp.tanh(z), -normal_neg_log_prob(mean, std, z) - jnp.sum(log_tanh_slope(z), axis=-1)

    def _learned(self, old: Networks, buffer: Buffer, filled: Array) -> Networks:
        """One step of each network on a batch of the ``filled`` [] rows of the buffer."""
        key, key_batch, key_next, key_now = jax.random.split(old.key, 4)
        index = jax.random.randint(key_batch, (self.batch_size,), 0, filled, jnp.int32)
        batch = jax.tree.map(lambda rows: rows[index], buffer)
        alpha = jnp.exp(old.log_alpha)

        action, log_prob = self._sampled(key_next, old.actor, batch.next_obs)
        value = jnp.min(_worth(old.targets, batch.next_obs, action), axis=0) - alpha * log_prob
        target = batch.reward + self.discount * jnp.where(batch.terminated, 0.0, value)

        def critic_loss(critics: Layers) -> Array:  # equation 5
            errors = _worth(critics, batch.obs, batch.action) - target[None]
            return 0.5 * jnp.sum(jnp.mean(jnp.square(errors), axis=1))

        critics, critics_opt = self._stepped(critic_loss, old.critics, old.optimizers[1])

        def actor_loss(actor: Layers) -> tuple[Array, Array]:  # equation 9
            action, log_prob = self._sampled(key_now, actor, batch.obs)
            return jnp.mean(alpha * log_prob - jnp.min(_worth(critics, batch.obs, action), axis=0)), log_prob

        gradient, log_prob = jax.grad(actor_loss, has_aux=True)(old.actor)
        actor, actor_opt = self._moved(gradient, old.actor, old.optimizers[0])
        log_alpha, alpha_opt = old.log_alpha, old.optimizers[2]
        if self.tuned:  # equation 18
            excess = jnp.mean(log_prob) + self.entropy * self.box.dim
            log_alpha, alpha_opt = self._moved(-jnp.exp(log_alpha) * excess, log_alpha, alpha_opt)
        targets = jax.tree.map(lambda slow, new: slow + self.tau * (new - slow), old.targets, critics)
        return Networks(actor, critics, targets, log_alpha, (actor_opt, critics_opt, alpha_opt), key)

    def _stepped(self, loss: Any, params: Any, opt_state: Any) -> tuple[Any, Any]:
        return self._moved(jax.grad(loss)(params), params, opt_state)

    def _moved(self, gradient: Any, params: Any, opt_state: Any) -> tuple[Any, Any]:
        """Parameters and optimiser a step of Adam against ``gradient`` later."""
        updates, opt_state = self._adam.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state


def _policy(actor: Layers, obs: Array) -> tuple[Array, Array]:
    """Mean and standard deviation [..., A] in front of tanh."""
    mean, log_std = jnp.split(_mlp(actor, obs), 2, axis=-1)
    return mean, jnp.exp(jnp.clip(log_std, *LOG_STD))


def _worth(critics: Layers, obs: Array, action: Array) -> Array:
    """What both critics [2] say of actions [n, A] at ``obs`` [n, D], [2, n]."""
    both = jnp.concatenate([obs, action], axis=-1)
    return jax.vmap(_mlp, in_axes=(0, None))(critics, both)[..., 0]


def _init_mlp(key: Array, sizes: tuple[int, ...]) -> Layers:
    """Normal weights of variance 2 / rows in front of a rectifier and 1 / rows at the end; biases 0."""
    layers = []
    for k, rows, columns in zip(jax.random.split(key, 3), sizes[:-1], sizes[1:], strict=True):
        gain = 1.0 if columns == sizes[-1] else 2.0
        weight = (gain / rows) ** 0.5 * jax.random.normal(k, (rows, columns), jnp.float32)
        layers.append({"w": weight, "b": jnp.zeros(columns, jnp.float32)})
    return layers


def _mlp(layers: Layers, x: Array) -> Array:
    for layer in layers[:-1]:
        x = jax.nn.relu(_affine(layer, x))
    return _affine(layers[-1], x)


def _affine(layer: dict[str, Array], x: Array) -> Array:
    """The layer's x W + b for x [..., rows]."""
    return x @ layer["w"] + layer["b"].reshape(*[1] * (x.ndim - 1), -1)
