"""The command line as its users meet it: good runs end in a report, bad input in one line and an exit code."""

import json
import shutil
import subprocess
import sys

import gymnasium
import jax
import numpy as np
import pytest
import reproductions

import icrl
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.registry import KINDS
from icrl.core.settings import replaced
from icrl.datasets.contexts import StoredContexts
from icrl.experiments.dpt_bandit import DPTBandit
from icrl.experiments.dpt_darkroom import DPTDarkRoom
from icrl.recipes.data import RunData, contexts_of

SMALL = ["--preset", "smoke"]  # the very same size everywhere, so that one compilation serves all


def call(capsys, *argv: str) -> tuple[int, str, str]:
    code = main([str(word) for word in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["run", "dpt-bandit", *SMALL, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_run_leaves_all_that_was_promised(run):
    for name in ("config.json", "metrics.jsonl", "results.json", "report.html", "tensorboard", "checkpoints/seed-0"):
        assert (run / name).exists(), name
    names = {path.name for path in (run / "figures").iterdir()}
    assert names == {"online_regret.png", "offline_suboptimality.png", "cross_entropy.png", "training.png"}
    results = json.loads((run / "results.json").read_text())
    assert len(results["online"]["agents"]["DPT"]["regret"]["mean"]) == results["num_steps"] == 20


def test_what_the_page_of_published_numbers_keeps_of_a_run(run, capsys):
    results, found = json.loads((run / "results.json").read_text()), reproductions.kept(run)
    curve = results["online"]["agents"]["DPT"]["regret"]
    assert found["numbers"]["DPT regret(500), 200 tasks"] == [{part: curve[part][-1] for part in curve}]
    assert found["settings"]["horizon"] == 20 and found["results_sha256"] == results["sha256"]
    assert set(found["figures"]) == {path.name for path in (run / "figures").iterdir()}
    assert reproductions.main(["keep", str(run)]) == 2
    assert "preset: got 'smoke', allowed: cpu or paper" in capsys.readouterr().err


def test_nothing_written_names_the_place(run):
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html"):
            assert str(run.parent) not in path.read_text(), path


@pytest.mark.nightly  # by day: the module's ``run``, a distillation below, and tests/laws/test_experiments.py
@pytest.mark.parametrize("experiment", sorted(KINDS["experiments"]))
def test_every_experiment_runs_in_its_smallest_size(experiment, tmp_path, capsys):
    code, out, _ = call(capsys, "run", experiment, *SMALL, "--out", tmp_path / "run")
    assert code == 0
    assert "report.html" in out and (tmp_path / "run" / "report.html").is_file()


def test_a_model_brings_its_flags_and_its_run_is_resumed_and_loaded(tmp_path, capsys):
    model, out = ["--model", "s5", "--state-size", "8", "--discretisation=bilinear"], tmp_path / "run"
    assert call(capsys, "run", "dpt-bandit", *SMALL, *model, "--train-steps", "20", "--out", out)[0] == 0
    stored = json.loads((out / "config.json").read_text())["settings"]
    assert (stored["model"], stored["state_size"], stored["width"]) == ("s5", 8, 16)  # width is the preset's
    assert "num_heads" not in stored
    code, _, err = call(capsys, "run", "dpt-bandit", *SMALL, "--train-steps", "20", "--out", out, "--resume")
    assert code == 2 and "model" in err  # the stored run is another model's
    before = (out / "results.json").read_text()
    assert call(capsys, "run", "dpt-bandit", *SMALL, *model, "--train-steps", "20", "--out", out, "--resume")[0] == 0
    after = json.loads((out / "results.json").read_text())
    assert after["online"] == json.loads(before)["online"]
    agent = icrl.load_agent(out)
    agent.reset(seed=0)
    assert agent.act(np.ones(1, np.float32)) in range(3)


@pytest.mark.nightly
def test_another_model_in_a_distillation_experiment(tmp_path, capsys):
    small = ["--history-steps", "60", "--train-steps", "3", "--eval-steps", "30", "--rollouts-per-task", "2"]
    model = ["--model", "mamba", "--expand", "1", "--conv-taps", "3"]
    assert call(capsys, "run", "ad-darkroom", *SMALL[:2], *small, *model, "--out", tmp_path / "run")[0] == 0


@pytest.mark.nightly
@pytest.mark.parametrize("model", sorted(KINDS["models"]))
@pytest.mark.parametrize("experiment", sorted(set(KINDS["experiments"]) - {"neural-bandits"}))  # pretrains nothing
def test_every_model_runs_in_every_experiment(experiment, model, tmp_path, capsys):
    argv = ("run", experiment, *SMALL[:2], "--train-steps", "5", "--model", model, "--out", tmp_path / "run")
    assert call(capsys, *argv)[0] == 0


def test_evaluate_report_and_resume_give_the_same_results(copy, capsys):
    before = json.loads((copy / "results.json").read_text())
    for argv in (("evaluate", copy), ("report", copy), ("run", "dpt-bandit", *SMALL, "--out", copy, "--resume")):
        assert call(capsys, *argv)[0] == 0
        after = json.loads((copy / "results.json").read_text())
        for section in ("online", "offline", "cross_entropy", "checks", "training"):
            assert after[section] == before[section], (argv[0], section)


def test_a_report_is_one_flat_table_too(run, tmp_path, capsys):
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    code, out, _ = call(capsys, "report", run, "--csv", "-")
    assert code == 0 and out.startswith("experiment,preset,seed,env,section,agent,kind,measure,axis,at,mean,low,high,")
    code, told, _ = call(capsys, "report", run, "--csv", tmp_path / "table.csv")
    assert code == 0 and (tmp_path / "table.csv").read_text() == out
    assert told.startswith(f"{len(out.splitlines()) - 1:,} rows")
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before
    assert call(capsys, "report", tmp_path, "--csv", "-")[0] == 2


def test_training_on_stored_contexts_gives_the_bits_of_the_stream(run, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "run"
    assert call(capsys, "collect", "dpt-bandit", "--preset", "smoke", "--out", data, "--num-tasks", 40 * 16)[0] == 0
    ids = np.array([0, 17, 639])
    stream = contexts_of(DPTBandit.presets["smoke"], 0, "pretrain/0").fetch(ids)
    stored = StoredContexts(data).fetch(ids)
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (stream, stored)), strict=True))
    assert call(capsys, "run", "dpt-bandit", *SMALL, "--data", data, "--out", out)[0] == 0
    code, _, err = call(
        capsys, "run", "dpt-bandit", *SMALL, "--horizon", 9, "--data", data, "--out", tmp_path / "other"
    )
    assert code == 2
    assert "data" in err and "differ" in err


def test_stored_contexts_of_rooms_are_those_of_the_stream(tmp_path, capsys):
    data, preset = tmp_path / "data", ("--preset", "smoke")
    assert call(capsys, "collect", "dpt-darkroom", *preset, "--out", data, "--num-tasks", 32)[0] == 0
    smoke = DPTDarkRoom.presets["smoke"]
    batches = RunData(tmp_path, 0).batches(replaced(smoke, {"data": str(data)}), 0)
    stored, stream = batches(1), contexts_of(smoke, 0, "pretrain/0").fetch(batches.ids(1))
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (stored, stream)), strict=True))
    argv = ("run", "dpt-darkroom", *preset, "--elsewhere", 0.1, "--data", data, "--out", tmp_path / "run")
    code, _, err = call(capsys, *argv)
    assert code == 2
    assert "elsewhere differ" in err


def test_distillation_on_collected_histories(tmp_path, capsys):
    data, small = tmp_path / "data", ["--preset", "smoke", "--history-steps", "60"]
    assert call(capsys, "collect", "ad-darkroom", *small, "--num-tasks", "12", "--out", data)[0] == 0
    run = [
        "run",
        "ad-darkroom",
        *small,
        "--train-steps",
        "5",
        "--eval-steps",
        "30",
        "--rollouts-per-task",
        "2",
        "--data",
        data,
    ]
    assert call(capsys, *run, "--out", tmp_path / "run")[0] == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())["episodes"]
    assert found["episode"] == [1, 2, 3, 4, 5]
    assert {"AD", "oracle", "uniform"} <= found["agents"].keys()
    assert not list((tmp_path / "run" / "data").glob("source-*"))
    assert call(capsys, "verify", data)[0] == 0
    code, _, err = call(capsys, *run, "--histories", "9", "--out", tmp_path / "other")
    assert code == 2
    assert "histories differ" in err


class SomebodyElsesBandit(gymnasium.Env):
    """A bandit that has never heard of this package."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.means = self.np_random.uniform(size=3)
        return np.ones(1, np.float32), {}

    def step(self, action):
        reward = self.means[action] + 0.3 * self.np_random.standard_normal()
        return np.ones(1, np.float32), float(reward), False, False, {}


def test_a_loaded_agent_plays_an_environment_written_by_somebody_else(run):
    agent, env = icrl.load_agent(run), SomebodyElsesBandit()
    for task in range(2):
        obs, _ = env.reset(seed=task)
        agent.reset(seed=task)
        for _ in range(20):
            action = agent.act(obs)
            next_obs, reward, terminated, truncated, _ = env.step(action)
            agent.observe(obs, action, reward, next_obs, terminated, truncated)
            obs = next_obs
    with pytest.raises(InputError, match="full"):
        agent.observe(obs, 0, 0.0, obs, False, False)


BAD = [
    (("run", "dpt-bandt"), "did you mean dpt-bandit"),
    (("run",), "experiment: missing"),
    (("run", "dpt-bandit", "--preset", "smok"), "preset: got 'smok'"),
    (("run", "dpt-bandit", "--num-arms", "0"), "num_arms: got 0"),
    (("run", "dpt-bandit", "--horizon", "0"), "horizon: got 0"),
    (("run", "dpt-bandit", "--horizon", "1e3"), "horizon: got 1000.0"),
    (("run", "dpt-bandit", "--noise-std", "nan"), "noise_std: got"),
    (("run", "dpt-bandit", "--noise-std", "-1"), "noise_std: got -1"),
    (("run", "dpt-bandit", "--seed", "-1"), "seed: got -1"),
    (("run", "dpt-bandit", "--seed", "4294967296"), "seed: got 4294967296"),
    (("run", "dpt-bandit", "--seed", "1.5"), "seed: got '1.5'"),
    (("run", "dpt-bandit", "--num-heads", "5"), "num_heads: got 5"),
    (("run", "dpt-bandit", "--learning-rate", "inf"), "learning_rate: got"),
    (("run", "dpt-bandit", "--learning-rat", "1"), "did you mean --learning-rate"),
    (("run", "dpt-bandit", "--learning-rate"), "a value is missing"),
    (("run", "dpt-bandit", "--width", "16", "--width", "32"), "given twice"),
    (("run", "dpt-bandit", "--competitors", "ucb,thomson"), "unknown agent 'thomson'"),
    (("run", "dpt-bandit", "--model", "transfomer"), "did you mean transformer"),
    (("run", "dpt-bandit", "--model", "s5", "--num-heads", "2"), "unrecognized argument '--num-heads'"),
    (("run", "dpt-bandit", "--state-size", "8"), "unrecognized argument '--state-size'"),
    (("run", "dpt-bandit", "--model", "s5", "--state-size", "7"), "state_size: got 7"),
    (("run", "dpt-bandit", "--model", "gru", "--model", "s5"), "given twice"),
    (("run", "ad-darkroom", "--model"), "--model: a value is missing"),
    (("run", "dpt-bandit", "--micro-batch", "7"), "micro_batch: got 7"),
    (("run", "dpt-bandit", "--data", "nowhere"), "data: got 'nowhere'"),
    (("run", "dpt-bandit", "--competitors", "posterior-gaussian,linucb"), "LinUCB needs them"),
    (("run", "dpt-bandit", "--competitors", "posterior-gaussian,in-context"), "needs a trained policy"),
    (("run", "dpt-bandit", "--ideal", "ucb1"), "unrecognized argument '--ideal'"),
    (("run", "lhf-darkroom", "--filter", "lhff"), "unknown filter 'lhff'; did you mean lhf"),
    (("run", "lhf-darkroom", "--vary", "filter=lhf,lhf"), "vary: got 'filter=lhf,lhf', allowed: different values"),
    (("run", "ad-darkroom", "--context-steps", "2000"), "context_steps: got 2000"),
    (("run", "ad-darkroom", "--source", "posterior-gaussian"), "allowed: one that learns in parallel streams"),
    (("run", "ad-darkroom", "--data", "nowhere"), "data: got 'nowhere'"),
    (("run", "ad-darkroom", "--train-fraction", "1.0"), "train_fraction: got 1.0"),
    (("run", "ad-darkroom", "--layout", "query-first"), "layout: got 'query-first'"),
    (("run", "ad-darkroom", "--histories", "0"), "histories: got 0"),
    (("run", "dpt-darkroom", "--source", "independent,posterior-tsk"), "unknown agent 'posterior-tsk'; did you mean"),
    (("run", "dpt-darkroom", "--context", "rolling,episode"), "context: got 'episode', allowed: whole or rolling or"),
    (("run", "dpt-darkroom", "--context", "rolling"), "given: got 'independent,oracle', allowed: none, or --context"),
    (("run", "dpt-darkroom", "--split", "lee"), "split: got 'lee', allowed: son-2025 or lee-2023"),
    (("run", "dpt-darkroom", "--task-pool", "4"), "task_pool: got 4, allowed: none, or contexts in a bandit"),
    (("run", "dpt-darkroom", "--competitors", "ucb-vi@delta"), "competitors: got 'ucb-vi@delta', allowed: AGENT"),
    (("run", "dpt-darkroom", "--competitors", "ucb-vi@dleta=1"), "ucb-vi setting: got 'dleta', allowed: "),
    (("run", "task-diversity-bandit", "--vary", "task_pool=0,4"), "task_pool: got 0, allowed: an integer in"),
    (("verify", "nowhere"), "folder: got 'nowhere'"),
    (("inspect", "nowhere"), "data: got 'nowhere'"),
    (("list", "agent"), "did you mean agents"),
    (("evaluate", "nowhere"), "folder: got 'nowhere'"),
    (("report", "nowhere"), "folder: got 'nowhere'"),
    (("dance",), "dance"),
    ((), "COMMAND"),
]


@pytest.mark.parametrize(("argv", "words"), BAD, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_bad_input_is_one_line_with_code_2_and_leaves_nothing(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, *argv)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1 and err.startswith("icrl: ")
    assert list(tmp_path.iterdir()) == []


def test_who_fits_an_environment(capsys):
    code, out, _ = call(capsys, "list", "agents", "--env", "RiverSwim-v0", "--json")
    found = json.loads(out)
    assert code == 0 and {"psrl", "ucb-vi", "oracle", "uniform"} <= set(found["fit"])
    assert "states" in found["refused"]["ucb"] and not set(found["fit"]) & found["refused"].keys()
    assert call(capsys, "list", "envs", "--env", "RiverSwim-v0")[0] == 2


def test_folders_that_cannot_be_used(run, copy, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("precious")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("precious")
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    for folder, words in ((file, "file"), (full, "not empty"), (run, "--resume")):
        code, _, err = call(capsys, "run", "dpt-bandit", *SMALL, "--out", folder)
        assert (code, words in err, err.count("\n")) == (2, True, 1), err
    code, _, err = call(capsys, "run", "dpt-bandit", *SMALL, "--seed", "5", "--out", run, "--resume")
    assert code == 2 and "seed" in err and "5" in err and "0" in err
    assert file.read_text() == (full / "thesis.tex").read_text() == "precious"
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before
    shutil.rmtree(copy / "checkpoints")
    code, _, err = call(capsys, "evaluate", copy)
    assert code == 2 and "checkpoint" in err


def test_damaged_files_give_code_3(copy, capsys):
    newest = sorted((copy / "checkpoints" / "seed-0").iterdir())
    for step in newest:
        victim = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        data = bytearray(victim.read_bytes())
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    code, _, err = call(capsys, "evaluate", copy)
    assert code == 3 and "sha256" in err.splitlines()[-1]
    (copy / "config.json").write_text('{"settings": {"experiment": "dpt-bandit", "preset"')
    code, _, err = call(capsys, "evaluate", copy)
    assert code == 3 and "config.json" in err


def test_config_and_results_that_somebody_changed_give_code_3(copy, capsys):
    for name, old, new, commands in (
        ("config.json", '"noise_std": 0.3', '"noise_std": 0.1', ("evaluate", "report", "show")),
        ("results.json", '"seed": 0', '"seed": 1', ("report",)),
    ):
        good = (copy / name).read_text()
        for text in (good.replace(old, new), good[: len(good) // 2], "", "[]"):
            (copy / name).write_text(text)
            for command in commands:
                code, _, err = call(capsys, command, copy)
                assert (code, err.count("\n")) == (3, 1) and name in err, (command, text[:40], err)
        (copy / name).write_text(good)


def test_links_in_a_run_are_refused_before_anything_is_written(copy, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "events.out.tfevents.1").write_text("precious")
    for name in ("tensorboard", "figures", "checkpoints"):
        (copy / name).rename(tmp_path / "aside")
        (copy / name).symlink_to(elsewhere)
        before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != ".lock"}
        for argv in (("report", copy), ("evaluate", copy), ("run", "dpt-bandit", *SMALL, "--out", copy, "--resume")):
            code, _, err = call(capsys, *argv)
            assert code == 2 and f"{name}: is a link" in err, (argv, err)
        assert {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.name != ".lock"} == before
        (copy / name).unlink()
        (tmp_path / "aside").rename(copy / name)
    assert [path.name for path in elsewhere.iterdir()] == ["events.out.tfevents.1"]


def test_help_needs_no_jax():
    code = "import sys; from icrl.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run an experiment" in done.stdout


def test_list_shows_every_registered_name(capsys):
    code, out, _ = call(capsys, "list", "--json")
    assert code == 0
    assert {kind: [row["name"] for row in rows] for kind, rows in json.loads(out).items()} == {
        kind: list(registry) for kind, registry in KINDS.items()
    }


def test_the_list_of_models_tells_their_sizes(capsys):
    code, out, _ = call(capsys, "list", "models", "--json")
    sizes = {row["name"]: row for row in json.loads(out)["models"]}
    assert code == 0 and set(sizes) == set(KINDS["models"])
    assert sizes["gru"]["state_bytes"] == 2 * 32 * 4  # two layers, h [32] float32
    assert sizes["gru"]["parameters"] == 2 * (3 * 32 * (2 * 32 + 1) + 32 + 4 * 32 + 8 * 32 * 32 + 5 * 32) + 2 * 32
    assert call(capsys, "list", "models")[1].count("state bytes") == len(sizes)


def test_help_shows_the_settings_of_the_model(capsys):
    code, out, _ = call(capsys, "run", "dpt-bandit", "--model", "s5", "--help")
    assert code == 0 and "--conj-sym True" in out and "--num-heads" not in out


def test_help_of_an_experiment_lists_its_settings(capsys):
    code, out, _ = call(capsys, "run", "dpt-bandit", "--help")
    assert code == 0
    assert "--learning-rate 0.003" in out and "Lee et al. 2023" in out
