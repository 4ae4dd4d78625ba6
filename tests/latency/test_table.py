"""Look-up tables: their files, their sums, what they lack."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from rlnas.errors import MeterError
from rlnas.graph.facts import facts_of
from rlnas.latency import Latency, LatencyTable, TableMeter
from rlnas.latency.signature import Signature, signatures
from rlnas.latency.table import fill
from tests.graph.examples import EXAMPLES, example
from tests.latency.fakes import FakeMachine, FakeMeter, network
from tests.latency.meters import table


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation_of_the_table_can_be_computed_alone(name: str) -> None:
    state = torch.get_rng_state()
    for signature in signatures(example(name)):
        assert Signature.from_key(signature.key) == signature
        module, inputs = signature.piece(batch_size=2)
        with torch.no_grad():
            outputs = module(*inputs)
        assert tuple(outputs.shape) == (2, *facts_of(signature.node, signature.shapes).shape)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_is_the_sum_of_its_operations() -> None:
    found = table(4).latency(network(4).graph)
    count = len(list(signatures(network(4).graph)))
    assert found.ms == pytest.approx(0.1 * count)
    assert found.ms - found.low_ms == pytest.approx(0.01 * count**0.5)
    assert found.high_ms - found.ms == pytest.approx(0.02 * count**0.5)
    assert found.warnings == ()


def test_warnings_of_entries_are_told() -> None:
    known = table(4)
    key = next(iter(known.entries))
    known.entries[key] = Latency(0.1, 0.1, 0.1, 40, ("busy machine",))
    assert "measured with warnings" in known.latency(network(4).graph).warnings[0]


def test_a_missing_entry_is_an_error_that_names_it_and_the_command_that_adds_it(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    table(4).save(path)
    meter = TableMeter(table=path)
    with pytest.raises(MeterError, match=r"has no entry for conv2d\(.*on \(1, 8, 8\); add it") as caught:
        meter.measure([network(6)])
    words = shlex.split(str(caught.value).split(": ")[-1])
    assert words[:5] == ["rlnas", "latency", "build-table", "--to", str(path)] and words[5] == "--op"
    missing = [s.key for s in table(4).missing([network(6).graph])]
    assert Signature.from_key(words[6]).key in missing


def test_filling_measures_what_is_wanted_and_keeps_what_was_measured_before_an_error() -> None:
    meter = FakeMeter(FakeMachine())
    found = LatencyTable(meter.description)
    wanted = found.missing([network(4).graph])
    seen: list[str] = []

    def stop(signature: Signature, latency: Latency) -> None:
        seen.append(signature.key)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(found, wanted, meter=meter, on_entry=stop)
    assert list(found.entries) == seen and found.state == meter.state()
    fill(found, found.missing([network(4).graph]), meter=meter)
    assert found.missing([network(4).graph]) == [] and len(found.entries) == len(wanted)
    assert found.latency(network(4).graph).ms > 0


def test_a_table_of_another_setting_is_not_added_to() -> None:
    with pytest.raises(MeterError, match="was measured with batch_size=1, now it is 2"):
        fill(LatencyTable(FakeMeter(FakeMachine()).description), [], meter=FakeMeter(FakeMachine(), batch_size=2))


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    known = table(4, 6)
    known.save(tmp_path / "a.json")
    again = LatencyTable.load(tmp_path / "a.json")
    assert again == known and again.content_hash == known.content_hash
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def _damaged(change: str) -> str:
    data = table(4).to_json()
    match change:
        case "cut":
            return json.dumps(data)[:200]
        case "no entries":
            del data["entries"]
        case "negative":
            data["entries"][0]["ms"] = -1
        case "unknown operation":
            data["entries"][0]["op"] = "conv9d"
        case "no shapes":
            del data["entries"][0]["inputs"]
        case "wrong types":
            data["entries"] = 3
        case "no batch":
            data["meter"] = {}
        case "list":
            return "[]"
        case "newer":
            data["format"] = "rlnas.latency-table/2"
        case "foreign":
            data["format"] = "rlnas.graph/1"
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("cut", "is damaged"),
        ("no entries", "is damaged: it lacks 'entries'"),
        ("negative", "is damaged: .*is no latency"),
        ("unknown operation", "is damaged: .*conv9d"),
        ("no shapes", "is damaged"),
        ("wrong types", "is damaged"),
        ("no batch", "is damaged"),
        ("list", "is no latency table"),
        ("newer", "update rlnas"),
        ("foreign", "is no latency table, but of format rlnas.graph/1"),
    ],
)
def test_files_that_are_no_tables_are_refused_in_one_line(change: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(_damaged(change))
    with pytest.raises(MeterError, match=said) as caught:
        TableMeter(table=path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="there is no latency table"):
        TableMeter(table=tmp_path / "none.json")
    with pytest.raises(MeterError, match="cannot read the latency table"):
        TableMeter(table=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MeterError, match="cannot write"):
        table(4).save(tmp_path / "file" / "table.json")


@pytest.mark.parametrize("key", ["", "3", "{}", '{"op":"relu","inputs":3}', '{"op":"conv2d","inputs":[[1,8,8]]}'])
def test_keys_that_name_no_operation_are_refused(key: str) -> None:
    with pytest.raises(MeterError, match="is no operation"):
        Signature.from_key(key)
