"""The checks for things of others: they pass what is in order, and say in one line what is not.

Each fault is one that a newcomer makes; what our own things are held to is in the other files of this folder.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icrl.agents.ucb import UCB
from icrl.cli import main
from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.types import Environment, EnvSpec, TaskParams
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.filters.keep_all import KeepAll
from icrl.filters.return_threshold import ReturnThreshold
from icrl.models.gru import GRU
from icrl.testing import BrokenLawError, check_agent, check_environment, check_filter, check_model
from icrl.testing import agents as of_agents
from icrl.testing import environments as of_environments
from icrl.testing import filters as of_filters


@struct.dataclass
class TwoDoorsTask(TaskParams):
    """Which door pays."""

    good: jax.Array = struct.field(default_factory=lambda: jnp.int32(0))  # [] in 0 .. 1
    pay: jax.Array = struct.field(default_factory=lambda: jnp.float32(1.0))  # [], what it pays


@dataclasses.dataclass(frozen=True)
class TwoDoors(Environment[TwoDoorsTask]):
    """As short as an environment gets: two doors, three steps; its state is the time."""

    horizon: int = 3

    @property
    def spec(self):
        return EnvSpec(type(self).__name__, 2, (1,), 0.0, float(self.horizon), self.horizon)

    def sample_task(self, key):
        key_good, key_pay = jax.random.split(key)
        pay = jax.random.uniform(key_pay, minval=0.5)
        good = jax.random.bernoulli(key_good).astype(jnp.int32)
        return TwoDoorsTask(good=good, pay=pay, max_steps_in_episode=self.horizon)

    def reset_env(self, key, params):
        del key, params
        return jnp.zeros(1), jnp.int32(0)

    def step_env(self, key, state, action, params):
        reward = jnp.where(action == params.good, params.pay, 0.0)
        return (state + 1.0)[None], state + 1, reward, jnp.bool_(False), {}

    def is_truncated(self, state, params):
        return state >= params.max_steps_in_episode

    def optimal_action(self, params, state):
        return params.good

    def regret(self, params, state, action):
        return jnp.where(action == params.good, 0.0, params.pay)

    def optimal_return(self, params):
        return params.pay * params.max_steps_in_episode


def with_method(base, name, method):
    """A class like ``base`` with another method, under its name."""
    return dataclasses.dataclass(frozen=True)(type(base.__name__, (base,), {name: method, "__module__": "my_lab"}))


def step_of(change):
    """``step_env`` whose outcome is changed; ``change`` maps (obs, state, reward, terminated) likewise."""

    def step_env(self, key, state, action, params):
        *outcome, info = TwoDoors.step_env(self, key, state, action, params)
        return (*change(*outcome), info)

    return step_env


def test_an_environment_in_order_passes():
    check_environment(TwoDoors())


FAULTS = {
    "step_has_the_form_of_gymnax": [
        ("step_env", step_of(lambda o, s, r, t: (o, s, jnp.int32(1), t)), "reward: got int32 of shape (), right: floa"),
        ("step_env", step_of(lambda o, s, r, t: (o[0], s, r, t)), "TypeError: "),  # a scalar where [1] was
        ("step_env", step_of(lambda o, s, r, t: (o, s, r, jnp.float32(0))), "TypeError: "),
    ],
    "spec_tells_the_truth": [
        ("step_env", step_of(lambda o, s, r, t: (o + 9, s, r, t)), "observation: got [10.0], right: numbers in [0.0, "),
    ],
    "episodes_end_and_restart": [
        (
            "is_truncated",
            lambda self, s, p: s >= 2,
            "end of an episode at step 2: got True, right: at step 3 of an epi",
        ),
    ],
    "regret_is_never_negative_and_nothing_at_the_optimum": [
        ("regret", lambda self, p, s, a: -jnp.float32(a == p.good), "regrets at step 0: got ["),
        ("optimal_action", lambda self, p, s: 1 - p.good, "regret of optimal_action 1 at step 0: got 0.87"),
    ],
    "optimal_return_is_what_the_oracle_earns": [
        ("optimal_return", lambda self, p: p.pay, "return of the oracle less optimal_return: got 1.49"),
    ],
    "a_task_does_not_depend_on_its_batch": [
        (
            "sample_task",
            lambda self, key: TwoDoorsTask(max_steps_in_episode=3),
            "different ones of 6 tasks: got 1, rig",
        ),
    ],
    "no_key_is_used_twice": [
        (
            "reset_env",
            lambda self, key, p: (jax.random.uniform(key, (1,)) * jax.random.uniform(key, (1,)), jnp.int32(0)),
            "KeyReuseError: ",
        ),
    ],
    "validate_task_refuses_what_is_not_one": [
        (
            "validate_task",
            lambda self, params: None,
            "validate_task of a wrong task.good: got no error, right: InputErr",
        ),
    ],
}


@pytest.mark.parametrize("law", FAULTS)
def test_a_broken_environment_is_told_in_one_line(law):
    for name, method, line in FAULTS[law]:
        env = with_method(TwoDoors, name, method)()
        with pytest.raises(BrokenLawError) as caught:
            getattr(of_environments, law)(env)
        expected = f"my_lab.TwoDoors breaks the law {law.replace('_', ' ')!r}: {line}"
        assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)


@struct.dataclass
class Stubborn(UCB):
    """Its state grows."""

    def update(self, state, transition):
        return state._replace(total=jnp.append(state.total, 0.0))


@struct.dataclass
class Beyond(UCB):
    """Chooses an arm that is not there."""

    def act(self, key, state, obs):
        return jnp.int32(self.num_arms)


@struct.dataclass
class Wasteful(UCB):
    """Draws twice from one key."""

    def act(self, key, state, obs):
        return jax.random.randint(key, (), 0, 2) + jax.random.randint(key, (), 0, 2)


@dataclasses.dataclass(frozen=True)
class Plain(UCB):
    """No dataclass of ours."""


AGENTS = {
    Stubborn: "'act and update keep their form': state.total after update: got float32 of shape (6,), right: float3",
    Beyond: "'actions are actions': actions: got 5, right: an integer in [0, 4]",
    Wasteful: "'no key is used twice': KeyReuseError: ",
    Plain: "'is a pytree': class: got no pytree of ours, right: @icrl.core.struct.dataclass above the class",
}


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.__name__)
def test_a_broken_agent_is_told_in_one_line(agent, monkeypatch):
    laws = (of_agents.actions_are_actions, of_agents.no_key_is_used_twice)
    monkeypatch.setattr(of_agents, "LAWS", laws)
    with pytest.raises(BrokenLawError) as caught:
        check_agent(agent)
    assert str(caught.value).startswith(f"{__name__}.{agent.__name__}") and "\n" not in str(caught.value)
    assert f"breaks the law {AGENTS[agent]}" in str(caught.value)


class Drawing(KeepAll):
    """Not the same on one seed, and in no order."""

    def select(self, table, rng):
        selection = super().select(table, rng)
        return selection._replace(index=np.random.default_rng().permutation(selection.index))


class Absolute(KeepAll):
    """Keeps histories whose returns are above 3, whatever the unit."""

    def select(self, table, rng):
        selection = super().select(table, rng)
        kept = np.flatnonzero(table.returns.mean(1) > 3)
        return selection._replace(index=kept, first_episode=np.zeros_like(kept))


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (Drawing, "'a selection is sound and repeatable': index of two selections on one seed: got different ones"),
        (
            Absolute,
            "'the unit and the zero of returns do not matter': selection with returns 32 less: got another, rig",
        ),
    ],
)
def test_a_broken_filter_is_told_in_one_line(rule, line):
    with pytest.raises(BrokenLawError) as caught:
        check_filter(rule)
    assert str(caught.value).startswith(f"{__name__}.{rule.__name__} breaks the law {line}")
    assert "\n" not in str(caught.value)


def test_checks_take_names_classes_and_things():
    check_filter("return-threshold")
    check_filter(ReturnThreshold(per="task"))
    for check, kind in ((check_environment, "env"), (check_filter, "rule"), (check_agent, "agent")):
        with pytest.raises(InputError, match=f"^{kind}: got object, allowed: an? {kind[:3]}|rule: got object"):
            check(object())
    with pytest.raises(InputError, match=r"^model: got 3, allowed: a registered name, a class of models, or its sett"):
        check_model(3)
    with pytest.raises(InputError, match=r"^model: got StackConfig, the settings of .*gru.* and .*, allowed: those of"):
        check_model(GRU.Config())
    with pytest.raises(InputError, match=r"unknown filter 'nothing'"):
        check_filter("nothing")


@pytest.mark.nightly
def test_things_of_ours_pass():
    check_environment(GaussianBandit)
    check_environment("RiverSwim-v0")
    check_agent("psrl", env="RiverSwim-v0")
    check_agent(UCB)
    check_model("gru")
    check_model(GRU, num_layers=2)
    assert len(of_filters.LAWS) == 5


LAB = """
import jax
import jax.numpy as jnp
from icrl.agents.ucb import UCB
from icrl.core import struct
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.models.gru import GRU, GRUMixer


class Integral(GaussianBandit):
    def draw_reward(self, key, mean, params):
        return jnp.int32(1)


@struct.dataclass
class Doubtful(UCB):
    def act(self, key, state, obs):
        return state.mean


class Growing(GRUMixer):
    def __call__(self, u, start, carry):
        y, h = super().__call__(u, start, carry)
        return y, jnp.append(h, 0)


class Net(GRU):
    Mixer = Growing
"""
RUNS = {
    "env": (
        "laws_lab:Integral",
        "laws_lab.Integral breaks the law 'step has the form of gymnax': reward: got int32 of",
    ),
    "competitors": (
        "laws_lab:Doubtful",
        "laws_lab.Doubtful breaks the law 'act and update keep their form': act: got ",
    ),
    "model": ("laws_lab:Net", "laws_lab.Net breaks the law 'a step is compiled once': memory after a step: got "),
}


@pytest.mark.parametrize("flag", RUNS)
def test_a_run_with_what_breaks_a_law_is_refused_in_one_line(flag, tmp_path, monkeypatch, capsys):
    (tmp_path / "laws_lab.py").write_text(LAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    name, line = RUNS[flag]
    assert main(["run", "dpt", "--preset", "smoke", f"--{flag}", name, "--out", str(tmp_path / "run")]) == 2
    found = capsys.readouterr().err
    assert line in found and found.count("\n") == 1
    assert not (tmp_path / "run").exists()
