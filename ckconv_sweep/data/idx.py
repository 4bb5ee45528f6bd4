"""The idx format of MNIST's files: bytes in, an array of unsigned bytes out.

Two zero bytes, a byte for the type (0x08: unsigned byte), a byte for the number of dimensions, each
dimension as a big-endian 32-bit number, then the values row by row, and nothing after them.
Source: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/, "File formats".
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.errors import DamagedData

UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an idx file's content.

    Args:
        content: the whole file, unpacked.
        path: where it was read, for messages.
        item_shape: what one item must be: `(28, 28)` for an image, `()` for a label.

    Returns:
        `(N, *item_shape)`, read-only: a view of `content`.

    Raises:
        DamagedData: the content is something else, shorter or longer.
    """
    dimensions = 1 + len(item_shape)
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise _damaged(path, f"the first bytes {magic.hex(' ')}", content[:4].hex(" ") or "nothing")
    header_bytes = 4 + 4 * dimensions
    if len(content) < header_bytes:
        raise _damaged(path, f"a header of {header_bytes} bytes", f"{len(content)} bytes in all")
    shape = struct.unpack(f">{dimensions}I", content[4:header_bytes])
    if shape[1:] != item_shape:
        raise _damaged(path, f"items of shape {item_shape}", f"shape {shape[1:]}")
    expected_bytes = header_bytes + math.prod(shape)
    if len(content) != expected_bytes:
        raise _damaged(
            path, f"{expected_bytes} bytes for {shape[0]} items", f"{len(content)} bytes"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header_bytes).reshape(shape)


def _damaged(path: Path, expected: str, got: str) -> DamagedData:
    return DamagedData(f"not a valid idx file: expected {expected}, got {got}", where=str(path))
