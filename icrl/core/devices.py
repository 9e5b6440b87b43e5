"""Which devices work is shared over, and how many threads feed them."""

import os
from importlib.metadata import version

import jax
from jax.sharding import AxisType, Mesh

from icrl.core.errors import ResourceError
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


def host_workers() -> int:
    """Threads that run independent computations at once.

    On a CPU one a core, because small operations do not use more than one; elsewhere one, which fills the device.
    """
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
