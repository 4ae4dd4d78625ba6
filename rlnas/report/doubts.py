"""How many of a search's latencies were measured with a warning, and which."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable


def doubts_line(environments: Iterable[str | None]) -> str | None:
    """One line about the latencies that there is reason to doubt; None where there are none.

    Args:
        environments: What each measured network was measured with, as JSON; its ``warnings`` count by what comes
            before the colon, once a network.
    """
    kinds: Counter[str] = Counter()
    doubted = measured = 0
    for text in environments:
        if text is None:
            continue
        measured += 1
        found = {warning.partition(":")[0] for warning in json.loads(text).get("warnings", ())}
        kinds.update(found)
        doubted += bool(found)
    if not doubted:
        return None
    named = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    return f"latency: {doubted} of {measured} networks were measured with a warning ({named}); see docs/latency.md"
