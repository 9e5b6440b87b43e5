"""Our side of each comparison: a process that computes in turns with a peer's (``peers/turns.py``).

python benchmarks/ours.py SIDE '{"count": 1024, ...}'

Besides what every side tells, a training step tells the shape of its model, of which the peer makes its own, and the
floating-point operations of its products: linear maps and the lower half of the attention square, three times (forward,
and twice as much backward).
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from peers.turns import serve, settings

from icrl.core.interact import interact
from icrl.core.registry import agents, environments, experiments, models
from icrl.core.settings import replaced
from icrl.core.types import Contexts, History
from icrl.datasets.room_contexts import IndependentContexts
from icrl.envs._streams import Streams
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.envs.dark_room import DarkRoom, DarkRoomCorner
from icrl.models.gru import GRU
from icrl.models.transformer import TransformerConfig
from icrl.recipes.bench import Load, bandit_recipe, evaluating, stepping, training
from icrl.recipes.parts import Prediction
from icrl.recipes.recipe import Recipe
from icrl.training.step import FitSettings, initial_state, train_step

Side = tuple[Load, dict[str, Any]]  # and what else is told of it; "tells" is for the peer


# --- training ---


def bandits(length: int, heads: int, batch: int, width: int = 32, layers: int = 4, matmuls: str = "float32") -> Side:
    """A step of DPT's training on Gaussian bandits, ``length`` steps and a query."""
    sizes = {"width": width, "num_layers": layers, "batch_size": batch, "matmuls": matmuls}
    return trained(replaced(bandit_recipe(length, heads), sizes))


def preset(experiment: str, batch_size: int | None = None, **changes: Any) -> Side:
    """A step of the preset ``paper``, without the making of its data, and how many steps a model of it takes."""
    recipe = experiments[experiment].presets["paper"]
    recipe = replaced(recipe, {**changes, "batch_size": batch_size or recipe.fit.batch_size})
    load, told = trained(recipe)
    return load, {**told, "train_steps": recipe.fit.train_steps}


def trained(recipe: Recipe) -> Side:
    """One step after another on the same batch."""
    policy, objective, key = recipe.new_policy(0, 0), recipe.objective(), jax.random.key(0)
    fit, batch = recipe.fit.resolved(policy), blank(recipe)
    state = [initial_state(recipe.fit, policy)]

    def step() -> Any:  # gives its state away
        state[0] = train_step(fit, objective, policy.structure, state[0], batch, key)
        return state[0]

    length = recipe.layout.num_tokens(recipe.context_steps)
    shape = shape_of(recipe.backbone, length) | {
        "batch": fit.batch_size,
        "token_dim": recipe.layout.token_dim,
        "outputs": objective.num_outputs,
    }
    told = {"tells": {"shape": shape}, "flops": flops(shape)}
    return Load(fit.batch_size * length, "tokens", step), told


def blank(recipe: Recipe) -> Any:
    """A batch of the right shapes; what is in it costs nothing."""
    shape, spec = (recipe.fit.batch_size, recipe.context_steps), recipe.env.spec
    obs = jnp.zeros((*shape, *spec.obs_shape), jnp.float32)
    action, flag = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
    history = History(obs, action, jnp.zeros(shape), obs, flag, flag)
    return Contexts(history, obs[:, :1], action[:, :1]) if recipe.needs_labels else history


def shape_of(config: TransformerConfig, length: int) -> dict[str, Any]:
    """What a peer has to know of the model."""
    same = ("width", "positions", "attention", "attention_bias", "norm", "norm_first", "mlp")
    return {name: getattr(config, name) for name in same} | {
        "length": length,
        "layers": config.num_layers,
        "heads": config.num_heads,
        "hidden": config.hidden(0),
        "final_norm": config.final_norm and config.norm_first,
    }


def flops(shape: dict[str, Any]) -> int:
    """Of a step's products."""
    width, length = shape["width"], shape["length"]
    mlp = (3 if shape["mlp"] == "swiglu" else 2) * width * shape["hidden"]
    token = shape["layers"] * (4 * width**2 + mlp + width * length)  # multiplications
    return 6 * token * shape["batch"] * length


def seeds(count: int, length: int, heads: int) -> Side:
    """A step of DPT's training of ``count`` seeds in one program; tokens of all of them."""
    return training(length, heads, seeds=count), {}


def recurrent(environments: int, width: int, horizon: int) -> Side:
    """A step of RL^2's training with a GRU."""
    recipe = Recipe(
        env=BernoulliBandit(horizon=horizon),
        model="gru",
        backbone=GRU.Config(width=width, num_layers=1, block="none"),
        prediction=Prediction(objective="rl2", layout="steps", num_epochs=4, minibatches=4),
        fit=FitSettings(batch_size=environments, weight_decay=0.0),
    )
    learner = recipe.learner(0, 0)
    state, turn = [learner.initial_state()], [0]

    def step() -> Any:
        turn[0] += 1
        state[0] = learner.step(state[0], turn[0])[0]
        return state[0]

    return Load(environments * horizon, "steps", step), {"tells": {"token_dim": recipe.layout.token_dim}}


def layer(model: str, width: int, batch: int, length: int, part: str = "layer") -> Side:
    """Forward and backward of one layer, norms and GLU included, or of its recurrence alone."""
    sizes = {"state_size": width} if model == "s5" else {}
    stack = models[model](models[model].Config(width=width, num_layers=1, **sizes), length, nnx.Rngs(0))
    module, form = (stack, whole) if part == "layer" else (stack.layers[0].mixer, mixed)
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    xs = jax.random.normal(jax.random.key(0), (batch, length, width))
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(form(nnx.merge(graphdef, params, rest), xs) ** 2)))
    return Load(batch * length, "tokens", lambda: gradient(params)), {}


def whole(stack: Any, xs: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: stack(x)[0])(xs)


def mixed(mixer: Any, xs: jax.Array) -> jax.Array:
    start = jnp.zeros(xs.shape[1], bool)
    return jax.vmap(lambda x: mixer(x, start, mixer.initial_carry())[0])(xs)


# --- acting ---


def agent(env: str, agent: str, steps: int, count: int, **settings: Any) -> Side:
    """An agent in ``count`` tasks side by side."""
    return stepping(environments[env](**settings), agent, steps, count), {}


def learner(steps: int, count: int, batch: int, epochs: int) -> Side:
    """PPO in ``count`` copies of one Dark Room: a rollout of ``steps`` in each and the updates behind it."""
    env = Streams(DarkRoom(), count)
    player = agents["ppo"].for_env(env, num_steps=steps, batch_size=batch, num_epochs=epochs)
    task = env.inner.task(jnp.int32(0))
    rollout = jax.jit(lambda key: jnp.sum(interact(key, env, task, player, steps).curves.reward))
    return Load(count * steps, "steps", partial(rollout, jax.random.key(0))), {}


def game(env: str, level: str, steps: int, count: int) -> Side:
    """A uniform player in ``count`` games of POPGym's side by side."""
    world = environments[env](level=level)
    task, player = world.default_params, agents["uniform"].for_env(world)
    keys = jax.random.split(jax.random.key(0), count)

    @jax.jit
    @jax.vmap
    def rollouts(key: jax.Array) -> jax.Array:
        history = interact(key, world, task, player, steps).history
        return jnp.sum(history.reward) + jnp.sum(history.next_obs)  # CartPole's rewards alone need no pole

    return Load(count * steps, "steps", partial(rollouts, keys)), {}


def evaluation(steps: int, count: int, heads: int) -> Side:
    """DPT's model in ``count`` bandits of its own."""
    recipe = bandit_recipe(steps, heads)
    length = recipe.layout.num_tokens(steps)
    outputs, token_dim = recipe.objective().num_outputs, recipe.layout.token_dim
    shape = shape_of(recipe.backbone, length) | {"token_dim": token_dim, "outputs": outputs}
    return evaluating(steps, count, heads), {"tells": {"shape": shape}}


def contexts(count: int, steps: int) -> Side:
    """DPT's contexts of Dark Rooms."""
    stream = IndependentContexts(DarkRoomCorner(), np.arange(80), steps, seed=0)
    return Load(count, "contexts", lambda: stream.fetch(np.arange(count))), {}


def product(size: int) -> Side:
    """A square product of bfloat16: what a program can reach at best."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.bfloat16)
    multiply = jax.jit(jnp.matmul)
    return Load(1, "products", lambda: multiply(a, b)), {"flops": 2 * size**3}


SIDES: dict[str, Callable[..., Side]] = {
    each.__name__: each
    for each in (bandits, preset, seeds, recurrent, layer, agent, learner, game, evaluation, contexts, product)
}


def main() -> None:
    load, told = SIDES[sys.argv[1]](**settings())
    told = {"device": jax.devices()[0].device_kind, **told}
    serve(load.work, load.amount, load.unit, ("jax",), jax.block_until_ready, **told)


if __name__ == "__main__":
    main()
