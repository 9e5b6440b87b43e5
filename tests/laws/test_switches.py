"""Results do not follow a user's switches of jax: 64-bit types, and what happens where ranks differ.

A child process has 64-bit types and strict ranks, and promotes types strictly while it uses gymnasium. What it computes
is to be what this process computes, bit for bit and type for type.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import icrl
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.interact import interact, replay
from icrl.core.precision import in_32_bits
from icrl.core.registry import agents, environments, experiments, models
from icrl.core.seeding import key_for
from icrl.core.tasks import TaskSet
from icrl.envs._gymnax_adapter import GymnaxEnvironment
from icrl.models._token_policy import Policy, TokenPolicy
from icrl.recipes.run import start
from icrl.storage.metrics_log import OF_MACHINE
from icrl.storage.publish import read_json, verify_folder
from icrl.storage.run_folder import FLAGS
from icrl.training.loop import saves_of

STEPS = 8
DAY = {
    "environment": ("ClassificationBandit-v0", "DarkRoom-v0", "GaussianBandit-v0", "MemoryLen-v0", "RandomMDP-v0"),
    "agent": ("neural-ucb", "posterior-task", "psrl", "ucb1"),
    "model": ("mamba", "s5"),  # a transformer is trained, frozen and played in the experiments
    "experiment": ("ad", "dpt"),
}
BRIEF = {  # what makes the day's experiments short
    "ad": ("--train-steps", "4", "--competitors", "uniform"),
    "dpt": ("--train-steps", "4", "--competitors", "uniform"),
}


def short(name: str) -> Any:
    """The environment with episodes of ten steps."""
    has_horizon = "horizon" in {field.name for field in dataclasses.fields(environments[name])}
    return environments[name](**({"horizon": 10} if has_horizon else {}))


def in_environment(env: Any) -> Any:
    """Tasks by all ways, an episode's beginning and its first step, what is best: asked for outside any ``jit``."""
    task, key = env.sample_task(key_for(0, "task")), key_for(0, "key")
    obs, state = env.reset(key, task)
    found = [TaskSet.draw(env, 0, "tasks", 2).params, task, obs, state, env.step(key, state, jnp.int32(0), task)]
    if not isinstance(env, GymnaxEnvironment):
        found += [env.optimal_action(task, state), env.regret(task, state, jnp.int32(0)), env.optimal_return(task)]
    return found


def of_agent(name: str) -> Any:
    """What it does in the first environment that it fits, and the types of its three functions by themselves."""
    env, agent = next(fitting(name))
    task, key = env.sample_task(key_for(0, "task")), key_for(0, "key")
    lived = jax.jit(lambda key, task, agent: interact(key, env, task, agent, STEPS))(key, task, agent)
    told, obs = agent.for_task(task), env.reset(key, task)[agent.sees_env_state]

    def one_step(key: Any, obs: Any, transition: Any) -> Any:
        state = told.init(key)
        return state, told.act(key, state, obs), told.update(state, transition)

    found = jax.eval_shape(one_step, key, obs, jax.tree.map(lambda field: field[0], lived.history))
    direct = [f"{leaf.dtype}{leaf.shape}" for leaf in jax.tree.leaves(found)]
    known = () if agent.sees_env_state else replay(key, agent, lived.history)
    return [lived.history, lived.curves, lived.agent_state, known, direct]


def fitting(name: str) -> Iterator[Any]:
    """Environments with the agent."""
    for env in map(short, ("BernoulliBandit-v0", *environments)):
        try:
            yield env, agents[name].for_env(env)
        except InputError:
            continue


def of_model(name: str) -> Any:
    """Its first parameters, what it says in parallel and step by step, and a gradient."""
    config = models[name].Config()
    policy = Policy.split(TokenPolicy(6, 3, models[name](config, 40, nnx.Rngs(0)), 0.3, nnx.Rngs(0)))
    x = jax.random.normal(key_for(0, "x"), (33, 6), jnp.float32)
    start = jnp.arange(33) % 20 == 0

    def loss(params: Any) -> Any:
        return jnp.sum(policy.replace(params=params)(x, start)[0] ** 2)

    @jax.jit
    def outcomes(policy: Policy) -> Any:
        return policy(x)[0], policy(x[:1], start[:1], policy.initial_carry()), jax.grad(loss)(policy.params)

    return [policy.params, outcomes(policy)]


def of_experiment(name: str, words: tuple[str, ...] = ()) -> Any:
    """Results, losses, checkpoints and a loaded agent of a run in its smallest size."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "run"
        assert main(["run", name, "--preset", "smoke", "--out", str(folder), *words]) == 0
        results, metrics = read_json(folder / "results.json"), folder / "metrics.jsonl"
        rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.is_file() else []
        losses = [{key: row[key] for key in row.keys() - {*OF_MACHINE, "crc"}} for row in rows]
        saves = [verify_folder(path)["state_sha256"] for path in sorted(saves_of(folder, 0).glob("step-*"))]
        timed = ("versions", "seconds", "speeds", "sha256")
        kept = {key: value for key, value in results.items() if key not in timed}
        return [json.dumps([kept, losses, saves], sort_keys=True), *(_played(folder) if saves else [])]


def _played(folder: Path) -> list[Any]:
    """What the loaded agent does on the same observation again and again."""
    host = icrl.load_agent(folder)
    host.reset(seed=3)
    obs = np.zeros(host.spec.obs_shape, np.float32)
    return [[host.act(obs) for _ in range(3)]]


def of_gymnasium() -> Any:
    """A few steps through gymnasium."""
    env = gymnasium.make("icrl:icrl/RandomMDP-v0")
    obs, _ = env.reset(seed=1)
    return [obs, *(env.step(action)[:4] for action in (0, 1, 2, 0))]


def witnesses(night: bool) -> dict[str, Callable[[], Any]]:
    """What is computed in both processes, by name."""
    every = {"environment": environments, "agent": agents, "model": models, "experiment": experiments}
    names = {kind: [n for n in all_ if night or n in DAY[kind]] for kind, all_ in every.items()}
    found: dict[str, Callable[[], Any]] = {n: lambda n=n: in_environment(short(n)) for n in names["environment"]}
    found |= {n: lambda n=n: of_agent(n) for n in names["agent"] if next(fitting(n), None)}
    found |= {n: lambda n=n: of_model(n) for n in names["model"]}
    found |= {f"run {n}": lambda n=n: of_experiment(n, () if night else BRIEF[n]) for n in names["experiment"]}
    gymnax = GymnaxEnvironment.make("CartPole-v1")
    return {**found, "gymnasium": of_gymnasium, "gymnax": lambda: in_environment(gymnax)}


def digest(tree: Any) -> str:
    """Of types, shapes and bytes of all leaves."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        total.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return total.hexdigest()


def digests(night: bool, strict: bool = False) -> dict[str, str]:
    """One digest for each witness, or the error that it ended in; with ``strict`` types where they are ours alone."""
    found = {}
    for name, witness in witnesses(night).items():
        jax.config.update("jax_numpy_dtype_promotion", "strict" if strict and name == "gymnasium" else "standard")
        try:
            found[name] = digest(witness())
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def compare(night: bool) -> None:
    """That the child, with the other switches, finds what this process finds."""
    switches = {"JAX_ENABLE_X64": "1", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    assert not jax.config.jax_enable_x64
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "digests.json"
        command = [sys.executable, __file__, "night" if night else "day", str(answer)]
        with subprocess.Popen(command, env={**os.environ, **switches}, stdout=subprocess.DEVNULL) as child:
            here = digests(night)
        assert child.returncode == 0
        there = json.loads(answer.read_text())
    assert not [value for value in here.values() if len(value) != 64], here
    assert [f"{name}: {there[name]}" for name in here if there[name] != here[name]] == []


def test_results_follow_no_switch():
    compare(night=False)


@pytest.mark.nightly
def test_results_of_nothing_in_the_registry_follow_a_switch():
    compare(night=True)


def test_arrays_of_64_bits_are_rounded_as_they_enter():
    """What is made inside has 32 bits too."""
    inside = in_32_bits(lambda arrays: [*(array.dtype for array in arrays), jnp.zeros(1).dtype])
    with jax.enable_x64(True):
        arrays = [jnp.asarray(x) for x in (0.1, np.float64(0.1), np.int64(3), np.uint64(3), 1j)]
        assert [array.dtype.itemsize for array in arrays] == [8, 8, 8, 8, 16]
        assert inside(arrays) == ["float32", "float32", "int32", "uint32", "complex64", "float32"]
        assert jnp.zeros(1).dtype == "float64"


def test_types_are_promoted_as_jax_does_by_default():
    def mixed():
        return jnp.arange(3) * jnp.float32(0.5)

    with jax.numpy_dtype_promotion("strict"):
        assert in_32_bits(mixed)().dtype == "float32"
        with pytest.raises(jax.dtypes.TypePromotionError, match="promotion path"):
            mixed()


SWITCHES = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise", "PYTHONWARNINGS": "error"}
SWITCHES |= {"JAX_CHECK_TRACER_LEAKS": "1", "JAX_DEBUG_NANS": "1"}


@pytest.mark.nightly
@pytest.mark.parametrize("name", SWITCHES)
def test_a_run_follows_no_switch_of_its_command(name, tmp_path):
    found = []
    for out, switch in (("plain", {}), ("switched", {name: SWITCHES[name]})):
        command = [sys.executable, "-m", "icrl", "run", "dpt-bandit", "--preset", "smoke", "--out", str(tmp_path / out)]
        done = subprocess.run(command, env={**os.environ, **switch}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        results = read_json(tmp_path / out / "results.json")
        found.append({key: value for key, value in results.items() if key not in ("seconds", "sha256")})
    assert found[0] == found[1]


@pytest.mark.parametrize("switch", FLAGS)
def test_a_run_is_resumed_only_with_the_switches_that_it_drew_with(switch, tmp_path):
    """Every switch that is recorded changes draws, or the keys behind them; a change of it is refused."""
    changed = {"jax_default_prng_impl": "rbg", "jax_random_seed_offset": 1}.get(switch, not FLAGS[switch])
    before, out = _drawn(), tmp_path / "run"
    start("dpt", "smoke", 0, {}, out, resume=False)
    jax.config.update(switch, changed)
    try:
        assert (_drawn() != before).any()
        with pytest.raises(InputError, match=rf"^out: .*: {switch} \(stored .*, given .*\); set the stored ones"):
            start("dpt", "smoke", 0, {}, out, resume=True)
    finally:
        jax.config.update(switch, FLAGS[switch])
    start("dpt", "smoke", 0, {}, out, resume=True)


def _drawn() -> np.ndarray:
    jax.clear_caches()  # jax does not trace again for some of the switches
    return np.asarray(jax.random.gumbel(jax.random.split(jax.random.key(1))[0], (9,)))


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(digests(sys.argv[1] == "night", strict=True)))
