"""Which devices work is shared over, and how many threads feed them."""

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from icrl.core.errors import ResourceError, require
from icrl.core.forks import refuse_after_fork

QUICK: dict[str, bool | int] = {  # options of XLA with three fifths of the compiling, of five bandit agents
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,  # the other core has an agent of its own
}
if version("jaxlib").startswith("0.10."):  # later ones do not know it
    QUICK["xla_cpu_use_fusion_emitters"] = False


def device_name() -> str:
    """The kind of accelerator and how many there are, '2 x cpu' or '1 x NVIDIA H100'.

    Raises:
      ResourceError: ``JAX_PLATFORMS`` asks for a kind that this machine does not have.
      InputError: this process was forked from one in which jax had started.
    """
    refuse_after_fork()
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise ResourceError(f"JAX_PLATFORMS: got {wanted!r}, and jax finds no such device on this machine") from error
    return f"{len(devices)} x {devices[0].device_kind}"


def data_mesh(num_pieces: int) -> Mesh:
    """A mesh with one axis, "data", of as many local devices as share ``num_pieces`` evenly."""
    count = max(n for n in range(1, jax.local_device_count() + 1) if num_pieces % n == 0)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:count])


def training_mesh(num_groups: int) -> Mesh:
    """``data_mesh`` over the devices of all processes, as many of each, for the gradient groups of a batch.

    Raises:
      InputError: the processes do not share so many groups evenly.
    """
    processes = jax.process_count()
    if processes == 1:
        return data_mesh(num_groups)
    nearest = max(1, round(num_groups / processes)) * processes
    allowed = f"a multiple of {processes}, one or more a process"
    hint = f"--gradient-groups {nearest} is shared evenly"
    require(num_groups % processes == 0, "gradient_groups", num_groups, allowed, hint)
    own = [[device for device in jax.devices() if device.process_index == number] for number in range(processes)]
    count = max(n for n in range(1, min(map(len, own)) + 1) if num_groups % (n * processes) == 0)
    devices = [device for each in own for device in each[:count]]
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def on_mesh(tree: Any, mesh: Mesh, spec: P) -> Any:
    """Arrays that every process has, as they are cut over ``mesh``: each hands over what its own devices hold."""
    sharding = NamedSharding(mesh, spec)
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def cut(leaf: Any) -> jax.Array:
        places = sharding.addressable_devices_indices_map(leaf.shape)
        parts = [jax.device_put(leaf[index], device) for device, index in places.items()]
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, parts)

    return jax.tree.map(cut, tree)


def connect(mesh: Mesh) -> None:
    """Let the devices of ``mesh`` find each other, by one small exchange."""
    gather = jax.shard_map(
        lambda x: lax.all_gather(x, "data", tiled=True), mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False
    )
    with _no_words():
        np.asarray(jax.jit(gather)(on_mesh(jnp.zeros(mesh.size), mesh, P("data"))))


@contextlib.contextmanager
def _no_words() -> Iterator[None]:
    """A block whose libraries say nothing on stdout (Gloo greets there)."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def host_workers() -> int:
    """Threads that run independent computations at once.

    On a CPU one a core, because small operations do not use more than one; elsewhere one, which fills the device.
    """
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
