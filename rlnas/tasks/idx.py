"""Reader of IDX files, the format of MNIST and its relatives, gzipped or plain.

A file is two zero bytes, a byte for the type (8: unsigned byte), a byte for the number of dimensions, each dimension as
a big-endian 32-bit number, and then the values, row-major.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import TaskError

MAX_EXAMPLES: Final = 1_000_000


def read_idx(path: Path, *, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Unsigned bytes of shape (N, *item_shape).

    Args:
        item_shape: Shape that one example must have: ``(28, 28)`` for images, ``()`` for labels.

    Raises:
        TaskError: If the file cannot be read, is damaged or cut short, or holds something else.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            return _read(cast(Any, file), path, item_shape)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TaskError(f"{path} is not a sound gzip file ({error}); get a new copy of it") from None
    except EOFError:
        raise TaskError(f"{path} is cut short: its gzip stream has no end; get a new copy of it") from None
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None


def _read(file: Any, path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    dimensions = 1 + len(item_shape)
    magic = bytes((0, 0, 8, dimensions))
    header = file.read(4 + 4 * dimensions)
    if header[:4] != magic:
        raise TaskError(
            f"{path} is not the IDX file expected: it begins with {header[:4].hex() or 'nothing'}, "
            f"not {magic.hex()} (unsigned bytes, {dimensions} dimensions)"
        )
    if len(header) < 4 + 4 * dimensions:
        raise TaskError(f"{path} is cut short in its header; get a new copy of it")
    count, *shape = struct.unpack(f">{dimensions}I", header[4:])
    if tuple(shape) != item_shape:
        found, wanted = ("x".join(map(str, dims)) for dims in (shape, item_shape))
        raise TaskError(f"{path} holds images of {found} pixels; expected {wanted}")
    if not 0 < count <= MAX_EXAMPLES:
        raise TaskError(f"{path} claims to hold {count} examples; expected 1 to {MAX_EXAMPLES}")
    size = count * int(np.prod(item_shape, dtype=np.int64))
    body = file.read(size)
    if len(body) != size:
        raise TaskError(f"{path} is cut short: {len(body)} of {size} bytes are there; get a new copy of it")
    if file.read(1):
        raise TaskError(f"{path} is damaged: it goes on after the {count} examples that its header announces")
    return np.frombuffer(body, dtype=np.uint8).reshape(count, *item_shape)
