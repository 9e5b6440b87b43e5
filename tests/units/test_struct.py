"""Classes of pytrees are told apart, by ``==`` and by ``jit``; flax's are not (jax 0.10.2), which is why ours exist."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import pytest

from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.registry import Registry, agents


def numbered(number):
    """A class like all the others but for its number."""

    @struct.dataclass
    class Numbered:
        shift: float = 0.0
        size: int = struct.field(pytree_node=False, default=5)

    Numbered.number = number
    return Numbered


def test_jit_runs_each_class_with_its_own_program():
    classes = [numbered(number) for number in range(300)]  # by flax.struct 42 to 44 got another's program
    number_of = jax.jit(lambda node: node.shift + type(node).number)
    assert [int(number_of(each())) for each in classes] == list(range(300))


def test_no_agent_is_a_dataclass_of_flax():
    assert not any("_flax_dataclass" in vars(agents[name]) for name in agents)


def test_a_dataclass_of_flax_is_refused():
    registry = Registry("agent", "icrl.agents")
    with pytest.raises(InputError, match=r"agent 'mine': got a dataclass of flax.struct, allowed: icrl.core.struct's"):
        registry.register("mine")(flax.struct.dataclass(type("Mine", (), {})))


def test_it_is_a_frozen_dataclass_and_a_pytree():
    node = numbered(0)(jnp.arange(3.0), size=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.size = 8
    doubled = jax.tree.map(lambda leaf: 2 * leaf, node)
    assert doubled.shift.tolist() == [0, 2, 4] and doubled.size == 7
    assert node.replace(size=8).size == 8 and node.size == 7
    assert jax.tree.leaves_with_path(node)[0][0] == (jax.tree_util.GetAttrKey("shift"),)
    assert jax.tree.structure(node) != jax.tree.structure(node.replace(size=8))
