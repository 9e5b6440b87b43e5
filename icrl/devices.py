"""Which devices work is shared over."""

import jax
from jax.sharding import AxisType, Mesh


def data_mesh(num_pieces: int) -> Mesh:
    """A mesh with one axis, "data", of as many local devices as share ``num_pieces`` evenly."""
    count = max(n for n in range(1, jax.local_device_count() + 1) if num_pieces % n == 0)
    return jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:count])
