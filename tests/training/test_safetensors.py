"""The published format, byte for byte; and nothing else is read."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
import torch

from ckconv_sweep.errors import DamagedData
from ckconv_sweep.training.safetensors import DTYPES, read, written


def file_of(header: dict[str, Any] | bytes, values: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_file_as_the_published_format_describes_it_is_read() -> None:
    values = struct.pack("<2f", 1.5, -2.0) + struct.pack("<q", -7) + b"\x01\x00"
    header = {
        "__metadata__": {"format": "pt"},
        "second": entry("I64", [], 8, 16),
        "first": entry("F32", [2, 1], 0, 8),
        "third": entry("BOOL", [2], 16, 18),
        "none": entry("F16", [0, 4], 18, 18),
    }
    padded = json.dumps(header).encode() + b"   "
    tensors, metadata = read(file_of(padded, values), "a")
    assert metadata == {"format": "pt"}
    assert tensors["first"].tolist() == [[1.5], [-2.0]]
    assert tensors["second"].item() == -7
    assert tensors["third"].tolist() == [True, False]
    assert tensors["none"].shape == (0, 4)


def test_what_is_written_keeps_to_the_published_format() -> None:
    given = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[3.0]], dtype=torch.float64)}
    content = written(given, {"format": "pt"})
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    assert (8 + size) % 8 == 0
    assert content[8:9] == b"{"
    assert header == {
        "__metadata__": {"format": "pt"},
        "a": entry("F64", [1, 1], 0, 8),
        "b": entry("F32", [2], 8, 16),
    }
    assert content[8 + size :] == struct.pack("<d", 3.0) + struct.pack("<2f", 1.0, 2.0)
    assert written(dict(reversed(given.items())), {"format": "pt"}) == content


@pytest.mark.parametrize("name", DTYPES)
def test_every_type_comes_back_to_the_last_bit(name: str) -> None:
    bits = torch.randint(0, 2, (3, 16), generator=torch.Generator().manual_seed(0))
    given = bits[:, ::3].to(DTYPES[name])  # not contiguous
    (found,) = read(written({"x": given}, {}), "a")[0].values()
    assert found.dtype == given.dtype
    assert torch.equal(found, given)
    scalar = read(written({"x": given[0, 0]}, {}), "a")[0]["x"]
    assert scalar.shape == ()


FINE = {"a": entry("F32", [2], 0, 8), "b": entry("F32", [1], 8, 12)}
WRONG: dict[str, bytes] = {
    "a hole": file_of({**FINE, "b": entry("F32", [1], 12, 16)}, bytes(16)),
    "an overlap": file_of({**FINE, "b": entry("F32", [1], 4, 8)}, bytes(12)),
    "more values": file_of(FINE, bytes(13)),
    "fewer values": file_of(FINE, bytes(11)),
    "a shape of other values": file_of({"a": entry("F32", [3], 0, 8)}, bytes(8)),
    "a huge shape": file_of({"a": entry("F32", [2**40, 2**40], 0, 8)}, bytes(8)),
    "a huge empty shape": file_of({"a": entry("F32", [2**47, 2**47, 0], 0, 0)}, b""),
    "a negative size": file_of({"a": entry("F32", [-2, -1], 0, 8)}, bytes(8)),
    "a size that is true": file_of({"a": entry("F32", [True], 0, 4)}, bytes(4)),
    "an unknown type": file_of({"a": entry("F8_E4M3", [8], 0, 8)}, bytes(8)),
    "a list": file_of(b'["a"]', b""),
    "a name twice": file_of(
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        bytes(1),
    ),
    "other metadata": file_of({"__metadata__": {"a": 1}}, b""),
    "no text": file_of(b"{\xff}", b""),
    "deep": file_of(b'{"a":' + b"[" * 200_000, b""),
    "a header without an end": struct.pack("<Q", 2**63) + b"{}",
    "a pickle": b"\x80\x04" + bytes(30),
    "nothing": b"",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_wrong_is_refused(what: str) -> None:
    with pytest.raises(DamagedData) as error:
        read(WRONG[what], "m.safetensors")
    assert error.value.where == "m.safetensors"


def test_a_file_that_is_cut_anywhere_is_refused() -> None:
    content = written({"x": torch.ones(3), "y": torch.zeros(2, 2)}, {"format": "pt"})
    read(content, "a")
    for end in range(len(content)):
        with pytest.raises(DamagedData):
            read(content[:end], "a")
