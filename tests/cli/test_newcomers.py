"""What a newcomer runs into: each mistake is told by its cause."""

import dataclasses
import logging

import jax.numpy as jnp
import pytest

import icrl
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.fields import setting
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.envs.dark_room import DarkRoom
from icrl.models.gru import GRU
from icrl.recipes.data import point_out_namesakes
from icrl.recipes.run import settings_of
from icrl.testing import check_environment


def test_a_class_of_settings_that_is_no_dataclass_is_named():
    class Config(GRU.Config):
        decay: float = setting(0.9, low=0.0, high=1.0, help="a rate")

    with pytest.raises(InputError, match=r"decay: got 'a setting of a class that is no dataclass', allowed: put @data"):
        Config()


def test_a_reward_that_is_no_number_is_told_by_its_law():
    @dataclasses.dataclass(frozen=True)
    class NoNumber(BernoulliBandit):
        def step_env(self, *args):
            obs, state, _, terminated, info = super().step_env(*args)
            return obs, state, jnp.float32(jnp.nan), terminated, info

    with pytest.raises(InputError, match="reward: got nan, right: a finite number"):
        check_environment(NoNumber())


def test_few_tasks_are_told_how_many_they_are(tmp_path, capsys):
    line = ["run", "dpt", "--env", "DarkRoom-v0", "--size", "3", "--out", str(tmp_path / "run")]
    assert main(line) == 2
    told = capsys.readouterr().err
    assert "train_fraction: got 0.9, allowed: at most 0.77, to hold out two of the 9 tasks" in told


def test_a_set_with_too_few_tasks_is_told_how_many_it_takes(tmp_path, capsys):
    collect = ["collect", "ad-darkroom", "--preset", "smoke", "--out", str(tmp_path / "set"), "--num-tasks", "3"]
    assert main(collect) == 0
    capsys.readouterr()
    line = ["run", "ad-darkroom", "--preset", "smoke", "--data", str(tmp_path / "set"), "--out", str(tmp_path / "run")]
    assert main(line) == 2
    assert "with 3 tasks', allowed: the 12 training tasks; --num-tasks 12 of icrl coll" in capsys.readouterr().err


def test_a_folder_that_is_called_as_new_data_are_is_pointed_out(tmp_path, monkeypatch, caplog):
    (tmp_path / "histories").mkdir()
    (tmp_path / "histories" / "card.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, "icrl"):
        point_out_namesakes({"contexts", settings_of("ad-darkroom", "smoke", {}).data.data, "./histories"})
    assert caplog.text.count("--data ./") == caplog.text.count("--data ./histories") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"env": DarkRoom},
            "env: got .*, allowed: the name of a registered environment, or an Environment made of one",
        ),
        ({"vary": "model=transformer,foo"}, "foo"),
    ],
)
def test_what_python_is_given_is_read_as_it_is_meant(settings, words, tmp_path):
    with pytest.raises(InputError, match=words):
        icrl.run("dpt", preset="smoke", out=tmp_path / "run", **settings)


def test_a_folder_that_is_not_there_is_no_experiment(capsys):
    assert main(["show", "runs/nowhere"]) == 2
    assert "folder: got 'runs/nowhere', allowed: the output folder of a run, or an exp" in capsys.readouterr().err
