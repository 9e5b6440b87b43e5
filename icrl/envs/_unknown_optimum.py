"""What environments share of which nobody knows the optimum; their ``spec`` says ``knows_optimum=False``."""

import jax.numpy as jnp

from icrl.core.types import Array, Environment, EnvState, Task


class UnknownOptimum(Environment[Task]):
    """NaN for what is not known, so that whoever measures by it all the same is not misled."""

    def optimal_action(self, params: Task, state: EnvState) -> Array:
        """NaN in a box of actions; numbered ones have no such number, so it is an error to ask."""
        if self.spec.action_box is None:
            raise NotImplementedError(f"the optimal policy of {self.name} is not known")
        return jnp.full(self.spec.action_shape, jnp.nan, jnp.float32)

    def regret(self, params: Task, state: EnvState, action: Array) -> Array:
        """NaN."""
        del params, state, action
        return jnp.float32(jnp.nan)

    def optimal_return(self, params: Task) -> Array:
        """NaN."""
        del params
        return jnp.float32(jnp.nan)
