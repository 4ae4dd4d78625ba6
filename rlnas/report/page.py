"""A comparison as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from rlnas.report.comparison import Contest, anytime
from rlnas.report.curves import Curve, chart, legend
from rlnas.report.standings import COLUMNS, SEARCHES, WINNERS, Column, rows
from rlnas.report.verdict import sentence, verdict, warnings

TIMES: Final = 100
"""Points of a curve over time."""

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2933; --muted: #5b6672; --rule: #d9dee4; --mark: #f1f5f9;
  --c0: #5b6672; --c1: #c2410c; --c2: #0369a1; --c3: #7e22ce; --c4: #15803d; --c5: #be185d; --c6: #a16207;
  --c7: #0f766e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e4e9ee; --muted: #9aa7b4; --rule: #37414c;
  --mark: #1e252d; --c0: #a9b4bf; --c1: #fb923c; --c2: #7dd3fc; --c3: #d8b4fe; --c4: #86efac; --c5: #f9a8d4;
  --c6: #fde047; --c7: #5eead4; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --muted: #444; --rule: #bbb; --mark: #fff;
  --c0: #5b6672; --c1: #c2410c; --c2: #0369a1; --c3: #7e22ce; --c4: #15803d; --c5: #be185d; --c6: #a16207;
  --c7: #0f766e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .75rem; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
p { max-width: 60rem; } .verdict { font-size: 1.1rem; padding: .75rem 1rem; background: var(--mark);
  border-left: 4px solid var(--c2); }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; } td small { color: var(--muted); font-size: inherit; }
tr.beats td:first-child { font-weight: 700; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; } svg { width: 100%; height: auto; display: block; }
.band { opacity: .13; stroke: none; } .line { fill: none; stroke-width: 2; } .grid { stroke: var(--rule); fill: none; }
.tick, .axis { fill: var(--muted); font-size: 12px; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .75rem 0 .25rem; }
.legend li { display: flex; align-items: center; gap: .5rem; } .key { width: 32px; height: 10px; flex: none; }
.notes { color: var(--muted); font-size: .86rem; } pre { overflow-x: auto; font-size: .8rem; white-space: pre-wrap; }
@media print { body { padding: 0; max-width: none; font-size: 10pt; } .scroll { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: .2rem .3rem; } tr, figure, .verdict { break-inside: avoid; }
  h2, .legend { break-after: avoid; } }
"""


def html(contests: Sequence[Contest], *, title: str, settings: str, missing: Sequence[str] = ()) -> str:
    """The page.

    Args:
        settings: The comparison's configuration, as YAML.
        missing: What is not there yet, or failed; one line each.
    """
    body = [f"<h1>{escape(title)}</h1>", f'<p class="verdict">{escape(verdict(contests))}</p>' if contests else ""]
    if missing:
        body.append(f"<p>{'<br>'.join(map(escape, missing))}</p>")
    body += [_section(contest, alone=len(contests) == 1) for contest in contests]
    body += [
        '<section class="notes"><h2>How to read it</h2>',
        "<p>A controller beats random search beyond the noise if the 95 % interval of its paired difference "
        "excludes zero and the adjusted p is below 0.05. Bands and ± are 95 % intervals of means over seeds. All "
        "searches of a task had as many evaluations; rewards came from validation data only.</p><dl>",
        *(f"<dt><b>{escape(c.heading)}</b></dt><dd>{escape(c.meaning)}</dd>" for c in COLUMNS),
        f"</dl><h2>Settings</h2><pre>{escape(settings)}</pre></section>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _section(contest: Contest, *, alone: bool) -> str:
    names = [standing.controller for standing in contest.standings]
    by_time = [contest.equal_s * (k + 1) / TIMES for k in range(TIMES)]
    evaluations = [Curve(s.controller, anytime(s.searches)) for s in contest.standings]
    seconds = [Curve(s.controller, anytime(s.searches, seconds=by_time)) for s in contest.standings]
    parts = [f"<section><h2>{escape(contest.task)}</h2>"]
    parts += [] if alone else [f"<p>{escape(sentence(contest))}</p>"]
    parts += [
        _table(contest, WINNERS),
        _table(contest, SEARCHES),
        legend(names),
        '<div class="charts"><figure>',
        chart(evaluations, x_label="evaluations", y_label="best reward so far"),
        "</figure><figure>",
        chart(seconds, x_label="seconds of search", y_label="best reward so far"),
        "</figure></div>",
    ]
    if lines := warnings(contest):
        parts.append(f"<ul>{''.join(f'<li>{escape(line)}.</li>' for line in lines)}</ul>")
    return "\n".join([*parts, "</section>"])


def _table(contest: Contest, columns: Sequence[Column]) -> str:
    headings, cells = rows(contest, columns)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    lines = []
    for standing, row in zip(contest.standings, cells, strict=True):
        kind = " class=beats" if standing.beats_random else ""
        lines.append(f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{"".join(lines)}</tbody></table></div>'
