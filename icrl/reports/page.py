"""The report as one page that needs nothing but itself: ``report.html``.

Figures are inlined, there is no script and no reference to any other file or site, and a content policy forbids the
browser to load one. All text of the document is escaped where it enters the page.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from icrl.reports.numbers import format_cell, format_ratio, format_value, short_number
from icrl.reports.schema import (
    Results,
    World,
    final_rows,
    last,
    leaderboard,
    return_rows,
    tasks_behind,
    tasks_in_words,
    world_title,
)

KIND_WORDS = {"model": "trained model", "ideal": "ideal", "baseline": "baseline", "oracle": "oracle (knows the task)"}
ONE_SEED = (
    "One training seed: the bands say how sure the mean over tasks is for this one trained model, "
    "not how another training run would have turned out."
)
STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #5c5c5c; --page: #fdfdfc; --line: #dcdcd8; --row: #f4f4f1;
  --good: #0b6b3a; --bad: #a8320a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --quiet: #a5a5a1; --page: #17181a; --line: #393a3d;
  --row: #202124; --good: #6fd39b; --bad: #ff9a70; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 60rem;
  margin: 0 auto; padding: 2rem 1.2rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
.claim { font-size: 1.15rem; margin: 0 0 .3rem; }
.quiet, figcaption { color: var(--quiet); font-size: .92rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; padding: .38rem .8rem .38rem .3rem; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
th { color: var(--quiet); font-weight: 600; white-space: nowrap; }
tr.model td { font-weight: 700; background: var(--row); }
.ok { color: var(--good); font-weight: 700; white-space: nowrap; }
.not-ok { color: var(--bad); font-weight: 700; white-space: nowrap; }
figure { margin: 1.6rem 0 2.4rem; }
img { width: 100%; height: auto; background: #fff; border-radius: 8px; border: 1px solid var(--line); }
""".strip()


def render_html(results: Results, pictures: Mapping[str, bytes]) -> str:
    """The page as one string; ``pictures`` maps the figure's name to its PNG."""
    parts = [
        f"<h1>{escape(results['title'])}</h1>",
        f'<p class="claim">{escape(results["claim"])}</p>',
        f'<p class="quiet">{escape(_facts(results))}</p>',
        _checks_section(results),
        _leaderboard_section(results),
        *(_figure(name, png, results) for name, png in pictures.items()),
        *_tables_sections(results),
        _returns_section(results),
        _regret_section(results),
        *(_world_section(name, world) for name, world in (results.get("worlds") or {}).items()),
        _diversity_section(results),
        _published_section(results),
        _settings_section(results),
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(results['title'])}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _facts(results: Results) -> str:
    seeds = len(results["train_seeds"])
    tasks = tasks_in_words(results, results["num_tasks"], "held-out tasks")
    facts = (
        f"{results['experiment']}, preset {results['preset']}; {tasks}, "
        f"{results['num_steps']:,} steps each, {seeds} training seed{'' if seeds == 1 else 's'}."
    )
    return f"{facts} {ONE_SEED}" if seeds == 1 else facts


def _checks_section(results: Results) -> str:
    checks = results["checks"]
    if not checks:
        return ""
    marks = {True: '<span class="ok">✓ ok</span>', False: '<span class="not-ok">✗ not ok</span>'}
    rows = [
        # four figures, so that 1.104 does not stand as "1.10, not ok" beside "<= 1.10"
        ("", [escape(c["what"]), escape(format_value(c["measured"], 4)), escape(c["target"]), marks[c["ok"]]])
        for c in checks
    ]
    held = sum(check["ok"] for check in checks)
    title = f"{held} of {len(checks)} checks hold"
    return _section(title, _table(["check", "measured [95 % interval]", "target", "verdict"], rows))


def _returns_section(results: Results) -> str:
    rows = [
        (agent["kind"], [escape(cell) for cell in (
            agent["label"], KIND_WORDS[agent["kind"]], short_number(mean), format_value(last), agent["interval"],
        )])
        for _, agent, mean, last in return_rows(results)
    ]  # fmt: skip
    if not rows:
        return ""
    head = ["agent", "kind", "mean over episodes", "last episode [95 % interval]", "interval"]
    return _section("Return of an episode, best first", _table(head, rows))


def _regret_section(results: Results) -> str:
    rows = [
        (agent["kind"], [escape(cell) for cell in (
            agent["label"], KIND_WORDS[agent["kind"]], format_value(value), format_ratio(ratio), agent["interval"],
        )])
        for _, agent, value, ratio in final_rows(results)
    ]  # fmt: skip
    if not rows:
        return ""
    head = ["agent", "kind", "regret [95 % interval]", "ratio to ideal", "interval"]
    return _section(f"Regret after {results['num_steps']:,} steps, best first", _table(head, rows))


def _tables_sections(results: Results) -> list[str]:
    sections = []
    for table in results.get("tables") or []:
        rows = [("", [escape(format_cell(cell)) for cell in row]) for row in table["rows"]]
        note = f'<p class="quiet">{escape(table["note"])}</p>' if "note" in table else ""
        sections.append(_section(table["title"], _table(table["columns"], rows) + note))
    return sections


def _leaderboard_section(results: Results) -> str:
    worlds, rows = leaderboard(results)
    if not worlds:
        return ""
    head = ["agent", *(world_title(name) for name in worlds)]
    body = [(kind, [escape(label), *map(format_ratio, shares)]) for kind, label, shares in rows]
    return _section("Regret as a share of uniform play's, best mean first", _table(head, body))


def _world_section(name: str, world: World) -> str:
    order = sorted(world["agents"].values(), key=lambda agent: agent["regret"]["mean"][-1])
    rows = [
        (agent["kind"], [escape(cell) for cell in (
            agent["label"], KIND_WORDS[agent["kind"]], format_value(last(agent["regret"])), agent["interval"],
        )])
        for agent in order
    ]  # fmt: skip
    steps, skipped = world["steps"][-1], "; ".join(f"{who}: {why}" for who, why in world["skipped"].items())
    facts = f"Optimal return of an episode, exact: {format_value(world['optimum'], 4)}. Not playing: {skipped or '-'}."
    table = _table(["agent", "kind", f"regret after {steps:,} steps [95 % interval]", "interval"], rows)
    return _section(name, f'{table}\n<p class="quiet">{escape(facts)}</p>')


def _diversity_section(results: Results) -> str:
    section = results.get("diversity")
    if not section:
        return ""
    rows = []
    for place, agents in (("in the pool", section["pool"]), ("fresh", section["fresh"])):
        for agent in agents.values():
            cells = [f"{agent['label']}, {place}", *(short_number(value) for value in agent["regret"]["mean"])]
            rows.append((agent["kind"], [escape(cell) for cell in cells]))
    head = ["pretraining tasks", *(f"{size:,}" for size in section["pool_size"])]
    return _section(f"Regret after {results['num_steps']:,} steps by diversity of the pretraining", _table(head, rows))


def _published_section(results: Results) -> str:
    numbers = results.get("published") or []
    rows = [("", [escape(str(cell)) for cell in (row["what"], row["value"], row["where"])]) for row in numbers]
    return _section("Published numbers", _table(["what", "value", "where"], rows)) if rows else ""


def _settings_section(results: Results) -> str:
    settings = {
        "experiment": results["experiment"],
        "preset": results["preset"],
        "seed": results["seed"],
        "training seeds": ", ".join(map(str, results["train_seeds"])),
        **{f"environment: {key}": value for key, value in results["env"].items()},
        **{f"seconds: {key}": f"{value:,.1f}" for key, value in results["seconds"].items()},
        "device": results["device"],
        **{f"version: {key}": value for key, value in results["versions"].items()},
    }
    rows = [("", [escape(key), escape(_word(value))]) for key, value in settings.items()]
    return _section("Settings, seeds, versions and timings", _table(["setting", "value"], rows))


def _figure(name: str, png: bytes, results: Results) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    caption = escape(_caption(name, results))
    return f'<figure>\n<img src="{source}" alt="{caption}">\n<figcaption>{caption}</figcaption>\n</figure>'


def _caption(name: str, results: Results) -> str:
    """What is drawn, over how many tasks, and what the band is."""
    online, offline, entropy = results.get("online"), results.get("offline"), results.get("cross_entropy")
    section = {"offline_suboptimality": offline, "cross_entropy": entropy}.get(name)
    tasks = f"Means over {tasks_in_words(results, tasks_behind(results, section), 'held-out tasks')}"
    if name == "online_regret" and online:
        return (
            f"Cumulative pseudo-regret of agents that start with no knowledge of their task. {tasks}, at the line's "
            f"end after {results['num_steps']:,} steps. Dashed black: the ideal. An arrow marks agents that leave the "
            f"chart. Bands: {_methods(online['agents'])}."
        )
    if name in ("pool_regret", "fresh_regret"):
        return (
            "Pseudo-regret after all steps of models pretrained on so many tasks, beside posterior sampling over that "
            "very pool and, dashed black, over the whole distribution. Bands: 95 % intervals."
        )
    if name == "relative_distance":
        return (
            "Whose choice probabilities the model's are like on recorded prefixes in fresh tasks: 0 the posterior over "
            "the task distribution, 1 the posterior over the pool. Symmetrised Kullback-Leibler divergences, averaged."
        )
    if name == "standings":
        return (
            "Regret after all steps as a share of what uniform play loses in the same tasks: 0 is the optimum, 1 no "
            "better than chance. Colours are logarithmic, from 0.01 to 2. Blank: the agent does not fit that world."
        )
    if name.startswith("world_"):
        return (
            "Cumulative pseudo-regret on logarithmic axes. Dashed black: exact posterior sampling; dotted black: the "
            "asymptotic lower bound of Lai and Robbins, where they are known. Agents that lose nothing are not drawn. "
            "Bands: 95 % intervals over tasks."
        )
    episodes = results.get("episodes")
    if name == "episode_returns" and episodes:
        return (
            "Return of each episode of agents that start with no knowledge of their task and keep their memory from "
            f"one episode to the next. {tasks}, as they were, not smoothed. Dashed black: the ideal. "
            f"Bands: {_methods(episodes['agents'])}."
        )
    if name == "offline_suboptimality" and offline:
        return (
            "Expected loss of the greedy action when the agent is shown a recorded prefix and never acts itself. "
            f"{tasks}. Dashed black: the ideal. Bands: {_methods(offline['agents'])}."
        )
    if name == "cross_entropy":
        return (
            "Cross-entropy of the optimal action after a prefix, in nats. The exact posterior (dashed black, where it "
            f"is known) is the least any model can reach; the gap is paired on the same tasks. {tasks}. Bands: 95 % "
            "intervals."
        )
    if name == "routing":
        return (
            "Mean gates of the first model's experts, without noise, on sequences it was not trained on together: by "
            "kind of token, and by sequence. A row sums to 1; experts that nobody needs stay white."
        )
    by_seed = all(name.isdigit() for name in results.get("training") or ())
    each = "each training seed" if by_seed else "each model (mean over its seeds)"
    return (
        f"Loss of {each} as logged (faint) and as a running mean (thick), and loss on held-out data (markers) where "
        "it was measured."
    )


def _methods(agents: Mapping[str, Any]) -> str:
    """Every interval method in use, once, with the labels of its agents; the commonest one is that of all others."""
    labels: dict[str, list[str]] = {}
    for agent in agents.values():
        labels.setdefault(agent["interval"], []).append(agent["label"])
    if len(labels) == 1:
        return next(iter(labels))
    common = max(labels, key=lambda method: len(labels[method]))
    special = [f"{', '.join(names)}: {method}" for method, names in labels.items() if method != common]
    return "; ".join([*special, f"all others: {common}"])


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _table(head: list[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    """An HTML table; ``rows`` are (class, cells) with cells already escaped."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "\n".join(
        f'<tr class="{name}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" for name, cells in rows
    )
    return f'<div class="scroll"><table>\n<tr>{top}</tr>\n{body}\n</table></div>'


def _word(value: Any) -> str:
    """A setting as text; structures as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
