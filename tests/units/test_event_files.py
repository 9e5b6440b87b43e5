"""The TensorBoard view of a run: written whole, and live, row by row."""

from fractions import Fraction

import numpy as np
import pytest
from crash_points import full_disk
from sample_results import T, sample_results
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from icrl.core.errors import InputError
from icrl.reports.check import check_results
from icrl.reports.event_files import EVENTS
from icrl.reports.figures import draw_figures
from icrl.reports.tensorboard import LiveRun, ModelRun, write_tensorboard

METRICS = [
    {"step": step, "seed": seed, "loss": 2.0 / step + seed, "val_loss": 1.5 if step % 2 else None, "phase": "train"}
    for seed in (0, 1)
    for step in (1, 2, 3, 4)
]


MODELS = [
    ModelRun("DPT", seed, {"learning_rate": 0.5, "competitors": ("ucb1", "uniform"), "shuffle": True, "pool": None})
    for seed in (0, 1)
]


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert len(list(folder.glob(EVENTS))) == 1
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


def series(accumulator, tag):
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_tensorboard_holds_the_records_and_each_step_once(tmp_path):
    results = check_results(sample_results())
    resumed = [METRICS[0], {"step": 2, "seed": 0, "loss": 9.0}, *METRICS[1:]]  # step 2 logged again after a resume
    write_tensorboard(tmp_path, resumed, results, MODELS)
    for seed in (0, 1):
        accumulator = events(tmp_path / f"train DPT seed {seed}")
        assert series(accumulator, "training/loss") == [(s, pytest.approx(2 / s + seed)) for s in (1, 2, 3, 4)]
        assert series(accumulator, "training/val_loss") == [(1, 1.5), (3, 1.5)]
        assert sorted(accumulator.Tags()["scalars"]) == ["training/loss", "training/val_loss"]
        session = accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        settings = HParamsPluginData.FromString(session).session_start_info.hparams
        assert settings["learning_rate"].number_value == 0.5 and settings["train_seed"].number_value == seed
        assert settings["competitors"].string_value == "ucb1,uniform" and settings["shuffle"].bool_value

    for name, agent in results["online"]["agents"].items():
        accumulator = events(tmp_path / f"eval {name}")
        for bound in ("mean", "low", "high"):
            expected = list(zip(range(1, T + 1), np.float32(agent["regret"][bound]).tolist(), strict=True))
            assert series(accumulator, f"regret/{bound}") == expected
    accumulator = events(tmp_path / "train DPT all seeds")
    assert series(accumulator, "loss_over_seeds/mean")[0] == (1, 2.5)
    assert series(accumulator, "loss_over_seeds/high")[0] == (1, 3.0)
    accumulator = events(tmp_path / "report")
    assert set(accumulator.Tags()["images"]) == {f"figures/{name}" for name in draw_figures(results)}
    image = accumulator.Images("figures/training")[0]
    assert (image.width, image.height) == (1280, 768)
    summary = accumulator.Tensors("summary/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| DPT regret / ideal | 1.024 [0.9800, 1.070] |  | <= 1.10 | ok |" in summary


def test_custom_charts_find_their_tags_and_no_others(tmp_path):
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    results = sample_results()
    agents = results["online"]["agents"]
    agents["dpt/wide"] = agents.pop("emp")  # a name that is no name of a folder
    write_tensorboard(tmp_path, METRICS, check_results(results), MODELS)
    accumulator = events(tmp_path / "report")
    layout = Layout.FromString(accumulator.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: chart for category in layout.category for chart in category.chart}
    assert set(charts) == {"loss, mean and range over seeds", "all agents"}
    margin = charts["all agents"].margin.series[0]
    assert (margin.value, margin.lower, margin.upper) == ("regret/mean", "regret/low", "regret/high")
    for run in [f"eval {name.replace('/', '_')}" for name in agents]:
        assert {margin.value, margin.lower, margin.upper} == set(events(tmp_path / run).Tags()["scalars"])
    margin = charts["loss, mean and range over seeds"].margin.series[0]
    tags = events(tmp_path / "train DPT all seeds").Tags()["scalars"]
    assert {margin.value, margin.lower, margin.upper} == set(tags)


def test_rebuilding_the_view_replaces_it_and_touches_nothing_else(tmp_path):
    (tmp_path / "seed_7").mkdir()
    (tmp_path / "seed_7" / "events.out.tfevents.1.old").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    write_tensorboard(tmp_path, METRICS[:4])
    write_tensorboard(tmp_path, METRICS[:3])
    assert series(events(tmp_path / "train seed 0"), "training/loss")[-1][0] == 3
    assert not list((tmp_path / "seed_7").iterdir())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_names_that_fall_together_as_folders_are_numbered(tmp_path):
    results = sample_results()
    agents = results["online"]["agents"]
    agents["a_b"], agents["A/b"], agents["x" * 200] = agents["ucb"], agents["uniform"], agents["ucb"]
    write_tensorboard(tmp_path, [], check_results(results))
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 1 + len(agents) and {"eval a_b", "eval A_b (2)"} <= names


def test_rows_of_metrics_are_any_real_numbers_at_whole_steps(tmp_path):
    kinds = {"float32": np.float32(0.5), "array": np.array(2), "fraction": Fraction(1, 4), "half": np.float16(3.0)}
    odd = {"true": True, "numpy true": np.True_, "text": "1", "none": None, "complex": 1j, "vector": np.ones(2)}
    write_tensorboard(tmp_path, [{"step": np.int64(7), "loss": 1.0, **kinds, **odd}])
    accumulator = events(tmp_path / "train seed 0")
    expected = {"loss": 1.0, "float32": 0.5, "array": 2.0, "fraction": 0.25, "half": 3.0}
    assert {tag: series(accumulator, tag) for tag in accumulator.Tags()["scalars"]} == {
        f"training/{name}": [(7, value)] for name, value in expected.items()
    }
    for row in ({"loss": 1.0}, {"step": 7.9}, {"step": True}, {"step": "7"}, {"step": 1, "seed": 0.5}):
        with pytest.raises(InputError, match="metrics row 0"):
            write_tensorboard(tmp_path, [row])


def test_a_dashboard_grows_with_the_record_and_begins_again_with_it(tmp_path):
    """A process that goes on behind a checkpoint logs steps again: no row is shown twice, and none is lost."""
    first = LiveRun(tmp_path, MODELS[1])
    first.begins([])
    for row in METRICS[4:7]:
        first.logged(row)
        assert series(events(tmp_path / "train DPT seed 1"), "training/loss")[-1][0] == row["step"]
    (stale,) = (tmp_path / "train DPT seed 1").iterdir()
    stale.write_bytes(stale.read_bytes()[:-5])  # as a kill leaves it
    again = LiveRun(tmp_path, MODELS[1])
    again.begins(METRICS[4:5])
    for row in METRICS[5:]:
        again.logged({**row, "loss": np.float32(row["loss"])})
    accumulator = events(tmp_path / "train DPT seed 1")
    assert series(accumulator, "training/loss") == [(s, pytest.approx(2 / s + 1)) for s in (1, 2, 3, 4)]
    assert accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content


def test_a_new_event_file_comes_behind_the_old_one_and_forgets_it(tmp_path):
    """So whoever watches moves on to it, and sees each step once (``test_dashboard.py`` watches, by night)."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    names = []
    for rows in ([], METRICS[:2], METRICS[:3]):
        live = LiveRun(tmp_path, MODELS[0])
        live.begins(rows)
        (path,) = (tmp_path / "train DPT seed 0").iterdir()
        names.append(path.name)
        version, restart, *_ = EventFileLoader(str(path)).Load()
        assert version.file_version == "brain.Event:2" and (restart.session_log.status, restart.step) == (1, 0)
    assert names == sorted(set(names))


def test_a_dashboard_that_cannot_be_written_waits_and_tells_so_once(tmp_path, caplog):
    live = LiveRun(tmp_path, MODELS[0])
    live.begins(METRICS[:1])
    (path,) = (tmp_path / "train DPT seed 0").iterdir()
    size = path.stat().st_size
    with full_disk(size + 20):
        live.logged(METRICS[1])
        live.logged(METRICS[2])
    assert path.stat().st_size == size, "half a record is left"
    live.logged(METRICS[3])
    assert [step for step, _ in series(events(path.parent), "training/loss")] == [1, 2, 3, 4]
    blocked = LiveRun(tmp_path / "file", MODELS[0])
    (tmp_path / "file").write_text("in the way")
    blocked.begins([])
    blocked.logged(METRICS[0])
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["the dashboard waits"] * 2
