"""README, the catalogue and the papers' pages say what exists, and nothing else."""

import re

import catalogue
import directives
import pages
import papers
import pytest
import reproductions

from icrl.core.registry import KINDS, experiments

README = (pages.ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)#]+)(?:#([\w-]+))?\)")


@pytest.mark.parametrize("kind", KINDS)
def test_everything_registered_has_a_section_with_its_settings(kind):
    listing = catalogue.listing(kind)
    for declared in KINDS[kind].declared():
        entry = KINDS[kind].entry(declared.name)
        (section,) = re.findall(rf"^## {re.escape(declared.name)} {{.*?(?=^## |\Z)", listing, re.M | re.S)
        assert f"`{declared.file.replace('.', '/')}.py`" in section
        assert len(section.splitlines()[2]) > 10, f"{declared.name}: a docstring that says what it is"
        if kind != "experiments":
            assert catalogue.settings_table(entry.item) in section


def test_the_settings_of_an_agent_stand_with_default_bounds_and_meaning():
    row = "| `c` | `1.0` | a finite number in \\[0, inf\\] | scale of the bonus, reward units |"
    assert row in catalogue.settings_table(KINDS["agents"]["ucb"])


def test_a_setting_that_all_presets_share_is_left_out():
    table = catalogue.presets_table(experiments["dpt-bandit"])
    assert "| `width` | `16` | `32` | `32` |" in table and "`noise_std`" not in table


def test_docstrings_keep_their_signs():
    assert catalogue.as_text("a * b_c ``x_[0]``") == "a \\* b\\_c ``x_[0]``"


def test_readme_is_short_and_begins_with_the_commands():
    assert len(README.splitlines()) <= 150
    for command in ("pip install -e '.[dev]'", "icrl run dpt-bandit", "pytest"):
        assert command in README[:1500]


def test_readme_counts_what_exists():
    counts = {kind: int(count) for kind, count in re.findall(r"catalogue/(\w+)\.md\) \| (\d+) \|", README)}
    assert counts == {kind: len(registry.declared()) for kind, registry in KINDS.items()}


@pytest.mark.parametrize("page", pages.all_pages(), ids=pages.name_of)
def test_links_lead_somewhere(page):
    """Also those of README, which mkdocs does not see, and the anchors of catalogues."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target, anchor in LINK.findall(prose):
        if not target.startswith("https://"):
            path = page.parent / target
            assert path.exists(), f"{pages.name_of(page)} links to {target}"
            if anchor and path.parent.name == "catalogue":
                kind = KINDS[path.stem]
                assert anchor in {catalogue.anchor(kind.entry(name)) for name in kind}, f"{target}#{anchor}"


def test_every_experiment_that_has_published_numbers_has_a_page_with_them():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (pages.DOCS / "papers").glob("*.md"))
    assert {name for name in experiments if experiments[name].published} == set(
        re.findall(r"{{ reproductions: (\S+) }}", text)
    )


def test_a_directive_is_replaced_and_other_braces_are_not():
    text = directives.filled("a {{ b }}\n\n{{ reproductions: dpt-bandit }}\n")
    assert text.startswith("a {{ b }}\n") and "10.31 +- 0.44" in text and "../dpt-bandit.png" in text


def test_what_was_not_run_has_no_figure(monkeypatch):
    monkeypatch.setattr(reproductions, "kept_runs", lambda name: [])
    assert ".svg" not in papers.comparison("dpt-bandit") and papers.figures() == {}


def test_a_figure_holds_their_numbers_and_ours():
    drawn = papers.figure("dpt-bandit")
    claims = experiments["dpt-bandit"].published
    assert drawn.count(papers.THEIRS) >= len(claims) and drawn.count(papers.OURS) >= len(claims)
    assert "not measured" not in drawn and reproductions.kept_runs("dpt-bandit")
    assert drawn == papers.figure("dpt-bandit"), "the same at every build"
