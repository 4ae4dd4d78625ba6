"""Whether a controller beats random search, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlnas.report.comparison import Contest, Search, Standing
from rlnas.report.statistics import CONFIDENCE


def verdict(contests: Sequence[Contest]) -> str:
    """One sentence: which controllers beat random search beyond the noise, on which tasks."""
    if len(contests) == 1:
        return sentence(contests[0])
    won: dict[str, list[str]] = {}
    for contest in contests:
        for standing in contest.standings:
            if standing.beats_random:
                won.setdefault(standing.controller, []).append(contest.task)
    if not won:
        return f"No controller beats random search beyond the noise on any of {len(contests)} tasks."
    parts = [
        f"{label} on {len(tasks)} of {len(contests)} tasks ({', '.join(tasks)})"
        for label, tasks in sorted(won.items(), key=lambda item: -len(item[1]))
    ]
    return f"Beyond the noise, random search is beaten by {_listed(parts)}."


def sentence(contest: Contest) -> str:
    """The verdict on one task."""
    rivals = [s for s in contest.standings if s.gain is not None]
    if not rivals:
        return f"On {contest.task} nothing has been compared with random search yet."
    best = max(rivals, key=lambda s: s.gain.mean if s.gain is not None else -math.inf)
    assert best.gain is not None
    scope = (
        f"over {best.gain.n} paired seed{'s' if best.gain.n > 1 else ''} of {len(best.searches[0].best)} evaluations"
    )
    winners = sorted((s for s in rivals if s.beats_random), key=lambda s: -(s.gain.mean if s.gain else 0.0))
    losers = [s.controller for s in rivals if s.behind_random]
    rest = [s.controller for s in rivals if not s.beats_random and not s.behind_random]
    if not winners:
        text = f"On {contest.task} no controller beats random search beyond the noise {scope}: "
        text += f"the best, {best.controller}, is at {_gain(best)}"
        needed = fewest_seeds(len(rivals))
        if best.gain.n < needed:
            text += f" ({needed} seeds are the fewest that can show it)"
        rest = []
    else:
        text = f"On {contest.task} random search is beaten beyond the noise {scope} by "
        text += _listed([f"{s.controller} ({_gain(s)})" for s in winners])
    text += f"; not by {_listed(rest)}" if rest else ""
    return text + (f"; {_listed(losers)} {'is' if len(losers) == 1 else 'are'} behind it" if losers else "") + "."


def fewest_seeds(controllers: int) -> int:
    """Seeds without which the test cannot become significant, however large the difference is."""
    return math.floor(math.log2(2 * controllers / (1 - CONFIDENCE))) + 1


def warnings(contest: Contest) -> list[str]:
    """What should make a reader careful about the searches of a task, one line a kind."""
    lines = []
    for standing in contest.standings:
        searches = standing.searches
        for kind, text in (
            ("entropy", "the policy's entropy fell below a twentieth of what it was"),
            ("new networks", "less than a tenth of the last quarter of the evaluations were of new networks"),
        ):
            hit = [s for s in searches if s.collapsed == kind]
            if hit:
                lines.append(
                    f"{standing.controller}: {text} (seeds {_seeds(hit)} of {len(searches)}): it has collapsed"
                )
        if failed := sum(s.failed for s in searches):
            lines.append(f"{standing.controller}: {failed} of {sum(len(s.best) for s in searches)} evaluations failed")
        if any(s.reward is None for s in searches):
            lines.append(
                f"{standing.controller}: winners were not evaluated again; the best reward of the search is compared, "
                "which favours whoever draws most often"
            )
    return lines


def _gain(standing: Standing) -> str:
    gain = standing.gain
    assert gain is not None
    between = "" if gain.interval is None else f" [{gain.interval[0]:+.4f}, {gain.interval[1]:+.4f}]"
    chance = "" if standing.p is None else f", p = {standing.p:.2g}"
    return f"{gain.mean:+.4f}{between}{chance}"


def _seeds(searches: Sequence[Search]) -> str:
    return ", ".join(str(s.seed) for s in searches)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
