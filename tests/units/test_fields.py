"""A setting in one line: kinds, bounds, inheritance, sweeps and traces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.fields import Checked, declared, required, setting
from icrl.core.flags import help_text
from icrl.core.settings import leaves


@dataclasses.dataclass(frozen=True)
class Part(Checked):
    width: int = setting(32, low=1, high=64, help="D, features")
    heads: int = setting(4, low=1, high="width", help="H")
    rate: float | None = setting(None, low=0.0, high=1.0, open_low=True, open_high=True, help="share")
    rule: str = setting("one", choices=("one", "two"), help="which")
    name: str = setting("x", help="its name")
    agents: tuple[str, ...] = setting((), help="who")
    is_fast: bool = setting(False, help="whether")


@dataclasses.dataclass(frozen=True)
class Wide(Part):
    width: int = 64
    rule: str = setting("three", choices=("three",), help="another")


@dataclasses.dataclass(frozen=True)
class Whole(Checked):
    part: Part = setting(default_factory=Part)


@struct.dataclass
class Sweep(Checked):
    arms: int = required(low=1, high=9, static=True, help="K")
    c: float = setting(1.0, low=0.0, help="scale")
    low: float = setting(0.0, low=-9.0, high=9.0, help="least")
    high: float = setting(1.0, low="low", high=9.0, open_low=True, help="largest")


@pytest.mark.parametrize(
    "value, message",
    [
        ({"width": 0}, "width: got 0, allowed: an integer in [1, 64]"),
        ({"width": 2.0}, "width: got 2.0, allowed: an integer in [1, 64]"),
        ({"width": True}, "width: got True, allowed: an integer in [1, 64]"),
        ({"width": np.array(3)}, "width: got array(3), allowed: an integer in [1, 64]"),
        ({"width": 16, "heads": 17}, "heads: got 17, allowed: an integer in [1, 16]"),
        ({"width": "x", "heads": 17}, "width: got 'x', allowed: an integer in [1, 64]"),
        ({"rate": 1.0}, "rate: got 1.0, allowed: a finite number in (0, 1)"),
        ({"rate": 0}, "rate: got 0, allowed: a finite number in (0, 1)"),
        ({"rate": float("nan")}, "rate: got nan, allowed: a finite number in (0, 1)"),
        ({"rate": np.bool_(True)}, f"rate: got {np.bool_(True)!r}, allowed: a finite number in (0, 1)"),
        ({"rate": np.eye(2)}, "rate: got array([[1., 0.], [0., 1.]]), allowed: a finite number in (0, 1)"),
        ({"width": 10**5000}, "width: got a very large int, allowed: an integer in [1, 64]"),
        ({"rule": "three"}, "rule: got 'three', allowed: one or two"),
        ({"rule": ["one"]}, "rule: got ['one'], allowed: one or two"),
        ({"name": None}, "name: got None, allowed: text"),
        ({"agents": ["ucb"]}, "agents: got ['ucb'], allowed: names separated by commas"),
        ({"is_fast": 1}, "is_fast: got 1, allowed: True or False"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(value, message):
    with pytest.raises(InputError) as caught:
        Part(**value)
    assert str(caught.value) == message


def test_what_is_allowed_passes_unchanged():
    part = Part(width=np.int64(8), heads=8, rate=np.float32(0.5), rule="two", agents=("ucb",))
    assert (part.width, part.rate, part.agents) == (8, 0.5, ("ucb",))
    assert hash(part) == hash(dataclasses.replace(part, width=8))
    assert Part(rate=None).rate is None


def test_a_nested_class_of_settings_has_to_be_of_its_class():
    with pytest.raises(InputError, match=r"^part: got 3, allowed: Part$"):
        Whole(part=3)
    assert Whole(part=Wide()).part.width == 64


def test_another_default_keeps_bounds_and_help_and_a_new_declaration_replaces_them():
    assert declared(Wide)["width"] == declared(Part)["width"]
    assert declared(Wide)["rule"].choices == ("three",)
    with pytest.raises(InputError, match=r"^width: got 65, allowed: an integer in \[1, 64\]$"):
        Wide(width=65)
    with pytest.raises(InputError, match=r"^rule: got 'one', allowed: three$"):
        Wide(rule="one")


def test_help_reads_what_is_declared():
    assert leaves(Whole())["width"].help == "D, features"
    text = help_text(Whole())
    assert "  --heads 4\n        an integer in [1, width]. H\n" in text
    assert "  --rate None\n        a finite number in (0, 1) or none. share\n" in text
    assert "  --rule one\n        one or two. which\n" in text
    assert "  --is-fast False\n        true or false. whether" in text


@pytest.mark.parametrize("value", [jnp.array([1.0, -1.0]), np.array([[np.nan]]), np.array(["x"]), np.array([True])])
def test_every_number_of_a_sweep_is_checked(value):
    with pytest.raises(InputError, match=r"^c: got [^\n]*, allowed: numbers, each a finite number in \[0, inf\]$"):
        Sweep(arms=3, c=value)


def test_the_open_end_of_a_sweep_is_refused_and_the_closed_one_is_not():
    with pytest.raises(InputError, match=r"^high: got 5.0, allowed: numbers, each a finite number in \(5, 9\]$"):
        Sweep(arms=3, low=5.0, high=jnp.array([6.0, 5.0]))
    assert Sweep(arms=3, low=5.0, high=jnp.array([6.0, 9.0])).high.shape == (2,)


def test_leaves_may_be_arrays_or_traced_and_static_settings_may_not():
    assert Sweep(arms=3, c=jnp.array([0.0, 2.0])).c.shape == (2,)
    assert Sweep(arms=3, c=jnp.bfloat16(2)).c == 2
    assert Sweep(arms=3, low=jnp.array([5.0])).high == 1.0  # a bound that is swept binds nobody
    assert jax.vmap(lambda c: Sweep(arms=3, c=c).c)(jnp.array([-1.0, jnp.nan])).shape == (2,)
    assert jax.jit(lambda low: Sweep(arms=3, low=low).high)(7.0) == 1.0
    with pytest.raises(InputError, match=r"^high: got nan, allowed: a finite number in \(-inf, 9\]"):
        jax.jit(lambda low: Sweep(arms=3, low=low, high=float("nan")).high)(7.0)
    for low in (np.array(5.0), jnp.array(5.0), np.float32(5.0)):
        with pytest.raises(InputError, match=r"^high: got 1.0, allowed: a finite number in \(5, 9\]$"):
            Sweep(arms=3, low=low)
    with pytest.raises(InputError, match=r"^arms: got .*, allowed: an integer in \[1, 9\]$"):
        Sweep(arms=jnp.array(3))
    with pytest.raises(InputError, match=r"^high: got 1.0, allowed: a finite number in \(5, 9\]$"):
        Sweep(arms=3, low=5.0)


def test_trees_are_rebuilt_without_a_check_and_have_their_leaves_as_before():
    sweep = Sweep(arms=3)
    assert jax.tree.leaves(sweep) == [1.0, 0.0, 1.0]
    assert jax.tree.map(lambda leaf: None, sweep).c is None
    with pytest.raises(InputError):
        sweep.replace(c=None)
