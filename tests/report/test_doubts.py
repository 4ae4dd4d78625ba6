from __future__ import annotations

import json

from rlnas.report.doubts import doubts_line


def test_counts_networks_by_kind_of_warning() -> None:
    calm = json.dumps({"cpu": "x"})
    busy = json.dumps({"warnings": ["busy machine: others used 1.2 of 2 cores"]})
    both = json.dumps({"warnings": ["busy machine: others used 1.9 of 2 cores", "uncertain: 3 %"]})
    assert doubts_line([calm, busy, None, both]) == (
        "latency: 2 of 3 networks were measured with a warning (busy machine 2, uncertain 1); see docs/latency.md"
    )


def test_says_nothing_without_a_warning() -> None:
    assert doubts_line([json.dumps({"cpu": "x"}), None]) is None
    assert doubts_line([]) is None
