"""Networks in from ordinary modules, and out as plain PyTorch."""

from rlnas.interchange.module import from_module
from rlnas.interchange.names import tidy
from rlnas.interchange.onnx import onnx_excuse, write_onnx
from rlnas.interchange.python import FORMATS, ONNX_FILE, Exported, export, replaced, write_model

__all__ = [
    "FORMATS",
    "ONNX_FILE",
    "Exported",
    "export",
    "from_module",
    "onnx_excuse",
    "replaced",
    "tidy",
    "write_model",
    "write_onnx",
]
