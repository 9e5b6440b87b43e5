"""Recipes: any environment, source, filter, objective, layout and model together, or one line that says why not."""

import functools
import itertools

import gymnasium
import numpy as np
import pytest

import icrl
from icrl.agents.planning import PlanningAgent
from icrl.agents.rolling_context import RollingContextAgent
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.registry import agents, environments, experiments, filters, layouts, models
from icrl.core.settings import leaves, replaced
from icrl.recipes.fits import check_fit
from icrl.recipes.parts import INDEPENDENT
from icrl.recipes.pretraining import _players as players_of
from icrl.storage.publish import read_json

BASE = experiments["ad"].presets["smoke"]
MOE = ("none", "token-task")
DICP = {"objective": "dicp", "layout": "outcomes"}
TINY = {
    "width": 8,
    "num_layers": 1,
    "train_steps": 4,
    "save_every": 4,
    "log_every": 2,
    "warmup_steps": 1,
    "batch_size": 4,
    "train_tasks": 3,
    "histories": 2,
    "history_steps": 24,
    "context_steps": 12,
    "segment": 4,
    "eval_tasks": 3,
    "eval_steps": 12,
    "offline_tasks": 3,
    "train_fraction": 0.6,
    "competitors": "uniform",
}
WORLDS = [name for name in environments if name != "ClassificationBandit-v0"]  # which reads tables
# Corridor: episodes end early, and the evaluation is shorter than one may be
BY_DAY = [WORLDS.index(f"{name}-v0") for name in ("ContextualLogisticBandit", "Corridor", "Garnet", "RandomMLPBandit")]
DATA = [
    *[("contexts", "keep-all", objective) for objective in ("ad", "dpt")],
    *[("histories", name, objective) for name in filters for objective in ("ad", "dpt")],
]


def recipe_of(**values):
    return replaced(BASE, {**TINY, **values})


@functools.cache
def refusal(**values):
    """Why a recipe is refused, one line; empty if it is not."""
    try:
        check_fit(recipe_of(**values))
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def compatible(worlds):
    """All combinations in these environments that are not refused."""
    for env, (data, rule, objective), layout in itertools.product(worlds, DATA, layouts):
        if not refusal(env=env, data=data, filter=rule, objective=objective, layout=layout):
            for source in (*agents, INDEPENDENT):
                fits = not refusal(env=env, source=(source,), data="contexts", objective="ad")
                if fits and not (data == "histories" and source == INDEPENDENT):
                    yield env, source, data, rule, objective, layout


def drawn(number):
    """A combination drawn evenly from those of an environment, which follow one another."""
    every = list(compatible([WORLDS[number % len(WORLDS)]]))
    draw = np.random.default_rng([0, number])
    return (*every[draw.integers(len(every))], list(models)[draw.integers(len(models))], MOE[draw.integers(2)])


@pytest.mark.nightly
def test_how_many_combinations_there_are(capsys):
    found = list(compatible(environments))
    with capsys.disabled():
        print(f"\n{len(found):,} x {len(models)} models x {len(MOE)} = {len(found) * len(models) * len(MOE):,} recipes")
    assert {row[0] for row in found} == set(environments)
    assert {row[2:5] for row in found} == {row for row in DATA if row[0] == "contexts" or row[2] == "ad"}


@pytest.mark.usefixtures("compiles_much")
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=[pytest.mark.nightly] * (n not in BY_DAY)) for n in range(60)]
)
def test_any_combination_trains_evaluates_reports_reloads_and_plays(number, tmp_path, capsys):
    env, source, data, rule, objective, layout, model, moe = drawn(number)
    flags = {**TINY, "env": env, "source": source, "data": data, "filter": rule, "objective": objective}
    world = environments[env]()
    players = ("uniform", "oracle") if world.spec.knows_optimum else ("uniform",)
    flags |= {"layout": layout, "model": model, "moe": moe, "competitors": ",".join(players)}
    flags["eval_steps"] = 18 if data == "histories" else 12
    known = leaves(replaced(BASE, {"model": model}))
    flags = {name: value for name, value in flags.items() if name in known or name == "moe"}
    flags |= {"fraction": 0.0} if rule == "return-threshold" else {}  # 24 steps of a source may reach nothing
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    status = main(["run", "ad", "--preset", "smoke", "--out", str(tmp_path / "run"), *words])
    assert status == 0, f"{flags}: {capsys.readouterr().err}"
    results = read_json(tmp_path / "run" / "results.json")
    if world.spec.knows_optimum:
        lost = results["online"]["agents"]
        assert set(lost) == {objective.upper(), *players}
        assert np.isfinite(lost[objective.upper()]["regret"]["mean"]).all()
    else:
        assert results["online"] is None and "Reward after" in results["claim"]
    actions = play(tmp_path / "run", f"icrl/{env}", flags["eval_steps"] + 3)
    rolls = data == "histories"  # its evaluation is longer than its context: it plays for any time
    assert len(actions) == flags["eval_steps"] + 3 * rolls
    assert all(gymnasium.make(f"icrl:icrl/{env}").action_space.contains(action) for action in actions)


def play(folder, name, steps):
    """The actions of a run's agent in a gymnasium loop, over as many of ``steps`` as its memory has room for."""
    agent, env = icrl.load_agent(folder), gymnasium.make(f"icrl:{name}")
    obs, _ = env.reset(seed=0)
    agent.reset(seed=0)
    actions = []
    for _ in range(min(steps, agent.max_steps or steps)):
        actions.append(agent.act(obs))
        next_obs, reward, terminated, truncated, _ = env.step(actions[-1])
        agent.observe(obs, actions[-1], reward, next_obs, terminated, truncated)
        obs = next_obs if not (terminated or truncated) else env.reset()[0]
    return actions


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"env": "RiverSwim-v0", "data": "contexts", "source": ("linucb",)}, "source: linucb does not fit RiverSwim"),
        ({"env": "GaussianBandit-v0", "competitors": ("ucb-vi",)}, "competitors: ucb-vi does not fit GaussianBandit"),
        ({"layout": "query-first"}, "layout: got 'query-first', allowed: interleaved or outcomes or pairs"),
        ({"data": "contexts", "filter": "lhf"}, "filter: got 'lhf', allowed: keep-all with data contexts"),
        ({"objective": "dpt"}, "objective: got 'dpt', allowed: ad with data histories"),
        ({"source": ("uniform", "uniform")}, "source: got 'uniform,uniform', allowed: different agents with"),
        (
            {"source": ("uniform", "oracle", "psrl")},
            "source: got 'uniform,oracle,psrl', allowed: at most 2 agents",
        ),
        (
            {"source": ("uniform", "oracle"), "noisy_fraction": 0.5},
            "noisy_fraction: got 0.5, allowed: 0, or one",
        ),
        ({"env": "GaussianBandit-v0", "data": "contexts", "source": (INDEPENDENT,)}, "no uniform distribution"),
        (
            {"data": "contexts", "objective": "dpt", "mask_prob": 0.5},
            "mask_prob: got 0.5, allowed: 0.0 with objective dpt",
        ),
        (
            {"env": "PointRobot-v0", "source": ("q-learning",)},
            "source: q-learning does not fit PointRobot: environment PointRobot: got 'real-valued observations'",
        ),
        (
            {"env": "PointRobot-v0", "competitors": ("ucb",)},
            "competitors: ucb does not fit PointRobot: env: got 'PointRobot' with a box of 2 numbers as action",
        ),
        (
            {"source": ("sac",)},
            "source: sac does not fit DarkRoom: env: got 'DarkRoom', allowed: one with a box of actions; sac needs",
        ),
        ({"action_head": "mse"}, "action_head: got 'mse', allowed: none: actions are numbered"),
        (
            {"env": "PointRobot-v0", "label_smoothing": 0.1},
            "label_smoothing: got 0.1, allowed: 0.0; the actions of PointRobot are not numbered",
        ),
        (
            {"env": "PointRobot-v0", "data": "contexts", "objective": "rl2", "action_head": "gaussian"},
            "action_head: got 'gaussian', allowed: squashed with objective rl2",
        ),
        (
            {"env": "Pendulum-v0", "data": "contexts", "objective": "dpt"},
            "objective: got 'dpt', allowed: ad, or a label; the optimal actions of Pendulum are not known",
        ),
        (
            {**DICP, "layout": "pairs"},
            "layout: got 'Pairs', allowed: one with an action token, such as outcomes or inter",
        ),
        ({**DICP, "env": "PointRobot-v0"}, "objective: got 'dicp', allowed: another where actions are no numbers"),
        ({**DICP, "base": "dpt"}, "base: got 'dpt', allowed: ad with data histories; stored histories hold no optimal"),
        ({**DICP, "plan_horizon": 13}, "plan_horizon: got 13, allowed: at most 12, W, steps of the context"),
        (
            {**DICP, "forget": 1, "plan_horizon": 2, "eval_steps": 24},
            "plan_horizon: got 2, allowed: at most 1 behind a context of 12; training has seen 12 steps",
        ),
        ({**DICP, "plan_samples": 6}, "plan_samples: got 6, allowed: at most 5 actions, or none"),
        ({**DICP, "context": ("trial",)}, "context: got 'trial', allowed: whole or rolling where a model plans"),
        ({**DICP, "reward_values": ("0", "much")}, "reward_values: got '0,much', allowed: numbers separated by commas"),
        (
            {**DICP, "label_smoothing": 0.1, "base": "dpt", "data": "contexts"},
            "label_smoothing: got 0.1, allowed: 0 with",
        ),
        ({"beam": 3}, "beam: got 3, allowed: 10 without objective dicp"),
        ({"plan_after": 3}, "plan_after: got 3, allowed: none without objective dicp"),
        ({"base": "dpt"}, "base: got 'dpt', allowed: ad with objective ad"),
        ({"context": ("last-episode",)}, "context: got 'last-episode', allowed: rolling, or dpt on contexts"),
        (
            {"context": ("stream",)},
            "context: got 'stream', allowed: another rule, a recurrent model, or --attention-window",
        ),
        (
            {"context": ("stream",), "attention_window": 25, "positions": "rotary"},
            "context: got 'stream', allowed: another rule, a recurrent model, or --attention-window W below the 25",
        ),
        ({"context_steps": 25}, "context_steps: got 25, allowed: an integer in [2, 24]"),
        (
            {"streams": True, "source": ("q-learning",)},
            "source: got 'q-learning', allowed: one that learns",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_both_names(values, words):
    with pytest.raises(InputError) as refused:
        check_fit(recipe_of(**values))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        (("filter=lhf",), "at least two values"),
        (("filter",), "NAME=a,b,c"),
        (("filter=lhf,lhf",), "different values"),
        (("filter=lhf,top", "filter=top,lhf"), "filter once"),
        (("train_seeds=1,2",), "all share this one"),
        (("filtr=lhf,top",), "unknown setting 'filtr'; did you mean filter"),
        (("width=8,wide",), "width: got 'wide', allowed: an integer"),
        (("model=s5,s6",), "unknown model 's6'"),
        (("context_steps=12,99",), "variant context steps 99: context_steps: got 99"),
    ],
)
def test_bad_variants_are_refused(vary, words, tmp_path, capsys):
    flags = [word for each in vary for word in ("--vary", each)]
    assert (
        main(["run", "ad", "--preset", "smoke", "--history-steps", "60", "--out", str(tmp_path / "run"), *flags]) == 2
    )
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_large_grid_wants_to_be_asked_for(tmp_path, capsys):
    widths = ",".join(map(str, range(8, 8 + 65)))
    assert main(["run", "dpt", "--preset", "smoke", "--vary", f"width={widths}", "--out", str(tmp_path / "run")]) == 2
    assert "vary: got '65 variants', allowed: at most 64; --yes trains more" in capsys.readouterr().err


def test_a_context_that_is_fixed_for_an_episode(tmp_path):
    """The released DPT code's memory: the query in front, the last episode behind it."""
    words = ["--env", "DarkRoomCorner-v0", "--size", "4", "--horizon", "6", "--layout", "query-first"]
    words += ["--context", "last-episode", "--context-steps", "6", "--source", "independent", "--eval-steps", "24"]
    assert main(["run", "dpt", "--preset", "smoke", "--out", str(tmp_path / "run"), *words]) == 0
    assert len(read_json(tmp_path / "run" / "results.json")["episodes"]["episode"]) == 4
    agent = icrl.load_agent(tmp_path / "run")
    assert type(agent.agent).__name__ == "FrozenContextAgent" and agent.max_steps is None


def test_variants_see_the_same_tasks_and_end_in_one_report(tmp_path):
    words = [
        "--vary",
        "filter=keep-all,lhf",
        "--vary",
        "model=transformer,s5",
        "--train-seeds",
        "2",
        "--train-steps",
        "4",
    ]
    assert main(["run", "ad", "--preset", "smoke", "--save-every", "4", "--out", str(tmp_path / "run"), *words]) == 0
    results = read_json(tmp_path / "run" / "results.json")
    labels = {f"filter {rule}, model {model}" for rule in ("keep-all", "lhf") for model in ("transformer", "s5")}
    assert set(results["online"]["agents"]) == labels | {"uniform", "oracle"}
    assert set(results["training"]) == labels
    (filtered,) = [each for each in results["tables"] if each["title"].startswith("What the filter did to the data")]
    assert {row[0] for row in filtered["rows"]} == {label for label in labels if "lhf" in label}
    assert len(list((tmp_path / "run" / "data").glob("source-*"))) == 1  # collected once for all variants
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert read_json(tmp_path / "run" / "results.json")["online"] == results["online"]
    assert "S5" in str(icrl.load_agent(tmp_path / "run", seed=2).agent.policy.merge())


def test_the_same_run_from_a_file(tmp_path, capsys):
    words = ["--env", "RiverSwim-v0", "--train-steps", "4", "--save-every", "4", "--source", "uniform,psrl"]
    words += ["--competitors", "uniform,oracle"]
    assert main(["run", "dpt", "--preset", "smoke", "--seed", "3", "--out", str(tmp_path / "first"), *words]) == 0
    capsys.readouterr()
    assert main(["show", str(tmp_path / "first")]) == 0
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)
    assert main(["run", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "second")]) == 0
    first, second = (read_json(tmp_path / name / "results.json") for name in ("first", "second"))
    assert first["online"] == second["online"]
    assert first["tasks_were_seen"] and "seen in training" in first["claim"]
    assert "seen in training" in (tmp_path / "first" / "report.html").read_text()
    assert second["seed"] == 3
    assert [read_json(tmp_path / name / "config.json")["settings"] for name in ("first", "second")] == [
        read_json(tmp_path / "first" / "config.json")["settings"]
    ] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bogus = 1\n", "line 1: unknown setting 'bogus'"),
        ("width = 8\nwidth = 9\n", "key twice"),
        ("\n[fit]\nwidth = 8\n", "line 2: fit: got 'a table', allowed: a value"),
        ("width = 'wide'\n", "width: got 'wide', allowed: an integer"),
        ('experiment = "ad"\n', "experiment: got 'dpt', allowed: 'ad'"),
        ("width = \n", "not TOML"),
        ("envv = 'RiverSwim-v0'\n", "did you mean env"),
    ],
)
def test_a_bad_file_is_refused_by_file_and_line(text, words, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(text)
    assert main(["run", "dpt", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_switched_environment_begins_with_its_own_defaults():
    assert replaced(experiments["dpt"].presets["cpu"], {"env": "RiverSwim-v0"}).env == environments["RiverSwim-v0"]()
    with pytest.raises(InputError, match="unknown environment 'RiverSwm-v0'; did you mean RiverSwim-v0"):
        replaced(BASE, {"env": "RiverSwm-v0"})


def test_a_model_that_plans_plays_without_too_and_planning_off_is_its_base():
    recipe = experiments["dicp"].presets["smoke"]
    policy = recipe.new_policy(0, 0)
    (planning,), (plain,) = players_of({"DICP": (recipe, [policy])}).values()
    assert (type(planning), type(planning.reader), type(plain)) == (PlanningAgent, *[RollingContextAgent] * 2)
    assert planning.reader.policy is plain.policy is policy  # the same weights
    assert (planning.beam, planning.horizon, planning.after) == (4, 3, recipe.context_steps)
    off = replaced(recipe, {"beam": 0})
    (alone,) = players_of({"DICP": (off, [policy])}).values()
    assert type(alone[0]) is RollingContextAgent and alone[0].forget == plain.forget
