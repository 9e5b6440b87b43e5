"""The report is a list of sections: each key has one, each file is in the list, and every writer shows all of them."""

import ast
import importlib
import io
import json
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icrl.core.errors import InputError
from icrl.reports import sections
from icrl.reports.check import check_results, to_json
from icrl.reports.figures import draw_figures
from icrl.reports.page import render_html
from icrl.reports.report import print_summary
from icrl.reports.schema import SECTIONS, Results, contents, numbers
from icrl.reports.section import Figure, Head, Table
from icrl.reports.tensorboard import write_tensorboard

KEYS = [section.key for section in SECTIONS]
FILES = [name for _, name, _ in pkgutil.iter_modules(sections.__path__)]
WRITERS = sorted(path for path in Path(sections.__file__).parents[1].glob("*.py") if path.stem != "schema")
VALUE = {"mean": 1.5, "low": 1.0, "high": 2.0}
BAND = {part: [value] * 2 for part, value in VALUE.items()}


def agents(field):
    return {
        kind: {"kind": kind, "label": f"{kind} {field}", "interval": "95 % t interval", field: BAND}
        for kind in ("model", "ideal", "baseline", "oracle")
    }


def document():
    """Every section filled."""
    worlds = [f"World{letter}-v0" for letter in "ABCDEFGHIJ"]
    world = {"steps": [1, 2], "agents": agents("regret") | {"uniform": agents("regret")["baseline"]}, "num_tasks": 3,
             "optimum": VALUE, "lower_bound": [0.1, 0.2], "skipped": {"lin-ts": "needs features"}}  # fmt: skip
    return {
        "schema": 1, "experiment": "all-sections", "preset": "smoke", "seed": 0, "train_seeds": [0, 1],
        "num_tasks": 3, "num_steps": 2, "title": "All sections", "claim": "Each is shown.", "seconds": {"total": 1.0},
        "device": "a cpu", "versions": {"icrl": "0.1.0"}, "env": {"id": "RiverSwim-v0", "length": 6},
        "checks": [{"what": "ratio", "measured": VALUE, "target": "<= 1.10", "ok": ok} for ok in (True, False)],
        "worlds": dict.fromkeys(worlds, world),
        "episodes": {"episode": [1, 2], "agents": agents("returns")},
        "online": {"steps": [1, 2], "agents": agents("regret")},
        "offline": {"prefix": [0, 1], "agents": agents("suboptimality"), "num_tasks": 7},
        "cross_entropy": {"prefix": [0, 1], "model": BAND, "ideal": BAND, "gap": BAND},
        "diversity": {"pool_size": [1, 8], "pool": agents("regret"), "fresh": agents("regret"), "prefix": [1],
                      "distance": [[0.0, 1.0]]},
        "strategies": {"distance_in_words": "nats", "pool_size": [1, 8], "apart": BAND, "models": {"gru": {
            "parameters": 9, "state_bytes": 8, "to_memory": BAND, "to_general": BAND, "relative": [1.0, 0.0],
            "step": [1, 2], "by_step": [[1.0, 0.5], [1.0, 0.0]]}}},
        "maps": {"step": [1, 2], "agents": agents("accuracy"), "drawn": [
            {"label": "TDB", "room": [[0, 1], [-1, 1]], "cell": [0, 1, 1], "visits": [5, 3, 1],
             "edges": [[0, 1], [1, 2]], "right": [True, False], "way": [0, 1, 3], "walked": [0, 0, 1, 3]},
        ]},
        "tables": [{"title": "Sizes", "columns": ["name", "bytes"], "rows": [["a | b", 12], ["c", VALUE]],
                    "note": "Counted by hand."}],
        "training": {"0": {"step": [1, 2], "loss": [2.0, 1.0], "val_loss": None}},
        "routing": [{"branch": "layer_0", "groups": ["query"], "share": [[0.25, 0.75]]}],
        "published": [{"what": "regret(500)", "value": 12.5, "where": "Lee et al. 2023, figure 3"}],
    }  # fmt: skip


def shown(form):
    return [item for items in contents(check_results(document())) for item in items if isinstance(item, form)]


def test_every_key_of_the_document_has_one_section():
    assert sorted(KEYS) == sorted(Results.__annotations__.keys() - Head.__annotations__.keys())


def test_every_file_is_in_the_list():
    in_files = [importlib.import_module(f"icrl.reports.sections.{name}").SECTION for name in FILES]
    assert sorted(section.key for section in in_files) == sorted(KEYS)


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: path.name)
def test_no_writer_knows_a_section_by_name(path):
    assert named_sections(path.read_text()) == []


def test_the_flat_table_has_every_section_of_numbers_and_each_number_once():
    found = list(numbers(check_results(document())))
    assert {section.key for section in SECTIONS if section.numbers is None} == {"published", "env"}
    assert {number.section for number in found} == set(KEYS) - {"published", "env"}
    assert len({number[:7] for number in found}) >= len(found) - 1  # two checks of the sample have one name
    assert {number.env for number in found} == {"RiverSwim-v0", *document()["worlds"]}


def named_sections(source):
    """Keys of sections that a source looks up: ``x["online"]``, ``x.get("online")``, ``x == "online"``."""
    looked_up = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript):
            looked_up += [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            looked_up += node.args
        elif isinstance(node, ast.Compare):
            looked_up += [node.left, *node.comparators]
    return [node.value for node in looked_up if isinstance(node, ast.Constant) and node.value in KEYS]


def test_the_rule_can_fail():
    assert named_sections('a["online"]\nb.get("worlds")\nc if name == "routing" else d') == [
        "online",
        "worlds",
        "routing",
    ]
    assert named_sections('a["title"]\nb["training"] = "online"') == ["training"]


def test_the_sample_fills_every_section_and_reads_back():
    assert document().keys() == Results.__annotations__.keys() - {"run", "tasks_were_seen"}
    assert check_results(json.loads(to_json(check_results(document())))) == document()
    assert len(contents(check_results(document()))) == len(SECTIONS)


@pytest.mark.parametrize("key", KEYS)
def test_a_section_refuses_by_name_what_is_not_its_own(key):
    results = document()
    results[key] = [{"novelty": 1}] if isinstance(results[key], list) else {"novelty": {"novelty": 1}}
    with pytest.raises(InputError, match=rf"^results\.{key}\b[^\n]*$"):
        check_results(results)


@pytest.mark.parametrize(
    ("key", "value"),
    [("worlds", [1]), ("training", [1]), ("online", [1]), ("env", {"length": 6}), ("env", "RiverSwim-v0")],
)
def test_a_section_of_another_type_is_refused(key, value):
    with pytest.raises(InputError, match=rf"^results\.{key}: got .*, allowed: a dictionary[^\n]*$"):
        check_results(document() | {key: value})


def test_a_kind_of_agent_that_is_no_text_is_refused():
    results = document()
    results["online"]["agents"]["model"]["kind"] = ["model"]
    with pytest.raises(InputError, match=r"^results.online.agents.model.kind: got \['model'\], allowed: model, ideal"):
        check_results(results)


@pytest.mark.parametrize("key", sorted(set(KEYS) - set(Results.__required_keys__)))
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "None"])
def test_a_section_may_be_missing(key, absent):
    results = document() | {key: None}
    if absent:
        del results[key]
    assert len(contents(check_results(results))) == len(SECTIONS) - 1


def test_figures_have_names_of_their_own_and_captions():
    figures = shown(Figure)
    assert len({figure.name for figure in figures}) == len(figures) == 14 + 10
    for figure in figures:
        assert re.fullmatch(r"[-\w]+", figure.name) and figure.caption.endswith(".")
    assert list(draw_figures(check_results(document()))) == [figure.name for figure in figures]


def test_tables_have_a_cell_for_each_column():
    tables = shown(Table)
    assert len(tables) == 9 + 10
    for table in tables:
        assert table.rows and {len(row.cells) for row in table.rows} == {len(table.columns)}
        assert set(table.details) <= set(table.columns[1:])


def test_the_page_shows_all_tables_and_figures():
    results = check_results(document())
    text, parser = [], HTMLParser()
    parser.handle_data = text.append
    parser.feed(render_html(results, {figure.name: b"png" for figure in shown(Figure)}))
    for figure in shown(Figure):
        assert figure.caption in text
    for table in shown(Table):
        for words in (table.title, *table.columns, *filter(None, [table.note])):
            assert words in text
        for row in table.rows:
            assert all(not cell or cell in text or f"✓ {cell}" in text or f"✗ {cell}" in text for cell in row.cells)


def test_the_terminal_shows_all_tables_but_appendices_and_details():
    out = io.StringIO()
    print_summary(check_results(document()), out)
    lines = out.getvalue().splitlines()
    for table in shown(Table):
        assert any(table.title in line for line in lines) != table.is_appendix
        for row in table.rows if not table.is_appendix else ():
            cells = [cell for column, cell in zip(table.columns, row.cells, strict=True) if column not in table.details]
            assert cells[0] in out.getvalue() and any(cells[0] in line and cells[-1] in line for line in lines)
    assert max(map(len, lines)) <= 110
    assert lines[0] == "All sections" and "NOT OK" in lines[-2]  # what counts most stands last


def test_tensorboard_shows_all_tables_and_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_tensorboard(tmp_path, [], check_results(document()))
    accumulator = EventAccumulator(str(tmp_path / "report"), size_guidance={"tensors": 0, "images": 0}).Reload()
    assert set(accumulator.Tags()["images"]) == {f"figures/{figure.name}" for figure in shown(Figure)}
    text = accumulator.Tensors("summary/text_summary")[0].tensor_proto.string_val[0].decode()
    for table in shown(Table):
        assert f"\n**{table.title}**\n" in text and table.note in text
        for row in table.rows:
            assert "| " + " | ".join(cell.replace("|", r"\|") for cell in row.cells) + " |\n" in text + "\n"
    curves = EventAccumulator(str(tmp_path / "eval model")).Reload().Tags()["scalars"]
    for section in SECTIONS:
        if section.curves:
            assert f"{section.curves.field}/mean" in curves
