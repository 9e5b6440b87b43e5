"""Proximal policy optimisation, small and pure: the learner whose histories AD, DICP and LHF distil."""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from icrl.agents._arm_agent import MAX_ARMS, MAX_DIM
from icrl.agents._grids import each
from icrl.core import struct
from icrl.core.errors import require
from icrl.core.fields import required, setting
from icrl.core.registry import agents
from icrl.core.threefry import categorical
from icrl.core.types import Agent, Array, Environment, Grid, Transition

HIDDEN = 64  # units in each of two tanh layers, policy and value apart (the defaults of stable-baselines3)

MAX_STEPS = 2**20  # between updates, and parallel copies


class Rollout(NamedTuple):
    """What the next update will learn from; [n, S, ...]."""

    obs: Array  # [n, S, D] float32
    action: Array  # [n, S] int32
    reward: Array  # [n, S] float32
    next_obs: Array  # [n, S, D] float32
    over: Array  # [n, S] bool, the episode ended after this step


class PPOState(NamedTuple):
    """Networks, optimiser and the rollout under way."""

    params: Any
    opt_state: Any
    rollout: Rollout
    fill: Array  # [] int32, steps in the rollout
    key: Array  # typed key of the minibatch order; split at every update


@agents.register("ppo", paper="Schulman et al. 2017; defaults of stable-baselines3 as used by Son et al. 2025")
@struct.dataclass
class PPO(Agent):
    """Clipped surrogate, GAE, advantages normalised in each minibatch, global norm of gradients cut at ``max_grad``.

    Acts in one environment or in S parallel copies of it (``Streams``); observations are flattened and divided by
    their largest value. An episode's time limit is treated as its end, as the sources of the published data sets do.
    """

    obs_dim: int = required(low=1, high=MAX_DIM, static=True, help="D, scalars of an observation")
    num_actions: int = required(low=1, high=MAX_ARMS, static=True, help="K, actions")
    num_streams: int | None = setting(
        None, low=1, high=MAX_STEPS, static=True, help="S, parallel copies; none: one plain environment"
    )
    num_steps: int = setting(20, low=1, high=MAX_STEPS, static=True, help="n, steps between updates")
    batch_size: int = setting(50, low=1, high=MAX_STEPS**2, static=True, help="transitions in a minibatch; divides n S")
    num_epochs: int = setting(20, low=1, high=2**20, static=True, help="passes over a rollout")
    obs_scale: float = setting(1.0, low=0.0, open_low=True, help="observations are divided by it")
    learning_rate: float = setting(3e-4, low=0.0, open_low=True, help="step size of Adam")
    discount: float = setting(0.99, low=0.0, high=1.0, help="discount of rewards a step later")
    gae_lambda: float = setting(0.95, low=0.0, high=1.0, help="lambda of generalised advantage estimation")
    clip: float = setting(0.2, low=0.0, open_low=True, help="largest change of the probability ratio that pays")
    value_weight: float = setting(0.5, low=0.0, help="weight of the value loss")
    entropy_weight: float = setting(0.0, low=0.0, help="weight of the entropy bonus")
    max_grad: float = setting(0.5, low=0.0, open_low=True, help="largest global norm of the gradient")

    grid: ClassVar[Grid] = (*each("learning_rate", 1e-3, 3e-3, 1e-2), {"learning_rate": 1e-3, "entropy_weight": 0.01})

    @classmethod
    def for_env(cls, env: Environment, **settings: Any) -> Self:
        spec, streams = env.spec, env.num_streams
        defaults = {
            "obs_dim": spec.obs_dim // (streams or 1),
            "num_actions": env.num_actions,
            "num_streams": streams,
            "obs_scale": max(abs(spec.obs_high), abs(spec.obs_low), 1.0) if spec.obs_high < 1e6 else 1.0,
        }
        agent = cls(**{**defaults, **settings})
        samples = agent.num_steps * (streams or 1)
        fits = samples % agent.batch_size == 0
        require(fits or "batch_size" not in settings, "batch_size", agent.batch_size, f"a divisor of {samples}")
        return agent if fits else agent.replace(batch_size=samples)  # type: ignore[attr-defined]

    def init(self, key: Array) -> PPOState:
        key_policy, key_value, key_order = jax.random.split(key, 3)
        params = {
            "policy": _init_mlp(key_policy, self.obs_dim, self.num_actions, 0.01),
            "value": _init_mlp(key_value, self.obs_dim, 1, 1.0),
        }
        rows = (self.num_steps, self.num_streams or 1)
        obs, zero = jnp.zeros((*rows, self.obs_dim), jnp.float32), jnp.zeros(rows, jnp.float32)
        empty = Rollout(obs, zero.astype(jnp.int32), zero, obs, zero.astype(bool))
        return PPOState(params, self._optimizer().init(params), empty, jnp.int32(0), key_order)

    def act(self, key: Array, state: PPOState, obs: Array) -> Array:
        logits = _mlp(state.params["policy"], self._flat(obs))
        return self._plain(categorical(key, logits))

    def act_greedy(self, key: Array, state: PPOState, obs: Array) -> Array:
        """The most likely action."""
        del key
        return self._plain(jnp.argmax(_mlp(state.params["policy"], self._flat(obs)), -1).astype(jnp.int32))

    def update(self, state: PPOState, transition: Transition) -> PPOState:
        row = Rollout(
            self._flat(transition.obs),
            transition.action.reshape(-1),
            transition.reward.reshape(-1),
            self._flat(transition.next_obs),
            (transition.terminated | transition.truncated).reshape(-1),
        )
        rollout = jax.tree.map(lambda rows, new: rows.at[state.fill].set(new), state.rollout, row)
        state = state._replace(rollout=rollout, fill=state.fill + 1)
        return jax.lax.cond(state.fill == self.num_steps, self._learn, lambda same: same, state)

    def _flat(self, obs: Array) -> Array:
        """Observations [*O] or [S, *O] as [S, D], scaled."""
        return obs.reshape(self.num_streams or 1, self.obs_dim) / self.obs_scale

    def _plain(self, action: Array) -> Array:
        """Actions [S] as the environment wants them."""
        return action if self.num_streams is not None else action[0]

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.max_grad), optax.adam(self.learning_rate, eps=1e-5))

    def _learn(self, state: PPOState) -> PPOState:
        """``num_epochs`` passes over the full rollout in minibatches."""
        key, key_order = jax.random.split(state.key)
        samples = self._samples(state.params, state.rollout)
        size = samples["advantage"].shape[0]
        orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key_order, self.num_epochs))
        batches = orders.reshape(-1, self.batch_size)

        def one_batch(carry: tuple[Any, Any], index: Array) -> tuple[tuple[Any, Any], None]:
            params, opt_state = carry
            grads = jax.grad(self._loss)(params, jax.tree.map(lambda rows: rows[index], samples))
            updates, opt_state = self._optimizer().update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        (params, opt_state), _ = jax.lax.scan(one_batch, (state.params, state.opt_state), batches)
        return PPOState(params, opt_state, state.rollout, jnp.int32(0), key)

    def _samples(self, params: Any, rollout: Rollout) -> dict[str, Array]:
        """The rollout with advantages and returns, one row a step of a stream: [n S, ...]."""
        value = _mlp(params["value"], rollout.obs)[..., 0]
        next_value = jnp.where(rollout.over, 0.0, _mlp(params["value"], rollout.next_obs)[..., 0])
        error = rollout.reward + self.discount * next_value - value
        decay = self.discount * self.gae_lambda * (1.0 - rollout.over)

        def backwards(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
            advantage = step[0] + step[1] * later
            return advantage, advantage

        _, advantage = jax.lax.scan(backwards, jnp.zeros_like(error[0]), (error, decay), reverse=True)
        log_prob = _log_prob(_mlp(params["policy"], rollout.obs), rollout.action)
        rows = {"obs": rollout.obs, "action": rollout.action, "log_prob": log_prob, "advantage": advantage}
        rows["target"] = advantage + value
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)

    def _loss(self, params: Any, batch: dict[str, Array]) -> Array:
        advantage = batch["advantage"]
        advantage = (advantage - advantage.mean()) / (advantage.std(ddof=min(1, advantage.size - 1)) + 1e-8)
        logits = _mlp(params["policy"], batch["obs"])
        ratio = jnp.exp(_log_prob(logits, batch["action"]) - batch["log_prob"])
        clipped = jnp.clip(ratio, 1.0 - self.clip, 1.0 + self.clip)
        surrogate = jnp.minimum(ratio * advantage, clipped * advantage).mean()
        value = _mlp(params["value"], batch["obs"])[..., 0]
        entropy = -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), -1).mean()
        return (
            -surrogate + self.value_weight * jnp.square(value - batch["target"]).mean() - self.entropy_weight * entropy
        )


def _init_mlp(key: Array, size_in: int, size_out: int, last_gain: float) -> list[dict[str, Array]]:
    """Normal weights of variance gain^2 / rows, gain sqrt 2 and ``last_gain`` at the end; biases 0.

    stable-baselines3 draws orthogonal matrices of these gains. They need a QR decomposition for each learner, and
    LAPACK's batched one, called from two threads of jaxlib's pool at once, waits for that pool for ever on two cores.
    """
    sizes, gains = (size_in, HIDDEN, HIDDEN, size_out), (2**0.5, 2**0.5, last_gain)
    layers = []
    for k, rows, columns, gain in zip(jax.random.split(key, 3), sizes[:-1], sizes[1:], gains, strict=True):
        weight = gain * rows**-0.5 * jax.random.normal(k, (rows, columns), jnp.float32)
        layers.append({"w": weight, "b": jnp.zeros(columns, jnp.float32)})
    return layers


def _mlp(layers: list[dict[str, Array]], x: Array) -> Array:
    for layer in layers[:-1]:
        x = jnp.tanh(_affine(layer, x))
    return _affine(layers[-1], x)


def _affine(layer: dict[str, Array], x: Array) -> Array:
    """The layer's x W + b for x [..., rows]."""
    return x @ layer["w"] + layer["b"].reshape(*[1] * (x.ndim - 1), -1)


def _log_prob(logits: Array, action: Array) -> Array:
    """Of actions [...] under logits [..., K]; a masked sum, as gathers are slow on CPU."""
    chosen = jax.nn.one_hot(action, logits.shape[-1], dtype=logits.dtype)
    return jnp.sum(jax.nn.log_softmax(logits) * chosen, -1)
