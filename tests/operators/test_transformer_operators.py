"""What single operators on transformers do, beyond what all of them must."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import OPERATORS, CostDelta, apply_sites
from tests.graphs import Builder
from tests.operators.sameness import check_exact, generator, make_inputs, make_network
from tests.transformers import Form, image_classifier, language_model

SEPARATE = Form(layers=1, fused=False)
SHARED = replace(SEPARATE, heads=6, kv_heads=2)
RMS = replace(SEPARATE, norm="rms_norm")


def apply(network: Network, operator: str, anchor: str, amount: float = 1) -> Network:
    after = apply_sites(network, [Site(operator, anchor, None, amount)], generator=generator(0))
    check_exact(network, after, make_inputs(network.graph, 3))
    return after


def anchors(operator: str, graph: Graph) -> list[str]:
    return list(dict.fromkeys(site.anchor for site in OPERATORS[operator].sites(graph)))


def refusal(operator: str, graph: Graph, anchor: str) -> str:
    with pytest.raises(OperatorError) as caught:
        OPERATORS[operator].edit(graph, Site(operator, anchor, None, OPERATORS[operator].amounts[0]))
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ what may be done


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_sites_on_a_transformer(norm: str) -> None:
    for graph, first in ((image_classifier(Form(norm=norm)), "patches"), (language_model(Form(norm=norm)), "words")):
        for name in ("add_heads", "widen_values", "widen_keys"):
            assert anchors(name, graph) == ["attend1", "attend2"]
        assert anchors("widen_hidden", graph) == [first]
        assert anchors("insert_layer", graph) == ["attended1", "fed1", "attended2", "fed2"]
        assert [site.anchor for site in OPERATORS["insert_layer"].sites(graph, (2,))] == ["fed1", "fed2"]
        assert {"up1", "up2"} < set(anchors("widen", graph))


def test_the_stream_stays_where_it_is_not_read_through_norms_alone() -> None:
    for form, reason in (
        (replace(SEPARATE, scaled=True), "mul"),
        (replace(SEPARATE, order="post"), "neither linear nor a norm"),
    ):
        assert reason in refusal("widen_hidden", image_classifier(form), "patches")
    tied = language_model(tied=True)
    assert not anchors("widen_hidden", tied) and "shared with another node" in refusal("widen_hidden", tied, "words")
    assert anchors("insert_layer", tied) and anchors("add_heads", tied)
    assert anchors("widen_hidden", image_classifier(replace(RMS, order="post"))) == ["patches"]


def mixer(second: str = "layer_norm", **attributes: bool) -> Graph:
    """A residual stream of tokens that is read through two norms."""
    b = Builder(6, 3)
    b.add("linear", id="first", out_channels=8)
    for k, norm in enumerate(("layer_norm", second)):
        source = b.last
        b.add(norm, **attributes)
        b.add("linear", id=f"hidden{k}", out_channels=4)
        b.add("tanh")
        b.add("add", source, b.add("linear", out_channels=8))
    b.add("layer_norm")
    b.add("linear", id="head", out_channels=2)
    return b.graph()


def test_norms_on_a_stream_must_be_alike_and_have_a_scale() -> None:
    assert anchors("widen_hidden", mixer()) == ["first"]
    for graph in (mixer("rms_norm"), mixer(affine=False)):
        assert "of one kind and have a scale" in refusal("widen_hidden", graph, "first")


def test_a_layer_that_mixes_tokens_adds_its_shift_to_every_channel() -> None:
    b = Builder(6, 3)
    source = b.add("linear", id="first", out_channels=8)
    b.add("layer_norm")
    b.add("permute", dims=(1, 0))
    b.add("linear", id="mix", out_channels=6)
    b.add("add", source, b.add("permute", dims=(1, 0)))
    b.add("linear", id="head", out_channels=2)
    assert "linear mix on the residual stream is neither" in refusal("widen_hidden", b.graph(), "first")


def test_a_layer_that_reads_the_stream_itself_reads_new_channels_with_zeros() -> None:
    b = Builder(6, 3)
    source = b.add("linear", id="first", out_channels=8)
    b.add("layer_norm")
    b.add("add", source, b.add("linear", id="branch", out_channels=8))
    b.add("linear", id="head", out_channels=2)
    after = apply(make_network(b.graph(), 0), "widen_hidden", "first", 1.5)
    assert not after.tensors["head.weight"][:, 8:].any() and after.tensors["branch.weight"][:, 8:].all()


def test_heads_stay_where_something_else_depends_on_them() -> None:
    b = Builder(5, 4)
    b.add("linear", id="all", out_channels=8)
    b.add("attention", "all", "all", "all", id="tied", heads=2, kv_heads=2, scale=0.5)
    b.add("linear", id="head", out_channels=2)
    assert "not channels of their own" in refusal("add_heads", b.graph(), "tied")

    def between(op: str, **attributes: float) -> Graph:
        """Something between keys and attention."""
        b = Builder(5, 4)
        query, key, value = (b.add("linear", "image", id=name, out_channels=6) for name in "qkv")
        key = b.add(op, key, **attributes)
        b.add("attention", query, key, value, id="attend", heads=2, kv_heads=2, scale=0.5)
        b.add("linear", id="head", out_channels=2)
        return b.graph()

    assert "takes statistics" in refusal("widen_keys", between("rms_norm"), "attend")
    assert "cannot be traced" in refusal("add_heads", between("softmax", axis=1), "attend")
    assert "turn zeros into" in refusal("widen_keys", between("sigmoid"), "attend")
    assert anchors("add_heads", between("sigmoid")) == anchors("widen_keys", between("neg")) == ["attend"]


def test_values_that_are_averaged_too_stay() -> None:
    b = Builder(5, 4)
    ends = [b.add("linear", "image", out_channels=6) for _ in range(3)]
    attended = b.add("attention", *ends, id="attend", heads=2, kv_heads=2, scale=0.5)
    b.add("mul", attended, b.add("reduce", ends[2], kind="mean", axes=(1,), keepdim=True))
    b.add("linear", out_channels=2)
    for name in ("add_heads", "widen_values"):
        assert "sizes of its queries, keys or values are fixed" in refusal(name, b.graph(), "attend")


def test_queries_and_keys_of_two_attentions_stay() -> None:
    b = Builder(5, 4)
    q, k, v, w = (b.add("linear", "image", id=name, out_channels=6) for name in "qkvw")
    ends = [b.add("attention", q, k, x, id=f"attend_{x}", heads=2, kv_heads=2, scale=0.5) for x in (v, w)]
    b.add("add", *ends)
    b.add("linear", out_channels=2)
    for name in ("add_heads", "widen_keys", "widen_values"):
        assert "another attention reads the same" in refusal(name, b.graph(), "attend_v")


# ------------------------------------------------------------------------------------------------------- attention


def test_heads_come_after_all_others() -> None:
    network = make_network(image_classifier(SHARED), 0)
    after = apply(network, "add_heads", "attend1")
    node, (d, e) = after.graph.node("attend1"), (SHARED.key, SHARED.value)
    assert (node["heads"], node["kv_heads"], node["scale"]) == (9, 3, d**-0.5)
    for name, old in (("q1", 6 * d), ("k1", 2 * d), ("v1", 2 * e)):
        assert torch.equal(after.tensors[f"{name}.weight"][:old], network.tensors[f"{name}.weight"])
        assert after.tensors[f"{name}.weight"].shape[0] == old * 3 // 2 and after.tensors[f"{name}.weight"][old:].all()
    assert torch.equal(after.tensors["o1.weight"][:, : 6 * e], network.tensors["o1.weight"])
    assert not after.tensors["o1.weight"][:, 6 * e :].any()


def test_a_fused_projection_grows_in_three_places() -> None:
    form = Form(layers=1, heads=2, kv_heads=2, key=3, value=4)
    network = make_network(image_classifier(form), 0)
    after = apply(network, "add_heads", "attend1", 2)
    slices = [node for node in after.graph.nodes if node.op == "slice" and "qkv1" in node.inputs]
    assert [(node["start"], node["stop"]) for node in slices] == [(0, 12), (12, 24), (24, 40)]
    old, new = network.tensors["qkv1.weight"], after.tensors["qkv1.weight"]
    kept = [*range(6), *range(12, 18), *range(24, 32)]
    assert torch.equal(new[kept], old)


def test_what_a_head_costs() -> None:
    """Queries, keys and values of one head, each with a bias; and what reads it."""
    delta = OPERATORS["add_heads"].edit(image_classifier(SEPARATE), Site("add_heads", "attend1", None, 1)).cost_delta
    weights, tokens = (3 + 3 + 4) * 8 + 4 * 8, 5
    assert delta == CostDelta(n_params=weights + 3 + 3 + 4, macs=weights * tokens + tokens * tokens * (3 + 4))


def test_wider_keys_keep_the_scale() -> None:
    network = make_network(language_model(SHARED), 0)
    after = apply(network, "widen_keys", "attend1", 2)
    assert after.graph.node("attend1")["scale"] == network.graph.node("attend1")["scale"]
    heads = after.tensors["k1.weight"].unflatten(0, (2, -1))
    assert not heads[:, 3:].any() and not after.tensors["k1.bias"].unflatten(0, (2, -1))[:, 3:].any()
    assert torch.equal(heads[:, :3], network.tensors["k1.weight"].unflatten(0, (2, -1)))
    assert after.tensors["q1.weight"].unflatten(0, (6, -1))[:, 3:].all()


def test_what_is_added_to_keys_is_zero_for_new_ones() -> None:
    network = make_network(image_classifier(replace(SEPARATE, places_in_keys=True)), 0)
    after = apply(network, "widen_keys", "attend1", 2)
    assert not after.tensors["key_places1"].unflatten(1, (2, -1))[..., 3:].any()


def test_heads_that_share_values_and_are_gated_stay_as_many() -> None:
    """The gate's channels would have to lie after all others, too."""
    gated = image_classifier(replace(SHARED, gate_output=True))
    assert "heads which share their values" in refusal("add_heads", gated, "attend1")
    assert anchors("widen_values", gated) == ["attend1"]
    assert anchors("add_heads", image_classifier(replace(SEPARATE, gate_output=True))) == ["attend1"]


# ------------------------------------------------------------------------------------------------ residual stream


@pytest.mark.parametrize("form", [SEPARATE, RMS], ids=["layer norm", "rms norm"])
def test_norms_make_good_for_the_wider_stream(form: Form) -> None:
    network = make_network(image_classifier(form), 0)
    after = apply(network, "widen_hidden", "patches", 1.5)
    for id in ("norm1", "mlp_norm1", "final"):
        assert after.graph.node(id)["eps"] == pytest.approx(form.eps * 8 / 12)
        old, new = network.tensors[f"{id}.weight"], after.tensors[f"{id}.weight"]
        assert torch.allclose(new[:8], old * math.sqrt(8 / 12)) and torch.equal(new[8:], torch.ones_like(new[8:]))
        assert form.norm == "rms_norm" or not after.tensors[f"{id}.bias"][8:].any()
    for id, axis in (("patches.weight", 0), ("o1.weight", 0), ("down1.bias", 0), ("token", 1), ("places", 1)):
        old, new = after.tensors[id].split([8, 4], axis)
        mean = old.mean(axis, keepdim=True) if form.norm == "layer_norm" else torch.zeros(())
        assert torch.equal(old, network.tensors[id]) and torch.allclose(new, mean.expand_as(new).to(new), atol=1e-15)


def test_epsilon_matters_where_features_are_small() -> None:
    """The drift that a forgotten epsilon leaves is largest at small scales."""
    network = make_network(language_model(RMS), 0)
    small = network.with_tensors(
        {n: t * (1e-3 if n in ("words.weight", "places") else 1) for n, t in network.tensors.items()}
    )
    apply(small, "widen_hidden", "words", 1.5)


# --------------------------------------------------------------------------------------------------------- layers


def test_a_layer_is_like_its_neighbour() -> None:
    graph = language_model(replace(SHARED, gated=True, activation="silu", norm="rms_norm", hidden=5))
    after = apply(make_network(graph, 0), "insert_layer", "fed1", 2).graph
    old, new = ([n for n in g.nodes if n.op not in ("input", "embedding", "parameter")] for g in (graph, after))
    assert sorted(n.op for n in new) == sorted([n.op for n in old[1:-2]] + [n.op for n in old])
    assert after.node("attend2").attrs == graph.node("attend1").attrs
    assert after.node("up2").attrs == graph.node("up1").attrs and after.node("final").inputs == ("fed2",)
    assert after.node("norm2").inputs == ("fed1",) and after.node("fed2").inputs == ("attended2", "down2")


def test_a_branch_is_repeated_alone() -> None:
    graph = language_model(SEPARATE)
    for anchor, names in (("attended1", {"norm2", "q2", "k2", "v2", "attend2", "o2", "attended2"}), ("fed1", None)):
        after = OPERATORS["insert_layer"].edit(graph, Site("insert_layer", anchor)).graph
        new = {node.id for node in after.nodes} - {node.id for node in graph.nodes}
        assert new == (names or {"mlp_norm2", "up2", "act2", "down2", "fed2"})


def test_parameters_of_a_branch_are_copied_or_shared() -> None:
    b = Builder(5, 4)
    fixed = b.add("parameter", id="mask", shape=(5, 4), trained=False)
    for k in range(2):
        source = b.last if k else "image"
        b.add("layer_norm", source)
        b.add("linear", out_channels=4)
        b.add("mul", b.last, fixed)
        b.add("tanh")
        b.add("linear", id=f"last{k}", out_channels=4)
        b.add("mul", b.last, b.add("parameter", id=f"factor{k}", shape=(4,), axis=-1))
        b.add("add", source, b.last, id=f"sum{k}")
    network = make_network(b.graph(), 0)
    after = apply(network, "insert_layer", "sum0")
    assert torch.equal(after.tensors["factor2"], network.tensors["factor0"]) and "mask" in after.tensors
    assert not after.tensors["last2.weight"].any() and "mask1" not in after.tensors
    idle = network.with_tensors(network.tensors | {"factor0": torch.zeros(4, dtype=torch.float64)})
    assert apply(idle, "insert_layer", "sum0").tensors["factor2"].all()


def test_only_branches_that_begin_with_a_norm_are_repeated() -> None:
    assert "does not begin with a norm" in refusal("insert_layer", image_classifier(Form(order="post")), "attended1")
    assert "not a residual add" in refusal("insert_layer", image_classifier(), "head")
    assert "reads more than the residual stream" in refusal("insert_layer", image_classifier(), "add_1")
    assert "does not end a layer" in refusal_of_two(image_classifier(), "attended2")


def refusal_of_two(graph: Graph, anchor: str) -> str:
    with pytest.raises(OperatorError) as caught:
        OPERATORS["insert_layer"].edit(graph, Site("insert_layer", anchor, None, 2))
    return str(caught.value)


# -------------------------------------------------------------------------------------------------- optimizer state


def gradients(network: Network, inputs: Tensor) -> dict[str, Tensor]:
    module = network.module()
    nn.functional.cross_entropy(module(inputs).flatten(1), torch.arange(len(inputs)) % 3).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("kind", "power"), [("exp_avg", 1), ("exp_avg_sq", 2)])
@pytest.mark.parametrize("name", ["add_heads", "widen_values", "widen_keys", "widen_hidden", "insert_layer"])
def test_moments_are_those_of_the_new_network(name: str, kind: str, power: int) -> None:
    """Of what is old; what is new has none."""
    network = make_network(image_classifier(replace(SHARED, norm="rms_norm")), 0)
    inputs = make_inputs(network.graph, 1)
    before = {n: g**power for n, g in gradients(network, inputs).items()}
    for site in OPERATORS[name].sites(network.graph):
        after, state = OPERATORS[name].apply_with_optimizer(network, site, {kind: before}, generator=generator(0))
        now, old = gradients(after, inputs), 0
        for tensor, given in state[kind].items():
            there = given != 0
            assert torch.allclose(given[there], now[tensor][there] ** power, rtol=1e-7, atol=1e-13), (site, tensor)
            old += int(there.sum())
        assert old == sum(int((moment != 0).sum()) for moment in before.values())
