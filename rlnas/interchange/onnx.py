"""Write a network as an ONNX file, checked in ONNX Runtime against PyTorch."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import ExportError
from rlnas.network import Network, example_inputs

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT, AXIS = "input", "output", "batch"
BOUND = 1e-3
"""Largest difference allowed, relative to the largest output: far above float32 rounding, far below a wrong op."""
CHECKED = (1, 3)
"""Batch sizes that a file with a free batch axis is run with; neither is that of the export."""


def onnx_excuse() -> str | None:
    """Why no ONNX file can be written: what is not installed; None if all is there."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"ONNX needs {', '.join(missing)}, not installed here; install them with: pip install 'rlnas[onnx]'"


def write_onnx(network: Network, path: str | Path, *, batch: int | None = None) -> float:
    """Write ``path`` as a whole, after running it in ONNX Runtime and comparing with PyTorch.

    The file computes in float32, in eval mode, from ``input`` to ``output``.

    Args:
        batch: Samples that the file takes at once; None leaves the batch axis free.

    Returns:
        Largest difference from PyTorch's outputs on random inputs, relative to the largest output.

    Raises:
        ExportError: If a package is missing, the exporter does not know an op, or the outputs differ.
    """
    excuse = onnx_excuse()
    if excuse is not None:
        raise ExportError(excuse)
    if batch is not None and batch < 1:
        raise ExportError(f"a file for batches of {batch} cannot be; batch must be at least 1, or None for any")
    target = Path(path)
    module = network.to(torch.float32).module().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        written = _export(module, example_inputs(network.graph, batch or 2, generator=generator), free=batch is None)
        sizes = CHECKED if batch is None else (batch,)
        difference = max(
            _difference(module, example_inputs(network.graph, n, generator=generator), written) for n in sizes
        )
    if difference > BOUND:
        raise ExportError(
            f"the ONNX file is not written: its outputs differ from PyTorch's by {difference:.1e} of the largest one, "
            f"more than {BOUND:g}"
        )
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(written)
        partial.replace(target)
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror}") from None
    return difference


def _export(module: nn.Module, inputs: Tensor, *, free: bool) -> bytes:
    """The file's contents."""
    shapes: Any = ({0: torch.export.Dim(AXIS, min=1)},) if free else None
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (inputs,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        return bytes(program.model_proto.SerializeToString())
    except Exception as error:  # the exporter's own errors have no common class
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        raise ExportError(
            f"PyTorch's exporter cannot write this network as ONNX: {lines[0] if lines else type(cause).__name__}"
        ) from None


def _difference(module: nn.Module, inputs: Tensor, written: bytes) -> float:
    """Largest difference of the outputs, relative to the largest of them; what is NaN or infinite in both is equal."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run([OUTPUT], {INPUT: inputs.numpy()})[0])
    expected: Tensor = module(inputs)
    if found.shape != expected.shape:
        raise ExportError(f"the ONNX file gives outputs of shape {tuple(found.shape)}, PyTorch {tuple(expected.shape)}")
    if expected.dtype == torch.bool:
        return 0.0 if torch.equal(found, expected) else float("inf")
    odd = (found == expected) | (found.isnan() & expected.isnan())
    if not (odd | (found.isfinite() & expected.isfinite())).all():
        return float("inf")
    largest = expected[expected.isfinite()].abs().amax() if expected.isfinite().any() else torch.tensor(1.0)
    apart = torch.where(odd, 0.0, found - expected).abs().amax()
    return float(apart / largest.clamp_min(torch.finfo(torch.float32).tiny))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings, log lines and prints to itself."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
