"""Every experiment answers every verb: with what was asked for, or with one line that says why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import icrl
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.interact import interact
from icrl.core.registry import experiments
from icrl.core.seeding import key_for, keys_for
from icrl.recipes.experiment import Experiment
from icrl.recipes.run import reopen
from icrl.storage.publish import read_json

HAS_NO_AGENT = ("neural-bandits", "task-diversity", "tdb")
COLLECTS_NOTHING = ("leaderboard", "neural-bandits", "task-diversity", "tdb")
COLLECTED_BY_DAY = ("ad", "dpt", "dpt-darkroom", "leaderboard", "tadm-bernoulli")  # each way of making data


@pytest.mark.parametrize("name", experiments)
def test_it_has_every_verb_and_all_presets(name):
    experiment = experiments[name]
    assert issubclass(experiment, Experiment)
    assert set(experiment.presets) == {"smoke", "cpu", "paper"}
    assert experiment.title and isinstance(experiment.published, tuple)
    for settings in experiment.presets.values():
        experiment.validate(settings, 0)
        assert experiment.num_models(settings) % max(len(experiment.kinds(settings)), 1) == 0


COLLECTIONS = [pytest.param(name, marks=[pytest.mark.nightly] * (name not in COLLECTED_BY_DAY)) for name in experiments]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_data_are_collected_or_there_are_none_to_collect(name, tmp_path, capsys):
    out = tmp_path / "data"
    code = main(["collect", name, "--preset", "smoke", "--num-tasks", "4", "--out", str(out)])
    if name in COLLECTS_NOTHING:
        assert code == 2
        assert "allowed: one that pretrains on collected data" in capsys.readouterr().err
    else:
        assert code == 0
        assert main(["verify", str(out)]) == 0


BY_DAY = ("ad", "dpt-darkroom")


RUNS = [pytest.param(name, marks=[pytest.mark.nightly] * (name not in BY_DAY)) for name in experiments]


@pytest.fixture(scope="module", params=RUNS)
def finished(request, tmp_path_factory):
    """A finished run of an experiment, in its smallest size."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    assert main(["run", request.param, "--preset", "smoke", "--out", str(folder)]) == 0
    return request.param, folder


def test_a_run_is_evaluated_again_reported_and_shown(finished):
    _, folder = finished
    before = read_json(folder / "results.json")
    for verb in ("evaluate", "report", "show"):
        assert main([verb, str(folder)]) == 0
    after = read_json(folder / "results.json")
    assert all(
        after.get(section) == before.get(section) for section in ("online", "episodes", "worlds", "diversity", "maps")
    )


def test_a_loaded_agent_does_in_a_loop_what_interact_does_for_as_long_as_its_evaluation(finished):
    name, folder = finished
    if name in HAS_NO_AGENT:
        with pytest.raises(InputError, match="pretrains no agent"):
            icrl.load_agent(folder)
        return
    host, env = icrl.load_agent(folder), reopen(folder).settings.env
    steps = read_json(folder / "results.json")["num_steps"]
    task, key = env.sample_task(jax.random.key(1)), jax.random.key(2)
    agent_key = keys_for(key_for(3, "host-agent"), jnp.arange(1))[0]
    together = jax.jit(lambda key, agent_key: interact(key, env, task, host.agent, steps, agent_key).history.action)
    key_reset, key_steps = jax.random.split(jax.random.split(key)[0])
    obs, state = env.reset(key_reset, task)
    host.reset(seed=3)
    actions = []
    for t in range(steps):
        actions.append(host.act(np.asarray(obs)))
        step = env.step(jax.random.fold_in(key_steps, t), state, jnp.int32(actions[-1]), task)
        next_obs, state, reward, terminated, truncated, info = jax.tree.map(np.asarray, step)
        host.observe(np.asarray(obs), actions[-1], reward, info["final_observation"], terminated, truncated)
        obs = next_obs
    assert actions == together(key, agent_key).tolist()
