"""Tensors as a safetensors file, and back: nothing in it is run, and all is checked before it is
read.

Format (github.com/huggingface/safetensors, "Format"): 8 bytes, the size N of the header as an
unsigned little-endian number; N bytes of JSON, `{name: {"dtype", "shape", "data_offsets": [begin,
end]}}`, which begin with `{` and may end with spaces; then the values, little-endian, in C order,
without holes. `__metadata__` is an object of texts. The library itself is not needed: it would be
one more compiled dependency for these lines.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ckconv_sweep.errors import DamagedData

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_METADATA = "__metadata__"
MAX_HEADER_BYTES = 100_000_000
"""As in the reference implementation."""


def written(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a file. Large types come first and names are sorted, as in the reference
    implementation, so that each tensor is aligned."""
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    values, at = list[bytes](), 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):
        tensor = tensors[name].detach().cpu().contiguous()
        content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(content)],
        }
        at += len(content)
        values.append(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(values)


def read(content: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a file's content.

    Args:
        where: the file's name, for messages.

    Raises:
        DamagedData: it is cut short, or no such file.
    """
    header, values = _parts(content, where)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged("its metadata are not texts by name", where)
    places = sorted((_place(name, entry, where), name) for name, entry in header.items())
    end = 0
    for (begin, after), name in places:
        if begin != end:
            raise _damaged(f"the values of {name!r} do not follow those before them", where)
        end = after
    if end != len(values):
        raise _damaged(f"{end:,} bytes of values expected, got {len(values):,}", where)
    tensors = {
        name: _tensor(name, header[name], values[begin:after], where)
        for (begin, after), name in places
    }
    return tensors, metadata


def _tensor(name: str, entry: Mapping[str, Any], values: memoryview, where: str) -> Tensor:
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    try:
        if not values:  # which `frombuffer` refuses
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(values), dtype=dtype).reshape(shape)
    except RuntimeError:  # sizes whose product is beyond any number, beside a 0
        raise _damaged(f"{name!r} has a shape that no tensor can have", where) from None


def _parts(content: bytes, where: str) -> tuple[dict[str, Any], memoryview]:
    if len(content) < 8:
        raise _damaged("it is cut short", where)
    (size,) = struct.unpack("<Q", content[:8])
    if size > MAX_HEADER_BYTES or content[8:9] != b"{":
        raise _damaged("its header does not begin as one", where)
    if 8 + size > len(content):
        raise _damaged("it is cut short: its header does not end", where)
    try:
        header = json.loads(content[8 : 8 + size], object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise _damaged(f"its header cannot be read: {error}", where) from None
    return header, memoryview(content)[8 + size :]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _place(name: str, entry: Any, where: str) -> tuple[int, int]:
    """Where the values of a tensor begin and end."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            if len(entry) == 3 and dtype in DTYPES and all(_is_size(n) for n in shape):
                if end - begin == math.prod(shape) * DTYPES[dtype].itemsize and begin >= 0:
                    return begin, end
                raise _damaged(f"{name!r} has other bytes than its shape needs", where)
    raise _damaged(f"the header's entry of {name!r} cannot be read", where)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _damaged(what: str, where: str) -> DamagedData:
    return DamagedData(
        f"no whole safetensors file: {what}", where=where, hint="promote it again, or copy it again"
    )
