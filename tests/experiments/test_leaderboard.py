"""The leaderboard: its section, table and figures from a made-up document; its bound; who may play where."""

import copy
import dataclasses
import io

import jax
import numpy as np
import pytest

from icrl.agents.uniform import Uniform
from icrl.cli import main
from icrl.core.errors import InputError
from icrl.core.progress import Progress
from icrl.core.registry import environments
from icrl.core.tasks import TaskSet
from icrl.envs.bernoulli_bandit import BernoulliBandit
from icrl.envs.dark_room import DarkRoom
from icrl.envs.gaussian_bandit import GaussianBandit
from icrl.envs.linear_bandit import LinearBandit
from icrl.experiments.leaderboard import Leaderboard, section_of
from icrl.planning.divergence import lai_robbins_bernoulli, lai_robbins_gaussian
from icrl.recipes.ledger import Ledger
from icrl.recipes.lower_bound import lower_bound
from icrl.recipes.run import _metrics
from icrl.recipes.tournament import Pretrained
from icrl.reports.check import check_results
from icrl.reports.figures import draw_figures
from icrl.reports.page import render_html
from icrl.reports.report import print_summary, read_results
from icrl.reports.sections.worlds import Standing, _draw_standings, leaderboard

STEPS = [1, 2, 5, 10]
WORLDS = {  # world: agent: (kind, regret at the end)
    "GaussianBandit-v0": {"pretrained": ("model", 3.0), "ts": ("ideal", 2.0), "uniform": ("baseline", 10.0),
                          "oracle": ("oracle", 0.0)},
    "RiverSwim-v0": {"ts": ("baseline", 30.0), "ucb-vi": ("baseline", 8.0), "uniform": ("baseline", 20.0)},
}  # fmt: skip


def document():
    worlds = {}
    for name, players in WORLDS.items():
        agents = {}
        for player, (kind, final) in players.items():
            mean = final * np.asarray(STEPS) / STEPS[-1]
            look = {"kind": kind, "label": f"{player} ({kind})", "interval": "95 % t interval, 30 tasks"}
            agents[player] = {**look, "regret": {"mean": mean, "low": 0.9 * mean, "high": 1.1 * mean}}
        worlds[name] = {
            "steps": STEPS, "agents": agents, "num_tasks": 30, "skipped": {"lin-ts": "needs <features>"},
            "optimum": {"mean": 2.0, "low": 1.9, "high": 2.1}, "lower_bound": [0.0, 0.5, 1.0, 1.5],
        }  # fmt: skip
    return {
        "schema": 1, "experiment": "leaderboard", "preset": "smoke", "seed": 0, "train_seeds": [0], "env": {"id": "x"},
        "num_tasks": 30, "num_steps": 10, "title": "All", "claim": "All play.", "checks": [], "worlds": worlds,
        "seconds": {"total": 1.0}, "device": "cpu", "versions": {},
    }  # fmt: skip


def test_agents_are_ranked_by_their_share_of_uniform_plays_regret():
    assert [row[:3] for row in leaderboard(check_results(document())["worlds"])] == [
        ("oracle", "oracle (oracle)", [0.0, None]),
        ("model", "pretrained (model)", [0.3, None]),
        ("baseline", "ucb-vi (baseline)", [None, 0.4]),
        ("baseline", "ts (baseline)", [0.2, 1.5]),
        ("baseline", "uniform (baseline)", [1.0, 1.0]),
    ]


def test_each_world_has_its_figure_and_table():
    results = check_results(document())
    figures = draw_figures(results)
    assert list(figures) == ["standings", *(f"world_{name}" for name in WORLDS)]
    table = figures["standings"].axes[0]
    names = ["pretrained (model)", "ucb-vi (baseline)", "ts (baseline)", "uniform (baseline)"]
    assert [text.get_text() for text in table.get_yticklabels()] == names
    assert [text.get_text() for text in table.get_xticklabels()] == ["Gaussian Bandit", "River Swim"]
    shares = {text.get_position(): text.get_text() for text in table.texts}
    assert shares == {(0, 0): ".30", (1, 1): ".40", (0, 2): ".20", (1, 2): "1.50", (0, 3): "1.00", (1, 3): "1.00"}
    axes = figures["world_GaussianBandit-v0"].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    labels = [text.get_text() for text in axes.texts]
    assert [label.split()[0] for label in labels] == ["pretrained", "ts", "uniform", "Lai-Robbins"]  # no oracle
    low, high = axes.get_ylim()
    for text, line in zip(axes.texts, axes.lines[: len(labels)], strict=True):  # labels stand in the order of the ends
        end = np.log(line.get_ydata()[-1] / low) / np.log(high / low)
        assert abs(text.get_position()[1] - end) <= 0.1
    page = render_html(results, {})
    for words in ("needs &lt;features&gt;", "2.000 [1.900, 2.100]", "0.300", "ucb-vi (baseline)"):
        assert words in page
    out = io.StringIO()
    print_summary(results, out)
    assert "0.400" in out.getvalue()


def test_what_nobody_loses_in_is_not_drawn():
    results = document()
    for world in results["worlds"].values():
        none = {part: [0.0] * len(STEPS) for part in ("mean", "low", "high")}
        world["agents"] = {"oracle": {"kind": "oracle", "label": "optimum", "interval": "exact", "regret": none}}
    assert draw_figures(check_results(results)) == {}
    assert "optimum" in render_html(check_results(results), {})


def test_many_worlds_are_printed_side_by_side_in_parts():
    results = document()
    one = results["worlds"]["RiverSwim-v0"]
    results["worlds"] |= {f"World{letter}Bandit-v0": copy.deepcopy(one) for letter in "ABCDEFGH"}
    out = io.StringIO()
    print_summary(check_results(results), out)
    text = out.getvalue()
    assert text.count("Regret as a share of uniform play's") == 2
    assert text.count("pretrained") == 1  # it plays in one world, so in one part
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.nightly
def test_every_world_is_played(tmp_path, capsys):
    """To the end of the run: worlds whose tasks hold no array, worlds with one episode, worlds of every kind."""
    argv = ["run", "leaderboard", "--preset", "smoke", "--train-steps", "3", "--agents", "uniform,oracle"]
    worlds = [name for name in environments if Leaderboard.presets["smoke"].environment(name)]
    assert len(worlds) >= 25
    assert main([*argv, "--environments", ",".join(worlds), "--out", str(tmp_path / "run")]) == 0
    assert read_results(tmp_path / "run" / "results.json")["worlds"].keys() == set(worlds)


def test_a_world_whose_tasks_hold_no_array_is_played(tmp_path):
    home, settings = GaussianBandit(horizon=20), Leaderboard.presets["smoke"]
    guest = Pretrained("guest", Uniform.for_env(home), home.spec)
    match = dataclasses.replace(settings, agents=("uniform",)).match_up("MemoryLen-v0", guest)
    assert not jax.tree.leaves(TaskSet.draw(match.env, 0, "x", 2).params)
    with Progress("", 1, "pairs") as bar:
        section, check = section_of(settings, match, guest, 0, bar, Ledger(tmp_path / "ledger"))
    assert section["optimum"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert section["agents"].keys() == {"uniform"} and check == []


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [("lower_bound", [1.0], "lower_bound"), ("optimum", {"mean": 0.0, "low": 1.0, "high": 2.0}, "optimum"),
     ("steps", [1, 2], "regret"), ("agents", {}, "agents")],
)  # fmt: skip
def test_broken_worlds_are_refused(field, value, named):
    results = copy.deepcopy(document())
    results["worlds"]["RiverSwim-v0"][field] = value
    with pytest.raises(InputError, match=rf"^results\.worlds\.RiverSwim-v0[^\n]*{named}[^\n]*$"):
        check_results(results)


@pytest.mark.parametrize(
    ("env", "constant"),
    [(BernoulliBandit(num_arms=4), lai_robbins_bernoulli),
     (GaussianBandit(num_arms=4), lambda means: lai_robbins_gaussian(means, 0.3))],
    ids=["bernoulli", "gaussian"],
)  # fmt: skip
def test_the_lower_bound_grows_as_lai_and_robbins_say(env, constant):
    """From 1e12 to 1e13 steps by c ln 10; and t / e pulls of each arm are the most it counts."""
    tasks = TaskSet.draw(env, 0, "bound", 50)
    means = np.asarray(jax.vmap(env.arm_means)(tasks.params), np.float64)
    bound = lower_bound(env, tasks, np.array([1.0, 3.0, 30.0, 1e12, 1e13]))
    c = np.mean([constant(row) for row in means])
    assert bound[4] - bound[3] == pytest.approx(c * np.log(10), rel=1e-6)
    for t, value in zip((1, 3, 30), bound[:3], strict=True):
        assert 0 <= value <= t / np.e * (means.max(1, keepdims=True) - means).sum(1).mean()
    assert bound[2] > 0
    assert lower_bound(LinearBandit(), tasks, np.array([1])) is None


def test_a_model_plays_where_tasks_look_as_it_knows_them():
    home = GaussianBandit(horizon=20)
    guest = Pretrained("guest", Uniform.for_env(home), home.spec)
    assert guest.refuses(BernoulliBandit(), 20) == ""
    assert "as in GaussianBandit" in guest.refuses(GaussianBandit(num_arms=3), 20)
    assert "as in GaussianBandit" in guest.refuses(DarkRoom(), 20)
    short = dataclasses.make_dataclass("Short", ["capacity"])(20)
    assert "at most 20" in Pretrained("guest", short, home.spec).refuses(home, 21)
    players, skipped = Leaderboard.presets["cpu"].who_plays(DarkRoom(size=2), guest, 20)
    assert {"ucb-vi", "psrl", "ucrl2", "ucb-h", "oracle", "uniform"} <= players.keys()
    assert {"lin-ts", "in-context", "pretrained", "ucb"} <= skipped.keys()


def test_slow_agents_stay_out_of_large_worlds_unless_named():
    home = GaussianBandit(horizon=20)
    guest, settings = Pretrained("guest", Uniform.for_env(home), home.spec), Leaderboard.presets["cpu"]
    assert "opsrl" in settings.who_plays(DarkRoom(size=5), guest, 20)[0]  # 25 states
    players, skipped = settings.who_plays(DarkRoom(size=6), guest, 20)  # 36 states
    assert "opsrl" not in players and "more than 30 states, plays if named" in skipped["opsrl"]
    assert "plays if named" in skipped["mixture"]  # collects data
    named = dataclasses.replace(settings, agents=("opsrl", "mixture", "uniform"))
    assert {"opsrl", "mixture"} <= named.who_plays(DarkRoom(size=6), guest, 20)[0].keys()


def test_worlds_are_all_that_are_small_enough():
    settings = Leaderboard.presets["cpu"]
    sizes = {name: settings.environment(name) for name in environments}
    assert sizes["DarkRoomHard-v0"] is None and sizes["PointRobot-v0"] is None
    assert sizes["GaussianBandit-v0"].horizon == settings.env.horizon == 200
    assert sum(env is not None for env in sizes.values()) >= 12


def test_a_run_that_trained_nothing_has_no_record(tmp_path):
    assert _metrics(tmp_path) == []


@pytest.mark.nightly
def test_smoke_run(tmp_path):
    """From the command line: the oracle loses nothing, the ideal loses less than uniform play, the report is there."""
    assert main(["run", "leaderboard", "--preset", "smoke", "--out", str(tmp_path / "run")]) == 0
    worlds = read_results(tmp_path / "run" / "results.json")["worlds"]
    final = {name: agent["regret"]["mean"][-1] for name, agent in worlds["GaussianBandit-v0"]["agents"].items()}
    assert final["oracle"] == 0 < final["posterior-gaussian"] < final["uniform"]
    assert "pretrained" in final
    assert (tmp_path / "run" / "figures" / "world_RiverSwim-v0.png").exists()


def test_many_worlds_are_drawn_in_panels_of_worlds_where_the_same_agents_play():
    shares = [[0.5 if n % 2 == kind else None for n in range(60)] for kind in (0, 1)]
    standings = [Standing("baseline", label, share) for label, share in zip("ab", shares, strict=True)]
    panels = _draw_standings([f"{n}" for n in range(60)], standings).axes
    names = [int(label.get_text()) for panel in panels for label in panel.get_xticklabels()]
    assert len(panels) == 3 and sorted(names) == list(range(60))
    assert [n % 2 for n in names] == [0] * 30 + [1] * 30
    assert [len(panel.get_yticklabels()) for panel in panels] == [1, 2, 1]  # those who play there alone
