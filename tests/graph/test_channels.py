"""Channel groups, by hand."""

from __future__ import annotations

from rlnas.graph import ChannelGroup, Graph
from tests.graphs import Builder, reordered


def groups(graph: Graph) -> dict[str, ChannelGroup]:
    found = {group.anchor: group for group in graph.channel_groups()}
    assert len(found) == len(graph.channels) and all(graph.channels.of(id) is group for id, group in found.items())
    return found


def summary(graph: Graph) -> dict[str, tuple[int, bool, tuple[str, ...], tuple[str, ...]]]:
    return {id: (g.size, g.fixed, g.producers, g.readers) for id, g in groups(graph).items()}


def head(b: Builder) -> Graph:
    b.add("flatten")
    b.add("linear", id="head", out_channels=3)
    return b.graph()


HEAD = (3, True, ("head",), ())


def test_a_chain_has_a_group_for_each_layer() -> None:
    b = Builder(2, 6, 6)
    b.conv(5, id="a")
    b.add("batch_norm2d")
    b.add("max_pool2d", kernel_size=(2, 2), stride=(2, 2))
    b.add("dropout")
    b.conv(7, id="b")
    b.add("relu")
    assert summary(head(b)) == {"a": (5, False, ("a",), ("b",)), "b": (7, False, ("b",), ("head",)), "head": HEAD}


def test_channels_coupled_by_an_add_are_one_group() -> None:
    b = Builder(2, 6, 6)
    b.conv(5, id="a")
    b.conv(6, id="b")
    b.add("add", "a", b.conv(5, id="c"))
    found = summary(head(b))
    assert found["a"] == (5, False, ("a", "c"), ("b", "head")) and found["b"] == (6, False, ("b",), ("c",))


def test_a_stream_of_residual_blocks_is_one_group() -> None:
    b = Builder(2, 6, 6)
    stream = b.conv(4, id="stem")
    for k in range(3):
        stream = b.add("add", stream, b.conv(4, 3, b.conv(6, 3, stream, id=f"in{k}"), id=f"out{k}"))
    found = summary(head(b))
    assert found["stem"] == (4, False, ("stem", "out0", "out1", "out2"), ("in0", "in1", "in2", "head"))
    assert len(found) == 5


def test_a_concat_keeps_its_parts_apart() -> None:
    b = Builder(2, 6, 6)
    ends = [b.conv(2, 3, "image", id="a"), b.conv(3, 3, "image", id="b")]
    b.add("concat", *ends, "image", id="joined")
    b.conv(4, id="c")
    graph = head(b)
    assert {id: found[:2] for id, found in summary(graph).items()} == {
        "a": (2, False),
        "b": (3, False),
        "c": (4, False),
        "head": (3, True),
    }
    assert [graph.channels.lengths[cell] for cell, _ in graph.channels.axes["joined"][0]] == [2, 3, 2]
    assert groups(graph)["a"].readers == groups(graph)["b"].readers == ("c",)


def test_a_concat_that_meets_an_add_splits_the_other_side() -> None:
    b = Builder(2, 6, 6)
    ends = [b.conv(2, 3, "image", id="a"), b.conv(3, 3, "image", id="b")]
    joined = b.add("concat", *ends)
    b.add("add", joined, b.conv(5, 1, "image", id="c"))
    graph = head(b)
    (group,) = [g for g in graph.channel_groups() if not g.fixed]
    assert sorted(group.producers) == ["a", "b", "c"] and group.size == 5
    lengths = [graph.channels.lengths[cell] for cell, _ in graph.channels.axes["c"][0]]
    assert lengths == [2, 3] and graph.channels.axes["c"][0] == graph.channels.axes[joined][0]


def test_concats_that_meet_out_of_step_are_cut_at_every_border() -> None:
    b = Builder(2, 6, 6)
    left = b.add("concat", b.conv(2, 3, "image", id="a"), b.conv(4, 3, "image", id="b"))
    right = b.add("concat", b.conv(3, 1, "image", id="c"), b.conv(3, 5, "image", id="d"))
    b.add("add", left, right)
    graph = head(b)
    assert [graph.channels.lengths[cell] for cell, _ in graph.channels.axes[left][0]] == [2, 1, 3]
    assert [len(graph.channels.axes[id][0]) for id in "abcd"] == [1, 2, 2, 1]
    assert len([g for g in graph.channel_groups() if not g.fixed]) == 1


def test_a_concat_that_meets_itself_turned_round_ties_its_channels() -> None:
    """(a, b) + (b, a): channel i of the sum is one of a and one of b, whichever way it is cut."""
    b = Builder(2, 6, 6)
    pair = [b.conv(2, 3, "image", id="a"), b.conv(3, 3, "image", id="b")]
    b.add("add", b.add("concat", *pair), b.add("concat", *reversed(pair)))
    graph = head(b)
    (group,) = [g for g in graph.channel_groups() if not g.fixed]
    assert len(group.cells) == 1 and graph.channels.lengths[group.cells[0]] == 1
    assert [len(graph.channels.axes[id][0]) for id in "ab"] == [2, 3]


def test_depthwise_convolutions_pass_channels_on() -> None:
    b = Builder(2, 6, 6)
    b.conv(4, id="a")
    b.conv(4, groups=4, id="each")
    b.conv(3, 1, id="c")
    found = summary(head(b))
    assert found["a"] == (4, False, ("a",), ("c",)) and "each" not in found


def test_a_convolution_of_one_channel_is_dense() -> None:
    b = Builder(2, 6, 6)
    b.conv(1, id="a")
    b.conv(1, id="c")
    assert summary(head(b))["c"] == (1, False, ("c",), ("head",))


def test_grouped_convolutions_keep_their_blocks_equal() -> None:
    b = Builder(2, 6, 6)
    b.conv(4, id="a")
    b.conv(6, groups=2, id="c")
    graph = head(b)
    found = groups(graph)
    lengths = graph.channels.lengths
    for id, sizes in (("a", [2, 2]), ("c", [3, 3])):
        (partition,) = found[id].parts
        assert [sum(lengths[cell] for cell in part) for part in partition] == sizes and not found[id].fixed
    assert found["a"].readers == ("c",)


def test_blocks_across_the_parts_of_a_concat_tie_them() -> None:
    b = Builder(2, 6, 6)
    b.add("concat", b.conv(2, 3, "image", id="a"), b.conv(6, 3, "image", id="b"))
    b.conv(4, groups=2, id="c")
    graph = head(b)
    (group,) = [g for g in graph.channel_groups() if "a" in g.producers]
    assert sorted(group.producers) == ["a", "b"]
    (partition,) = group.parts
    assert [[graph.channels.lengths[cell] for cell in part] for part in partition] == [[2, 2], [4]]


def test_several_outputs_for_each_input_channel() -> None:
    """A depthwise convolution with a multiplier is a grouped one, with a block for each input channel."""
    b = Builder(3, 6, 6)
    b.conv(2, id="a")
    b.conv(6, groups=2, id="c")
    found = groups(head(b))
    assert [len(p) for p in found["a"].parts] == [2] and [len(p) for p in found["c"].parts] == [2]


def test_flattened_channels_are_blocks() -> None:
    b = Builder(2, 4, 6)
    b.conv(5, id="a")
    b.add("adaptive_avg_pool2d", output_size=(2, 3))
    flat = b.add("flatten")
    b.add("linear", id="head", out_channels=3)
    graph = b.graph()
    ((cell, block),) = graph.channels.axes[flat][0]
    assert block == 6 and graph.channels.axes["a"][0] == ((cell, 1),)


def test_features_that_mean_different_things_are_not_tied() -> None:
    """A flattened map added to the output of a linear layer: channels of the one are blocks of the other."""
    b = Builder(2, 4, 4)
    b.conv(3, id="a")
    flat = b.add("flatten")
    b.add("add", flat, b.add("linear", id="l", out_channels=48))
    b.add("linear", id="head", out_channels=2)
    found = groups(b.graph())
    assert found["a"].fixed and found["l"].fixed


def test_channels_added_to_the_input_are_fixed() -> None:
    b = Builder(2, 6, 6)
    b.add("add", "image", b.conv(2, id="a"))
    b.conv(3, id="c")
    found = groups(head(b))
    assert found["a"].fixed and not found["c"].fixed


def test_a_depthwise_convolution_of_the_input_has_no_group() -> None:
    b = Builder(2, 6, 6)
    b.conv(2, groups=2, id="each")
    b.conv(3, id="a")
    assert list(groups(head(b))) == ["a", "head"]


def test_groups_do_not_depend_on_the_order_of_nodes() -> None:
    b = Builder(2, 6, 6)
    b.add("concat", b.conv(2, 3, "image", id="a"), b.conv(4, 3, "image", id="b"))
    b.conv(6, groups=2, id="c")
    b.add("add", b.last, b.conv(6, 1, id="d"))
    graph = head(b)
    for seed in range(5):
        assert reordered(graph, seed).channels == graph.channels
