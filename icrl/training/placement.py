"""Where the state of training is: on one device, whole on every device that takes part, or cut over them.

Cut, each of N devices keeps its share of the parameters and of both moments of AdamW, and sums its share of the
gradients: stage 3 of Samyam Rajbhandari, Jeff Rasley, Olatunji Ruwase, Yuxiong He, "ZeRO: Memory Optimizations Toward
Training Trillion Parameter Models", 2020, also known as fully sharded data parallelism. Ours: all parameters are
gathered as a step begins, not layer by layer, and what a reduce-scatter would add on its way is exchanged and then
added in the order of the groups, so that no bit differs from training with whole parameters everywhere.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from icrl.core.devices import on_mesh, training_mesh

if TYPE_CHECKING:
    from icrl.training.step import FitSettings, TrainState

SMALL = 4096  # scalars of a leaf below which it is everywhere: 16 kB are not worth an exchange
WHOLE = -1  # in place of an axis: the leaf is not cut

mesh_of = functools.cache(training_mesh)  # of G gradient groups; asked for at every step


def groups_of(settings: "FitSettings") -> int:
    """G of resolved settings."""
    assert settings.gradient_groups is not None
    return settings.gradient_groups


def placed(state: "TrainState", settings: "FitSettings") -> "TrainState":
    """The state on every device that takes part, whole or cut; settings are resolved, the state may be of S seeds."""
    mesh = mesh_of(groups_of(settings))
    if mesh.size == 1 or len(state.step.sharding.device_set) == mesh.size:
        return state
    if not settings.shard_parameters:
        return on_mesh(state, mesh, P())
    return jax.device_put(state, _shardings(state, mesh))


def cut_as_set(params: Any, settings: "FitSettings") -> Any:
    """Parameters of one model as its training keeps them, so that no device has them whole; settings are resolved."""
    mesh = mesh_of(groups_of(settings))
    return jax.device_put(params, _cut(params, mesh)) if settings.shard_parameters and mesh.size > 1 else params


def kept_in_place(state: "TrainState", settings: "FitSettings") -> "TrainState":
    """For jitted code: the state of the next step, where ``placed`` has that of this one."""
    mesh = mesh_of(groups_of(settings))
    if mesh.size == 1 or not settings.shard_parameters:
        return state
    return lax.with_sharding_constraint(state, _shardings(state, mesh))  # type: ignore[no-any-return]


def on_one_device(tree: Any) -> Any:
    """What is on several devices, whole on the first of them; anything else as it is."""

    def local(leaf: Any) -> Any:
        return _first_copy(jax.device_put(leaf, NamedSharding(leaf.sharding.mesh, P())) if _is_cut(leaf) else leaf)

    return jax.tree.map(local, tree)


def once(tree: Any) -> Any:
    """What is on several devices without what is there more than once: whole leaves of the first, cut ones as cut."""
    return jax.tree.map(lambda leaf: leaf if _is_cut(leaf) else _first_copy(leaf), tree)


def _is_cut(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not leaf.is_fully_replicated


def _first_copy(leaf: Any) -> Any:
    spread = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
    return leaf.addressable_data(0) if spread else leaf


# --- Along which axis ---


def axis_to_cut(shape: tuple[int, ...], count: int) -> int:
    """The longest axis that ``count`` devices divide, the first of equals; ``WHOLE`` without one, or if it is small."""
    axes = [axis for axis, size in enumerate(shape) if size % count == 0]
    if count == 1 or math.prod(shape) < SMALL or not axes:
        return WHOLE
    return max(axes, key=lambda axis: shape[axis])


def axes_to_cut(tree: Any, count: int, seeds: int = 0) -> Any:
    """``axis_to_cut`` of each leaf, behind the ``seeds`` (0 or 1) leading axes of training seeds side by side."""
    return jax.tree.map(lambda leaf: axis_to_cut(leaf.shape[seeds:], count), tree)


def specs_of(axes: Any, seeds: int = 0) -> Any:
    """The ``PartitionSpec`` of each leaf that is cut along its axis of ``axes``."""
    return jax.tree.map(lambda axis: P() if axis == WHOLE else P(*[None] * (seeds + axis), "data"), axes)


def _shardings(state: "TrainState", mesh: Mesh) -> "TrainState":
    """Parameters and moments cut, all else everywhere."""
    seeds, whole = state.step.ndim, NamedSharding(mesh, P())
    everywhere: TrainState = jax.tree.map(lambda _: whole, state)
    return everywhere._replace(params=_cut(state.params, mesh, seeds), opt_state=_cut(state.opt_state, mesh, seeds))


def _cut(tree: Any, mesh: Mesh, seeds: int = 0) -> Any:
    """The sharding of each leaf."""
    specs = specs_of(axes_to_cut(tree, mesh.size, seeds), seeds)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


# --- Inside a program over the mesh ---


def gathered(tree: Any, axes: Any) -> Any:
    """Whole leaves from the shares of all devices."""

    def whole(leaf: Any, axis: int) -> Any:
        return leaf if axis == WHOLE else lax.all_gather(leaf, "data", axis=axis, tiled=True)

    return jax.tree.map(whole, tree, axes)


def shared_out(trees: Any, axes: Any) -> Any:
    """From the trees [L, ...] of this device's groups to this device's share of the trees [G, ...] of all groups.

    It is what a reduce-scatter sends; the sum is left to the caller, as its order is to be that of the groups.
    """

    def exchanged(leaf: Any, axis: int) -> Any:
        if axis == WHOLE:
            return lax.all_gather(leaf, "data", tiled=True)
        return lax.all_to_all(leaf, "data", split_axis=1 + axis, concat_axis=0, tiled=True)

    return jax.tree.map(exchanged, trees, axes)
