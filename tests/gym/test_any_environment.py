"""Our agents in environments of gymnasium's and of others: who fits, who does not and why, and that they learn."""

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

import icrl
from icrl.agents.ucb import UCB
from icrl.core.errors import InputError
from icrl.core.registry import agents, environments
from icrl.gym.agents import HostAgent
from icrl.gym.spaces import described


class Shown(gymnasium.Env):
    """Any two spaces; pays for the first action; it never ends by itself."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), float(action == self.action_space.start), False, False, {}


def returns(env, agent, num_episodes, seed=0):
    """The return of each episode [E] of ``agent``, or of random actions, in one task."""
    if agent is not None:
        agent.reset(seed=seed)
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    found = np.zeros(num_episodes)
    for episode in range(num_episodes):
        over = False
        while not over:
            action = env.action_space.sample() if agent is None else agent.act(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            if agent is not None:
                agent.observe(obs, action, reward, next_obs, terminated, truncated)
            found[episode] += reward
            obs, over = next_obs, terminated or truncated
        obs, _ = env.reset()
    return found


LAKES = [
    pytest.param(name, slippery, id=f"{name}-{slippery}", marks=() if day else pytest.mark.nightly)
    for name in ("ucb-vi", "psrl", "q-learning")
    for slippery in (False, True)
    for day in [name == "ucb-vi" and not slippery]
]


@pytest.mark.parametrize(("name", "slippery"), LAKES)
def test_planners_learn_frozen_lake(name, slippery):
    """The goal is reached by random play in 1.4 % of episodes; the optimum is 74 % on slippery ice, 100 % else.

    In episodes 401 to 600 on slippery ice UCB-VI reached it in 34 %, PSRL in 55 %, Q-learning in 12 % (2026-11-30).
    """
    env = gymnasium.make("FrozenLake-v1", is_slippery=slippery)
    random = returns(env, None, 200)
    agent = icrl.make_agent(name, env=env)
    assert (agent.spec.num_states, agent.spec.max_steps_in_episode) == (16, 100)
    quick = name == "ucb-vi" and not slippery
    late = np.split(returns(env, agent, 60 if quick else 1000), 2)[1]
    error = np.sqrt(random.var() / random.size + late.var() / late.size)
    assert late.mean() - random.mean() > 4.3 * error
    assert not quick or late.mean() == 1.0  # a plan without chance, followed


def test_an_agent_of_arms_learns_in_a_bandit():
    env = gymnasium.wrappers.TimeLimit(Shown(Discrete(1, start=3), Discrete(4, start=-1)), 40)
    with pytest.raises(
        InputError, match=r"^horizon: got None, allowed: steps that an episode has at most; the spec of S"
    ):
        icrl.make_agent("ucb", env=env)
    agent = icrl.make_agent("ucb", env=env, horizon=40)
    assert agent.spec.is_stationary_bandit and agent.spec.num_actions == 4
    assert returns(env, agent, 5)[-1] > 30  # of 40, by the action -1


def test_a_vector_of_numbered_states():
    env = gymnasium.make_vec("FrozenLake-v1", num_envs=3, is_slippery=False)
    agent = icrl.make_agent("q-learning", env=env)
    agent.reset(num_envs=3, autoreset_mode=env.metadata["autoreset_mode"])
    obs, _ = env.reset(seed=0)
    for _ in range(30):
        actions = agent.act(obs)
        next_obs, *outcome, infos = env.step(actions)
        agent.observe(obs, actions, outcome[0], next_obs, *outcome[1:], infos)
        obs = next_obs
    assert agent.predict(obs)[1].agent_state.time.tolist()[0] > 20


SPACES = {
    "discrete": (Discrete(5, start=2), (5,), (1,)),
    "many": (MultiDiscrete([3, 2], start=[1, -1]), (3, 2), (2,)),
    "table": (MultiDiscrete([[3, 2], [4, 5]]), (3, 2, 4, 5), (2, 2)),
    "box": (Box(-1.0, 2.0, (2, 2)), (), (2, 2)),
    "bytes": (Box(0, 255, (2,), np.uint8), (), (2,)),
    "endless": (Box(-np.inf, np.inf, (3,)), (), (3,)),
}


@pytest.mark.parametrize("case", SPACES)
def test_observations_reach_the_agent_as_float32_from_zero(case):
    space, nvec, shape = SPACES[case]
    env = Shown(space, Discrete(3, start=5))
    agent = icrl.make_agent("uniform", env=env, horizon=10)
    assert (agent.spec.obs_nvec, agent.spec.obs_shape) == (nvec, shape)
    assert np.isfinite([agent.spec.obs_low, agent.spec.obs_high]).all()
    agent.reset(seed=0)
    for _ in range(10):
        obs = env.reset()[0]
        read = agent._checked_obs("obs", obs)
        assert read.dtype == np.float32 and read.shape == shape
        assert np.array_equal(read.ravel(), np.ravel(obs - getattr(space, "start", 0)))
        assert agent.act(obs) in (5, 6, 7)
    with pytest.raises(InputError, match=r"^action: got 4, allowed: integers in \[5, 7\]"):
        agent.observe(obs, 4, 0.0, obs, False, False)
    if nvec:
        with pytest.raises(InputError, match=r"^obs: got .*, allowed: numbered states, integers below"):
            agent.act(obs + 10)


@pytest.mark.parametrize(
    ("name", "spaces", "line"),
    [
        (
            "ucb",
            (Discrete(2), Box(0, 1, (2,))),
            r"^env: got 'Shown' with a box of 2 numbers as action, allowed: an environment with numbered actions",
        ),
        (
            "uniform",
            (Discrete(2), Box(0, np.inf, (2,))),
            r"^action space of Shown: got Box\(0.0, inf, .*, allowed: a Box of float vectors with finite bounds",
        ),
        (
            "ucb",
            (Dict(a=Discrete(2)), Discrete(2)),
            r"^observation space of Shown: got Dict\('a': Discrete\(2\)\), allow",
        ),
        (
            "ucb-vi",
            (Box(0, 1, (2,)), Discrete(2)),
            r"^environment Shown: got 'real-valued observations', allowed: one wi",
        ),
        (
            "ucb-vi",
            (Discrete(2**20), Discrete(2)),
            r"^environment Shown: got '1.05e\+06 states', allowed: one with numb",
        ),
        (
            "gittins",
            (Discrete(2), Discrete(2)),
            r"^environment: got 'Shown', allowed: a stationary bandit; this agent n",
        ),
        ("linucb", (Discrete(2), Discrete(2)), r"^features: Shown neither has nor shows any, and LinUCB needs them"),
        ("qmdp", (Discrete(2), Discrete(2)), r"^environment Shown: got 'no known tables', allowed: a finite POMDP"),
        (
            "posterior-task",
            (Discrete(2), Discrete(2)),
            r"^environment Shown: got 'no numbered tasks', allowed: a number",
        ),
        ("oracle", (Discrete(2), Discrete(2)), r"^agent: got 'Oracle', allowed: an agent that acts on observations"),
    ],
)
def test_who_does_not_fit_is_told_why(name, spaces, line):
    with pytest.raises(InputError, match=line) as caught:
        icrl.make_agent(name, env=Shown(*spaces), horizon=10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(agents))
def test_every_agent_is_made_or_says_why_not(name):
    for space in (Discrete(4), Discrete(1), Box(0, 1, (2,))):
        try:
            icrl.make_agent(name, env=Shown(space, Discrete(2)), horizon=10)
        except InputError as refusal:
            assert "\n" not in str(refusal) and ("need" in str(refusal) or "allowed" in str(refusal))


def test_environments_of_ours_are_known_in_any_form():
    family = icrl.make_env("RiverSwim-v0", horizon=7)
    assert family == environments["RiverSwim-v0"](horizon=7)
    for env in (
        family,
        gymnasium.make("icrl/RiverSwim-v0", horizon=7),
        gymnasium.make_vec("icrl/RiverSwim-v0", horizon=7),
    ):
        assert described(env)[0] == family
        assert icrl.make_agent("psrl", env=env).agent == agents["psrl"].for_env(family)
    assert icrl.make_agent("psrl", env="RiverSwim-v0", env_settings={"horizon": 7}).agent.spec == family.spec
    env = gymnasium.make("icrl/RiverSwim-v0")
    flat = gymnasium.wrappers.TransformObservation(env, np.square, Box(0.0, 99.0, (1,), np.float64))
    with pytest.raises(InputError, match="real-valued observations"):  # of what is wrapped the spaces alone are known
        icrl.make_agent("psrl", env=flat)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"env": 3}, r"^env: got 3, allowed: a gymnasium environment, one of icrl or a registered name"),
        ({"env": Shown(Discrete(2), Discrete(2)), "horizon": 0}, r"^horizon: got 0, allowed: an integer in \[1, "),
        ({"env": Shown(Discrete(2), Discrete(2)), "env_settings": {}}, r"^env_settings: got {}, allowed: None"),
        ({"horizon": 3}, r"^horizon: got 3, allowed: None: with env_id it is one of env_settings"),
    ],
)
def test_bad_requests(given, line):
    with pytest.raises(InputError, match=line):
        icrl.make_agent("ucb", **given)


def test_an_agent_is_put_on_what_fits_and_refuses_the_rest():
    spec = environments["DarkRoom-v0"](size=4).spec  # two coordinates below 4, 5 actions
    agent = HostAgent(UCB(num_arms=5), spec)
    agent.put_on(Shown(MultiDiscrete([4, 4], start=[1, 1]), Discrete(5, start=1)))
    agent.reset()
    assert agent.act(np.array([4, 1])) == 1
    agent.put_on(Shown(Box(0, 3, (2,)), Discrete(5)))
    assert agent.act(np.array([3.0, 0.0])) == 0
    with pytest.raises(
        InputError, match=r"^obs: got 4.0, allowed: numbered states, integers below \(4, 4\) in DarkRoom"
    ):
        agent.act(np.array([4.0, 0.0]))
    for spaces, line in (
        (
            (MultiDiscrete([4, 4]), Discrete(4)),
            "num_actions of Shown is 4, the agent learned in DarkRoom, where it is 5",
        ),
        (
            (MultiDiscrete([5, 5]), Discrete(5)),
            "obs_nvec of Shown is (5, 5), the agent learned in DarkRoom, where it is",
        ),
        ((Discrete(16), Discrete(5)), "obs_shape of Shown is (1,), the agent learned in DarkRoom, where it is (2,)"),
    ):
        with pytest.raises(InputError) as caught:
            agent.put_on(Shown(*spaces))
        assert str(caught.value).startswith(f"env: {line}")
