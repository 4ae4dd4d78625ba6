from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

from rlnas.report.comparison import contest
from rlnas.report.curves import Curve, chart, legend, ticks
from rlnas.report.page import STYLE, html
from rlnas.report.standings import CURVE_COLUMNS, NONE, SEARCH_COLUMNS, curve_rows, rows, search_rows
from rlnas.report.statistics import Estimate
from tests.report.comparing import search, searches

GAINS = {"ppo": [0.10, 0.12, 0.09, 0.11, 0.10, 0.13, 0.1, 0.11], "<other>": [0.0, 0.1, -0.1, 0.0, 0.1, -0.1, 0.0, 0.0]}


class Tags(HTMLParser):
    """Fails on a tag that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    page = html([contest("digits", searches(GAINS), baseline="random")], title="A & B", settings="seeds: 6\n")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.seen.count("svg") == 2 + 3 and {"script", "link", "img"}.isdisjoint(tags.seen)
    assert not re.search(r"https?:|url\(|@import|src=", page)
    text = "".join(tags.text)
    assert "random search is beaten beyond the noise" in text and "<other>" in text and "A & B" in text
    assert "seeds: 6" in text
    for scheme in ("prefers-color-scheme: dark", "@media print"):
        assert scheme in STYLE
    assert all(STYLE.count(f"--c{k}:") == 3 for k in range(8))  # light, dark, print


def test_every_part_of_a_page_with_several_tasks() -> None:
    two = [contest(t, searches(GAINS, task=t), baseline="random") for t in ("digits", "fashion")]
    page = html(two, title="t", settings="", missing=["digits.ppo.3 failed: it broke"])
    assert page.count("<section><h2>") == 2 and "digits.ppo.3 failed: it broke" in page
    assert "on 2 of 2 tasks" in page and "On fashion random search is beaten" in page


def test_the_table_leaves_out_what_nobody_has() -> None:
    made = searches(GAINS)
    headings, cells = rows(contest("digits", made, baseline="random"))
    assert "entropy" not in headings and "test [%]" not in headings and "reward" in headings
    assert [row[0] for row in cells] == ["random", "ppo", "<other>"]
    assert cells[0][headings.index("p")] == NONE
    ended = [search("ppo", 0, 1.0, entropy=(2.0, 1.0), test_accuracy=0.9), search("random", 0, 1.0)]
    headings, cells = rows(contest("digits", ended, baseline="random"))
    assert cells[0][headings.index("entropy")] == "2.00 → 1.00"
    assert cells[0][headings.index("test [%]")] == "90.00"
    assert cells[0][headings.index("own time [s]")] == "0.4 (100 ms each)"


def test_rows_for_csv() -> None:
    found = contest("digits", searches(GAINS), baseline="random")
    each = search_rows([found])
    assert len(each) == 24 and all(row.keys() == SEARCH_COLUMNS.keys() for row in each)
    assert each[0] | {"reward": 1.0, "best_reward": 1.2, "best_reward_in_equal_s": 1.2, "search_s": 2.0} == each[0]
    points = curve_rows([found])
    assert len(points) == 3 * 3 and all(row.keys() == CURVE_COLUMNS.keys() for row in points)  # nothing after the first
    assert points[0] | {"controller": "random", "evaluations": 2, "mean": 1.0, "searches": 8} == points[0]


def test_a_chart_draws_means_as_steps_within_its_band() -> None:
    points = [(1.0, Estimate(0.5, (0.4, 0.6), 3)), (2.0, Estimate(0.7, (0.6, 0.8), 3)), (4.0, Estimate(0.8, None, 1))]
    drawing = ElementTree.fromstring(chart([Curve("a", points), Curve("none", [])], x_label="x", y_label="y < z"))
    lines = [p for p in drawing.iter("path") if p.get("class") == "line"]
    bands = [p for p in drawing.iter("path") if p.get("class") == "band"]
    assert len(lines) == len(bands) == 1
    numbers = [float(n) for n in re.findall(r"[\d.]+", lines[0].get("d") or "")]
    x0, y0, x1, y1, x2, y2 = numbers
    assert (x0 < x1 < x2 and (x2 - x1) == 2 * (x1 - x0)) or abs((x2 - x1) - 2 * (x1 - x0)) < 0.3
    assert y0 > y1 > y2  # upwards on the screen
    assert (bands[0].get("d") or "").endswith("Z")
    assert "Nothing feasible" in chart([Curve("none", [])], x_label="x", y_label="y")
    assert legend(["a<b", "c"]).count("<li>") == 2 and "a&lt;b" in legend(["a<b"])


def test_a_wide_interval_does_not_squeeze_the_means() -> None:
    points = [(1.0, Estimate(1.0, (-50.0, 52.0), 2)), (2.0, Estimate(1.2, (1.1, 1.3), 2))]
    drawing = ElementTree.fromstring(chart([Curve("a", points)], x_label="x", y_label="y"))
    (line,) = [p for p in drawing.iter("path") if p.get("class") == "line"]
    _, y0, _, y1 = (float(n) for n in re.findall(r"[\d.]+", line.get("d") or ""))
    assert y0 - y1 > 60  # of 280


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 150) == [0, 50, 100, 150]
    assert ticks(0.93, 1.21) == [0.95, 1.0, 1.05, 1.1, 1.15, 1.2] or ticks(0.93, 1.21) == [1.0, 1.1, 1.2]
    assert ticks(2.0, 2.0)[0] <= 2.0 <= ticks(2.0, 2.0)[-1]
