"""The reader of `.ts` files, on whole and on broken ones."""

import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckconv_sweep.data.ts_format import measure_ts, padded, read_ts
from ckconv_sweep.errors import ConfigError, DamagedData

HEADER = """# A comment
@problemName Tiny
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true Up down
@data
"""
ROWS = "1,2,3:4,5,6:Up\n-1.5e0, ? :7,8:down\n"


@pytest.fixture
def write(tmp_path):
    def put(content):
        path = tmp_path / "Tiny_TRAIN.ts"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return put


def lists(content):
    return [x_ct.tolist() for x_ct in content.series]


def test_series_come_out_in_order_with_their_own_lengths_and_labels(write):
    content = read_ts(write(HEADER + ROWS))
    assert content.channels == 2
    assert content.classes == ("Up", "down")
    assert content.labels == ["Up", "down"]
    first, second = content.series
    assert first.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert second.tolist()[1] == [7, 8]
    assert second[0, 0] == -1.5
    assert math.isnan(second[0, 1])
    assert first.dtype == np.float32


def test_a_channel_shorter_than_others_is_continued_by_its_last_value(write):
    assert lists(read_ts(write(HEADER + "1,2,3:4:Up\n"))) == [[[1, 2, 3], [4, 4, 4]]]


def test_a_file_may_be_measured_without_its_values(write):
    shape = measure_ts(write(HEADER + ROWS))
    assert (shape.channels, shape.longest, shape.classes) == (2, 3, ("Up", "down"))


def test_series_are_not_looked_at_where_the_header_tells_the_length(write):
    header = HEADER.replace("@equalLength false", "@equalLength true\n@seriesLength 7")
    assert measure_ts(write(header + "nonsense")).longest == 7


def test_one_channel_needs_no_number_of_channels(write):
    header = HEADER.replace("@univariate false\n@dimensions 2", "@univariate true")
    assert lists(read_ts(write(header + "1,2:Up\n"))) == [[[1, 2]]]


def test_what_the_header_leaves_out_is_taken_from_the_first_series(write):
    path = write("@classLabel true a b\n@data\n1:2:3:a\n")
    assert read_ts(path).channels == measure_ts(path).channels == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("@dimensions", "@DIMENSIONS").replace("@equalL", "@equall"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("?", "NaN"),
        lambda text: text.replace("@missing true", "@somethingNew 7"),
    ],
    ids=["crlf", "bom", "case", "empty-lines", "no-last-newline", "nan", "unknown-key"],
)
def test_small_differences_between_files_do_not_matter(write, change):
    expected = read_ts(write(HEADER + ROWS))
    content = read_ts(write(change(HEADER + ROWS)))
    assert content.labels == expected.labels
    for one, other in zip(content.series, expected.series, strict=True):
        np.testing.assert_array_equal(one, other)


def changed(old, new):
    assert old in HEADER + ROWS
    return (HEADER + ROWS).replace(old, new)


BROKEN = {
    "empty": ("", 1, "ends before @data"),
    "html": ("<html>\n", 1, "@data expected before '<html>'"),
    "binary": (b"@problemName \xff\xfe\n", 1, "no text in UTF-8"),
    "no-data": (HEADER.replace("@data\n", ""), 8, "ends before @data"),
    "no-series": (HEADER, 9, "no series follows"),
    "no-classes": (changed("@classLabel true Up down\n", ""), 8, "no @classLabel"),
    "classes-false": (changed("true Up down", "false"), 8, "@classLabel true expected"),
    "class-twice": (changed("Up down", "Up down Up"), 8, "a class is listed twice"),
    "regression": (changed("@missing", "@targetLabel true\n@missing"), 4, "a number to predict"),
    "time-stamps": (changed("@timeStamps false", "@timeStamps true"), 3, "time stamps"),
    "time-stamps-unsaid": (changed("1,2,3:", "(0,1),(1,2):"), 10, "time stamps"),
    "dimensions-0": (changed("@dimensions 2", "@dimensions 0"), 6, "channels, or 0"),
    "dimensions-word": (changed("@dimensions 2", "@dimensions two"), 6, "cannot be read"),
    "dimensions-huge": (changed("@dimensions 2", "@dimensions " + "9" * 5000), 6, "cannot be read"),
    "dimensions-both": (changed("@univariate false", "@univariate true"), 6, "1 channels, or 2"),
    "fewer-channels": (changed("1,2,3:4,5,6:Up", "1,2,3:Up"), 10, "2 channels expected, got 1"),
    "more-channels": (changed("7,8:down", "7,8:9:down"), 11, "2 channels expected, got 3"),
    "other-length": (changed("@equalLength false", "@equalLength true\n@seriesLength 3"), 12, "3"),
    "other-class": (changed("7,8:down", "7,8:left"), 11, "'left' is no class"),
    "no-class": (changed("7,8:down", "7,8"), 11, "channels expected"),
    "only-class": (changed("1,2,3:4,5,6:Up", "Up"), 10, "no values"),
    "word": (changed("1,2,3", "1,two,3"), 10, "no number"),
    "underscore": (changed("1,2,3", "1,2_0,3"), 10, "no number"),
    "no-value": (changed("1,2,3", "1,,3"), 10, "no number"),
    "no-values": (changed("1,2,3", ""), 10, "no number"),
    "infinite": (changed("1,2,3", "1,inf,3"), 10, "infinite"),
    "too-large": (changed("1,2,3", "1,1e39,3"), 10, "too large for 32 bits"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_told_with_its_line(write, kind):
    content, line, message = BROKEN[kind]
    path = write(content)
    with pytest.raises(DamagedData, match=message) as error:
        read_ts(path)
    assert error.value.where == f"{path}:{line}"
    assert len(str(error.value)) < 400
    assert str(error.value).count("\n") == 1


def test_a_line_without_end_is_refused(write, monkeypatch):
    monkeypatch.setattr("ckconv_sweep.data.ts_format.MAX_LINE_BYTES", 1000)
    with pytest.raises(DamagedData, match="longer than 1000 bytes"):
        read_ts(write(HEADER + "1," * 1000))


def test_a_file_that_cannot_be_read_is_told_as_such(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ts(tmp_path / "none.ts")


def test_padding_continues_each_channel():
    assert padded(np.float32([[1, 2], [3, 4]]), 4).tolist() == [[1, 2, 2, 2], [3, 4, 4, 4]]


# HYPOTHESIS_EXAMPLES=5000 searches longer than `make test` has time for.
examples = settings(
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
values = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def some_series(draw):
    channels = draw(st.integers(1, 3))
    steps = draw(st.integers(1, 5))
    return draw(
        st.lists(
            st.lists(st.none() | values, min_size=steps, max_size=steps),
            min_size=channels,
            max_size=channels,
        )
    )


@given(series=some_series(), label=st.sampled_from(["Up", "down"]))
@examples
def test_what_is_written_is_read(write, series, label):
    dimensions = [",".join("?" if v is None else repr(v) for v in row) for row in series]
    header = HEADER.replace("@dimensions 2\n", "")
    content = read_ts(write(header + ":".join([*dimensions, label])))
    expected = [[math.nan if v is None else v for v in row] for row in series]
    np.testing.assert_array_equal(content.series[0], np.array(expected, dtype=np.float32))
    assert content.labels == [label]


words = st.sampled_from(
    [*HEADER.split(), "@seriesLength", "true", "2", "?", "1", "-2.5e3", "nan", "inf", "(", "#"]
)
SOUP = st.lists(words | st.sampled_from([" ", "\n", ",", ":"])).map("".join).map(str.encode)


@given(content=st.binary() | SOUP | SOUP.map(lambda tail: HEADER.encode() + tail))
@examples
def test_any_bytes_are_a_file_or_our_error(write, content):
    path = write(content)
    try:
        whole = read_ts(path)
    except DamagedData as error:
        assert error.where.startswith(f"{path}:")  # noqa: PT017
        return
    shape = measure_ts(path)
    assert (shape.channels, shape.classes) == (whole.channels, whole.classes)
    assert shape.longest == max(x_ct.shape[1] for x_ct in whole.series)
    assert all(x_ct.shape[0] == whole.channels for x_ct in whole.series)
    assert len(whole.labels) == len(whole.series) > 0
    assert set(whole.labels) <= set(whole.classes)
