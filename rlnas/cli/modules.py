"""A person's own module, named on the command line: ``net.py:Net``, ``package.module:factory(10, width=64)``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pickle
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rlnas.errors import ConfigError
from rlnas.importing import attribute, reach, told
from rlnas.interchange import from_module
from rlnas.network import Network

SPECIFICATION = re.compile(r"(?P<place>[^:]+):(?P<name>[A-Za-z_][\w.]*)(?P<arguments>\(.*\))?")
NESTED = ("state_dict", "model_state_dict", "model")
"""Keys under which checkpoints keep a state_dict."""
TYPES = {"float32": torch.float32, "int64": torch.int64}


def is_specification(text: str) -> bool:
    """True for what `read_module` reads."""
    return SPECIFICATION.fullmatch(text) is not None


def read_module(text: str, *, shape: str | None, weights: str | None, opaque: bool, seed: int = 0) -> Network:
    """Make the module, load its weights and take it in. This runs the code that it names.

    Args:
        text: ``file.py:Name`` or ``package.module:Name``, perhaps with arguments in brackets. The name is that of a
            class, of a function that returns a module, or of a module.
        shape: Shape of an input with its batch axis, ``1,3,32,32``; ``1,16:int64`` for ids of tokens.
        weights: File of a ``state_dict``: safetensors, or what ``torch.save`` wrote.
        opaque: Keep operations that are not known as black boxes.
        seed: Of the module's own initial weights.

    Raises:
        ConfigError: If there is no such module, it cannot be made, or the weights do not fit.
        GraphError: If it cannot be taken in.
    """
    if shape is None:
        raise ConfigError(f"{text} is a module: give the shape of a batch of its inputs, such as --input 1,3,32,32")
    example = example_input(shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _made(text)
    if weights is not None:
        load_weights(module, weights)
    module.requires_grad_(False)
    return from_module(module, example, opaque=opaque)


def example_input(text: str) -> Tensor:
    """Random inputs of a shape: ``1,3,32,32``, or ``1,16:int64`` for ids, which are 0 and 1.

    Raises:
        ConfigError: If the text is not a shape.
    """
    sizes, _, kind = text.partition(":")
    if re.fullmatch(r"\s*\d+(\s*[,x]\s*\d+)*\s*", sizes) is None or (kind or "float32") not in TYPES:
        raise ConfigError(f"--input={text} is not a shape; write it as 1,3,32,32, or as 1,16:int64 for ids of tokens")
    shape = [int(size) for size in re.split("[,x]", sizes)]
    if len(shape) < 2 or 0 in shape:
        raise ConfigError(f"--input={text} should have the batch first and no size of 0, as in 1,3,32,32")
    generator = torch.Generator().manual_seed(0)
    if kind == "int64":
        return torch.randint(0, 2, shape, generator=generator)
    return torch.randn(shape, generator=generator)


# ------------------------------------------------------------------------------------------------------------ modules


def _made(text: str) -> nn.Module:
    match = SPECIFICATION.fullmatch(text)
    assert match is not None
    namespace = _imported(match["place"])
    found = attribute(namespace, match["place"], match["name"], wanted=_is_module_class)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise ConfigError(f"{text} is a {type(found).__name__}; name a class, or a function that returns a module")
    positional, named = _arguments(match["arguments"] or "()", text)
    try:
        module = found(*positional, **named)
    except Exception as error:
        raise ConfigError(f"cannot make {text}: {told(error)}") from None
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{text} gives a {type(module).__name__}, not a torch.nn.Module")
    return module


def _is_module_class(value: Any, home: str) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == home


def _imported(place: str) -> Any:
    """The Python module at a path, or of a dotted name that can be found from here."""
    path = Path(place)
    is_file = path.suffix == ".py" or "/" in place
    if is_file and not path.is_file():
        raise ConfigError(f"there is no file {place}")
    reach(path.parent.resolve() if is_file else Path.cwd())
    try:
        if not is_file:
            return importlib.import_module(place)
        name = path.stem if path.stem not in sys.modules else f"_{path.stem}_file"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ConfigError(f"{place} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"cannot import {place}: {told(error)}") from None


def _arguments(text: str, whole: str) -> tuple[list[Any], dict[str, Any]]:
    """What stands in the brackets: numbers, strings, lists and the like."""
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        assert isinstance(call, ast.Call)
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
        if len(named) < len(call.keywords):
            raise ValueError
        return [ast.literal_eval(argument) for argument in call.args], named
    except (SyntaxError, ValueError, AssertionError):
        raise ConfigError(f"{whole}: the arguments should be plain values, as in net.py:Net(10, width=64)") from None


# ------------------------------------------------------------------------------------------------------------ weights


def load_weights(module: nn.Module, file: str) -> None:
    """Read a ``state_dict`` into a module; no code in the file is run.

    Raises:
        ConfigError: If the file cannot be read, or does not fit.
    """
    state = _without_wrapper(_state(Path(file)), module)
    try:
        missing, extra = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise ConfigError(f"the weights in {file} do not fit: {lines[0] if lines else error}") from None
    if missing or extra:
        told = [f"it lacks {_some(missing)}"] * bool(missing) + [f"it has {_some(extra)} too"] * bool(extra)
        raise ConfigError(f"the weights in {file} do not fit: {'; '.join(told)}")


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path} holds other things than tensors, or code, which is not run; "
            "save the state_dict alone: torch.save(module.state_dict(), file)"
        ) from None
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {told(error)}") from None
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"{path} holds no state_dict, but a {type(found).__name__} of other things")
    return dict(found)


def _without_wrapper(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Names without the ``module.`` or ``_orig_mod.`` that wrappers put before all of them."""
    own = module.state_dict().keys()
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) for name in state) and not any(n.startswith(prefix) for n in own):
            return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
