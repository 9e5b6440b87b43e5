"""Bad inputs of the gymnasium environments and of agents on the host: one line that names the field."""

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import icrl
from icrl.agents.in_context import InContextAgent
from icrl.core.errors import InputError
from icrl.core.registry import environments
from icrl.envs.gaussian_bandit import GaussianBanditTask
from icrl.gym.environments import HostAgent, IcrlEnv, make_agent
from icrl.gym.vectors import IcrlVectorEnv
from icrl.layouts.query_first import QueryFirst
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.models.transformer import Transformer, TransformerConfig

BANDIT = "GaussianBandit-v0"


@pytest.mark.parametrize(
    "action", [-1, 5, 2**40, 10**30, True, 1.0, np.float32(1), np.array([1]), "1", None, [[1], [1, 2]]]
)
def test_bad_actions(action):
    env, vector = IcrlEnv(BANDIT), IcrlVectorEnv(BANDIT, num_envs=2)
    env.reset(seed=0)
    vector.reset(seed=0)
    with pytest.raises(InputError, match=r"action: got .*allowed: .*integer"):
        env.step(action)
    with pytest.raises(InputError, match=r"actions: got .*allowed: .*integer"):
        vector.step([action, action])
    assert env.step(1)[1] != 0.0  # a refused action costs no step


@pytest.mark.parametrize("seed", [-1, 2**32, True, 1.0, "1", [1]])
def test_bad_seeds(seed):
    with pytest.raises(InputError, match=r"seed: got .*allowed: an integer"):
        IcrlEnv(BANDIT).reset(seed=seed)
    with pytest.raises(InputError, match=r"seed.*: got .*allowed"):
        IcrlVectorEnv(BANDIT, num_envs=2).reset(seed=seed)


@pytest.mark.parametrize(
    "options, message",
    [
        ("x", "options: got 'x', allowed: a dictionary, or None"),
        ([("new_task", True)], "options: got .*allowed: a dictionary"),
        (3, "options: got 3"),
        ({"newtask": True}, "reset option: got 'newtask', allowed: new_task, task"),
        ({"new_task": 1}, "allowed: True or False"),
        ({"new_task": True, "task": None}, "one of the two"),
        ({"task": {"means": [0.0] * 5}}, "task: got 'dict'"),
        ({"task": GaussianBanditTask(means=jnp.zeros(4), max_steps_in_episode=5)}, "means"),
        ({"task": GaussianBanditTask(means=jnp.full(5, jnp.nan), max_steps_in_episode=5)}, "finite"),
        ({"task": GaussianBanditTask(means=[0.0] * 5, max_steps_in_episode=5)}, "each an array"),
    ],
)
def test_bad_options(options, message):
    env = IcrlEnv(BANDIT)
    env.reset(seed=0)
    before = np.asarray(env.task.means)
    with pytest.raises(InputError, match=message):
        env.reset(options=options)
    assert np.array_equal(env.task.means, before)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"task": GaussianBanditTask(means=jnp.zeros((3, 5)), max_steps_in_episode=5)}, "begin with 2"),
        ({"task": GaussianBanditTask(means=jnp.array([[0.0] * 5, [jnp.inf] * 5]), max_steps_in_episode=5)}, "finite"),
        ({"task": "mine"}, "begin with 2"),
        ("x", "options: got 'x', allowed: a dictionary, or None"),
        ({"reset_mask": np.zeros(2, bool)}, "True somewhere"),
        ({"reset_mask": np.ones(2, int)}, "boolean"),
        ({"reset_mask": np.array([True, False])}, "first reset"),
    ],
)
def test_bad_vector_options(options, message):
    with pytest.raises(InputError, match=message):
        IcrlVectorEnv(BANDIT, num_envs=2).reset(options=options)


@pytest.mark.parametrize("folder", [3, None, [], 1.5, b"runs"])
def test_a_folder_of_another_kind_is_refused(folder):
    with pytest.raises(
        InputError, match=r"^folder: got [^\n]*, allowed: the output folder of a run, or a file of an agent$"
    ):
        icrl.load_agent(folder)


@pytest.mark.parametrize("make", [IcrlEnv, IcrlVectorEnv, lambda *a, **k: gymnasium.make(f"icrl:icrl/{a[0]}", **k)])
def test_bad_settings(make):
    with pytest.raises(InputError, match=r"num_arm.*allowed: num_arms, horizon, noise_std; did you mean num_arms"):
        make(BANDIT, num_arm=3)
    with pytest.raises(InputError, match="oracle"):
        make(BANDIT, oracle="yes")
    with pytest.raises(InputError, match="num_arms"):
        make(BANDIT, num_arms=0)


def test_unknown_names():
    with pytest.raises(InputError, match="did you mean GaussianBandit-v0"):
        IcrlEnv("GausianBandit-v0")
    with pytest.raises(InputError, match="did you mean ucb"):
        make_agent("ucbb")
    with pytest.raises(InputError, match="unknown environment 'x'"):
        make_agent("posterior-task", "DarkRoom-v0", env="x")
    with pytest.raises(InputError, match="DeepSea-v0 setting: got 'num_states'"):
        make_agent("ucb", "DeepSea-v0", {"num_states": 4})
    with pytest.raises(InputError, match="ucb setting: got 'd', allowed: num_arms, c"):
        make_agent("ucb", d=2)
    with pytest.raises(InputError, match="hidden state"):
        make_agent("oracle")


GOOD_STEP = {
    "obs": np.ones(1), "action": 0, "reward": 0.0, "next_obs": np.ones(1), "terminated": False, "truncated": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("obs", np.ones(2), r"obs: got 'float64 of shape \(2,\)', allowed: 'float or integer of shape \(1,\)'"),
        ("obs", "here", "obs: got 'here'"),
        ("obs", np.array([np.nan]), "obs: got nan"),
        ("next_obs", np.ones((1, 1)), "next_obs"),
        ("next_obs", None, "next_obs"),
        ("action", 5, r"action: got 5, allowed: integers in \[0, 4\]"),
        ("action", 1.0, "action: got 1.0"),
        ("reward", np.nan, "reward: got nan"),
        ("reward", np.inf, "reward: got inf"),
        ("reward", [0.0], "reward"),
        ("terminated", 0, "terminated: got 0"),
        ("truncated", None, "truncated: got None"),
    ],
)
def test_bad_observations(field, value, message):
    agent = make_agent("ucb")
    agent.reset()
    with pytest.raises(InputError, match=message.replace("allowed: '", "allowed: ").replace("(1,\\)'", "(1,\\)")):
        agent.observe(**{**GOOD_STEP, field: value})
    agent.observe(**GOOD_STEP)
    assert agent.predict(np.ones(1))[1].agent_state.count.sum() == 1  # the refused step taught nothing


@pytest.mark.parametrize("settings", [1.0, "x", np.ones(3), [("num_arms", 3)]], ids=str)
def test_settings_of_an_environment_that_are_no_dictionary(settings):
    with pytest.raises(InputError, match=r"env_settings: got .*, allowed: a dictionary, or None"):
        make_agent("ucb", env_settings=settings)


def test_bad_calls_of_an_agent():
    agent = make_agent("ucb")
    with pytest.raises(InputError, match=r"call reset\(\) first"):
        agent.act(np.ones(1))
    with pytest.raises(InputError, match=r"call reset\(\) first"):
        agent.observe(**GOOD_STEP)
    with pytest.raises(InputError, match="seed"):
        agent.reset(seed=-1)
    with pytest.raises(InputError, match="num_envs"):
        agent.reset(num_envs=0)
    with pytest.raises(InputError, match="autoreset_mode"):
        agent.reset(autoreset_mode="SameStep")
    agent.reset(num_envs=2)
    with pytest.raises(InputError, match=r"obs.*\(2, 1\)"):
        agent.act(np.ones(1))
    single = make_agent("ucb")
    single.reset()
    with pytest.raises(InputError, match="state: got"):
        agent.predict(np.ones((2, 1)), state=single.predict(np.ones(1))[1])
    with pytest.raises(InputError, match="agent: got"):
        HostAgent("ucb", environments[BANDIT]().spec)


def test_a_full_context_says_so():
    agent = make_agent("ucb")
    agent.max_steps = 2
    agent.reset()
    agent.observe(**GOOD_STEP)
    agent.observe(**GOOD_STEP)
    agent.act(np.ones(1))  # acting on two transitions is still possible
    with pytest.raises(InputError, match=r"at most 2; the agent's context is full: call reset\(\)"):
        agent.observe(**GOOD_STEP)
    agent.reset()
    agent.observe(**GOOD_STEP)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("num_envs", [None, 2])
def test_a_model_whose_memory_is_no_longer_finite_says_so(deterministic, num_envs):
    """Rewards of 1e20 overflow in float32 squares: before, arm 0 was played for ever."""
    spec = environments[BANDIT]().spec
    layout = QueryFirst(spec)
    backbone = Transformer(TransformerConfig(width=16, num_layers=1, num_heads=1, init_std=0.5), 40, nnx.Rngs(0))
    policy = Policy.split(TokenPolicy(layout.token_dim, spec.num_actions, backbone, 0.5, nnx.Rngs(1)))
    agent = HostAgent(InContextAgent(policy=policy, layout=layout, max_steps=30, query=jnp.ones(1)), spec)
    agent.reset(seed=0, num_envs=num_envs)
    full = np.ones if num_envs is None else lambda shape: np.ones((num_envs, *shape))
    flag = np.zeros(() if num_envs is None else (num_envs,), bool)

    def observe(reward):
        actions = np.zeros(flag.shape, int)
        agent.observe(full((1,)), actions, np.full(flag.shape, reward), full((1,)), flag, flag)

    observe(1.0)
    agent.act(full((1,)), deterministic)
    observe(3e38)
    with pytest.raises(InputError, match=r"memory is no longer finite, allowed: [^\n]*; call reset\(\)"):
        agent.act(full((1,)), deterministic)
    agent.reset(seed=0, num_envs=num_envs)
    agent.act(full((1,)), deterministic)


def test_numbers_that_float32_cannot_hold_are_refused():
    agent = icrl.make_agent("ucb", BANDIT)
    agent.reset(seed=0)
    obs = np.ones(1, np.float32)
    with pytest.raises(InputError, match=r"^reward: got inf in 1 of 1 places, allowed: finite$"):
        agent.observe(obs, 0, 1e308, obs, False, False)


def test_what_a_trained_agent_is_made_of_is_named():
    with pytest.raises(InputError, match=r"needs a trained policy; use icrl.load_agent\(folder\), or give .*max_steps"):
        icrl.make_agent("sorted-context", "DarkRoom-v0", policy="")
    with pytest.raises(InputError, match=r"needs a trained policy; .* or give dynamics, episode_steps, after$"):
        icrl.make_agent("planning", "DarkRoom-v0", reader=0)
