"""The comparison table in its three forms."""

from __future__ import annotations

from rich.console import Console

from rlnas.report import Estimate, Row, markdown_table, plain_table, rich_table, wilson_interval

START = Row(
    name="start",
    n_params=1_234,
    macs=56_789,
    operators=(),
    validation=Estimate(0.9452, (0.9412, 0.9492), 5),
    test=wilson_interval(380, 397),
    latency_ms=0.2,
    latency_interval_ms=(0.1954, 0.2046),
)
WINNER = Row(
    name="ppo",
    n_params=4_321,
    macs=98_765,
    operators=("widen(conv1, 2.0)", "residual(conv3, 3)"),
    validation=Estimate(0.97, None, 1),
    latency_ms=0.31234567,
)


def test_plain_table_holds_every_number() -> None:
    text = plain_table([START, WINNER], title="What was found")
    words = (
        *("What was found", "start", "ppo", "94.52 ± 0.40 %", "97.00 %", "95.72 %", "[93.2, 97.3]"),
        *("1,234", "4,321", "56,789", "98,765", "0.2", "[0.1954, 0.2046]", "0.3123"),
        *("start: no edits", "ppo: widen(conv1, 2.0), residual(conv3, 3)"),
    )
    for word in words:
        assert word in text, word
    assert "reward" not in text, "a line that no network has is left out"
    assert all(len(line) <= 100 and line == line.rstrip() for line in text.splitlines())


def test_plain_table_fits_a_narrow_terminal() -> None:
    many = [START, WINNER, WINNER, START]
    text = plain_table(many, width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert " ".join(text.split()).count("ppo: widen(conv1, 2.0), residual(conv3, 3)") == 2  # lines break between words


def test_reward_line() -> None:
    row = Row(name="a", n_params=1, macs=1, operators=(), reward=Estimate(1.1, (1.03, 1.17), 3))
    assert "1.100 ± 0.070" in plain_table([row, WINNER])
    assert "1.100" in plain_table([Row(name="a", n_params=1, macs=1, operators=(), reward=Estimate(1.1, None, 1))])
    assert "latency" not in plain_table([row]) and "accuracy" not in plain_table([row])


def test_rich_table_in_a_terminal() -> None:
    console = Console(width=90, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(rich_table([START, WINNER], title="x"))
    assert "94.52 ± 0.40 %" in console.export_text()


def test_markup_in_names_is_text() -> None:
    row = Row(name="[red]run[/red]", n_params=1, macs=1, operators=("[bold]x",))
    assert "[red]run[/red]" in plain_table([row]) and "[bold]x" in plain_table([row])


def test_markdown_table() -> None:
    text = markdown_table([START, Row(name="a|b", n_params=1, macs=2, operators=("x", "y"))])
    lines = text.splitlines()
    assert len(lines) == 4 and text.endswith("\n")
    counts = {line.replace("\\|", "").count("|") for line in lines}
    assert len(counts) == 1, "every line has as many cells"
    assert lines[0].startswith("| network | validation accuracy | test accuracy | parameters | MACs |")
    assert "| 95.72 % [93.2, 97.3] |" in lines[2]
    assert "| a\\|b | - | - | 1 | 2 | - | x, y |" in text
