"""Modules of others: what imports them, what never does, and what is said of those that are wrong."""

import json
import subprocess
import sys

import gymnasium
import pytest

import icrl
from icrl.cli import main
from icrl.core import foreign
from icrl.core.errors import InputError
from icrl.core.foreign import UntrustedError, stored_names
from icrl.core.registry import KINDS, agents, environments, models
from icrl.core.settings import flat
from icrl.experiments.dpt import DPTAnywhere
from icrl.gym.environments import build_environment

WORLDS = """
import dataclasses

from icrl.core.registry import environments
from icrl.envs.gaussian_bandit import GaussianBandit


@environments.register("Maze-v0", paper="-")
@dataclasses.dataclass(frozen=True)
class Maze(GaussianBandit):
    num_arms: int = 3
    horizon: int = 20


class Plain(Maze):
    pass


def a_function():
    pass
"""
PLUGIN = """
from icrl.agents.ucb import UCB
from icrl.core import struct
from icrl.core.registry import agents


@agents.register("eager", paper="Lab 2026")
@struct.dataclass
class Eager(UCB):
    pass
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The folder of a package ``my_lab`` with a module ``worlds``; all that is registered is forgotten afterwards."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").touch()
    (tmp_path / "my_lab" / "worlds.py").write_text(WORLDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in KINDS.values():
        list(registry)
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(foreign, "_allowed", set())
    monkeypatch.setattr(foreign, "_plugins_are_loaded", False)
    known = set(gymnasium.registry)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_lab")]:
        del sys.modules[name]
    for name in set(gymnasium.registry) - known:
        del gymnasium.registry[name]


def write(lab, source, name="other"):
    """Another module of the package."""
    (lab / "my_lab" / f"{name}.py").write_text(source)
    return f"my_lab.{name}"


def declare(lab, **points):
    """Entry points of a distribution that is installed in ``lab``."""
    lines = [f"{name} = {module}" for name, module in points.items()]
    (lab / "my_lab-1.0.dist-info").mkdir()
    (lab / "my_lab-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (lab / "my_lab-1.0.dist-info" / "entry_points.txt").write_text("\n".join(["[icrl.plugins]", *lines]))


# --- names ---


def test_a_name_imports_its_module(lab):
    assert "my_lab.worlds" not in sys.modules
    maze = environments["my_lab.worlds:Maze-v0"]
    assert maze.__name__ == "Maze" and environments["Maze-v0"] is maze
    assert environments["my_lab:Maze-v0"] is maze  # a package has registered what its modules have
    assert environments["my_lab.worlds:Maze"] is maze  # an attribute
    assert environments["my_lab.worlds:Plain"].__name__ == "Plain"  # which need not be registered
    assert environments.name_of(maze) == "my_lab.worlds:Maze-v0"
    assert environments.name_of(environments["my_lab.worlds:Plain"]) == "my_lab.worlds:Plain"


def test_a_recipe_of_foreign_names_is_found_again(lab):
    settings = DPTAnywhere.presets["smoke"]
    from icrl.core.settings import replaced

    chosen = replaced(settings, {"env": "my_lab.worlds:Maze-v0", "num_arms": 4})
    assert flat(chosen)["env"] == "my_lab.worlds:Maze-v0" and chosen.env.num_arms == 4
    assert replaced(settings, json.loads(json.dumps(flat(chosen)))) == chosen


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("my_lab.worlds:Mase", r"^environment of my_lab.worlds: got 'Mase', allowed: Maze-v0, or a class of it$"),
        ("my_lab.worlds:a_function", r"^environment 'my_lab.worlds:a_function': got <function .*, allowed: a class th"),
        ("my_lab.worlds:dataclasses", r"^environment 'my_lab.worlds:dataclasses': got <module .*, allowed: a class th"),
        ("my_lab.worlds:ucb", r"^environment of my_lab.worlds: got 'ucb'"),
        ("my_lab.nowhere:Maze-v0", r"^environment 'my_lab.nowhere:Maze-v0': got 'my_lab.nowhere', allowed: a module"),
        ("nobody.worlds:Maze-v0", r"^environment 'nobody.worlds:Maze-v0': got 'nobody.worlds', allowed: a module"),
        ("os:system", r"^environment 'os:system': got <built-in function system>, allowed: a class that derives from"),
    ],
)
def test_what_a_module_has_not_is_told_in_one_line(lab, name, line):
    with pytest.raises(InputError, match=line) as caught:
        environments[name]
    assert "\n" not in str(caught.value)


BROKEN = {
    "raises": ("raise ValueError('two\\nlines')", "failed: ValueError: two lines"),
    "exits": ("import sys; sys.exit(3)", "failed: SystemExit: 3"),
    "needs_another": ("import nowhere_to_be_found", "failed: ModuleNotFoundError: No module named 'nowhere_to_be"),
    "takes_a_name": (
        WORLDS.replace("Maze-v0", "GaussianBandit-v0"),
        "failed: environment 'GaussianBandit-v0' is already registered by icrl.envs.gaussian_bandit",
    ),
    "is_of_another_kind": (
        "from icrl.core.registry import agents\nfrom my_lab.worlds import Plain\nagents.register('plain')(Plain)",
        "failed: agent 'plain': got my_lab.worlds.Plain, allowed: a class that derives from icrl.core.types.Agent",
    ),
    "lacks_a_method": (
        "from icrl.core.registry import environments\nfrom icrl.envs._bandit import Bandit\n"
        "@environments.register('Half-v0')\nclass Half(Bandit):\n    def arm_means(self, params): ...\n",
        "failed: environment 'Half-v0': my_lab.other.Half lacks draw_reward, sample_task",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_module_that_is_wrong_is_told_in_one_line(lab, case, capsys):
    source, reason = BROKEN[case]
    name = f"{write(lab, source)}:Maze-v0"
    assert main(["list", "agents", "--env", name]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"icrl: environment '{name}': importing my_lab.other {reason}") and line.count("\n") == 1


def test_known_prefixes_stay(lab):
    write(lab, "raise RuntimeError", name="pomdp")
    assert environments.resolve("pomdp:tiger.POMDP") == ("POMDPFile-v0", {"file": "tiger.POMDP"})


def test_gymnasium_knows_them_at_once(lab):
    env = gymnasium.make("my_lab.worlds:icrl/Maze-v0")
    assert env.action_space.n == 3 and env.unwrapped.spec.kwargs["env_id"] == "my_lab.worlds:Maze-v0"
    assert gymnasium.make("icrl/Maze-v0").unwrapped.family == build_environment("Maze-v0", {})
    assert gymnasium.make_vec("icrl/Maze-v0", num_envs=2, horizon=7).spec.max_episode_steps == 7


# --- trust ---


def test_a_file_imports_nothing(lab):
    with stored_names(), pytest.raises(UntrustedError, match=r"--allow-import my_lab.worlds imports it") as caught:
        environments["my_lab.worlds:Maze-v0"]
    assert "my_lab" not in sys.modules and "\n" not in str(caught.value) and caught.value.exit_code == 2
    import my_lab.worlds  # noqa: F401  # the user's own import

    with stored_names():
        assert environments["my_lab.worlds:Maze-v0"].__name__ == "Maze"


def test_what_is_below_an_allowed_module_is_allowed(lab):
    with stored_names():
        foreign.allow("my_lab")
        assert environments["my_lab.worlds:Maze-v0"].__name__ == "Maze"
        with pytest.raises(UntrustedError):
            environments["my_laboratory:Maze-v0"]


@pytest.mark.parametrize("word", ["os;x", "", "a b", "../x", 3, None])
def test_allowed_is_a_name_of_a_module(word):
    with pytest.raises(InputError, match=r"^allow_import: got "):
        foreign.allow([word])


TYPED = {
    "--env": "my_lab.worlds:Maze-v0",
    "--competitors": "ucb,0.5*my_lab.worlds:x+0.5*ucb",
    "--vary": "model=my_lab.w:x",
}


@pytest.mark.parametrize("flag", TYPED)
def test_what_is_typed_is_allowed(lab, flag):
    foreign.allow_typed(["run", "dpt", flag, TYPED[flag], f"{flag}={TYPED[flag]}"])
    assert foreign._allowed == {TYPED[flag].partition(":")[0].rpartition("=")[2].rpartition("*")[2]}


def stored_run(folder, **changes):
    """As much of a run as ``reopen`` reads, with other settings."""
    from icrl.recipes import run as runs

    runs.start("dpt", "smoke", 0, {}, folder, resume=False)
    from icrl.storage.documents import read_document, write_document
    from icrl.storage.run_folder import _CONFIG, CONFIG

    config = read_document(folder / CONFIG, _CONFIG, ("schema", 1))
    body = {name: config[name] for name in _CONFIG}
    body["settings"] |= changes
    (folder / CONFIG).unlink()
    write_document(folder / CONFIG, body)
    return folder


NAMES = {
    "env": "my_lab.worlds:Maze-v0",
    "model": "my_lab.worlds:Model",
    "competitors": ["ucb", "0.5*my_lab.worlds:x+0.5*ucb"],
    "vary": ["model=gru,my_lab.worlds:Model"],
}


@pytest.mark.parametrize("field", NAMES)
def test_a_run_imports_nothing(lab, field, capsys):
    folder = stored_run(lab / "run", **{field: NAMES[field]})
    if field != "vary":  # whose values are looked up when the variants are
        assert main(["report", str(folder)]) == 2
        assert "--allow-import my_lab.worlds imports it" in capsys.readouterr().err
    assert main(["evaluate", str(folder)]) == 2
    line = capsys.readouterr().err
    assert "--allow-import my_lab.worlds imports it" in line and line.count("\n") == 1
    for load in (lambda: icrl.load_agent(folder), lambda: build_agent(f"run:{folder}")):
        with pytest.raises(UntrustedError):
            load()
    (lab / "file.toml").write_text(f"experiment = 'dpt'\npreset = 'smoke'\n{field} = {json.dumps(NAMES[field])}\n")
    assert main(["run", "--config", str(lab / "file.toml"), "--out", str(lab / "out")]) == 2
    assert "--allow-import my_lab.worlds imports it" in capsys.readouterr().err
    assert "my_lab" not in sys.modules


def build_agent(name):
    from icrl.recipes.agent_names import agent_of

    return agent_of(environments["GaussianBandit-v0"](), name)


def test_a_run_may_be_allowed_to_import(lab, capsys):
    folder = stored_run(lab / "run", env=NAMES["env"])
    assert main(["show", str(folder), "--allow-import", "my_lab.worlds"]) == 0
    assert 'env = "my_lab.worlds:Maze-v0"' in capsys.readouterr().out
    with pytest.raises(InputError, match=r"^checkpoint: got"):  # so far it got
        icrl.load_agent(folder, allow_import=["my_lab.worlds"])


# --- plugins ---


def test_plugins_are_listed_and_a_broken_one_is_told(lab, capsys, caplog):
    write(lab, PLUGIN, name="players")
    write(lab, "1 / 0", name="broken")
    declare(lab, worlds="my_lab.worlds", broken="my_lab.broken", players="my_lab.players", gone="my_lab.gone")
    assert main(["list", "agents"]) == 0
    assert "my_lab.players:eager" in capsys.readouterr().out
    assert [record.message for record in caplog.records] == [
        "plugin broken: importing my_lab.broken failed: ZeroDivisionError: division by zero; left out",
        "plugin gone: got 'my_lab.gone', allowed: a module that Python finds; install its package, or start in the "
        "folder that holds it; left out",
    ]
    assert main(["list", "envs", "--json"]) == 0
    row = {"name": "my_lab.worlds:Maze-v0", "paper": "-", "file": "my_lab.worlds"}
    assert row in json.loads(capsys.readouterr().out)["envs"]
    assert "eager" in list(agents) and "Maze-v0" in environments


def test_an_unknown_name_asks_the_plugins_and_a_known_one_does_not(lab):
    write(lab, PLUGIN, name="players")
    declare(lab, players="my_lab.players")
    assert agents["ucb"].__name__ == "UCB" and "my_lab" not in sys.modules
    with stored_names():  # installed by the user, not by the file
        assert agents["eager"].__name__ == "Eager"
        assert agents["my_lab.players:eager"].__name__ == "Eager"
    with pytest.raises(InputError, match="unknown model 'eager'"):
        models["eager"]


def test_importing_icrl_imports_no_plugin(lab):
    declare(lab, worlds="my_lab.worlds")
    code = "import sys, icrl; from icrl.core.registry import KINDS; assert not {'jax', 'my_lab'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(lab)!r}); {code}"], timeout=120)
    assert done.returncode == 0


def test_a_module_in_the_working_folder_is_found(lab, monkeypatch):
    """As ``python -m`` finds it; the command ``icrl`` has another folder first."""
    (lab / "here").mkdir()
    (lab / "here" / "my_lab_here.py").write_text(WORLDS.replace("Maze-v0", "Here-v0"))
    monkeypatch.chdir(lab / "here")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert environments["my_lab_here:Here-v0"].__name__ == "Maze"
    assert sys.path[-1] == str(lab / "here")


def test_a_plugin_cannot_take_a_name_of_ours_before_we_do(lab):
    """In a process in which nothing of ours has been looked up yet."""
    thief = WORLDS.replace("gaussian_bandit import Gaussian", "bernoulli_bandit import Bernoulli")
    thief = thief.replace("Maze(Gaussian", "Maze(Bernoulli").replace("Maze-v0", "GaussianBandit-v0")
    declare(lab, thief=write(lab, thief))
    code = (
        f"import sys; sys.path.insert(0, {str(lab)!r})\n"
        "from icrl.core.registry import environments\n"
        "rows = environments.listed()\n"
        "print([row.file for row in rows if row.name.endswith('GaussianBandit-v0')])\n"
        "print(environments['GaussianBandit-v0'].__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["['icrl.envs.gaussian_bandit']", "icrl.envs.gaussian_bandit"]
    assert done.stderr == (
        "plugin thief: importing my_lab.other failed: environment 'GaussianBandit-v0' is already registered by "
        "icrl.envs.gaussian_bandit; left out\n"
    )
