from dataclasses import replace

import pytest
import torch

from rlnas.errors import EvaluationError, OperatorError
from rlnas.evaluation import Candidate, build
from rlnas.network import Network
from rlnas.operators import OPERATORS
from tests.evaluation.faults import candidates, start_network, tiny_task


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "operator", [name for name in sorted(OPERATORS) if OPERATORS[name].sites(start_network().graph)]
)
def test_a_candidate_gives_the_same_network_wherever_its_parts_come_from(operator):
    start, task = start_network(), tiny_task()
    (candidate,) = candidates(start, operator)
    network = build(candidate, start, task)
    assert network.graph.key == candidate.graph.key
    sent = Candidate.from_json(candidate.to_json())
    odd = {  # the same values, elsewhere in memory and with other strides
        name: tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
        for name, tensor in Network.from_bytes(start.to_bytes()).tensors.items()
    }
    again = build(sent, Network(start.graph, odd), replace(task, train=replace(task.train)))
    assert same(network.tensors, again.tensors)
    assert same(start.tensors, start_network().tensors)


def test_no_edits_give_the_start_network():
    start = start_network()
    (candidate,) = candidates(start, "")
    assert same(build(candidate, start, tiny_task()).tensors, start.tensors)


def test_random_numbers_depend_on_start_and_edits():
    one, other = (
        start_network(),
        start_network().with_tensors({name: tensor * 2 for name, tensor in start_network().tensors.items()}),
    )
    networks = [build(candidates(start, "insert_residual")[0], start, tiny_task()) for start in (one, other)]
    name = next(n for n in networks[0].tensors if n not in one.tensors and n.endswith(".weight"))
    assert not torch.equal(networks[0].tensors[name], networks[1].tensors[name])


def test_another_start_network_is_refused():
    (candidate,) = candidates(start_network(4), "")
    with pytest.raises(EvaluationError, match="starts from"):
        build(candidate, start_network(6), tiny_task())


def test_edits_that_lead_elsewhere_are_refused():
    start = start_network()
    widened, deepened = candidates(start, "widen", "deepen")
    with pytest.raises(EvaluationError, match=r"widen\(conv1.* lead to the graph"):
        build(replace(widened, graph=deepened.graph), start, tiny_task())


def test_an_edit_that_does_not_apply_is_an_operator_error():
    start = start_network()
    (candidate,) = candidates(start, "widen")
    elsewhere = replace(candidate.edits[0], anchor="nowhere")
    with pytest.raises(OperatorError, match="nowhere"):
        build(replace(candidate, edits=(elsewhere,)), start, tiny_task())
