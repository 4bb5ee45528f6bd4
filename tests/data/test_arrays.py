"""Sequences of one's own, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import ArraysData
from ckconv_sweep.data.arrays import describe, load
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import CkconvSweepError

from . import small_files

EVEN = ArraysData(path="even.npz", validation_fraction=0.25)
TIMES = ArraysData(path="mine.npz", validation_fraction=0.25, sampled="at_times")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_files.write_arrays(tmp_path)
    return tmp_path


def positions(task: SequenceTask, X: Any, lengths: Any) -> list[list[int]]:
    """Which sequence of the file each one of the three splits is, found by its first channel."""
    found = []
    for split in (task.train, task.validation, task.read_test()):
        mean, std = task.preparation.mean[0, :, 0], task.preparation.std[0, :, 0]  # type: ignore[union-attr]
        rows = []
        for number in range(len(split)):
            values = split.sequence(number)[0] * std[0] + mean[0]
            as_long = [n for n in range(len(X)) if lengths[n] == len(values)]
            rows += [n for n in as_long if np.allclose(X[n, 0, : len(values)], values, atol=1e-3)]
        found.append(rows)
    return found


def test_each_sequence_is_in_one_split_as_long_as_it_is_and_with_its_class(folder: Path) -> None:
    held = np.load(folder / "even.npz")
    task = load(EVEN, folder)
    found = positions(task, held["X"], held["lengths"])
    assert [len(rows) for rows in found] == [12, 4, 4]
    assert sorted(n for rows in found for n in rows) == list(range(20))
    for rows, split in zip(found, (task.train, task.validation, task.read_test()), strict=True):
        assert split.lengths is not None
        assert split.lengths.tolist() == held["lengths"][rows].tolist()
        assert [task.classes[t] for t in split.targets.tolist()] == list(map(str, held["y"][rows]))
    assert task.classes == ("2", "10")  # as numbers, not as words


def test_a_number_is_asked_for_where_the_trial_says_so(folder: Path) -> None:
    data = ArraysData(path="numbers.csv", target="number", validation_fraction=0.25)
    task = load(data, folder)
    found = [task.train.targets, task.validation.targets, task.read_test().targets]
    assert sorted(torch.cat(found).tolist()) == [n / 4 - 1 for n in range(20)]
    assert (task.description.kind, task.description.outputs) == ("regression", 1)


def test_times_begin_at_zero_and_are_counted_in_usual_distances(folder: Path) -> None:
    held = np.load(folder / "mine.npz")
    gaps = [np.diff(t[:n]) for t, n in zip(held["times"], held["lengths"], strict=True)]
    task = load(TIMES, folder)
    times, lengths = task.train.times, task.train.lengths
    assert times is not None
    assert lengths is not None
    assert (times[:, 0] == 0).all()
    assert (times.diff() > 0).all()
    expected = {round(float(sum(gap) / np.median(np.concatenate(gaps))), 3) for gap in gaps}
    ends = {round(float(t[n - 1]), 3) for t, n in zip(times, lengths, strict=True)}
    assert all(min(abs(end - e) for e in expected) < 2e-3 for end in ends)
    assert task.description.length == int(np.ceil(max(expected))) + 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ArraysData(path="no.npz"), "this file is missing"),
        (ArraysData(path="mine.npz"), "the file has the times of its steps"),
        (ArraysData(path="even.npz", sampled="at_times"), "the file has no times of its steps"),
        (ArraysData(path="numbers.csv"), "20 sequences have 20 different classes"),
        (ArraysData(path="words.csv", target="number"), "a target is no number"),
        (ArraysData(path="one.csv"), "two classes at least expected, got a"),
        (ArraysData(path="no_target.csv"), "the file has no targets"),
        (ArraysData(path="back.csv", sampled="at_times"), "times of sequence 0 must be finite and"),
        (ArraysData(path="infinite.csv"), "a value of sequence 1 is infinite"),
        (ArraysData(path="steps.csv"), "one target for each sequence expected, got one a step"),
        (ArraysData(path="words.txt"), "sequences are read from .npy, .npz, .csv and .ts files"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_trained_on_is_one_message_that_names_the_file(
    data: ArraysData, message: str, folder: Path
) -> None:
    for name, text in {
        "words.csv": "1,2,target\n1,2,a\n3,4,b\n5,6,a\n7,8,b",
        "words.txt": "",
        "one.csv": "1,2,target\n1,2,a\n3,4,a",
        "no_target.csv": "1,2\n1,2\n3,4",
        "back.csv": "sequence,time,x,target\nq,2,1,a\nq,1,2,a\nr,1,2,b\nr,2,3,b",
        "infinite.csv": "1,2,target\n1,2,a\ninf,4,b\n5,6,a\n7,8,b",
        "steps.csv": "sequence,x,target\nq,1,0\nq,2,1\nr,1,1\nr,2,0",
    }.items():
        (folder / name).write_text(text)
    with pytest.raises(CkconvSweepError, match=message) as refusal:
        describe(data, folder)
    assert refusal.value.where is not None
    assert refusal.value.where.startswith(str(folder / data.path))


def test_the_numbers_of_an_archive_file_are_predicted(folder: Path) -> None:
    header = "# deaths\n@problemname x\n@univariate true\n@targetlabel true\n@data\n"
    rows = [f"{n},{n + 1},2:{n / 8}" for n in range(10)]
    (folder / "x.ts").write_text(header + "\n".join(rows))
    task = load(ArraysData(path="x.ts", target="number"), folder)
    found = torch.cat([task.train.targets, task.validation.targets, task.read_test().targets])
    assert sorted(found.tolist()) == [n / 8 for n in range(10)]
    with pytest.raises(CkconvSweepError, match="10 different classes"):
        load(ArraysData(path="x.ts"), folder)


def test_a_file_that_was_changed_is_read_again(folder: Path) -> None:
    before = load(EVEN, folder).identity
    held = dict(np.load(folder / "even.npz"))
    held["X"][0, 0, 0] += 1.0
    np.savez(folder / "even.npz", **held)
    assert load(EVEN, folder).identity != before
