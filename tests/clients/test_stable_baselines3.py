"""stable-baselines3 trains in our environments as it does in anybody's; ``pip install -e '.[clients]'``."""

import gymnasium
import numpy as np
import pytest

from icrl.core.registry import environments

sb3 = pytest.importorskip("stable_baselines3", reason="extra clients is not installed")
pytestmark = [pytest.mark.nightly, pytest.mark.filterwarnings("ignore")]  # of libraries that we do not maintain

ROOM, BANDIT = "icrl:icrl/DarkRoom-v0", "icrl:icrl/BernoulliBandit-v0"


@pytest.mark.parametrize(
    "env_id", [declared.name for declared in environments.declared() if declared.name != "POMDPFile-v0"]
)
def test_its_checker_finds_nothing_to_complain_about(env_id, recwarn):
    from stable_baselines3.common.env_checker import check_env

    check_env(gymnasium.make(f"icrl:icrl/{env_id}").unwrapped)
    told = [str(each.message) for each in recwarn]
    assert [each for each in told if "symmetric and normalized" not in each] == []  # Pendulum's torques are up to 2


@pytest.mark.parametrize(
    "name, settings", [("PPO", {"n_steps": 64}), ("DQN", {"learning_starts": 100, "train_freq": 4})]
)
def test_it_learns_which_arm_pays(name, settings):
    """One bandit, that of the seed which it gives to the environment, kept over episodes."""
    from stable_baselines3.common.evaluation import evaluate_policy

    env = gymnasium.make(BANDIT, num_arms=3, horizon=20)
    model = getattr(sb3, name)("MlpPolicy", env, seed=0, **settings).learn(5000)
    means = np.asarray(env.unwrapped.task.means)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=50, warn=False)
    assert mean > 20 * (0.8 * means.max() + 0.2 * means.mean())  # most of the way from random play to the best arm


def test_many_environments_made_its_way():
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env(ROOM, n_envs=4, seed=0)
    model = sb3.PPO("MlpPolicy", envs, n_steps=32, batch_size=32, seed=0).learn(512)
    action, _ = model.predict(envs.reset())
    assert action.shape == (4,) and envs.step(action)[1].shape == (4,)
