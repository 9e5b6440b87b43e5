"""Settings, flags and files say the same: every model in every experiment, there and back."""

import dataclasses
import json

import pytest

from icrl.core.errors import InputError
from icrl.core.registry import environments, experiments, models
from icrl.core.settings import chosen, flat, leaves, replaced
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.models.s5 import S5Config

PRESETS = [
    (experiment, preset)
    for experiment in experiments
    for preset, settings in experiments[experiment].presets.items()
    if hasattr(settings, "backbone")
]


@pytest.mark.parametrize("model", models)
@pytest.mark.parametrize(("experiment", "preset"), PRESETS)
def test_settings_of_every_model_survive_the_file(experiment, preset, model):
    defaults = experiments[experiment].presets[preset]
    settings = replaced(defaults, {"model": model})
    assert type(settings.backbone) is models[model].Config
    assert (settings.backbone.width, settings.backbone.num_layers) == (
        defaults.backbone.width,
        defaults.backbone.num_layers,
    )
    stored = json.loads(json.dumps(flat(settings)))
    assert replaced(defaults, stored) == settings
    assert replaced(settings, {"model": defaults.model, **flat(defaults)}) == defaults


@pytest.mark.parametrize("model", models)
def test_every_setting_of_a_model_has_a_default_and_a_comment(model):
    assert all(leaf.help for leaf in leaves(models[model].Config()).values())


@pytest.mark.parametrize("experiment", experiments)
def test_every_setting_of_a_preset_has_a_help_text(experiment):
    for preset in experiments[experiment].presets.values():
        assert not [leaf.name for leaf in leaves(preset).values() if not leaf.help]


@pytest.mark.parametrize("env", environments)
def test_every_setting_of_an_environment_has_a_help_text(env):
    assert not [leaf.name for leaf in leaves(environments[env]()).values() if not leaf.help]


def test_values_and_model_are_replaced_at_once():
    settings = replaced(DPTBandit.presets["cpu"], {"state_size": 8, "model": "s5", "width": 24})
    assert settings.backbone == S5Config(width=24, num_layers=2, state_size=8, init_std=0.2)
    assert chosen(settings, {"model": "s5"}) is settings
    assert chosen(settings, {"width": 3}) is settings


def test_settings_that_do_not_fit_their_model_are_refused():
    settings = DPTBandit.presets["cpu"]
    with pytest.raises(InputError, match="backbone: got 'S5Config', allowed: TransformerConfig"):
        dataclasses.replace(settings, backbone=S5Config())
    with pytest.raises(InputError, match="unknown model 's6'"):
        replaced(settings, {"model": "s6"})
    with pytest.raises(InputError, match="model: got 5, allowed: text"):
        replaced(settings, {"model": 5})
