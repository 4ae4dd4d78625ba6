import shutil

import pytest

from rlnas.errors import StoreError
from rlnas.evaluation import StartLibrary
from tests.evaluation.faults import start_network


def test_in_memory():
    starts, network = StartLibrary(), start_network()
    start_id = starts.add(network)
    assert start_id == network.content_hash and starts.get(start_id) is network and starts.ids() == [start_id]
    with pytest.raises(StoreError, match="no start network 'other' in memory"):
        starts.get("other")


def test_a_folder_outlives_the_library(tmp_path):
    start_id = StartLibrary(tmp_path / "starts").add(start_network())
    again = StartLibrary(tmp_path / "starts")
    assert again.ids() == [start_id]
    assert again.get(start_id).content_hash == start_id
    assert again.add(start_network()) == start_id
    assert [path.name for path in (tmp_path / "starts").iterdir()] == [start_id]


@pytest.mark.parametrize("damage", ["truncated", "missing", "graph"])
def test_damaged_files_are_refused(tmp_path, damage):
    start_id = StartLibrary(tmp_path).add(start_network())
    weights, graph = tmp_path / start_id / "weights.safetensors", tmp_path / start_id / "graph.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "missing":
        weights.unlink()
    else:
        graph.write_text("{}")
    with pytest.raises(StoreError, match="is damaged") as caught:
        StartLibrary(tmp_path).get(start_id)
    assert "\n" not in str(caught.value)


def test_another_network_under_the_name_is_refused(tmp_path):
    starts = StartLibrary(tmp_path)
    one, other = starts.add(start_network(4)), starts.add(start_network(6))
    shutil.rmtree(tmp_path / one)
    shutil.copytree(tmp_path / other, tmp_path / one)
    with pytest.raises(StoreError, match=f"holds the network {other}, not the one it is named after"):
        StartLibrary(tmp_path).get(one)


def test_one_changed_byte_is_noticed(tmp_path):
    start_id = StartLibrary(tmp_path).add(start_network())
    weights = tmp_path / start_id / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(StoreError):
        StartLibrary(tmp_path).get(start_id)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    start_id = StartLibrary(tmp_path / "a").add(start_network())
    with pytest.raises(StoreError, match="no start network"):
        StartLibrary(tmp_path / "b").get(f"../a/{start_id}")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot keep the start network"):
        StartLibrary(tmp_path / "file" / "starts").add(start_network())
