"""What encoders have in common, for each in the registry, and what each is there for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlnas.controllers import make_controller
from rlnas.controllers.policies import ENCODERS, GraphEncoder, NodeEncoder, RecurrentEncoder
from rlnas.layout import CONTEXT_FEATURES, NODE_FEATURES
from tests.controllers.test_ppo import env_worth
from tests.controllers.toy import Toy, quiet

F, C = len(NODE_FEATURES), len(CONTEXT_FEATURES)
FIRST, SECOND = (NODE_FEATURES.index(f"input_{k}_distance") for k in (0, 1))


def make(name: str, *, n_features: int = F, n_context: int = C, **settings: Any) -> NodeEncoder:
    torch.manual_seed(0)
    sizes = {"n_features": n_features, "n_context": n_context, "embedding_size": 8, "hidden_size": 8}
    return ENCODERS[name](**sizes, **settings).double()


def chain(batch: int, slots: int, *, n_features: int = F) -> Tensor:
    """Random rows in which every node reads the one before it."""
    nodes = torch.rand(batch, slots, n_features, dtype=torch.float64)
    if n_features == F:
        nodes[..., FIRST], nodes[..., SECOND] = 1 / slots, 0.0
        nodes[:, 0, FIRST] = 0.0
    return nodes


def first(batch: int, slots: int, nodes: list[int]) -> Tensor:
    return (torch.arange(slots) < torch.tensor(nodes)[:, None]).double().expand(batch, slots)


@pytest.mark.parametrize("name", ENCODERS)
def test_empty_slots_change_nothing(name: str) -> None:
    encoder, nodes, context = make(name), chain(2, 7), torch.randn(2, C, dtype=torch.float64)
    mask = first(2, 7, [3, 5])
    before, pooled = encoder(nodes, mask, context)
    assert before.shape == (2, 5, encoder.node_size) and pooled.shape == (2, encoder.pooled_size)
    changed = nodes.clone()
    changed[0, 3:], changed[1, 5:] = 9.0, -9.0
    after, pooled_after = encoder(changed, mask, context)
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(pooled, pooled_after)
    assert (after[0, 3:] == 0).all()
    alone, pooled_alone = encoder(nodes[:1], mask[:1], context[:1])
    torch.testing.assert_close(alone, before[:1, :3])
    torch.testing.assert_close(pooled_alone, pooled[:1])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_node_hears_of_nodes_before_and_behind_it(name: str) -> None:
    encoder, nodes, context = make(name), chain(1, 4), torch.zeros(1, C, dtype=torch.float64)
    mask = first(1, 4, [4])
    before = encoder(nodes, mask, context)[0][0]
    for changed, heard in ((0, 2), (3, 1)):
        other = nodes.clone()
        other[0, changed, 0] += 0.5
        assert not torch.allclose(encoder(other, mask, context)[0][0, heard], before[heard])


@pytest.mark.parametrize("name", ENCODERS)
def test_no_node_at_all(name: str) -> None:
    encoder = make(name)
    embeddings, pooled = encoder(chain(2, 4), torch.zeros(2, 4).double(), torch.ones(2, C).double())
    assert (embeddings == 0).all() and torch.isfinite(pooled).all()
    pooled.sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_full_slots_are_read_as_padded_ones_are(cell: str, layers: int) -> None:
    """Without anything to pad the RNN is run another way."""
    encoder, nodes, context = make("recurrent", cell=cell, layers=layers), chain(3, 5), torch.randn(3, C).double()
    full = first(3, 5, [5, 5, 5])
    plain = encoder(nodes, full, context)
    padded = encoder(torch.cat([nodes, chain(3, 2)], dim=1), first(3, 7, [5, 5, 5]), context)
    mixed = encoder(torch.cat([nodes, nodes[:1]]), first(4, 5, [5, 5, 5, 2]), torch.cat([context, context[:1]]))
    for other in (padded, mixed):
        torch.testing.assert_close(other[0][:3], plain[0])
        torch.testing.assert_close(other[1][:3], plain[1])


def test_one_direction_is_autoregressive() -> None:
    """What is read of a decision depends on the choices before it and on nothing behind it."""
    encoder = make("recurrent", bidirectional=False)
    nodes, context = chain(1, 5), torch.zeros(1, C, dtype=torch.float64)
    mask = first(1, 5, [5])
    before = encoder(nodes, mask, context)[0][0]
    other = nodes.clone()
    other[0, 2, 0] += 0.5
    after = encoder(other, mask, context)[0][0]
    assert torch.equal(after[:2], before[:2])
    assert all(not torch.allclose(after[i], before[i]) for i in (2, 3, 4))
    assert isinstance(encoder, RecurrentEncoder) and not encoder.rnn.bidirectional


def test_edges_are_those_of_the_network() -> None:
    """Slots 1 and 2 read slot 0; slot 3 reads 1 and 2, as in a residual block."""
    encoder = make("graph")
    assert isinstance(encoder, GraphEncoder)
    nodes = torch.zeros(1, 6, F, dtype=torch.float64)
    for slot, inputs in {1: (0,), 2: (0,), 3: (2, 1)}.items():
        for column, source in zip((FIRST, SECOND), inputs, strict=False):
            nodes[0, slot, column] = (slot - source) / 6
    edges = encoder._edges(nodes, 4)[0]
    assert edges.nonzero().tolist() == [[1, 0], [2, 0], [3, 1], [3, 2]]
    assert set(edges.unique().tolist()) == {0.0, 1.0}


def test_a_message_goes_one_edge_a_round() -> None:
    nodes, context, mask = chain(1, 6), torch.zeros(1, C, dtype=torch.float64), first(1, 6, [6])
    other = nodes.clone()
    other[0, 0, 0] += 0.5
    for rounds in (1, 3):
        encoder = make("graph", layers=rounds)
        moved = encoder(other, mask, context)[0][0] - encoder(nodes, mask, context)[0][0]
        assert [bool(row.abs().max() > 1e-9) for row in moved] == [slot <= rounds for slot in range(6)]


def test_decisions_are_a_chain() -> None:
    """Observations without edges link neighbours."""
    encoder = make("graph", n_features=14, n_context=4)
    assert isinstance(encoder, GraphEncoder)
    assert encoder._edges(chain(2, 4, n_features=14), 4)[1].nonzero().tolist() == [[1, 0], [2, 1], [3, 2]]


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"recurrent"}))
def test_solves_the_toy(name: str) -> None:
    """The optimum is 1.9; stopping at once gives 1.0, random actions 0.9. The default encoder is tried elsewhere."""
    env = Toy()
    quiet(make_controller("ppo", env, seed=0, arguments={"policy_kwargs": {"encoder": name}})).learn(3 * 400)
    assert np.mean([1.0 + env_worth(env, taken) for taken, _ in env.played[-50:]]) > 1.8
