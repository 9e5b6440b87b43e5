"""The report as one page that needs nothing but itself: ``report.html``.

Figures are inlined, there is no script and no reference to any other file or site, and a content policy forbids the
browser to load one. All text of the document is escaped where it enters the page.
"""

import base64
from collections.abc import Mapping
from html import escape

from icrl.reports.schema import Results, contents
from icrl.reports.section import Figure, Table, tasks_in_words

MARKS = {"ok": "✓ ", "not-ok": "✗ "}  # before the verdict, the last cell of its row
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
tr.ok td:last-child { color: var(--good); font-weight: 700; white-space: nowrap; }
tr.not-ok td:last-child { color: var(--bad); font-weight: 700; white-space: nowrap; }
section + section { border-top: 1px solid var(--line); margin-top: 2.6rem; }
figure { margin: 1.6rem 0 2.4rem; }
img { width: 100%; height: auto; background: #fff; border-radius: 8px; border: 1px solid var(--line); }
""".strip()


def render_html(results: Results, pictures: Mapping[str, bytes]) -> str:
    """The page as one string; ``pictures`` maps the figure's name to its PNG, those without one are left out."""
    parts = [
        f"<h1>{escape(results['title'])}</h1>",
        f'<p class="claim">{escape(results["claim"])}</p>',
        f'<p class="quiet">{escape(_facts(results))}</p>',
    ]
    for items in contents(results):
        shown = [
            _table(item) if isinstance(item, Table) else _figure(item, pictures[item.name])
            for item in items
            if isinstance(item, Table) or item.name in pictures
        ]
        parts += ["<section>", *shown, "</section>"] if shown else []
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(results['title'])}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _facts(results: Results) -> str:
    seeds = len(results["train_seeds"])
    facts = (
        f"{results['experiment']}, preset {results['preset']}; {tasks_in_words(results, unseen='held-out tasks')}, "
        f"{results['num_steps']:,} steps each, {seeds} training seed{'' if seeds == 1 else 's'}."
    )
    return f"{facts} {ONE_SEED}" if seeds == 1 else facts


def _figure(figure: Figure, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    caption = escape(figure.caption)
    return f'<figure>\n<img src="{source}" alt="{caption}">\n<figcaption>{caption}</figcaption>\n</figure>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = []
    for look, cells in table.rows:
        marked = [*cells[:-1], MARKS[look] + cells[-1]] if look in MARKS else cells
        rows.append(f'<tr class="{look}">' + "".join(f"<td>{escape(cell)}</td>" for cell in marked) + "</tr>")
    body = f'<div class="scroll"><table>\n<tr>{head}</tr>\n' + "\n".join(rows) + "\n</table></div>"
    note = f'\n<p class="quiet">{escape(table.note)}</p>' if table.note else ""
    return f"<h2>{escape(table.title)}</h2>\n{body}{note}"
