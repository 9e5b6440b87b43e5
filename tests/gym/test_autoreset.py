"""Our vectors in every mode of gymnasium's, under its own wrappers, and with seeds that are missing."""

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from siblings import by_day
from test_gym import assert_same

import icrl
from icrl.core.errors import InputError
from icrl.gym.environments import IcrlEnv
from icrl.gym.vectors import IcrlVectorEnv

ROOM, LAKE = "DarkKeyToDoor-v0", "FrozenLake-v0"
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", [LAKE, by_day(ROOM, day=False), by_day("GaussianBandit-v0", day=False)])
def test_the_modes_are_those_of_gymnasium(env_id, mode):
    """Frozen lake ends at a hole or after five steps; ours and gymnasium's vector of our single one agree."""
    settings = {"oracle": True, "horizon": 5}
    ours = gymnasium.make_vec(f"icrl/{env_id}", num_envs=3, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: IcrlEnv(env_id, **settings)] * 3, autoreset_mode=mode)
    assert isinstance(ours, IcrlVectorEnv) and ours.metadata["autoreset_mode"] is mode
    assert IcrlVectorEnv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert_same(ours.reset(seed=7), theirs.reset(seed=7))
    ours.action_space.seed(0)
    ends = np.zeros(3, int)
    for _ in range(17):
        actions = ours.action_space.sample()
        mine, others = ours.step(actions), theirs.step(actions)
        assert_same(mine, others)
        over = mine[2] | mine[3]
        ends += over
        if mode is AutoresetMode.DISABLED and over.any():
            with pytest.raises(ResetNeeded, match=r"episodes are over in \[.*call reset\(options="):
                ours.step(actions)
            options = {"reset_mask": over}
            obs, infos = ours.reset(options=dict(options))
            their_obs, their_infos = theirs.reset(options=dict(options))
            assert np.array_equal(obs, their_obs) and np.array_equal(infos["_oracle"], their_infos["_oracle"])
    assert ends.min() >= 2
    assert_same(ours.reset(), theirs.reset())
    assert_same(ours.step(actions), theirs.step(actions))


def test_a_task_is_lived_alike_in_every_mode():
    """The same draws: a step that only restarts is one that SAME_STEP does not have."""
    actions = np.random.default_rng(0).integers(4, size=(40, 2))
    lives = {}
    for mode in ("SameStep", "NextStep"):
        env = IcrlVectorEnv(LAKE, num_envs=2, horizon=4, slippery=True, autoreset_mode=mode)
        env.reset(seed=1)
        taken, lives[mode], waits = np.zeros(2, int), [[], []], np.zeros(2, bool)
        for _ in range(30):
            _, rewards, terminated, truncated, _ = env.step(actions[taken, [0, 1]])
            for i in range(2):
                if not waits[i]:
                    lives[mode][i].append((rewards[i], terminated[i], truncated[i]))
            taken += ~waits
            waits = (terminated | truncated) & (mode == "NextStep")
    for same, following in zip(lives["SameStep"], lives["NextStep"], strict=True):
        assert len(following) > 15 and same[: len(following)] == following


def test_statistics_and_normalisation_of_gymnasium():
    env = gymnasium.make_vec(f"icrl/{ROOM}", num_envs=3, autoreset_mode=AutoresetMode.NEXT_STEP, horizon=20)
    env = wrappers.vector.NormalizeObservation(wrappers.vector.RecordEpisodeStatistics(env))
    env.reset(seed=0)
    lengths, seen = [], []
    for _ in range(63):
        obs, *_, infos = env.step(env.action_space.sample())
        seen.append(obs)
        lengths += infos["episode"]["l"][infos["_episode"]].tolist() if "episode" in infos else []
    assert lengths == [20] * 9
    assert np.abs(np.mean(seen[40:], axis=(0, 1))).max() < 1 and 0.2 < np.std(seen[40:]) < 3


def single(wrapper, **settings):
    return wrapper(gymnasium.make(f"icrl/{ROOM}", horizon=6), **settings)


def vector(wrapper, **settings):
    env = gymnasium.make_vec(f"icrl/{ROOM}", num_envs=2, autoreset_mode="NextStep", horizon=6)
    return wrapper(env, **settings)


WRAPPED = {
    "TimeLimit": lambda: single(wrappers.TimeLimit, max_episode_steps=3),
    "TimeAwareObservation": lambda: single(wrappers.TimeAwareObservation),
    "RecordEpisodeStatistics": lambda: single(wrappers.RecordEpisodeStatistics),
    "FrameStackObservation": lambda: single(wrappers.FrameStackObservation, stack_size=2),
    "FlattenObservation": lambda: single(wrappers.FlattenObservation),
    "NormalizeReward": lambda: single(wrappers.NormalizeReward),
    "Autoreset": lambda: single(wrappers.Autoreset),
    "PassiveEnvChecker": lambda: single(wrappers.PassiveEnvChecker),
    "OrderEnforcing": lambda: single(wrappers.OrderEnforcing),
    "TransformReward": lambda: single(wrappers.TransformReward, func=lambda reward: 2 * reward),
    "vector.RecordEpisodeStatistics": lambda: vector(wrappers.vector.RecordEpisodeStatistics),
    "vector.NormalizeObservation": lambda: vector(wrappers.vector.NormalizeObservation),
    "vector.NormalizeReward": lambda: vector(wrappers.vector.NormalizeReward),
    "vector.FlattenObservation": lambda: vector(wrappers.vector.FlattenObservation),
    "vector.ClipReward": lambda: vector(wrappers.vector.ClipReward, min_reward=0.0, max_reward=0.5),
    "vector.TransformObservation": lambda: vector(
        wrappers.vector.TransformObservation,
        func=lambda obs: obs + 1,
        observation_space=Box(0, 99, (2, 2)),
        single_observation_space=Box(0, 99, (2,)),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_of_gymnasium(name):
    env = WRAPPED[name]()
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    ends = 0
    for _ in range(15):
        assert env.observation_space.contains(obs)
        obs, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = np.logical_or(terminated, truncated)
        ends += np.sum(over)
        if over.shape == () and over and name != "Autoreset":
            obs, _ = env.reset()
    assert ends >= 2


def test_agents_learn_only_from_true_steps():
    env = gymnasium.make_vec(f"icrl/{ROOM}", num_envs=2, autoreset_mode=AutoresetMode.NEXT_STEP, horizon=4)
    agent = icrl.make_agent("q-learning", env=env)
    agent.reset(num_envs=2, autoreset_mode=env.metadata["autoreset_mode"])
    obs, _ = env.reset(seed=0)
    for _ in range(15):
        actions = agent.act(obs)
        next_obs, *outcome, infos = env.step(actions)
        agent.observe(obs, actions, outcome[0], next_obs, *outcome[1:], infos)
        obs = next_obs
    assert agent.predict(obs)[1].agent_state.time.tolist() == [12, 12]


def test_a_missing_seed_is_that_of_the_single_one():
    """At the first reset it draws a task of its own, later it keeps the one in play."""
    env = IcrlVectorEnv(num_envs=3)
    env.reset(seed=[None, 1, None])
    first = np.asarray(env.tasks.means)
    alone = IcrlEnv()
    alone.reset(seed=1)
    assert np.array_equal(first[1], alone.task.means) and not np.array_equal(first[0], first[2])
    env.reset(seed=[2, None, None])
    second = np.asarray(env.tasks.means)
    assert np.array_equal(second[1:], first[1:]) and not np.array_equal(second[0], first[0])
    env.reset(seed=[2, None, None], options={"new_task": True})
    third = np.asarray(env.tasks.means)
    assert np.array_equal(third[0], second[0]) and not np.any(third[1:] == second[1:])
    env.reset(seed=[None] * 3)
    assert np.array_equal(env.tasks.means, third)


def test_bad_requests():
    with pytest.raises(InputError, match=r"^max_episode_steps: got 5, allowed: '?20 or None.*: horizon=5 changes it"):
        gymnasium.make_vec("icrl/DarkRoom-v0", num_envs=2, max_episode_steps=5)
    with pytest.raises(
        InputError, match=r"^autoreset_mode: got 'never', allowed: a gymnasium.vector.AutoresetMode, or Ne"
    ):
        IcrlVectorEnv(num_envs=2, autoreset_mode="never")
    with pytest.raises(InputError, match=r"^seed\[1\]: got 'a', allowed: an integer"):
        IcrlVectorEnv(num_envs=2).reset(seed=[None, "a"])
