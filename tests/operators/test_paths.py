"""Path-level operators: what branches look like, that copies part, and that chains of edits make trees."""

from __future__ import annotations

import pytest
import torch

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site, to_source
from rlnas.network import Network
from rlnas.operators import OPERATORS, apply_sites
from tests.graphs import Builder
from tests.operators.families import mobilenet
from tests.operators.sameness import check_exact, generator, make_inputs, make_network


def one_layer(groups: int = 1, out: int = 6) -> Graph:
    """A convolution between two activations, and a classifier."""
    b = Builder(3, 6, 6)
    b.conv(6)
    b.add("relu", id="before")
    b.conv(out, id="layer", groups=groups)
    b.add("batch_norm2d", eps=1e-2)
    b.add("relu", id="after")
    b.add("flatten")
    b.add("linear", out_channels=3)
    return b.graph()


def apply(network: Network, *sites: tuple[str, str, float], seed: int = 0) -> Network:
    return apply_sites(network, [Site(name, id, None, amount) for name, id, amount in sites], generator=generator(seed))


def reads(graph: Graph, id: str) -> list[str]:
    return list(graph.node(id).inputs)


# ----------------------------------------------------------------------------------------------------- replicate_add


def test_copies_add_up_to_the_layer_and_differ_by_as_much_as_its_weights() -> None:
    network = make_network(one_layer(), 0)
    after = apply(network, ("replicate_add", "layer", 3))
    assert reads(after.graph, "add1") == ["layer", "conv1", "conv2"]
    for name in ("weight", "bias"):
        old, copies = (
            network.tensors[f"layer.{name}"],
            [after.tensors[f"{id}.{name}"] for id in reads(after.graph, "add1")],
        )
        assert torch.allclose(torch.stack(copies).sum(0), old, atol=1e-14)
        assert all(float((copy - old / 3).std()) > 0.05 * float(old.std()) for copy in copies)


def test_copies_part_in_training_under_an_optimizer_that_forgets_scale() -> None:
    """Adam would move copies alike that differ by a factor only."""
    after = apply(make_network(one_layer(), 0), ("replicate_add", "layer", 2))
    module, inputs = after.module().train(), make_inputs(after.graph, 1)
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()
    moved = [module.get_parameter(f"{id}.weight").detach() - start[f"{id}.weight"] for id in ("layer", "conv1")]
    assert not torch.equal(*moved)


def test_copies_take_over_the_moments_of_the_layer() -> None:
    network = make_network(one_layer(), 0)
    moments = {name: torch.randn(t.shape, generator=generator(1)).double() for name, t in network.tensors.items()}
    _, state = OPERATORS["replicate_add"].apply_with_optimizer(
        network, Site("replicate_add", "layer", None, 2), {"exp_avg": moments}, generator=generator(0)
    )
    assert torch.equal(state["exp_avg"]["conv1.weight"], moments["layer.weight"])
    assert torch.equal(state["exp_avg"]["layer.bias"], moments["layer.bias"])


def test_copies_of_an_identity_edge_are_averaged_in_the_source() -> None:
    network = make_network(one_layer(), 0)
    after = apply(network, ("insert_node", "before", 1), ("replicate_add", "identity1", 3))
    assert "/ 3" in to_source(after.graph) and reads(after.graph, "layer") == ["scale1"]
    assert after.graph.n_params == network.graph.n_params


@pytest.mark.parametrize("amount", [1, 2.5, 9, 0])
def test_branches_are_two_to_eight(amount: float) -> None:
    for name in ("replicate_add", "split_concat"):
        with pytest.raises(OperatorError, match="number of branches, a whole number from 2 to 8"):
            OPERATORS[name].edit(one_layer(), Site(name, "layer", None, amount))


# ------------------------------------------------------------------------------------------------------ split_concat


def test_branches_of_a_dense_layer_read_all_of_the_input() -> None:
    network = make_network(one_layer(out=7), 0)
    after = apply(network, ("split_concat", "layer", 3))
    branches = reads(after.graph, "concat1")
    assert [after.graph.node(id)["out_channels"] for id in branches] == [3, 2, 2]
    assert {id for branch in branches for id in reads(after.graph, branch)} == {"before"}
    whole = torch.cat([after.tensors[f"{id}.weight"] for id in branches])
    assert torch.equal(whole, network.tensors["layer.weight"])
    assert after.graph.macs == network.graph.macs and after.graph.n_params == network.graph.n_params


def test_branches_of_a_grouped_convolution_read_their_groups() -> None:
    network = make_network(one_layer(groups=3), 0)
    after = apply(network, ("split_concat", "layer", 2))
    branches = reads(after.graph, "concat1")
    assert [after.graph.node(id)["groups"] for id in branches] == [2, 1]
    assert [after.graph.shapes[reads(after.graph, id)[0]][0] for id in branches] == [4, 2]
    check_exact(network, after, make_inputs(network.graph, 1))
    with pytest.raises(OperatorError, match="3 groups do not make so many branches"):
        OPERATORS["split_concat"].edit(network.graph, Site("split_concat", "layer", None, 4))


def test_branches_of_a_depthwise_convolution_can_be_widened_apart() -> None:
    """The split is by channels, so that each branch has a group of its own where the rest allows it."""
    network = make_network(mobilenet(), 0)
    depthwise = next(node.id for node in network.graph.nodes if node.op == "conv2d" and node["groups"] > 1)
    after = apply(network, ("split_concat", depthwise, 2))
    site = OPERATORS["widen"].sites(after.graph, (2.0,))[0]
    widened = apply_sites(after, [site], generator=generator(1))
    check_exact(network, widened, make_inputs(network.graph, 1))


# ----------------------------------------------------------------------------------------------------- identity edges


def test_an_identity_edge_costs_nothing_and_comes_once() -> None:
    graph = one_layer()
    edit = OPERATORS["insert_node"].edit(graph, Site("insert_node", "layer"))
    assert (edit.cost_delta.n_params, edit.cost_delta.macs) == (0, 0)
    with pytest.raises(OperatorError, match="there is an identity edge already"):
        OPERATORS["insert_node"].edit(edit.graph, Site("insert_node", "layer"))


def test_an_activation_follows_only_where_it_leaves_values_as_they_are() -> None:
    network = make_network(one_layer(), 0)
    ops = []
    for anchor in ("before", "layer"):
        after = apply(network, ("insert_node", anchor, 1), ("replace_identity", "identity1", 3))
        ops.append(sorted(node.op for node in after.graph.nodes if node.id not in network.graph))
        assert "identity1" not in after.graph
    assert ops == [["conv2d", "relu"], ["conv2d"]]


def test_a_separable_edge_is_cheaper_than_a_dense_one() -> None:
    graph = OPERATORS["insert_node"].edit(one_layer(), Site("insert_node", "before")).graph
    cost = {
        name: OPERATORS[name].edit(graph, Site(name, "identity1", None, 5)).cost_delta.n_params
        for name in ("replace_identity", "replace_identity_separable")
    }
    assert cost == {"replace_identity": 6 * 6 * 25 + 6, "replace_identity_separable": 6 * 25 + 6 + 6 * 6 + 6}


# -------------------------------------------------------------------------------------------------------------- trees


def test_chains_of_edits_make_a_tree() -> None:
    """An add of two branches, the first a concat of two, the second an edge of depth two: PathLevel-EAS's figure."""
    network = make_network(one_layer(), 0)
    tree = apply(
        network,
        ("insert_node", "before", 1),
        ("replicate_add", "identity1", 2),
        ("replace_identity", "identity1", 3),
        ("split_concat", "conv1", 2),
        ("replace_identity_separable", "identity2", 5),
        ("insert_node", "relu2", 1),
        ("split_concat", "identity1", 2),
        ("replace_identity", "identity1", 1),
    )
    graph = tree.graph
    assert reads(graph, "layer") == ["scale1"] and reads(graph, "scale1") == ["add1"]
    first, second = reads(graph, "add1")
    assert reads(graph, first) == ["concat1"] and len(reads(graph, "concat1")) == 2
    assert graph.node(second).op == "concat" and len(reads(graph, second)) == 2
    kernels = {node["kernel_size"][0] for node in graph.nodes if node.op == "conv2d"}
    assert kernels == {1, 3, 5}
    check_exact(network, tree, make_inputs(network.graph, 1))


def test_a_tree_within_a_tree() -> None:
    network = make_network(one_layer(), 3)
    tree = apply(
        network,
        ("replicate_add", "layer", 2),
        ("split_concat", "conv1", 2),
        ("replicate_add", "conv2", 3),
        ("insert_node", "concat1", 1),
        ("replace_identity", "identity1", 3),
        ("grow_kernel", "layer", 2),
    )
    check_exact(network, tree, make_inputs(network.graph, 1))
    assert sum(node.op == "add" for node in tree.graph.nodes) == 2
