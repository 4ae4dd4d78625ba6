"""Published networks come in with the same weights and bit for bit the same outputs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rlnas
from rlnas.errors import GraphError
from rlnas.graph import to_source
from rlnas.interchange import export
from rlnas.network import Network
from tests.networks import NETWORKS as FAMOUS
from tests.networks import enliven
from tests.networks.more import MORE

NETWORKS = FAMOUS | MORE

REPARAMETRIZED = {"tcn": 480, "tcn_old_weight_norm": 480, "scaled_weight_standardized": 2250, "swin_v2": 3465}
"""Their weights, or biases, are computed from others; they come in as what was computed, with so many parameters."""

COMPUTED = {*REPARAMETRIZED, "weight_standardized", "spectral_norm", "cosine_head", "crelu_frozen_norm", "pools"}
COMPUTED |= {"gpt2_addmm", "alibi", "einsum_attention", "token_shift"}
"""They compute constants while they run, in the precision in which they are taken in."""

SINGLE = {"llama", "llama_rotate_half", "t5", "gru_loop"}
"""They turn values into float32 while they run, whatever their own type."""

IN_PLACE = {"se_tanh", "edsr", "in_place", "yolo_head"}
"""They overwrite what gradients need."""

BIG = {name for name, fixture in NETWORKS.items() if not fixture.small} | {"poolformer", "densenet_bc", "resnet56"}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name in BIG)) for name in NETWORKS]


@pytest.fixture(autouse=True)
def in_plain_steps() -> Iterator[None]:
    """Without fused kernels of attention, which round differently."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(enabled)


@cache
def small_one(name: str) -> tuple[nn.Module, Tensor, Network]:
    return prepared(name)


@lru_cache(maxsize=1)
def big_one(name: str) -> tuple[nn.Module, Tensor, Network]:
    return prepared(name)


def taken_in(name: str) -> tuple[nn.Module, Tensor, Network]:
    """A module with weights as after training, its example, and the network that it becomes."""
    return big_one(name) if name in BIG else small_one(name)


def prepared(name: str) -> tuple[nn.Module, Tensor, Network]:
    torch.manual_seed(0)
    module = enliven(NETWORKS[name].make(), generator=torch.Generator().manual_seed(0)).eval()
    example = NETWORKS[name].example()
    assert isinstance(example, Tensor)
    return module, example, rlnas.from_module(module, example)


def batch(example: Tensor, n: int) -> Tensor:
    """Other samples than the example, of the same kind."""
    generator = torch.Generator().manual_seed(1)
    if example.is_floating_point():
        return torch.randn(n, *example.shape[1:], generator=generator)
    pick = torch.randint(example.numel(), (n, *example.shape[1:]), generator=generator)
    return example.flatten()[pick]


def same_bits(module: nn.Module, other: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        expected, found = module(inputs.clone()), other(inputs.clone())
    assert expected.shape == found.shape and expected.isfinite().all()
    assert torch.equal(expected, found), float((expected - found).abs().max())


@pytest.mark.parametrize("name", EVERY)
def test_outputs_are_the_same_bit_for_bit(name: str) -> None:
    module, example, network = taken_in(name)
    made = network.module().eval()
    same_bits(module, made, example)
    same_bits(module, made, batch(example, 5))


@pytest.mark.parametrize("name", EVERY)
def test_parameters_that_are_used_are_the_networks(name: str) -> None:
    module, example, network = taken_in(name)
    module = copy.deepcopy(module)
    if name not in IN_PLACE:
        module(example).sum().backward()
    used = sum(p.numel() for p in module.parameters() if p.grad is not None or name in IN_PLACE)
    assert network.graph.n_params == REPARAMETRIZED.get(name, used)
    assert sum(p.numel() for p in network.module().parameters()) == network.graph.n_params


@pytest.mark.parametrize("name", EVERY)
def test_in_double_precision_only_rounding_is_left(name: str) -> None:
    module, example, network = taken_in(name)
    if name in SINGLE:
        pytest.skip("computes in single precision")
    module, inputs = copy.deepcopy(module).double(), batch(example, 2)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    network = rlnas.from_module(module, inputs) if name in COMPUTED else network.to(torch.float64)
    made = network.module().eval()
    with torch.no_grad():
        expected, found = module(inputs), made(inputs)
    assert (expected - found).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("name", EVERY)
def test_stored_and_printed_networks_give_the_same_bits(name: str) -> None:
    _, example, network = taken_in(name)
    made, inputs = network.module().eval(), batch(example, 2)
    stored = Network.from_bytes(network.to_bytes())
    assert stored.graph.key == network.graph.key
    same_bits(made, stored.module().eval(), inputs)
    names: dict[str, Any] = {}
    exec(to_source(network.graph), names)
    printed = names["Network"]()
    printed.load_state_dict(dict(network.tensors))
    same_bits(made, printed.eval(), inputs)


@pytest.mark.parametrize("name", ["resnet20", "vit_narrow", "gpt_tied", "swin"])
def test_what_is_exported_is_loaded_again(name: str, tmp_path: Path) -> None:
    _, example, network = taken_in(name)
    export(network, tmp_path, formats=("python", "graph"))
    same_bits(network.module().eval(), rlnas.load(tmp_path).module().eval(), batch(example, 2))


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet", "mobilenet_v2_grey", "shufflenet_v2_narrow", "res2net"])
def test_training_moves_the_same_statistics(name: str) -> None:
    module, example, network = taken_in(name)
    module, made = copy.deepcopy(module).train(), network.module().train()
    for part in [*module.modules(), *made.modules()]:
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    inputs = batch(example, 4)
    assert torch.equal(module(inputs), made(inputs))
    buffers = dict(made.named_buffers())
    moved = {path.rpartition(".")[0]: part for path, part in module.named_buffers() if path.endswith("running_mean")}
    assert moved
    for path, mean in moved.items():
        assert torch.equal(mean, buffers[f"{path.replace('.', '_')}.running_mean"]), path


def test_names_are_the_modules_own() -> None:
    module, _, network = taken_in("resnet20")
    wanted = {f"{path.rpartition('.')[0].replace('.', '_')}.{path.rpartition('.')[2]}" for path in module.state_dict()}
    assert set(network.tensors) == wanted
    _, _, network = taken_in("gpt_tied")
    assert {"transformer_wte.weight", "transformer_wpe.weight", "transformer_h_0_attn_c_attn.weight"} <= {
        *network.tensors
    }


@pytest.mark.parametrize("name", ["gpt_tied", "tied_autoencoder", "shared_modules", "alibi", "swin"])
def test_what_is_shared_stays_shared(name: str) -> None:
    """After a step of training, both still agree."""
    module, example, network = taken_in(name)
    module, made = copy.deepcopy(module), network.module().eval()
    for trained in (module, made):
        trained(example).square().sum().backward()
        with torch.no_grad():
            for parameter in trained.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad / (1 + parameter.grad.norm())
    with torch.no_grad():
        expected, found = module(example), made(example)
    assert (expected - found).norm() <= 1e-5 * expected.norm()
    assert (expected - taken_in(name)[0](example)).norm() > 1e-5 * expected.norm(), "the step did nothing"


@pytest.mark.parametrize("name", ["resnet20", "vit_narrow", "multihead_attention", "spectral_norm"])
def test_the_module_is_left_as_it_was(name: str) -> None:
    module = copy.deepcopy(taken_in(name)[0]).train()
    calls: list[str] = []
    part = next(m for m in module.modules() if isinstance(m, nn.LayerNorm | nn.Conv2d))
    part.register_forward_hook(lambda *_: calls.append("hook"))
    next(iter(module.children())).eval()
    state = {path: value.clone() for path, value in module.state_dict().items()}
    flags = [m.training for m in module.modules()]
    tensors = [(id(p), p.requires_grad, p.grad) for p in module.parameters()]
    own = [sorted(vars(m)) for m in module.modules()]
    random = torch.get_rng_state()
    network = rlnas.from_module(module, NETWORKS[name].example())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[path]) for path, value in module.state_dict().items())
    assert [m.training for m in module.modules()] == flags
    assert [(id(p), p.requires_grad, p.grad) for p in module.parameters()] == tensors
    assert [sorted(vars(m)) for m in module.modules()] == own
    assert calls, "hooks run as ever"
    held = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers()]}
    assert not held & {t.untyped_storage().data_ptr() for t in network.tensors.values()}


@pytest.mark.parametrize("name", ["resnet20", "vit_narrow", "gpt_tied"])
def test_taking_in_what_was_printed_gives_the_same_graph(name: str) -> None:
    _, example, network = taken_in(name)
    again = rlnas.from_module(network.module(), example)
    assert again.graph.key == network.graph.key


def test_examples_must_be_batches() -> None:
    with pytest.raises(GraphError, match=r"takes a torch.nn.Module, got int"):
        rlnas.from_module(3, torch.ones(1, 2))  # type: ignore[arg-type]
    for wrong in (torch.ones(3), torch.ones(0, 3), torch.ones(1, 3, dtype=torch.complex64), "x"):
        with pytest.raises(GraphError, match="the example input") as caught:
            rlnas.from_module(nn.Linear(3, 3), wrong)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(GraphError, match=r"0\.weight has no values yet; run the module once"):
        rlnas.from_module(nn.Sequential(nn.LazyLinear(3)), torch.ones(1, 3))
    with pytest.raises(
        GraphError, match=r"Linear fails on two samples of the example input: .*3x4 and 3x3|2x4 and 3x3"
    ):
        rlnas.from_module(nn.Linear(3, 3), torch.ones(3, 4))
