"""``rlnas show``, and the networks that commands can be given."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import rlnas
from rlnas.cli.show import site_words
from rlnas.network import Network
from rlnas.operators import OPERATORS
from tests.cli.inside import IMAGE, Inside
from tests.nets import NETS


def saved(name: str = "mobilenet", folder: str = "net") -> Network:
    network = Network.initialize(NETS[name](), generator=torch.Generator().manual_seed(0))
    network.save(folder)
    return network


def test_table(inside: Inside) -> None:
    network = saved()
    lines = inside("show", "net").splitlines()
    assert lines[0].split() == ["layer", "what", "reads", "output", "parameters", "MACs"]
    graph = network.graph
    rows = {line.split()[0]: line for line in lines[2:] if line}
    assert set(graph.shapes) <= set(rows)
    depthwise = next(n.id for n in graph.nodes if n.op == "conv2d" and n["groups"] == 48)
    assert "3x3 depthwise conv 48" in rows[depthwise] and f"{graph.node_costs[depthwise][1]:,}" in rows[depthwise]
    assert f"{graph.n_params:,} parameters" in "\n".join(lines) and "3x32x32 -> 10" in "\n".join(lines)
    blocks = [line for line in lines if line.startswith(("stem", "stage", "head"))]
    shares = [float(line.split("%")[0].split()[-1]) for line in blocks]
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares))


def test_history(inside: Inside) -> None:
    inside("apply", "net.py:Net", *IMAGE, "widen", "first", "--to", "a")
    inside("apply", "a", "prune_channels", "second", "--amount", "0.5", "--calibration", "digits", "--to", "b")
    lines = inside("show", "b").splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]
    assert "widen(first, " in lines[-2] and "exact" in lines[-2]
    assert "prune_channels(second, 0.5)" in lines[-1] and "compensated, drift " in lines[-1]


def test_sites_can_be_pasted_into_apply(inside: Inside) -> None:
    graph = saved().graph
    lines = inside("show", "net", "--sites").splitlines()
    sites = [site for operator in OPERATORS.values() for site in operator.sites(graph)]
    assert len(lines) == len(sites) + 4 and lines[-1].startswith(f"{len(sites)} sites")
    assert all(line.startswith(site_words(site)) for line, site in zip(lines[2:], sites, strict=False))
    chosen = [next(k for k, site in enumerate(sites) if site.operator == name) for name in ("widen", "add_skip")]
    for k in chosen:
        words = shlex.split(lines[2 + k].split("  ")[0])
        done = inside("apply", "net", *words, "--to", f"edited{k}")
        assert str(sites[k]) in done
        cost = OPERATORS[sites[k].operator].edit(graph, sites[k]).cost_delta
        assert f"{cost.n_params:+,}" in lines[2 + k] and f"{cost.macs:+,}" in lines[2 + k]
        assert rlnas.load(f"edited{k}").graph.n_params == graph.n_params + cost.n_params


def test_sites_of_one_operator(inside: Inside) -> None:
    saved()
    assert {line.split()[0] for line in inside("show", "net", "--sites", "deepen").splitlines()[2:-2]} == {"deepen"}
    assert inside("show", "net", "--sites", "add_heads") == "no place for add_heads\n"
    assert "'deepn'. Did you mean 'deepen'" in inside.fails("show", "net", "--sites", "deepn")


@pytest.mark.parametrize("name", ["net.svg", "net.png"])
def test_drawing_is_written_once(inside: Inside, name: str) -> None:
    saved()
    assert inside("show", "net", "--draw", name) == f"drawn: {name}\n"
    before = Path(name).read_bytes()
    assert f"{name} exists already; --force" in inside.fails("show", "net.py:Net", *IMAGE, "--draw", name)
    assert Path(name).read_bytes() == before
    inside("show", "net.py:Net", *IMAGE, "--draw", name, "--force")
    assert Path(name).read_bytes() != before


def test_help(inside: Inside) -> None:
    for command in ("show", "apply", "export"):
        text = inside(command, "--help")
        assert text.startswith(f"usage: rlnas {command}") and "--input" in text
        assert command in inside("--help")


def test_a_run_is_its_best_network(inside: Inside) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text("seed: 0\n")
    assert "the run run has no best network yet" in inside.fails("show", "run", "--sites")
    saved("vgg", "run/best")
    assert inside("show", "run", "--sites") == inside("show", "run/best", "--sites")
    assert "no evaluations yet" in inside("show", "run")


# ------------------------------------------------------------------------------------------------ modules of one's own


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("net.py:Net", *IMAGE), "linear 4 -> 10"),
        (("net.py:Net(3, width=6)", *IMAGE), "linear 6 -> 3"),
        (("net:make(5)", "--input=2,1,8,8"), "linear 5 -> 10"),
        (("net.py:ready", *IMAGE), "linear 4 -> 3"),
        (("net.py:Tokens", "--input=1,5:int64"), "embedding of 7 ids -> 4"),
    ],
)
def test_modules(inside: Inside, words: tuple[str, ...], expected: str) -> None:
    assert expected in inside("show", *words)


def test_weights(inside: Inside) -> None:
    torch.manual_seed(3)
    inside("export", "net.py:Net", *IMAGE, "--formats", "graph,safetensors", "--to", "fresh")
    module = rlnas.load("fresh").module()
    state = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in module.state_dict().items()}
    state = {name.replace("conv1", "first"): tensor for name, tensor in own_names(state).items()}
    save_file(state, "w.safetensors")
    torch.save(state, "w.pt")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "w.ckpt")
    found = []
    for name in ("w.safetensors", "w.pt", "w.ckpt"):
        inside(
            "export", "net.py:Net", *IMAGE, "--weights", name, "--formats", "graph,safetensors", "--to", f"to_{name}"
        )
        network = rlnas.load(f"to_{name}")
        found.append(next(t for n, t in network.tensors.items() if t.shape == (4, 1, 3, 3)))
    assert all(torch.equal(tensor, state["first.weight"]) for tensor in found)


def own_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names that the person's module has, in its order."""
    names = [name for name, _ in Named().state_dict().items()]
    return dict(zip(names, state.values(), strict=True))


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 10)


def test_fresh_weights_are_the_same_every_time(inside: Inside) -> None:
    for folder in ("a", "b"):
        inside("export", "net.py:Net", *IMAGE, "--formats", "graph,safetensors", "--to", folder)
    assert rlnas.load("a").content_hash == rlnas.load("b").content_hash


def test_a_files_code_is_not_run_by_its_weights(inside: Inside) -> None:
    torch.save(nn.Linear(2, 2), "whole.pt")
    line = inside.fails("show", "net.py:Net", *IMAGE, "--weights", "whole.pt")
    assert "code, which is not run" in line and "state_dict" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("net.py:Net",), ["--input 1,3,32,32"]),
        (("net.py:Net", "--input=8,8"), ["Net fails on two samples of the example input", "[2, 8]"]),
        (("net.py:Net", "--input=1,x"), ["--input=1,x is not a shape"]),
        (("net.py:Net", "--input=8"), ["batch first"]),
        (("net.py:Net", "--input=1,1,8,8:int7"), ["is not a shape"]),
        (("net.py:Net", "--input=1,2,8,8"), ["Net fails on two samples of the example input", "2 channels"]),
        (("net.py:Nett", *IMAGE), ["net.py has no Nett; did you mean Net?"]),
        (("net.py:Quite", *IMAGE), ["net.py has no Quite; it has Net, Tokens"]),
        (("net.py:number", *IMAGE), ["is a int; name a class"]),
        (("net.py:Net(width=-1)", *IMAGE), ["cannot make net.py:Net(width=-1)", "net.py:9"]),
        (("net.py:Net(wdth=1)", *IMAGE), ["wdth"]),
        (("net.py:Net(other)", *IMAGE), ["plain values"]),
        (("net.py:make", *IMAGE), ["make() missing 1 required"]),
        (("nat.py:Net", *IMAGE), ["there is no file nat.py"]),
        (("nat:Net", *IMAGE), ["cannot import nat: ModuleNotFoundError"]),
        (("net.py",), ["name the class in it too", "net.py:Tokens"]),
        (("nat",), ["there is no nat"]),
        (("missing",), ["there is no missing; name a run, or a folder that holds graph.json"]),
        (("nets",), ["there is no nets; did you mean", "net"]),
        (("empty",), ["no network in empty", "graph.json"]),
        (("net", "--input=1,1,8,8"), ["--input is for a module"]),
        (("net", "--weights=w.pt"), ["--weights is for a module"]),
        (("w.pt",), ["holds weights only", "--weights w.pt"]),
        (("net.onnx",), ["ONNX files are written, not read"]),
        (("net.py:Net", *IMAGE, "--weights=no.pt"), ["there is no file no.pt"]),
        (("net.py:Net", *IMAGE, "--weights=net.py"), ["net.py holds other things than tensors"]),
        (("net.py:Net", *IMAGE, "--weights=w.pt"), ["do not fit", "it lacks first.weight, first.bias", "and 7 more"]),
        (("net.py:Net", *IMAGE, "--weights=thin.pt"), ["do not fit", "size mismatch for first.weight"]),
        (("net", "--draw=net.pdf"), [".svg or .png"]),
        (("net", "--draw=nowhere/net.svg"), ["cannot write nowhere/net.svg"]),
        (("net", "--darw=net.svg"), ["did you mean --draw?"]),
        ((), ["NETWORK"]),
    ],
)
def test_mistakes(inside: Inside, words: tuple[str, ...], expected: list[str]) -> None:
    saved()
    Path("empty").mkdir()
    torch.save({"other": torch.ones(1)}, "w.pt")
    torch.save({n: t[:2] if t.dim() else t for n, t in Named().state_dict().items()}, "thin.pt")
    line = inside.fails("show", *words)
    for word in expected:
        assert word in line, line


def test_broken_files(inside: Inside) -> None:
    Path("broken.py").write_text("class Net(:\n")
    line = inside.fails("show", "broken.py:Net", *IMAGE)
    assert "cannot import broken.py: SyntaxError" in line and "broken.py:1" in line
    Path("raises.py").write_text("import torch\nraise ValueError('not\\ntoday')\n")
    assert "ValueError: not today" in inside.fails("show", "raises.py:Net", *IMAGE)
    Path("two.py").write_text(
        "from torch import nn\nclass Two(nn.Module):\n    def forward(self, x):\n        return x, x\n"
    )
    fails = "def forward(self, x):\n        raise ValueError('one\\ntwo')\n"
    Path("lines.py").write_text(f"from torch import nn\nclass Lines(nn.Module):\n    {fails}")
    assert "one two" in inside.fails("show", "lines.py:Lines", *IMAGE)
    assert "gives a tuple" in inside.fails("show", "two.py:Two", *IMAGE)
