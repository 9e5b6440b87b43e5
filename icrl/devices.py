"""Which devices work is shared over. jax sees a CPU as one device, however many cores it has, unless told early."""

import os

import jax
from jax.sharding import AxisType, Mesh

MOST_CPU_DEVICES = 8  # more would each get too little to do here


def use_all_cores() -> None:
    """Make each CPU core a device, if jax has not started yet; work of many small steps then runs side by side.

    Only the evaluation is shared over them, task by task, so its results do not depend on their number.
    """
    try:
        jax.config.update("jax_num_cpu_devices", min(len(os.sched_getaffinity(0)), MOST_CPU_DEVICES))
    except (RuntimeError, AttributeError):  # jax is running already, or this system cannot tell its cores
        return


def data_mesh(num_pieces: int) -> Mesh:
    """A mesh with one axis, "data", of as many local devices as share ``num_pieces`` evenly."""
    count = max(n for n in range(1, jax.local_device_count() + 1) if num_pieces % n == 0)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:count])
