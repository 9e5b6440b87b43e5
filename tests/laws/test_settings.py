"""Laws of settings: whatever a caller passes is inside the declared bounds, or refused in one line that names it."""

import dataclasses
import itertools
import math
import numbers
import types
import typing
from functools import cache, partial

import jax.numpy as jnp
import numpy as np
import pytest

from icrl.core.errors import InputError
from icrl.core.fields import declared, kinds_of
from icrl.core.flags import values_of
from icrl.core.registry import agents, environments, experiments, filters, importers, layouts, models, objectives
from icrl.core.settings import leaves, replaced
from icrl.core.types import Agent
from icrl.models._dynamics import Dynamics

HOSTILE = (math.nan, math.inf, -math.inf, -1, -1.0, 1e9, 10**9, 10**400, "x", "", None, [1], {}, True, 1j)
ARRAYS = (np.ones(()), np.ones(2), jnp.ones((2, 2)), np.array("x"), np.array([None]))  # for what is hashed, or shapes
GIVEN = ("env",)  # to ``for_env``
HOMES = ("GaussianBandit-v0", "LinearBandit-v0", "ContextualLinearBandit-v0", "RiverSwim-v0", "DarkRoom-v0", "Tiger-v0")
HOMES += ("PointRobot-v0",)


class ToyPolicy:
    """As much of a pretrained policy as an agent's settings need."""

    is_endless = True

    def initial_carry(self):
        return ()


@cache
def home(name):
    """(constructor, settings that it needs) of a registered agent in the first environment that it fits."""
    for env_name in HOMES:
        env = environments[env_name](horizon=10)
        layout = layouts["interleaved"](env.spec)
        model = {"policy": ToyPolicy(), "layout": layout, "max_steps": 10, "query": jnp.ones(env.spec.obs_shape)}
        reader = agents["in-context"](**model) if name == "planning" else None
        plan = {"reader": reader, "dynamics": Dynamics(env.spec), "episode_steps": 10, "after": 5}
        for needs in ({}, plan if name == "planning" else model, {"means": jnp.full((3, env.spec.num_actions), 0.5)}):
            fields = {field.name for field in dataclasses.fields(agents[name])}
            given = {field: value for field, value in needs.items() if field in fields}
            try:
                agents[name].for_env(env, **given)
            except InputError as refusal:
                assert "needs" in str(refusal)
                continue
            return lambda settings: agents[name].for_env(env, **settings), given  # noqa: B023
    raise AssertionError(f"{name} fits nowhere")


def maker(kind, name):
    """(class of settings, what makes one from settings, settings that it needs)."""
    if kind is agents:
        return agents[name], *home(name)
    spec = environments["GaussianBandit-v0"]().spec
    needs = {layouts: {"spec": spec}, objectives: {"layout": layouts["interleaved"](spec)}}.get(kind, {})
    cls = getattr(kind[name], "Config", kind[name])
    return cls, lambda settings: cls(**settings), needs


ITEMS = [
    pytest.param(kind, name, id=f"{kind.kind}-{name}")
    for kind in (environments, agents, models, layouts, objectives, filters, importers)
    for name in kind
]


def is_inside(cls, field, value, made):
    """Whether ``value`` is what the declaration of ``field`` allows; written apart from the code under test."""
    setting = declared(cls).get(field)
    if setting is None:  # an array, which may be optional
        return value is None and types.NoneType in kinds_of(typing.get_type_hints(cls)[field])
    if value is None:
        return types.NoneType in setting.kinds
    if isinstance(value, bool):
        return bool in setting.kinds
    if isinstance(value, tuple):
        return all(isinstance(each, str) for each in value) and not {int, float, str} & set(setting.kinds)
    if isinstance(value, str):
        return str in setting.kinds and (not setting.choices or value in setting.choices)
    if not isinstance(value, numbers.Real) or not {int, float} & set(setting.kinds):
        return False
    low, high = setting.bounds(made)
    inside = low < value if setting.open_low else low <= value
    inside = inside and (value < high if setting.open_high else value <= high)
    return inside and math.isfinite(value) and (int not in setting.kinds or isinstance(value, int))


def outcomes(cls, make, needs, values, given=()):
    """(field, value, what is wrong) of all settings that are accepted or refused as they should not be."""
    for field in (each.name for each in dataclasses.fields(cls) if each.init and each.name not in given):
        for value in values:
            try:
                made = make({**needs, field: value})
            except InputError as refusal:
                text = str(refusal)
                if "\n" in text or not (field in text or text.startswith("unknown ")):
                    yield field, value, text
            except Exception as error:
                yield field, value, f"{type(error).__name__}: {error}"
            else:
                if not is_inside(cls, field, value, made):
                    yield field, value, "accepted"


@pytest.mark.parametrize(("kind", "name"), ITEMS)
def test_every_hostile_value_is_inside_the_bounds_or_refused_in_one_line(kind, name):
    cls, make, needs = maker(kind, name)
    assert list(outcomes(cls, make, needs, HOSTILE, given=GIVEN)) == []
    made = make(needs)
    again = list(outcomes(cls, lambda settings: dataclasses.replace(made, **settings), {}, HOSTILE))
    assert again == []  # nor by the constructor alone


@pytest.mark.parametrize(("kind", "name"), ITEMS)
def test_arrays_are_settings_only_where_they_can_be_swept(kind, name):
    cls, make, needs = maker(kind, name)
    found = list(outcomes(cls, make, needs, ARRAYS, given=GIVEN))
    accepted = {field for field, _, fault in found if fault == "accepted"}
    faults = [each for each in found if each[2] != "accepted"]
    leaves = {field for field, setting in declared(cls).items() if setting.can_be_array and float in setting.kinds}
    arrays = {"features", "means", "query"}  # of agents, with shapes of their own
    assert faults == []
    assert accepted <= (leaves | arrays if kind is agents else set())


PRESETS = {name: experiments[name].presets["smoke"] for name in experiments}
TEXTS = ("nan", "inf", "-1", "1e9", "x", "", "none", "[1]", "true", "1" * 5000, "-" * 3000 + "1")


def parts(settings):
    """``settings`` and all settings nested in them."""
    yield settings
    for field in dataclasses.fields(settings):
        if dataclasses.is_dataclass(getattr(settings, field.name)):
            yield from parts(getattr(settings, field.name))


@pytest.mark.parametrize("name", PRESETS)
def test_every_hostile_setting_of_a_recipe_is_inside_the_bounds_or_refused(name):
    for part in parts(PRESETS[name]):
        replace = partial(dataclasses.replace, part)
        assert list(outcomes(type(part), lambda given: replace(**given), {}, (*HOSTILE, *ARRAYS))) == []  # noqa: B023


def with_classes_by_day():
    """Experiments; by night those whose settings are of classes that others before them have."""
    seen = set()
    for name, preset in PRESETS.items():
        own = {type(part) for part in parts(preset)}
        yield pytest.param(name, marks=() if own - seen else pytest.mark.nightly)
        seen |= own


@pytest.mark.parametrize("name", list(with_classes_by_day()))
def test_every_hostile_flag_of_a_recipe_is_inside_the_bounds_or_refused(name):
    preset = PRESETS[name]
    owners = {leaf: part for part in parts(preset) for leaf in declared(type(part))}
    for leaf, text in itertools.product(leaves(preset), TEXTS):
        try:
            made = replaced(preset, values_of(preset, [f"--{leaf.replace('_', '-')}", text]))
        except InputError as refusal:
            assert "\n" not in str(refusal)
        else:
            owner = type(owners[leaf])  # a flag that is accepted changes nothing but the value in its own part
            part = next(part for part in parts(made) if type(part) is owner)
            assert is_inside(owner, leaf, getattr(part, leaf), part), (leaf, text)


def classes():
    """Every class of settings behind a registered item and in a preset, bases included."""
    items = [getattr(kind[name], "Config", kind[name]) for kind, name in (item.values for item in ITEMS)]
    items += [type(part) for preset in PRESETS.values() for part in parts(preset)]
    found = {base for item in items for base in item.__mro__ if "__dataclass_fields__" in vars(base)}
    return sorted(found, key=lambda cls: cls.__qualname__)


def undeclared(cls):
    """What is wrong with the declarations of a class of settings."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kinds, setting = kinds_of(hints[field.name]), declared(cls).get(field.name)
        is_number = bool({int, float} & set(kinds))
        if isinstance(field.default, (int, float, str)) and not {int, float, bool, str} & set(kinds):
            yield f"{field.name}: a default {field.default!r} without the annotation of its kind"
        if is_number and (setting is None or (setting.low is None and setting.high is None)):
            yield f"{field.name}: no bounds"
        if {int, float, bool, str} & set(kinds) and not (setting and setting.help):
            yield f"{field.name}: no help text"


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__qualname__)
def test_every_number_has_bounds_and_every_setting_a_help_text(cls):
    assert list(undeclared(cls)) == []


def test_the_laws_can_fail():
    @dataclasses.dataclass(frozen=True)
    class Careless:
        rate: float = 0.1
        name: typing.Any = "x"
        label: str = "x"

    assert list(undeclared(Careless)) == [
        "rate: no bounds",
        "rate: no help text",
        "name: a default 'x' without the annotation of its kind",
        "label: no help text",
    ]
    assert len(list(outcomes(Careless, lambda settings: Careless(**settings), {}, HOSTILE))) == 3 * len(HOSTILE)


@pytest.mark.parametrize("name", agents)
def test_numbers_that_can_be_swept_are_leaves(name):
    """What is checked as an array is a leaf of the tree, and what is a shape is not."""
    assert issubclass(agents[name], Agent)
    for field in dataclasses.fields(agents[name]):
        setting = declared(agents[name]).get(field.name)
        if setting is not None and int in setting.kinds:
            assert not setting.can_be_array, field.name
