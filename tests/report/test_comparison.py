from __future__ import annotations

import pytest

from rlnas.report.comparison import Contest, anytime, contest
from rlnas.report.verdict import fewest_seeds, sentence, verdict, warnings
from tests.report.comparing import search, searches

CLEAR = [0.10, 0.12, 0.09, 0.11, 0.10, 0.13, 0.08, 0.10]
NOISE = [0.10, -0.12, 0.09, -0.11, 0.10, -0.13, 0.08, 0.01]


def of(gains: dict[str, list[float]], task: str = "digits") -> Contest:
    return contest(task, searches(gains, task=task), baseline="random")


def test_differences_are_paired_by_seed() -> None:
    standing = {s.controller: s for s in of({"ppo": CLEAR, "other": NOISE}).standings}
    gain = standing["ppo"].gain
    assert gain is not None and gain.mean == pytest.approx(sum(CLEAR) / 8) and gain.n == 8
    assert gain.interval is not None and gain.interval[1] - gain.interval[0] < 0.03  # that of random alone is 0.04
    assert standing["ppo"].beats_random and not standing["other"].beats_random
    assert standing["random"].gain is None and standing["random"].p is None
    assert standing["ppo"].p == pytest.approx(2 * 2 / 2**8)  # two controllers


def test_seeds_that_random_search_has_not_are_left_out() -> None:
    made = [*searches({"ppo": [0.1, 0.2]}), search("ppo", 7, 99.0)]
    standing = contest("digits", made, baseline="random").standings[1]
    assert standing.gain is not None and standing.gain.n == 2 and standing.gain.mean == pytest.approx(0.15)


def test_equal_time_is_that_of_the_shortest_search() -> None:
    slow = search("slow", 0, 1.0, best=(None, 1.5, 1.5, 2.0), seconds=(1.5, 1.5, 9.0, 9.0))
    late = search("late", 0, 1.0, best=(None, 1.5, 1.5, 2.0), seconds=(5.0, 5.0, 9.0, 9.0))
    found = contest("digits", [search("random", 0, 1.0), slow, late], baseline="random")
    assert found.equal_s == 2.0
    at = {s.controller: s for s in found.standings}
    assert at["slow"].at_time is not None and at["slow"].at_time.mean == 1.5
    assert at["slow"].at_end is not None and at["slow"].at_end.mean == 2.0
    assert at["slow"].time_gain is not None and at["slow"].time_gain.mean == pytest.approx(0.3)
    assert at["late"].at_time is None and at["late"].time_gain is None


def test_relative_improvement_is_over_random_sampling() -> None:
    """Yang et al.: 100 (accuracy - accuracy of random networks) / accuracy of random networks."""
    random = search("random", 0, 1.0, accuracy=0.88, sampled_accuracy=0.80)
    ppo = search("ppo", 0, 1.0, accuracy=0.90, sampled_accuracy=0.89)
    improvements = [s.improvement for s in contest("digits", [random, ppo], baseline="random").standings]
    assert [i.mean for i in improvements if i is not None] == pytest.approx([10.0, 12.5])


def test_anytime_needs_all_searches_to_have_found_something() -> None:
    both = [search("a", 0, 1.0), search("a", 1, 1.0, best=(None, None, 2.0, 2.0))]
    assert [(x, e.mean) for x, e in anytime(both)] == [(3.0, 1.5), (4.0, 1.6)]
    assert [(x, e.mean) for x, e in anytime(both[:1], seconds=[0.5, 1.0, 1.9, 2.5])] == [
        (1.0, 1.0),
        (1.9, 1.0),
        (2.5, 1.2),
    ]


def test_the_sentence_names_winners_losers_and_the_rest() -> None:
    text = sentence(of({"ppo": CLEAR, "bad": [-g for g in CLEAR], "other": NOISE}))
    assert text.startswith(
        "On digits random search is beaten beyond the noise over 8 paired seeds of 4 evaluations by "
    )
    assert "by ppo (+0.1038 [+0.0904, +0.1171], p = 0.023)" in text
    assert text.endswith("; not by other; bad is behind it.") and text.count(".") == text.count("0.") + 1


def test_the_sentence_without_a_winner_says_how_many_seeds_it_takes() -> None:
    text = sentence(of({"ppo": CLEAR[:4]}))
    assert "no controller beats random search beyond the noise" in text
    assert "the best, ppo, is at +0.1050" in text and "(6 seeds are the fewest that can show it)" in text
    assert "fewest" not in sentence(of({"other": NOISE}))
    alone = contest("digits", [search("random", 0, 1.0)], baseline="random")
    assert "nothing has been compared" in sentence(alone)


@pytest.mark.parametrize(("controllers", "seeds"), [(1, 6), (2, 7), (5, 8)])
def test_fewest_seeds(controllers: int, seeds: int) -> None:
    """With so many seeds that all point the same way, and one fewer."""
    for n, beats in ((seeds, True), (seeds - 1, False)):
        gains = {f"c{k}": [0.1 + k / 100 + i / 1e4 for i in range(n)] for k in range(controllers)}
        assert any(s.beats_random for s in of(gains).standings) == beats
    assert fewest_seeds(controllers) == seeds


def test_the_verdict_on_several_tasks_is_one_sentence() -> None:
    first, second = of({"ppo": CLEAR, "other": NOISE}), of({"ppo": CLEAR, "other": CLEAR}, "fashion")
    text = verdict([first, second])
    assert text == (
        "Beyond the noise, random search is beaten by ppo on 2 of 2 tasks (digits, fashion) "
        "and other on 1 of 2 tasks (fashion)."
    )
    assert verdict([of({"x": NOISE}), of({"x": NOISE})]).startswith("No controller beats random search beyond")


def test_warnings() -> None:
    made = [
        search("random", 0, None, failed=2),
        search("ppo", 0, 1.0, entropy=(2.0, 0.05)),
        search("ppo", 1, 1.0, entropy=(2.0, 1.0), late_new=0.0),
        search("ppo", 2, 1.0, entropy=(2.0, 1.0)),
    ]
    lines = warnings(contest("digits", made, baseline="random"))
    assert [line.split(": ")[0] for line in lines] == ["random", "random", "ppo", "ppo"]
    assert "2 of 4 evaluations failed" in lines[0] and "were not evaluated again" in lines[1]
    assert "entropy" in lines[2] and "(seeds 0 of 3)" in lines[2]
    assert "new networks" in lines[3] and "(seeds 1 of 3)" in lines[3]
