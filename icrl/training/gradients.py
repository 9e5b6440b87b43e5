"""Gradients of a batch: micro-batches one after the other, groups of them side by side, their sums in a fixed order.

A batch has G groups. What a group is worth does not depend on where it is computed, and the G sums are added in order,
so that any number of devices that divides G ends in the same bits. (With experts one device and several compile other
roundings: the same gradients to 1e-7.) It costs room for G gradients on every device.

Where one device is all there is, a CPU takes two groups at a time in two threads, as most operations are too small for
two cores; more and shorter calls would pay for fresh memory each time. Several devices run one program over a mesh: the
batch is cut along "data", parameters and the state of the optimiser are everywhere or, as a setting, cut as well
(``placement.py``): a device then has room for its share of G gradients. They may be those of several processes
(``core/processes.py``): each makes the whole batch, a function of the step, and hands over its own rows.
S training seeds may take a step in one program (``seeds.py``).
"""

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from icrl.core.devices import host_workers, on_mesh
from icrl.core.model_types import Supervised
from icrl.core.precision import in_32_bits
from icrl.core.types import Array
from icrl.models._token_policy import Policy, Structure
from icrl.training.placement import axes_to_cut, gathered, groups_of, mesh_of, shared_out, specs_of
from icrl.training.seeds import by_seed

if TYPE_CHECKING:
    from icrl.training.step import FitSettings, TrainState

Sums = tuple[tuple[Array, Any], Any]  # of (loss, what layers have seen), and of gradients


def gradient_sums(
    settings: "FitSettings", objective: Supervised, structure: Structure, state: "TrainState", batch: Any, key: Array
) -> list[Sums]:
    """Sums of (loss, what layers have seen) and gradient of each group of the batch.

    Settings are resolved, and the state is ``placed``. State, batch and key may be those of S seeds, stacked.
    """
    policy = Policy(params=state.params, slow=state.slow, structure=structure)
    mesh = mesh_of(groups_of(settings))
    if mesh.size > 1:
        parts = on_mesh(batch, mesh, P(*[None] * state.step.ndim, "data"))
        told = state.step, on_mesh(key, mesh, P())
        return list(_sums_on_mesh(settings, objective, mesh, policy, parts, *told))
    gradient = partial(_sums_of_group, settings, objective, policy, state.step, batch, key)
    groups = range(groups_of(settings))
    if len(groups) == 1 or jax.default_backend() != "cpu":
        return [gradient(group) for group in groups]
    return list(_cores().map(partial(_waited_for, gradient), groups))


def gradient_norm(settings: "FitSettings", sums: Sequence[Sums]) -> float:
    """Euclidean norm of the gradient of a step, from its ``gradient_sums``; on the host, as it is seldom asked."""
    parts = zip(*(jax.tree.leaves(gradient) for _, gradient in sums), strict=True)
    squares = (float(np.square(sum(np.asarray(each, np.float64) for each in leaf)).sum()) for leaf in parts)
    return math.sqrt(sum(squares)) / settings.pieces


# --- Threads of a CPU ---


def _waited_for(gradient: Callable[[int], Any], group: int) -> Any:
    """The thread stays with its group: JAX would put all that one thread starts into one queue."""
    return jax.block_until_ready(gradient(group))


@functools.cache
def _cores() -> ThreadPoolExecutor:
    """Threads for the groups, as long as the process lives; one core has one thread."""
    return ThreadPoolExecutor(min(host_workers(), 2), "gradient")


# --- What is compiled ---


@partial(jax.jit, static_argnames=("settings", "objective"))
@in_32_bits
def _sums_of_group(
    settings: "FitSettings", objective: Supervised, policy: Policy, step: Array, batch: Any, key: Array, group: Any
) -> Sums:
    """The sums over the micro-batches of one group."""
    own = settings.pieces // groups_of(settings)

    def of_one(policy: Policy, batch: Any, step: Array, key: Array) -> Sums:
        return _sums(settings, objective, policy, batch, _keys(settings, key, step), group * own + jnp.arange(own))

    return by_seed(of_one, step)(policy, batch, step, key)  # type: ignore[no-any-return]


@partial(jax.jit, static_argnames=("settings", "objective", "mesh"))
@in_32_bits
def _sums_on_mesh(
    settings: "FitSettings", objective: Supervised, mesh: Mesh, policy: Policy, batch: Any, step: Array, key: Array
) -> tuple[Sums, ...]:
    """The sums of each group, on every device; gradients cut as the parameters are."""
    groups, seeds = groups_of(settings), step.ndim
    axes = axes_to_cut(policy.params, mesh.size if settings.shard_parameters else 1, seeds)
    own, local_groups = settings.pieces // groups, groups // mesh.size

    def on_device(policy: Policy, batch: Any, step: Array, key: Array) -> tuple[Sums, ...]:
        policy = policy.replace(params=gathered(policy.params, axes))  # type: ignore[attr-defined]
        keys = _keys(settings, key, step)
        keys = lax.dynamic_slice_in_dim(keys, lax.axis_index("data") * local_groups * own, local_groups * own)
        pieces = jnp.arange(local_groups * own).reshape(local_groups, own)
        told, gradients = lax.map(partial(_sums, settings, objective, policy, batch, keys), pieces)
        of_all = lax.all_gather(told, "data", tiled=True), shared_out(gradients, axes)
        return tuple(jax.tree.map(lambda leaf, g=group: leaf[g], of_all) for group in range(groups))

    specs = specs_of(axes)
    given = (policy.replace(params=specs, slow=P()), P("data"), P(), P())  # type: ignore[attr-defined]
    made = ((P(), specs),) * groups
    of_one = jax.shard_map(on_device, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)
    return by_seed(of_one, step)(policy, batch, step, key)  # type: ignore[no-any-return]


def _keys(settings: "FitSettings", key: Array, step: Array) -> Array:
    """Keys of all micro-batches of a step."""
    return jax.random.split(jax.random.fold_in(key, step), settings.pieces)


def _sums(
    settings: "FitSettings", objective: Supervised, policy: Policy, batch: Any, keys: Array, pieces: Array
) -> Sums:
    """Sums of the lesson and its gradient over the micro-batches ``pieces`` [P] of what is here of the batch."""
    micro = settings.batch_size // settings.pieces

    def lesson_of(params: Any, piece: Any, key_piece: Array) -> tuple[Array, Any]:
        return objective.lesson(policy.replace(params=params), piece, key_piece)  # type: ignore[attr-defined]

    learn = jax.value_and_grad(lesson_of, has_aux=True)

    def piece_of(number: Array) -> Any:
        return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, number * micro, micro), batch)

    def add_gradient(total: Any, number: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, learn(policy.params, piece_of(number), keys[number])), None

    unseen: Any = ()
    if objective.tells_layers:
        form = jax.eval_shape(lesson_of, policy.params, piece_of(pieces[0]), keys[0])[1]
        unseen = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), form)
    zero = (jnp.float32(0.0), unseen), jax.tree.map(jnp.zeros_like, policy.params)
    return lax.scan(add_gradient, zero, pieces)[0]
