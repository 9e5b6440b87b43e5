"""The report: schema, figures, the self-contained page, the terminal table and the TensorBoard view."""

import functools
import io
import itertools
import json
import operator
import os
import re
import struct
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from resealing import OTHER_KINDS, places, put
from sample_results import T, band, sample_results, with_value

from icrl.core.errors import DamagedError, InputError
from icrl.reports.charts import chart, to_pixels
from icrl.reports.check import check_results, to_json
from icrl.reports.figures import draw_figures
from icrl.reports.lines import spread
from icrl.reports.numbers import short_number
from icrl.reports.page import render_html
from icrl.reports.report import print_summary, read_results, write_report
from icrl.reports.schema import contents
from icrl.reports.section import Table
from icrl.reports.tensorboard import write_tensorboard
from icrl.storage.documents import sealed


def test_values_of_another_kind_are_refused_in_one_line():
    """Whatever is accepted can be shown; by night all kinds are tried in all places (F12)."""
    sample = check_results(sample_results())
    alike = {"posterior", "ucb", "emp", "uniform", *range(1, T)}  # the first of agents and of numbers stands for all
    for number, at in enumerate([place for place in places(sample) if not set(place) & alike]):
        before = functools.reduce(operator.getitem, at, sample)
        for value in OTHER_KINDS[number % 4 :: 4]:
            put(sample, at, value)
            try:
                contents(check_results(sample))
            except InputError as refusal:
                assert "\n" not in str(refusal)
        put(sample, at, before)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, write_report(folder, sample_results())


class Page(HTMLParser):
    """Collects tags with their attributes, and the visible text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_everything_is_written_and_nothing_else(written):
    folder, paths = written
    stems = ["online_regret", "offline_suboptimality", "cross_entropy", "training"]
    names = ["results.json", *(f"figures/{stem}.png" for stem in stems), "report.html"]
    assert paths == [folder / name for name in names]
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(paths)


def test_figures_are_pngs_of_the_stated_size(written):
    for path in written[1]:
        if path.suffix == ".png":
            content = path.read_bytes()
            assert content[:8] == b"\x89PNG\r\n\x1a\n"
            assert struct.unpack(">II", content[16:24]) == (1280, 768)
            assert len(content) > 20_000  # an empty chart is a few thousand bytes


def test_results_json_reads_back_equal_and_is_strict(written, tmp_path):
    text = (written[0] / "results.json").read_text()
    stored = json.loads(text)
    assert len(stored.pop("sha256")) == 64
    assert read_results(written[0] / "results.json") == sample_results() == stored
    assert max(map(len, text.splitlines())) > 200  # curves stand on one line each
    for broken, told in (
        (text.replace("12.4", "NaN"), r"results\.json: not strict JSON: the number NaN is not finite"),
        ('{"schema": 1, "schema": 1}', r"results\.json: not strict JSON: the key 'schema' occurs twice"),
        (text[:100], r"results\.json: not strict JSON"),
        (text.replace("12.4", "12.5", 1), r"results\.json: sha256: expected"),
    ):
        (tmp_path / "results.json").write_text(broken)
        with pytest.raises(DamagedError, match=told):
            read_results(tmp_path / "results.json")
    with pytest.raises(InputError, match=r"absent\.json: No such file"):
        read_results(written[0] / "absent.json")


def test_numpy_values_become_plain_json():
    results = with_value(["online", "agents", "dpt", "regret", "mean"], np.linspace(1, 12.4, T))
    results["online"]["agents"]["dpt"]["regret"] |= {"low": np.zeros(T, np.float32), "high": np.full(T, 20)}
    results["seed"], results["checks"][0]["ok"] = np.int64(3), np.bool_(True)
    plain = json.loads(to_json(check_results(results)))
    assert plain["seed"] == 3 and plain["checks"][0]["ok"] is True
    assert plain["online"]["agents"]["dpt"]["regret"]["mean"][-1] == 12.4


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ["online", "agents", "ucb", "regret", "high", 17],
            float("nan"),
            r"online.agents.ucb.regret.high\[17\]: got nan",
        ),
        (["seconds", "total"], float("inf"), "seconds.total: got inf"),
        (["online", "agents", "ucb", "regret", "mean"], [1.0], "ucb.regret.mean: got '1 values', allowed: 40 values"),
        (["online", "agents", "ucb", "regret", "low", 3], 99.0, r"ucb.regret\[3\].*low <= mean <= high"),
        (["online", "agents", "ucb", "kind"], "best", "ucb.kind: got 'best', allowed: model, ideal"),
        (["online", "agents", "ucb", "regrets"], {}, "did you mean regret"),
        (["online", "agents"], {}, "online.agents: .* at least one agent"),
        (["onlin"], {}, "did you mean online"),
        (["schema"], 2, "schema: got 2"),
        (["training", "0", "loss"], [1.0], "training.0.loss: got '1 values'"),
        (["checks", 0], {"what": "x"}, r"checks\[0\]"),
        (["checks", 1, "measured", "low"], 5.0, r"checks\[1\].measured"),
        (["title"], "red \x1b[31m", "title: got .* printable text"),
        (["env", "object"], object(), "env.object: got 'object'"),
    ],
)
def test_a_broken_document_is_refused_by_field_and_nothing_is_written(tmp_path, path, value, words):
    with pytest.raises(InputError, match=words):
        write_report(tmp_path / "run", with_value(path, value))
    assert not (tmp_path / "run").exists()


def test_a_missing_key_is_named():
    results = sample_results()
    del results["device"]
    with pytest.raises(InputError, match="'device'"):
        check_results(results)


def test_page_is_self_contained(written):
    html = (written[0] / "report.html").read_text()
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "form", "a"} & {tag for tag, _ in page.tags}
    for _, attrs in page.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert attrs.get(name, "data:").startswith("data:")
    assert not re.search(r"https?:|url\(|@import|javascript:", html)
    assert sum(tag == "img" for tag, _ in page.tags) == 4


def test_page_says_what_counts_first(written):
    text = Page((written[0] / "report.html").read_text()).text
    claim, checks = text.index("explores as well as exact"), text.index("1 of 2 checks hold")
    assert claim < checks < text.index("✓ ok") < text.index("✗ NOT OK") < text.index("Regret after 40 steps")
    table = text[text.index("Regret after 40 steps") :]
    places = [
        table.index(label) for label in ("optimal arm", "posterior sampling", "empirical", "DPT", "UCB", "uniform")
    ]
    assert places == sorted(places)
    for word in ("300 held-out tasks", "12.4 [11.8, 13.0]", "1.025", "Lee et al. 2023", "num_arms", "seconds: total"):
        assert word in text
    assert "One training seed" not in text
    assert "2 training seeds" in text


def test_one_training_seed_is_said_in_words(tmp_path):
    write_report(tmp_path, with_value(["train_seeds"], [0]))
    assert "not how another training run would have turned out" in (tmp_path / "report.html").read_text()


def test_hostile_text_is_only_text(tmp_path):
    attack = "<script>alert(1)</script>\"'$\\frac{ [bold]字"
    results = sample_results()
    results["online"]["agents"] = {attack: {**results["online"]["agents"]["dpt"], "label": attack, "interval": attack}}
    results |= {"title": attack, "claim": attack, "env": {"id": attack, attack: attack}, "device": attack}
    results["checks"][0]["what"] = results["published"][0]["where"] = attack
    write_report(tmp_path, results)
    page = Page((tmp_path / "report.html").read_text())
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(attack) >= 8
    out = io.StringIO()
    print_summary(check_results(results), out)
    assert "[bold]" in out.getvalue()
    write_tensorboard(tmp_path / "tensorboard", [], check_results(results))


def test_sections_that_are_absent_leave_no_trace(tmp_path):
    results = sample_results()
    for section in ("online", "offline", "cross_entropy", "training", "published"):
        results[section] = None
    results["checks"] = []
    assert [path.name for path in write_report(tmp_path, results)] == ["results.json", "report.html"]
    text = Page((tmp_path / "report.html").read_text()).text
    assert "checks" not in text and "Regret" not in text and "Published" not in text
    out = io.StringIO()
    print_summary(check_results(results), out)
    assert out.getvalue() == ""


def test_smallest_documents_can_be_drawn():
    results = sample_results()
    results["online"] = {
        "steps": [1],
        "agents": {"dpt": {**results["online"]["agents"]["dpt"], "regret": band([0.0], 0.0)}},
    }
    results["offline"] = {
        "prefix": [5],
        "agents": {"a": {**results["offline"]["agents"]["ucb"], "suboptimality": band([0.1], 0.0)}},
    }
    results["cross_entropy"] = {"prefix": [3], "model": band([1.0], 0.1), "ideal": None, "gap": None}
    results["training"] = {"0": {"step": [1], "loss": [2.0], "val_loss": None}}
    figures = draw_figures(check_results(results))
    assert [len(figure.axes) for figure in figures.values()] == [1, 1, 1, 1]


def test_an_agent_far_worse_leaves_the_chart_and_is_marked():
    axes = draw_figures(check_results(sample_results()))["online_regret"].axes[0]
    assert 20.0 < axes.get_ylim()[1] < 30.0  # UCB's 20 inside, uniform's 160 outside
    labels = [text.get_text() for text in axes.texts]
    assert "↑ uniform  160" in labels and "DPT (ours)  12.4" in labels and "UCB, c = 1  20.0" in labels


@pytest.mark.parametrize("name", ["online_regret", "offline_suboptimality", "cross_entropy"])
def test_labels_do_not_overlap_and_stay_on_the_picture(name):
    figure = draw_figures(check_results(sample_results()))[name]
    figure.canvas.draw()
    for axes in figure.axes:
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert all(box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
        assert all(below.y1 <= above.y0 + 1 for below, above in itertools.pairwise(boxes))


def test_spread_moves_as_little_as_it_can():
    np.testing.assert_allclose(spread(np.array([0.1, 0.5, 0.9]), 0.1), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(spread(np.array([0.5, 0.5, 0.9]), 0.1), [0.45, 0.55, 0.9])
    np.testing.assert_allclose(spread(np.array([0.0, 0.0, 0.0]), 0.1), [0.0, 0.1, 0.2])
    np.testing.assert_allclose(spread(np.ones(3), 0.1), [0.8, 0.9, 1.0])
    crowded = spread(np.sort(np.random.default_rng(0).random(30)), 0.1)  # more than fit: evenly
    np.testing.assert_allclose(crowded, np.linspace(0, 1, 30))


def test_short_number():
    values = [0.0, 0.012, 24.06, 99.96, 1234.4, -3.14159, 1e-9]
    assert [short_number(value) for value in values] == ["0", "0.0120", "24.1", "100.0", "1,234", "-3.14", "1.00e-09"]


def test_regrets_without_an_ideal_have_no_ratio():
    results = sample_results()
    del results["online"]["agents"]["posterior"]
    tables = [item for items in contents(check_results(results)) for item in items if isinstance(item, Table)]
    [regrets] = [table for table in tables if table.title.startswith("Regret after 40 steps")]
    place = regrets.columns.index("ratio to ideal")
    assert {row.cells[place] for row in regrets.rows} == {"-"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_summary_in_a_file_is_plain_and_wide_enough(monkeypatch, encoding):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    results = check_results(
        with_value(["online", "agents", "ucb", "label"], "UCB with ε and a rather long name, tuned by hand")
    )
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    print_summary(results, out)
    out.flush()
    text = raw.getvalue().decode(encoding)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert any("DPT (ours)" in line and "12.4 [11.8, 13.0]" in line and "1.025" in line for line in lines)
    assert any("rather long name, tuned by hand" in line and "20.0 [19.2, 20.8]" in line for line in lines)
    assert any("gap at 40" in line and "NOT OK" in line for line in lines)


def test_slow_libraries_are_imported_only_when_used():
    code = (
        "import sys, icrl.reports.report, icrl.reports.tensorboard, icrl.evaluation.statistics\n"
        "print([m for m in {!r} if m in sys.modules])"
    )
    slow = ["jax", "matplotlib", "tensorboardX", "torch", "rich", "scipy.stats"]
    done = subprocess.run([sys.executable, "-c", code.format(slow)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_backend_style_or_configuration_from_outside_reaches_a_figure(tmp_path):
    """A notebook's MPLBACKEND, which a command line inherits, and a user's matplotlibrc."""
    settings = "figure.facecolor: black\nfont.size: 30\nbackend: TkAgg\nimage.origin: lower\ntext.usetex: True\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    source = tmp_path / "results.json"
    source.write_text(to_json(sealed(check_results(sample_results()))))
    program = (
        "import sys; from pathlib import Path; from icrl.reports.report import read_results, write_report\n"
        "write_report(Path(sys.argv[2]), read_results(Path(sys.argv[1])))"
    )
    inline = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    hostile = {"MPLBACKEND": "nonsense", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    drawn = []
    for number, outside in enumerate(({}, inline, hostile)):
        out = tmp_path / str(number)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "MATPLOTLIB"))}
        command = [sys.executable, "-c", program, str(source), str(out)]
        subprocess.run(command, check=True, env={**environment, **outside})
        drawn.append({path.name: path.read_bytes() for path in (out / "figures").iterdir()})
    assert drawn[0] and drawn[0] == drawn[1] == drawn[2]


def test_results_are_published_before_anything_is_drawn(tmp_path, monkeypatch):
    def fails(results):
        raise OSError("no font")

    monkeypatch.setattr("icrl.reports.report.draw_figures", fails)
    with pytest.raises(OSError, match="no font"):
        write_report(tmp_path / "run", sample_results())
    assert read_results(tmp_path / "run" / "results.json")["title"] == sample_results()["title"]


def test_a_check_that_could_not_be_computed_is_a_row():
    row = {
        "what": "a check that cannot be computed",
        "measured": None,
        "target": "b: mean 0, allowed: ...",
        "ok": False,
    }
    results = check_results({**sample_results(), "checks": [row]})
    assert "NOT OK" in render_html(results, {})
    assert "0 of 1 checks hold" in render_html(results, {})


def test_long_titles_and_wide_numbers_stay_inside_of_a_chart():
    figure, axes = chart("Return of each episode while learning " * 3, "", "episode", "return")
    axes.plot([1, 5], [-1e6, 1e6])
    axes.ticklabel_format(style="plain")
    to_pixels(figure)
    renderer = figure.canvas.get_renderer()
    for text in (figure.texts[0], axes.yaxis.label):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width, (text.get_text(), box)
