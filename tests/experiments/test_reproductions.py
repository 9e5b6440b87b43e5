"""The page of published numbers: a row for each, made of kept runs alone, and in the repository as they make it."""

import claims
import numpy as np
import pytest
import reproductions

from icrl.core.errors import DamagedError, InputError
from icrl.core.registry import experiments
from icrl.core.settings import flat
from icrl.storage.documents import read_document, write_document

PUBLISHED = {name: experiments[name].published for name in experiments if experiments[name].published}
BAND = {
    "mean": np.arange(1.0, 2001.0).tolist(),
    "low": np.arange(2000.0).tolist(),
    "high": np.arange(2.0, 2002.0).tolist(),
}


def run_of(name, preset="paper", **numbers):
    """A kept run with made-up numbers: each claim's are 1, 2, ..., unless they are given."""
    settings = {**flat(experiments[name].presets[preset]), "experiment": name}
    every = {
        each["what"]: numbers.get(
            each["what"], [value(1.0 + i) for i, _ in enumerate(reproductions.theirs(each["value"]))]
        )
        for each in PUBLISHED[name]
    }
    return {
        "schema": 1, "experiment": name, "preset": preset, "seed": 0, "train_seeds": [0], "num_tasks": 7,
        "num_steps": 3, "date": "2026-01-02", "device": "a cpu", "versions": {"icrl": "0.1.0", "jax": "0.10.2"},
        "seconds": 60.0, "settings": settings, "figures": {}, "results_sha256": "0", "numbers": every,
    }  # fmt: skip


def value(mean, half=0.25):
    return {"mean": mean, "low": mean - half, "high": mean + half}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(reproductions, "KEPT", tmp_path)
    return tmp_path


def row_of(what):
    (row,) = [line for line in reproductions.page().splitlines() if line.startswith(f"| {what} (")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_page_is_what_the_kept_runs_make_of_it():
    assert reproductions.PAGE.read_text() == reproductions.page()


def test_kept_files_hold_the_numbers_of_the_claims_of_today():
    for path in sorted(reproductions.KEPT.glob("*.json")):
        run = read_document(path, version=("schema", 1))
        kept_as = path.stem.removeprefix(f"{run['experiment']}-")
        change = claims.CHANGES.get(kept_as)
        assert run["preset"] in ("cpu", "paper") and (change or kept_as == run["preset"])
        told = change.numbers if change else claims.CLAIMS[run["experiment"]]
        assert run["numbers"].keys() == told.keys()
        assert len(path.read_bytes()) < 10_000


def test_every_published_number_is_claimed_once_and_read_as_often_as_it_is_published():
    assert {name: {each["what"] for each in rows} for name, rows in PUBLISHED.items()} == {
        name: set(told) for name, told in claims.CLAIMS.items()
    }
    agents = {
        name: {"regret": BAND, "returns": BAND}
        for name in ("AD", "DICP", "DICP, no plan", "DPT", "DPT, last episode", "AD, clean",
                     "ucb", "linucb", "lin-ts", "thompson-gaussian",
                     "thompson-bernoulli", "imitates ucb", *(f"DPT, {n} % of data TS" for n in (0, 10, 50, 100)))
    }  # fmt: skip
    checks = [f"E of AD + lhf, {data}, trailing mean of 20" for data in ("clean", "noisy")]
    checks += ["return in episode 50 of DICP - that of DICP, no plan"]
    results = {
        "online": {"agents": agents},
        "episodes": {"agents": agents},
        "tables": [{"rows": [["DPT", source, value(5.0)] for source in ("independent", "oracle")]}],
        "checks": [{"what": what, "measured": value(0.5)} for what in checks],
    }
    for name, rows in PUBLISHED.items():
        for each in rows:
            claim = claims.CLAIMS[name][each["what"]]
            for preset in ("cpu", "paper"):
                settings = flat(experiments[name].presets[preset])
                found = claim.read(results, settings)
                assert len(found) == len(reproductions.theirs(each["value"])), each
                assert all(own["low"] <= own["mean"] <= own["high"] for own in found if own is not None)
                assert set(claim.size) <= set(settings)
                assert claim.read({"checks": []}, settings) == [None] * len(found)  # a run without these sections
            if "contexts of 100 / 50" not in each["what"]:
                assert None not in found, each


def test_numbers_are_read_where_they_stand():
    agents = {"AD": {"returns": BAND}, "AD, clean": {"returns": BAND}}
    results = {"episodes": {"agents": agents}, "checks": []}
    told = claims.CLAIMS
    assert told["ad-darkroom"]["AD, episode 1 / 25 / 50"].read(results, {}) == [
        {"mean": n, "low": n - 1, "high": n + 1} for n in (1, 25, 50)
    ]
    last, beyond = claims.returns("AD", 2000, 2001)(results, {})
    assert last["mean"] == 2000 and beyond is None
    steps = told["ad-key-to-door"]["AD after 2 000 / 5 000 / 10 000 / 50 000 steps"].read(results, {"horizon": 50})
    assert [each["mean"] for each in steps] == [40, 100, 200, 1000]
    (smooth,) = told["lhf-darkroom"]["AD without filter, mean over 100 episodes, smoothed"].read(results, {})
    by_hand = np.mean([np.mean(np.arange(1, 2001)[max(0, n - 19) : n + 1]) for n in range(2000)])
    assert smooth["mean"] == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("10.31 +- 0.44", [(10.31, 0.44)]),
        ("25.1 %", [(0.251, 0)]),
        ("0.96 / 1.26 / 1.66", [(0.96, 0), (1.26, 0), (1.66, 0)]),
        ("24.6, 13.0, 11.1, 11.1", [(24.6, 0), (13.0, 0), (11.1, 0), (11.1, 0)]),
    ],
)
def test_published_values_in_numbers(text, numbers):
    np.testing.assert_allclose(reproductions.theirs(text), numbers)


DPT, TS = "DPT regret(500), 200 tasks", "TS regret(500), 200 tasks"
AD, LATE = "AD, episode 1 / 25 / 50", "AD after 1 000 episodes"
CLEAN, NOISY = "E of LHF for AD, clean, smoothed", "E of LHF for AD, 30 % noisy, smoothed"
LUCK = "parallel streams of one learner differ by luck alone; its report says what the filter changed"


@pytest.mark.parametrize(
    ("name", "what", "ours", "preset", "said"),
    [
        ("dpt-bandit", DPT, [value(10.5)], "paper", "met"),  # 10.31: inside
        ("dpt-bandit", DPT, [value(8.0)], "paper", "met"),
        ("dpt-bandit", DPT, [value(11.0)], "paper", "missed"),
        ("dpt-bandit", DPT, [value(8.0)], "cpu", "cannot be expected: horizon 200, theirs 500"),
        ("dpt-bandit", TS, [value(8.65)], "paper", "met"),  # 9.2 +- .35
        ("dpt-bandit", TS, [value(8.5)], "paper", "missed"),  # better, and so another competitor than theirs
        ("ad-darkroom", AD, [value(1.0), value(10.0), value(11.0)], "cpu", "missed (2 of 3 numbers)"),
        ("ad-darkroom", AD, [value(1.0), value(10.0), None], "cpu", "met (2 of 2 numbers)"),
        ("ad-darkroom", LATE, [None], "cpu", "not measured"),
        ("lhf-darkroom", CLEAN, [value(0.3)], "cpu", "met"),
        ("lhf-darkroom", CLEAN, [value(-0.1)], "cpu", f"cannot be expected: {LUCK}"),
        ("lhf-darkroom", NOISY, [value(0.1)], "cpu", "missed"),
    ],
)
def test_verdicts(name, what, ours, preset, said, kept):
    write_document(kept / f"{name}-{preset}.json", run_of(name, preset, **{what: ours}))
    _, _, shown, of, when, verdict, figure = row_of(what)
    assert verdict == said and figure == "-"
    assert of == f"{preset}, 1 training seed, 7 tasks"
    assert when == "2026-01-02, a cpu, icrl 0.1.0, jax 0.10.2, 1 min"
    assert shown.count("[") == sum(own is not None for own in ours)


def test_a_claim_that_was_not_run_has_no_number(kept):
    assert row_of("DPT regret(500), 200 tasks")[2:] == ["not run on this version", "-", "-", "-", "-"]


def test_settings_that_the_run_had_otherwise_are_said_and_only_its_own_figure_is_shown(kept, monkeypatch):
    run = run_of("dpt-bandit")
    run["settings"] |= {"matmuls": "bfloat16"}
    run["figures"] = {"online_regret.png": reproductions._sha256(reproductions.HERE / "dpt-bandit.png")}
    write_document(kept / "dpt-bandit-paper.json", run)
    row = row_of("DPT regret(500), 200 tasks")
    assert row[3] == "paper, matmuls bfloat16, 1 training seed, 7 tasks"
    assert row[6] == "[dpt-bandit.png](dpt-bandit.png)"


def test_a_kept_number_that_somebody_changed_is_refused(kept):
    path = kept / "dpt-bandit-paper.json"
    write_document(path, run_of("dpt-bandit"))
    path.write_text(
        path.read_text().replace('"num_tasks": 7', '"num_tasks": 8').replace('"num_tasks":7', '"num_tasks":8')
    )
    with pytest.raises(DamagedError, match="sha256: expected"):
        reproductions.page()


def test_what_is_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match=r"^folder: got .*, allowed: the output folder of a finished run"):
        reproductions.kept(tmp_path)
    assert reproductions.main(["keep"]) == 2
    assert "allowed: keep FOLDER [CHANGE], or none" in capsys.readouterr().err


def test_the_first_run_that_is_kept_makes_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(reproductions, "KEPT", tmp_path / "results")
    found = {"experiment": "dpt-bandit", "preset": "cpu", "numbers": {}}
    monkeypatch.setattr(reproductions, "kept", lambda folder, change: found)
    assert reproductions.keep(tmp_path) == tmp_path / "results" / "dpt-bandit-cpu.json"
    assert (tmp_path / "results" / "dpt-bandit-cpu.json").is_file()


def test_a_change_is_kept_under_its_name_and_only_whole(kept, monkeypatch):
    told = claims.CHANGES["labels-of-linucb"]
    run = run_of(told.experiment, "cpu") | {"numbers": {what: [value(3.0)] for what in told.numbers}}
    monkeypatch.setattr(reproductions, "kept", lambda folder, change: run)
    assert reproductions.keep(kept, "labels-of-linucb").name == "tadm-linear-labels-of-linucb.json"
    page = reproductions.page()
    assert all(f"| {what} | 3.00 [2.75, 3.25] |" in page for what in told.numbers)
    assert row_of("TF, regret(200)")[2] == "not run on this version"  # it is no run of the preset
    run["numbers"]["regret(100), LinUCB, beta 2"] = [None]
    with pytest.raises(InputError, match=r"it lacks regret\(100\), LinUCB, beta 2"):
        reproductions.keep(kept, "labels-of-linucb")
