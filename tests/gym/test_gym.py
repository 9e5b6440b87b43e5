"""Our environments as gymnasium ones, and our agents in plain gymnasium loops."""

import dataclasses
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from siblings import KINDS, by_day

import icrl
from icrl.agents.ucb import UCB
from icrl.core import struct
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import agents, environments
from icrl.core.tasks import TaskSet
from icrl.core.types import EnvSpec
from icrl.envs.gaussian_bandit import GaussianBanditTask
from icrl.gym.environments import HostAgent, IcrlEnv, make_agent
from icrl.gym.vectors import IcrlVectorEnv

ENV_IDS = [declared.name for declared in environments.declared()]
BANDIT = "GaussianBandit-v0"


def means_of(env):
    return np.asarray(env.task.means)


# --- the single environment -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id, oracle", [(BANDIT, True), *(by_day(env_id, False) for env_id in ENV_IDS)])
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized space")  # Pendulum's torques are up to 2
def test_gymnasium_finds_nothing_to_complain_about(env_id, oracle):  # warnings are errors here
    check_env(gymnasium.make(f"icrl:icrl/{env_id}", oracle=oracle).unwrapped)


def test_types_on_the_host():
    env = IcrlEnv(BANDIT)
    obs, info = env.reset(seed=0)
    assert type(obs) is np.ndarray and obs.dtype == np.float32 and obs.flags.writeable and info == {}
    obs, reward, terminated, truncated, info = env.step(1)
    assert type(obs) is np.ndarray and type(reward) is float
    assert type(terminated) is bool and type(truncated) is bool and info == {}


def test_task_is_kept_until_another_is_asked_for():
    env = IcrlEnv(BANDIT)
    env.reset(seed=3)
    first = means_of(env)
    env.reset()
    assert np.array_equal(means_of(env), first)
    env.reset(options={"new_task": True})
    second = means_of(env)
    env.reset(options={"new_task": True})
    third = means_of(env)
    assert len({tuple(means) for means in (first, second, third)}) == 3
    env.reset(seed=3)
    assert np.array_equal(means_of(env), first)
    given = GaussianBanditTask(means=np.array([0.0, 1.0, 0.0, 0.0, 0.0]), max_steps_in_episode=7)  # float64 on purpose
    env.reset(options={"task": given})
    assert means_of(env).tolist() == [0, 1, 0, 0, 0] and env.task.means.dtype == jnp.float32
    assert [env.step(1)[3] for _ in range(7)] == [False] * 6 + [True]


def test_same_seed_same_life_and_fresh_noise_in_the_next_episode():
    env = IcrlEnv(BANDIT, horizon=4)

    def live():
        first = [env.reset(seed=11)[0].tolist(), *(env.step(2)[1] for _ in range(4))]
        return first, [env.reset()[0].tolist(), *(env.step(2)[1] for _ in range(4))]

    once, again = live(), live()
    assert once == again
    assert len(set(once[0][1:] + once[1][1:])) == 8  # every step of either episode has noise of its own


def test_every_reset_and_step_draws_by_a_number_of_its_own():
    env, clocks = IcrlEnv(BANDIT, horizon=2), []
    for act in (lambda: env.reset(seed=1), lambda: env.step(0), lambda: env.step(1), env.reset, lambda: env.step(0)):
        act()
        clocks.append(int(env._life.clock))
    assert clocks == [1, 2, 3, 4, 5]


def test_first_reset_without_seed_draws_from_the_operating_system():
    assert not np.array_equal(*(means_of(env) for env in (IcrlEnv(), IcrlEnv()) if env.reset()))


def test_no_auto_reset_and_the_end_is_final():
    env = IcrlEnv(BANDIT, horizon=2)
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(0)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(2)] == [(False, False), (False, True)]
    with pytest.raises(ResetNeeded, match="over"):
        env.step(0)
    env.reset()
    env.step(0)


def test_oracle_tells_the_truth_only_when_asked():
    env = gymnasium.make(f"icrl:icrl/{BANDIT}", oracle=True, horizon=10)
    _, info = env.reset(seed=5)
    means = means_of(env.unwrapped)
    assert info["oracle"]["optimal_action"] == means.argmax() and info["oracle"]["regret"] == 0.0
    assert info["oracle"]["optimal_return"] == pytest.approx(10 * means.max(), rel=1e-6)
    for action in range(5):
        info = env.step(action)[4]
        assert info["oracle"]["regret"] == pytest.approx(means.max() - means[action], abs=1e-6)
    assert set(info["oracle"]) == {"optimal_action", "regret", "optimal_return"}


# --- the vector environment -------------------------------------------------------------------------------------------


def vector_pair(env_id, num_envs, **settings):
    """Ours, and gymnasium's own vector of our single environment, in the same mode."""
    ours = gymnasium.make_vec(f"icrl:icrl/{env_id}", num_envs=num_envs, **settings)
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    theirs = gymnasium.make_vec(
        f"icrl:icrl/{env_id}", num_envs=num_envs, vectorization_mode="sync", vector_kwargs=mode, **settings
    )
    assert isinstance(ours, IcrlVectorEnv) and isinstance(theirs, SyncVectorEnv)
    return ours, theirs


def assert_same(ours, theirs):
    """Equal keys, types, dtypes and values, through dictionaries and object arrays."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert_same(ours[name], theirs[name])
    elif isinstance(ours, (tuple, list)):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if ours.dtype == object:
            for one, other in zip(ours, theirs, strict=True):
                assert_same(one, other)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    else:
        assert ours == theirs


@pytest.mark.parametrize(
    "env_id, oracle", [(BANDIT, False), *(by_day(env_id, True, day=env_id in KINDS) for env_id in ENV_IDS)]
)
def test_vector_is_what_gymnasium_makes_of_the_single_one(env_id, oracle):
    oracle = oracle and environments[env_id]().spec.knows_optimum
    short_length = env_id in ("MemoryLen-v0", "TMaze-v0")  # episodes of length + 1 steps
    lengths = {"horizon": 3, "length": 2 if short_length else 3, "steps": 3}
    settable = {field.name for field in dataclasses.fields(environments[env_id]) if field.init}
    short = {name: lengths[name] for name in [name for name in lengths if name in settable][:1]}
    num_steps = 2 * environments[env_id](**short).spec.max_steps_in_episode + 2
    ours, theirs = vector_pair(env_id, 3, oracle=oracle, **short)
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert_same(ours.reset(seed=7), theirs.reset(seed=7))
    ours.action_space.seed(0)
    num_ends = np.zeros(3, int)
    for _ in range(num_steps):  # over two ends of episodes, or more where they come early
        actions = ours.action_space.sample()
        (*mine, infos), (*others, other_infos) = ours.step(actions), theirs.step(actions)
        assert_same(mine, others)
        if oracle:  # the one deliberate difference: theirs is 0 where an episode ended
            infos["oracle"]["regret"] = np.where(mine[2] | mine[3], 0.0, infos["oracle"]["regret"])
        assert_same(infos, other_infos)
        num_ends += mine[2] | mine[3]
    assert (num_ends == 2).all() or (environments[env_id]().spec.ends_early and num_ends.min() >= 2)
    assert_same(
        ours.reset(seed=[5, 1, 9], options={"new_task": True}), theirs.reset(seed=[5, 1, 9], options={"new_task": True})
    )
    assert_same(ours.reset(options={"new_task": True}), theirs.reset(options={"new_task": True}))
    assert_same(ours.step(actions)[:4], theirs.step(actions)[:4])


def test_final_obs_at_the_end_and_nowhere_else():
    env = IcrlVectorEnv("ShownLinearBandit-v0", num_envs=4, horizon=2)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (4, 50) and len(np.unique(obs[:, 0])) == 4  # each its own task
    infos = env.step(np.zeros(4, int))[4]
    assert "final_obs" not in infos and "_final_obs" not in infos
    next_obs, _, terminated, truncated, infos = env.step(np.zeros(4, int))
    assert truncated.all() and not terminated.any() and infos["_final_obs"].tolist() == [True] * 4
    assert np.array_equal(np.stack(infos["final_obs"]), obs) and np.array_equal(next_obs, obs)


def test_reset_mask_leaves_the_others_alone():
    env = IcrlVectorEnv(BANDIT, num_envs=4, horizon=3)
    env.reset(seed=0)
    before = np.asarray(env.tasks.means)
    env.step(np.zeros(4, int))
    mask = np.array([True, False, True, False])
    env.reset(options={"reset_mask": mask, "new_task": True})
    changed = (np.asarray(env.tasks.means) != before).any(1)
    assert changed.tolist() == mask.tolist()
    ends = np.stack([env.step(np.zeros(4, int))[3] for _ in range(3)])
    assert ends.argmax(0).tolist() == [2, 1, 2, 1]  # the others were a step ahead


def test_stacked_tasks_can_be_set():
    env = IcrlVectorEnv(BANDIT, num_envs=3, oracle=True)
    tasks = TaskSet.draw(environments[BANDIT](), 0, "test", 3).params
    _, infos = env.reset(seed=0, options={"task": tasks})
    assert infos["oracle"]["optimal_action"].tolist() == np.asarray(tasks.means).argmax(1).tolist()
    assert np.array_equal(env.tasks.means, tasks.means)


# --- agents in plain loops --------------------------------------------------------------------------------------------


def live_in(env, agent, num_steps, num_envs):
    """Sum of regrets of each sub-environment [N] over a life in a vector environment."""
    obs, _ = env.reset(seed=0)
    agent.reset(seed=0, num_envs=num_envs)
    regret = np.zeros(num_envs)
    for _ in range(num_steps):
        actions = agent.act(obs)
        next_obs, rewards, terminated, truncated, infos = env.step(actions)
        agent.observe(obs, actions, rewards, next_obs, terminated, truncated, infos)
        regret += infos["oracle"]["regret"]
        obs = next_obs
    return regret


@pytest.mark.parametrize("name", ["ucb", "thompson-gaussian"])
def test_same_regret_as_the_functional_loop(name):
    num_tasks, num_steps = 200, 60
    env = IcrlVectorEnv(BANDIT, num_envs=num_tasks, oracle=True, horizon=25)
    here = live_in(env, make_agent(name), num_steps, num_tasks)
    family = environments[BANDIT](horizon=25)
    agent = agents[name].for_env(family)
    tasks = TaskSet.draw(family, 1, "test", num_tasks).params
    keys = jax.random.split(jax.random.key(0), num_tasks)
    run = jax.jit(jax.vmap(lambda key, task: interact(key, family, task, agent, num_steps).curves.regret.sum()))
    there = np.asarray(run(keys, tasks))
    standard_error = np.sqrt(here.var(ddof=1) / num_tasks + there.var(ddof=1) / num_tasks)
    assert abs(here.mean() - there.mean()) < 4 * standard_error
    uniform = live_in(env, make_agent("uniform"), num_steps, num_tasks)
    assert here.mean() < 0.7 * uniform.mean()  # and not because every agent does alike


class CoinMachines(gymnasium.Env):
    """Somebody else's bandit: NumPy only, float64 observations, NumPy rewards, 40 pulls an episode."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.pulls = 0
        return np.ones(1), {}

    def step(self, action):
        self.pulls += 1
        reward = np.float64(self.np_random.random() < (0.1, 0.2, 0.9)[action])
        return np.ones(1), reward, False, self.pulls == 40, {}


def foreign_agent():
    return HostAgent(UCB(num_arms=3), EnvSpec("coins", 3, (1,), 0.0, 1.0, 40))


def test_an_environment_of_somebody_else():
    env, agent = CoinMachines(), foreign_agent()
    agent.reset(seed=0)
    obs, _ = env.reset(seed=0)
    actions = []
    for _ in range(200):
        actions.append(agent.act(obs))
        next_obs, reward, terminated, truncated, _ = env.step(actions[-1])
        agent.observe(obs, actions[-1], reward, next_obs, terminated, truncated)
        obs = next_obs if not (terminated or truncated) else env.reset()[0]
    assert type(actions[0]) is int and sorted(actions[:3]) == [0, 1, 2]
    assert np.mean(np.array(actions[100:]) == 2) > 0.9  # the memory outlives the episodes
    agent.reset(seed=0)
    assert agent.act(obs) == 0  # and ends with the task


@pytest.mark.parametrize("mode, num_learned", [(AutoresetMode.SAME_STEP, 82), (AutoresetMode.NEXT_STEP, 80)])
def test_steps_that_only_restart_an_episode_teach_nothing(mode, num_learned):
    env, agent = SyncVectorEnv([CoinMachines, CoinMachines], autoreset_mode=mode), foreign_agent()
    agent.reset(seed=0, num_envs=2, autoreset_mode=env.metadata["autoreset_mode"])
    obs, _ = env.reset(seed=0)
    for _ in range(82):  # under NEXT_STEP the 41st and the 82nd step restart
        actions = agent.act(obs)
        assert actions.dtype == np.int32 and actions.shape == (2,)
        next_obs, *outcome, infos = env.step(actions)
        agent.observe(obs, actions, outcome[0], next_obs, *outcome[1:], infos)
        obs = next_obs
    assert agent.predict(obs)[1].agent_state.count.sum(1).tolist() == [num_learned] * 2


@struct.dataclass
class Recorder(UCB):
    """Keeps the last ``next_obs`` as its state, and counts how often it is traced."""

    traces: ClassVar = {"act": 0, "update": 0}

    def init(self, key):
        return jnp.zeros(1)

    def act(self, key, state, obs):
        self.traces["act"] += 1
        return jax.random.randint(key, (), 0, self.num_arms)

    def update(self, state, transition):
        self.traces["update"] += 1
        return transition.next_obs


def recorder():
    return HostAgent(Recorder(num_arms=5), environments[BANDIT]().spec)


@pytest.mark.parametrize("dense", [False, True])
def test_true_last_observation_reaches_the_agent(dense):
    agent = recorder()
    agent.reset(num_envs=2)
    final = np.full((2, 1), 0.25, np.float32) if dense else np.array([np.full(1, 0.25, np.float32), None], object)
    infos = {"final_obs": final, "_final_obs": np.array([True, False])}
    next_obs, over, never = np.ones((2, 1), np.float32), np.array([True, False]), np.zeros(2, bool)
    agent.observe(next_obs, [0, 1], [0.0, 0.0], next_obs, never, over, infos)
    assert agent.predict(next_obs)[1].agent_state.tolist() == [[0.25], [1.0]]
    assert next_obs.tolist() == [[1.0], [1.0]]  # the caller's array is not written to


def test_compiled_once():
    Recorder.traces.update(act=0, update=0)
    agent, obs = recorder(), np.ones(1, np.float32)
    for seed in range(3):
        agent.reset(seed=seed)
        for _ in range(3):
            agent.observe(obs, agent.act(obs), 0.5, obs, False, False)
    assert Recorder.traces == {"act": 1, "update": 1}
    env, vector = IcrlEnv(BANDIT), IcrlVectorEnv(BANDIT, num_envs=2)
    for _ in range(2):
        env.reset(seed=0), vector.reset(seed=0)
        env.step(0), vector.step([0, 1])
    with jax.no_tracing(True):
        for action in (1, np.int64(2), np.array(3)):
            env.step(action), vector.step([action, 0])


def test_draws_are_a_function_of_seed_position_and_sub_environment():
    agent, obs = recorder(), np.ones(1, np.float32)

    def draw(seed, num_envs=None):
        agent.reset(seed=seed, num_envs=num_envs)
        return [agent.act(obs if num_envs is None else np.ones((num_envs, 1))) for _ in range(20)]

    single, vector = draw(0), np.array(draw(0, num_envs=3))
    assert single == draw(0) != draw(1)
    assert vector[:, 0].tolist() == single and len(set(map(tuple, vector.T))) == 3


def test_predict_acts_from_the_state_it_is_given():
    agent = make_agent("thompson-gaussian")
    obs = np.ones((2, 1), np.float32)
    with pytest.raises(InputError, match=r"call reset\(\) first"):
        agent.predict(obs)
    agent.reset(seed=0, num_envs=2)
    blank = agent.predict(obs)[1]
    for _ in range(30):
        agent.observe(obs, [3, 4], [1.0, 1.0], obs, [False] * 2, [False] * 2)
    learned, _ = agent.predict(obs, None, np.zeros(2, bool), deterministic=True)
    assert learned.tolist() == [3, 4] and learned.dtype == np.int32
    first, after = agent.predict(obs, state=blank)
    assert np.array_equal(first, agent.predict(obs, state=blank)[0])  # pure in the given state
    assert after.num_acts == blank.num_acts + 1
    state, guesses = blank, []
    for _ in range(20):
        action, state = agent.predict(obs, state=state)
        guesses.append(action.tolist())
    assert len(np.unique(guesses)) > 2  # knows nothing of the rewards, and draws anew each time
    assert agent.predict(obs)[0].tolist() == [3, 4]  # its own memory was not touched
    agent.reset(seed=0)
    action, _ = agent.predict(obs[0])
    assert action.shape == () and action.item() in range(5) and {action: 1}


def test_reading_the_package_root():
    assert icrl.make_agent("ucb", c=0.5).agent.c == 0.5
    assert icrl.make_agent("ucb", env_settings={"num_arms": 9}).agent.num_arms == 9
