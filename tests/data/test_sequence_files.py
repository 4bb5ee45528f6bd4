"""Files that a user brings: every format gives the same sequences, and none that is broken gives
any."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from ckconv_sweep.config.data import DigitsData
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.given import of_file
from ckconv_sweep.data.preparation import as_it_is
from ckconv_sweep.data.sequence_files import SequenceFile, read_sequences
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData

X = np.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[7.0, 8.0, 9.0], [0.5, np.nan, -1.0]]])
LABELS = ["b", "a"]
TS = "@dimensions 2\n@classLabel true a b\n@data\n1,2,3:4,5,6:b\n7,8,9:0.5,?,-1:a\n"
LONG = """sequence,x,y,target
first,1,4,b
first,2,5,b
first,3,6,b
second,7,0.5,a
second,8,,a
second,9,-1,a
"""


def written(folder, name, content):
    path = folder / name
    match content:
        case str():
            path.write_text(content)
        case dict():
            np.savez(path, **content)
        case _:
            np.save(path, content)
    return path


FILES = {
    "x.npy": X,
    "x.npz": {"X": X, "y": np.array(LABELS)},
    "x.csv": LONG,
    "x.ts": TS,
    "no_class.ts": "@dimensions 2\n@classLabel false\n@data\n1,2,3:4,5,6\n7,8,9:0.5,?,-1\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_holds_the_same_sequences(name, tmp_path):
    found = read_sequences(written(tmp_path, name, FILES[name]))
    for series, expected in zip(found.series, X, strict=True):
        np.testing.assert_array_equal(series, expected)
    labels = None if found.targets is None else list(found.targets)
    assert labels == (None if name in ("x.npy", "no_class.ts") else LABELS)


def test_a_sequence_of_one_channel_is_one_line(tmp_path):
    path = written(tmp_path, "x.csv", "t0,t1,target,t2\n1,2,a,3\n4,,b,6\n")
    found = read_sequences(path)
    np.testing.assert_array_equal(np.stack(found.series), [[[1, 2, 3]], [[4, np.nan, 6]]])
    assert found.targets == ["a", "b"]
    flat = read_sequences(written(tmp_path, "x.npy", np.ones((4, 7))))
    assert [one.shape for one in flat.series] == [(1, 7)] * 4


def test_lengths_and_times_cut_what_is_beyond_the_end(tmp_path):
    arrays = {"X": X, "lengths": np.array([3, 1]), "times": np.array([[0, 1, 5], [2, 3, 4.0]])}
    found = read_sequences(written(tmp_path, "x.npz", arrays))
    assert [one.shape for one in found.series] == [(2, 3), (2, 1)]
    assert [row.tolist() for row in found.times] == [[0, 1, 5], [2]]
    timed = LONG.replace("target", "time").replace(",b", ",0").replace(",a", ",1")
    assert [list(row) for row in read_sequences(written(tmp_path, "t.csv", timed)).times] == [
        [0, 0, 0],
        [1, 1, 1],
    ]


BROKEN = {
    "text.txt": ("hello", "are read from"),
    "x.npy": ("no array", "no array can be read"),
    "x.npz": ("no zip", "no arrays can be read"),
    "empty.csv": ("", "name each column once"),
    "twice.csv": ("a,a\n1,2\n", "name each column once"),
    "short.csv": ("a,b\n1\n", "short.csv:2: 2 columns expected, got 1"),
    "word.csv": ("a,b\n1,two\n", "'two' is no number"),
    "ten.csv": ("a\n1_0\n", "'1_0' is no number"),
    "none.csv": ("a,b\n", "holds no sequence"),
    "apart.csv": ("sequence,x\na,1\nb,2\na,3\n", "must stand together"),
    "x.ts": ("@data\n", "no series follows"),
    "four.npy": (np.zeros((2, 2, 2, 2)), "(sequences, channels, steps)"),
    "words.npy": (np.array([["a"]]), "real numbers"),
    "objects.npy": (np.array([[None]], dtype=object), "no array can be read"),
    "other.npz": ({"Y": X}, "needs an array X"),
    "lengths.npz": ({"X": X, "lengths": np.array([4, 1])}, "from 1 to 3"),
    "times.npz": ({"X": X, "times": np.zeros((2, 2))}, "times must have the shape"),
    "labels.npz": ({"X": X, "y": np.zeros(3)}, "2 sequences and 3 targets"),
    "one_label.npz": (
        {"X": X, "y": 3},
        "(sequences,) or (sequences, steps), got ()",
    ),
    "one_time.npz": ({"X": X, "times": 3.0}, "times must have the shape (sequences, steps)"),
    "one_length.npz": ({"X": X, "lengths": 3}, "lengths must have the shape (sequences,)"),
    "one_value.npz": ({"X": 3.0}, "must have the shape (sequences, channels, steps)"),
    "bytes.npz": ({"X": X, "y": np.array([b"a", b"b"])}, "y must hold numbers or names"),
    "steps.csv": ("sequence,x,target\na,1,0\na,2,1\na,3,one\n", "steps.csv:4: 'one' is no number"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_told_with_its_place(name, tmp_path):
    content, said = BROKEN[name]
    path = written(tmp_path, name, content)
    with pytest.raises((ConfigError, DamagedData)) as error:
        read_sequences(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["X", "y", "lengths", "times"])
def test_a_member_of_an_archive_that_is_no_array_is_told(name, tmp_path):
    path = written(tmp_path, "x.npz", {"X": X} if name != "X" else {"Y": X})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", b"not an array")
    with pytest.raises(DamagedData, match="no array"):
        read_sequences(path)


def test_targets_of_steps_that_are_alike_in_each_sequence_serve_both_kinds_of_task(tmp_path):
    path = written(tmp_path, "x.csv", "sequence,x,target\na,1,0\na,2,0\nb,3,1\nb,4,1\n")
    file = read_sequences(path)
    for kind, expected in {"classification": [0, 1], "per_step": [[0, 0], [1, 1]]}.items():
        found = of_file(file, "x.csv", as_it_is(1, 2), kind, ("0", "1"))
        assert found.groups[0].split.targets.tolist() == expected
    assert read_sequences(written(tmp_path, "names.csv", LONG)).of_steps is None


def test_no_file_and_a_folder_are_told(tmp_path):
    for path in (tmp_path / "none.npy", tmp_path):
        with pytest.raises(ConfigError):
            read_sequences(path.with_suffix(".npy") if path == tmp_path else path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.ts", "x.csv"])
def test_a_file_that_is_cut_anywhere_is_no_traceback(name, tmp_path):
    content = written(tmp_path, name, FILES[name]).read_bytes()
    path = tmp_path / f"cut{name[1:]}"
    for end in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:end])
        try:
            found = read_sequences(path)
        except CkconvSweepError:
            continue
        assert name in ("x.csv", "x.ts")  # a text may be shorter and whole
        assert len(found.series) <= len(X)


def given(series, targets, kind="classification", classes=("a", "b")):
    file = SequenceFile(series, targets)
    return of_file(file, "x.npy", as_it_is(1, 3), kind, classes)


def test_sequences_of_several_lengths_keep_their_places():
    series = [np.full((1, length), float(n)) for n, length in enumerate((3, 5, 3, 2))]
    found = given(series, ["a", "b", "b", "a"])
    places = {}
    for group in found.groups:
        for place, x, target in zip(
            group.positions, group.split.inputs, group.split.targets, strict=True
        ):
            places[int(place)] = (tuple(x.shape), float(x[0, 0]), int(target))
    assert places == {
        0: ((1, 3), 0.0, 0),
        1: ((1, 5), 1.0, 1),
        2: ((1, 3), 2.0, 1),
        3: ((1, 2), 3.0, 0),
    }
    (note,) = found.notes
    assert "1 longer and 1 shorter than the 3 steps of training" in note


def test_targets_are_names_or_numbers_of_classes():
    ones = [np.ones((1, 3))] * 3
    for targets in (["0", "1", "1"], np.array([0, 1, 1]), np.array([0.0, 1.0, 1.0])):
        found = given(ones, targets, classes=("0", "1"))
        assert found.groups[0].split.targets.tolist() == [0, 1, 1]
    with pytest.raises(ConfigError, match="a target is '2'; the model's classes are 0, 1"):
        given(ones, [0, 1, 2], classes=("0", "1"))
    with pytest.raises(ConfigError, match="one target a step"):
        given(ones, ["a", "b", "b"], kind="per_step")
    with pytest.raises(ConfigError, match="no number"):
        given(ones, ["a", "b", "b"], kind="regression")
    steps = given(ones, np.array([[0, 1, 1]] * 3), kind="per_step", classes=("0", "1"))
    assert steps.groups[0].split.targets.shape == (3, 3)


def test_a_file_of_digits_is_what_the_dataset_itself_shows():
    task = load(DigitsData())
    p = task.preparation
    raw = (task.validation.inputs.double() * p.std + p.mean).round().numpy()
    found = of_file(SequenceFile(list(raw)), "x", p, "classification", [])
    assert found.groups[0].split.inputs.equal(task.validation.inputs)
    assert not found.labelled
