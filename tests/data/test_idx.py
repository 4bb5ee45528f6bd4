"""The idx reader, on whole and on broken files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.data.idx import parse_idx
from ckconv_sweep.errors import DamagedData

from .small_files import idx

PATH = Path("folder/images")
WHOLE = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(12))  # 2 of 2 x 3


def test_images_come_out_in_the_order_of_their_bytes():
    assert (parse_idx(WHOLE, PATH, (2, 3)) == np.arange(12).reshape(2, 2, 3)).all()


def test_labels_come_out_as_one_dimension():
    assert parse_idx(idx([3, 1, 4]), PATH, ()).tolist() == [3, 1, 4]


@pytest.mark.parametrize(
    ("content", "item_shape", "expected", "got"),
    [
        (b"", (2, 3), "00 00 08 03", "nothing"),
        (b"<html>", (2, 3), "00 00 08 03", "3c 68 74 6d"),
        (bytes([0, 0, 13, 3]) + WHOLE[4:], (2, 3), "00 00 08 03", "00 00 0d 03"),
        (WHOLE, (), "00 00 08 01", "00 00 08 03"),
        (WHOLE[:9], (2, 3), "16 bytes", "9 bytes"),
        (WHOLE, (28, 28), "(28, 28)", "(2, 3)"),
        (WHOLE[:-1], (2, 3), "28 bytes for 2 items", "27 bytes"),
        (WHOLE + b"\0", (2, 3), "28 bytes for 2 items", "29 bytes"),
    ],
    ids=["empty", "html", "floats", "labels", "short-header", "other-shape", "cut", "trailing"],
)
def test_a_broken_file_says_where_what_was_expected_and_what_was_read(
    content, item_shape, expected, got
):
    with pytest.raises(DamagedData) as error:
        parse_idx(content, PATH, item_shape)
    message = str(error.value)
    assert str(PATH) in message
    assert message.index(expected) < message.index(got, message.index("got"))


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: WHOLE[:16] + tail))
def test_any_other_bytes_are_refused_with_the_same_kind_of_error(content):
    try:
        array = parse_idx(content, PATH, (2, 3))
    except DamagedData:
        return
    assert len(content) == 16 + array.size
