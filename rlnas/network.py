"""A graph together with its tensors: the only place where architecture and weights meet."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from rlnas.errors import GraphError, OperatorError
from rlnas.graph import Graph, Param, Site
from rlnas.templates import filled

GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "weights.safetensors"
WHOLE = {"count": torch.int64, "index": torch.int64, "mask": torch.bool}
TAKEN = frozenset(dir(nn.Module()))


@dataclass(frozen=True)
class Applied:
    """One operator that was applied.

    Attributes:
        site: Where and how much.
        exact: True if the operator keeps the function.
        compensated: True if an approximate operator was compensated by least squares.
        drift: Relative root-mean-square change of the outputs on the calibration inputs; None if not measured.
    """

    site: Site
    exact: bool
    compensated: bool = False
    drift: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "site": self.site.to_json(),
            "exact": self.exact,
            "compensated": self.compensated,
            "drift": self.drift,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Applied:
        """Inverse of `to_json`; raises KeyError, TypeError or OperatorError for anything else."""
        return cls(Site.from_json(data["site"]), data["exact"], data["compensated"], data["drift"])


@dataclass(frozen=True, eq=False)
class Network:
    """A graph and its tensors, as a value: nothing writes into it.

    Attributes:
        graph: The architecture.
        tensors: Parameters and buffers, named as in the module's ``state_dict`` (``"conv1.weight"``).
        history: Operators applied so far, oldest first.
        epochs: Passes over training data that made the weights, those before operators were applied included; None if
            nobody knows.

    Raises:
        GraphError: If a tensor is missing, left over or of the wrong shape or type, or a node's name is one of
            PyTorch's own.
    """

    graph: Graph
    tensors: Mapping[str, Tensor]
    history: tuple[Applied, ...] = ()
    epochs: float | None = None

    def __post_init__(self) -> None:
        for id in self.graph.shapes:
            if id in TAKEN:
                raise GraphError(f"no node may be called {id!r}: every PyTorch module has something of that name")
        wanted = tensor_specs(self.graph)
        for name, param in wanted.items():
            if name not in self.tensors:
                raise GraphError(f"the weights lack the tensor {name!r}")
            if tuple(self.tensors[name].shape) != param.shape:
                raise GraphError(f"tensor {name!r} has shape {tuple(self.tensors[name].shape)}, not {param.shape}")
            if not _suits(self.tensors[name], param):
                raise GraphError(f"tensor {name!r} holds {self.tensors[name].dtype}, which does not suit it")
        extra = sorted(set(self.tensors) - set(wanted))
        if extra:
            raise GraphError(f"the weights hold tensors that the graph has no node for: {', '.join(extra)}")
        object.__setattr__(self, "tensors", MappingProxyType({name: self.tensors[name] for name in wanted}))

    def __reduce__(self) -> tuple[Any, ...]:
        return Network, (self.graph, dict(self.tensors), self.history, self.epochs)

    @classmethod
    def initialize(cls, graph: Graph, *, generator: torch.Generator) -> Network:
        """Fresh weights: He initialization, zero biases.

        References:
            He et al., Delving Deep into Rectifiers, 2015, arXiv:1502.01852.
        """
        tensors = {n: fresh_tensor(p, generator=generator) for n, p in tensor_specs(graph).items()}
        return cls(graph, tensors, epochs=0.0)

    def module(self) -> nn.Module:
        """An ordinary module with its own copies of the tensors, in training mode."""
        return filled(self.graph, {name: tensor.detach().clone() for name, tensor in self.tensors.items()})

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Network:
        """The same architecture with other tensors, copied."""
        copies = {name: t.detach().clone() for name, t in tensors.items()}
        return Network(self.graph, copies, self.history, self.epochs)

    def to(self, dtype: torch.dtype) -> Network:
        """Floating-point tensors in another type; counters stay integers."""
        tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in self.tensors.items()}
        return Network(self.graph, tensors, self.history, self.epochs)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the tensors."""
        return next((t.dtype for t in self.tensors.values() if t.is_floating_point()), torch.float32)

    @cached_property
    def content_hash(self) -> str:
        """Hash of the graph, its node ids and every value: what names a start network."""
        digest = hashlib.blake2b(json.dumps(self.graph.to_json(), sort_keys=True).encode(), digest_size=12)
        for name, tensor in sorted(self.tensors.items()):
            digest.update(f"{name}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    # ------------------------------------------------------------------------------------------------------- files

    def to_bytes(self, *, places: Mapping[str, str] | None = None) -> bytes:
        """Safetensors with the graph and the history as metadata; holds no code.

        Args:
            places: Names that tensors have in the file; they may differ from their own by dots for underscores.
        """
        history = json.dumps([applied.to_json() for applied in self.history])
        metadata = {"graph": json.dumps(self.graph.to_json()), "history": history, "epochs": json.dumps(self.epochs)}
        named = {(places or {}).get(name, name): tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        return with_sorted_metadata(save_tensors(named, metadata))

    @classmethod
    def from_bytes(cls, data: bytes, *, graph: Graph | None = None) -> Network:
        """Inverse of `to_bytes`.

        Args:
            graph: The graph, for weights that come without one, such as those that an exported module saves after
                more training.

        Raises:
            GraphError: If the bytes are damaged, hold no graph, or do not fit the one given.
        """
        try:
            tensors = load_tensors(data)
            size = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
            found = graph or Graph.from_json(json.loads(metadata["graph"]))
            history = tuple(Applied.from_json(entry) for entry in json.loads(metadata.get("history", "[]")))
            known = json.loads(metadata.get("epochs", "null"))
            epochs = None if known is None else float(known)
        except (SafetensorError, ValueError, KeyError, TypeError, OperatorError) as error:
            raise GraphError(f"not a stored network ({error})") from None
        names = {name.replace(".", "_"): name for name in tensor_specs(found)}
        own = {n if n in names.values() else names.get(n.replace(".", "_"), n): t for n, t in tensors.items()}
        return cls(found, own, history, epochs)

    def save(self, folder: str | Path, *, places: Mapping[str, str] | None = None) -> None:
        """Write ``graph.json`` and ``weights.safetensors`` into a folder, made if need be.

        Args:
            places: As `to_bytes`.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / GRAPH_FILE).write_text(json.dumps(self.graph.to_json(), indent=1) + "\n")
        (path / WEIGHTS_FILE).write_bytes(self.to_bytes(places=places))

    @classmethod
    def load(cls, folder: str | Path) -> Network:
        """Read what `save` wrote.

        Raises:
            GraphError: If a file is missing or damaged, or the weights do not fit the graph.
        """
        path = Path(folder)
        try:
            graph = Graph.from_json(json.loads((path / GRAPH_FILE).read_text()))
            data = (path / WEIGHTS_FILE).read_bytes()
        except OSError as error:
            raise GraphError(f"no network in {path}: {error.strerror} ({error.filename})") from None
        except ValueError as error:
            raise GraphError(f"{path / GRAPH_FILE} is not JSON: {error}") from None
        return cls.from_bytes(data, graph=graph)


def with_sorted_metadata(data: bytes) -> bytes:
    """Safetensors whose metadata, which its writer puts in any order, are sorted: equal tensors give equal bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def tensor_specs(graph: Graph) -> dict[str, Param]:
    """Every tensor of a graph by its name in the ``state_dict``."""
    return {tensor_name(id, name): param for id in graph.order for name, param in graph.params(id).items()}


def _suits(tensor: Tensor, param: Param) -> bool:
    """True if a tensor holds the kind of values that it should."""
    wanted = WHOLE.get(param.init)
    return tensor.is_floating_point() if wanted is None else tensor.dtype == wanted


def tensor_name(id: str, name: str) -> str:
    """Name of a node's tensor in the ``state_dict``; that of a `parameter` has the node's own name."""
    return f"{id}.{name}" if name else id


def example_inputs(graph: Graph, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random inputs that a graph takes, shape (n, *input shape): normal values, or ids of tokens that it knows."""
    shape = (n, *graph.input_shape)
    if graph.input["dtype"] == "float32":
        return torch.randn(shape, generator=generator, dtype=dtype)
    known = [node["num_embeddings"] for node in graph.nodes if node.op == "embedding"]
    return torch.randint(0, min(known, default=2), shape, generator=generator)


def fresh_tensor(
    param: Param, *, generator: torch.Generator, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> Tensor:
    """A newly initialized tensor.

    Args:
        scale: Factor on the bound of random weights.
    """
    if param.init == "weight":
        bound = scale * math.sqrt(6.0 / param.fan_in)
        values = torch.rand(param.shape, generator=generator, dtype=torch.float64) * (2 * bound) - bound
        return values.to(dtype)
    if param.init in WHOLE:
        return torch.zeros(param.shape, dtype=WHOLE[param.init])
    return torch.full(param.shape, {"one": 1.0, "quarter": 0.25}.get(param.init, 0.0), dtype=dtype)


def load(folder: str | Path) -> Network:
    """Read a network from a folder such as a run's ``best/``.

    Raises:
        GraphError: If a file is missing or damaged, or the weights do not fit the graph.
    """
    return Network.load(folder)
