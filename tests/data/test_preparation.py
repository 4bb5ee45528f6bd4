"""Raw sequences come out as the dataset itself prepares them, to the last bit."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import (
    AddingData,
    CharacterTrajectoriesData,
    CopyMemoryData,
    DigitsData,
    PmnistData,
    Scifar10Data,
    SmnistData,
    UeaData,
)
from ckconv_sweep.data import character_trajectories, digits, mnist
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.given import of_file
from ckconv_sweep.data.plain_preparation import as_plain, from_plain
from ckconv_sweep.data.preparation import forward_filled
from ckconv_sweep.data.sequence_files import SequenceFile
from ckconv_sweep.data.sequences import dropped_steps, published_split
from ckconv_sweep.data.splits import held_out_by, hold_out
from ckconv_sweep.data.ts_format import read_ts
from ckconv_sweep.errors import ConfigError

from . import small_files


def prepared(task, raw_NCT):
    """As a file of such sequences would be, after its preparation went through JSON."""
    assert task.preparation is not None
    plain = json.loads(json.dumps(as_plain(task.preparation)))
    preparation = from_plain(plain)
    for raw_CT in raw_NCT:
        preparation.check(raw_CT, None, "here")
    return preparation(raw_NCT)


def test_digits_from_their_own_values():
    task = load(DigitsData())
    values_NT, targets_N = digits._read()
    kept, _ = hold_out(targets_N, digits.TEST_FRACTION, digits.TEST_SEED)
    _, validation = held_out_by(DigitsData(), targets_N[kept])
    inputs, times = prepared(task, values_NT[kept][validation][:, None])
    assert times is None
    assert torch.equal(inputs, task.validation.inputs)


@pytest.mark.parametrize("data", [SmnistData(), PmnistData()], ids=["smnist", "pmnist"])
def test_pixels_of_mnist_as_bytes_and_as_floats(data, tmp_path, monkeypatch):
    small_files.write_mnist(tmp_path, monkeypatch)
    data = data.model_copy(update={"validation_fraction": 1 / 6})
    task = load(data, tmp_path)
    paths = {name: next((tmp_path / "mnist").glob(f"{name}*")) for name in mnist.SHA256}
    values_NT, targets_N = mnist._read(paths, mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS)
    _, validation = held_out_by(data, targets_N)
    for raw in (values_NT, values_NT.astype(np.float64)):
        inputs, _ = prepared(task, raw[validation][:, None])
        assert torch.equal(inputs, task.validation.inputs)


@pytest.mark.parametrize("normalization", ["per_channel", "imagenet"])
def test_cifar_has_the_normalisation_of_its_training(normalization, tmp_path, monkeypatch):
    small_files.write_cifar10(tmp_path, monkeypatch)
    task = load(Scifar10Data(normalization=normalization), tmp_path)
    p = task.preparation
    raw = (task.validation.inputs.double() * p.std + p.mean) * p.scale
    inputs, _ = prepared(task, raw.round().numpy())
    assert torch.equal(inputs, task.validation.inputs)


LETTERS = {
    "whole": {},
    "every second step": {"sampling_rate": 2},
    "each step by itself": {"normalization": "per_time_step", "sampling_rate": 2},
    "a mask": {"dropped_fraction": 0.3},
    "times": {"dropped_fraction": 0.3, "dropped_as": "times"},
    "times, every second step": {
        "dropped_fraction": 0.3,
        "dropped_as": "times",
        "sampling_rate": 2,
    },
}


@pytest.mark.parametrize("form", LETTERS)
def test_letters_in_every_form(form, tmp_path, monkeypatch):
    small_files.write_letters_npz(tmp_path, small_files.letters(monkeypatch))
    data = CharacterTrajectoriesData(**LETTERS[form])
    task = load(data, tmp_path)
    raw_NCL, targets_N, _ = character_trajectories._read(tmp_path / "character_trajectories")
    raw_NCL = raw_NCL.copy()
    if data.dropped_fraction:
        steps = math.ceil(raw_NCL.shape[-1] / data.sampling_rate)
        missing_NT = dropped_steps(len(raw_NCL), steps, data.dropped_fraction).numpy()
        seen = raw_NCL[:, :, :: data.sampling_rate]
        seen[np.broadcast_to(missing_NT[:, None], seen.shape)] = np.nan
    validation = published_split(targets_N, 0).validation
    inputs, times = prepared(task, raw_NCL[validation])
    assert torch.equal(inputs, task.validation.inputs)
    assert (times is None) is (task.validation.times is None)
    if times is not None:
        assert torch.equal(times, task.validation.times)


def test_a_uea_problem_with_missing_values_and_shorter_series(tmp_path):
    small_files.write_uea(tmp_path)
    problem = next(path.name for path in (tmp_path / "uea").iterdir())
    data = UeaData(problem=problem)
    task = load(data, tmp_path)
    content = read_ts(tmp_path / "uea" / problem / f"{problem}_TRAIN.ts")
    numbers = {name: n for n, name in enumerate(content.classes)}
    targets = np.array([numbers[label] for label in content.labels])
    _, validation = held_out_by(data, targets)
    for place, n in enumerate(validation):
        inputs, _ = prepared(task, content.series[n][None])
        assert torch.equal(inputs[0], task.validation.sequence(place))


@pytest.mark.parametrize(
    "data",
    [
        AddingData(length=20, train_sequences=4, test_sequences=3),
        CopyMemoryData(blank_steps=5, memory=2, train_sequences=4, test_sequences=3),
    ],
    ids=lambda data: data.name,
)
def test_sequences_that_are_drawn_are_used_as_they_are(data):
    task = load(data)
    inputs, _ = prepared(task, task.validation.inputs.numpy())
    assert torch.equal(inputs, task.validation.inputs)


def letters_preparation(tmp_path, monkeypatch, **changes):
    small_files.write_letters_npz(tmp_path, small_files.letters(monkeypatch))
    return load(CharacterTrajectoriesData(**changes), tmp_path).preparation


def refused(preparation, raw, times=None):
    with pytest.raises(ConfigError) as error:
        preparation.check(np.asarray(raw, dtype=float), times, "a.npy: sequence 3")
    assert error.value.where == "a.npy: sequence 3"
    return error.value.message


def test_what_a_model_cannot_take_is_refused_with_what_is_right(tmp_path, monkeypatch):
    of_digits = load(DigitsData()).preparation
    assert "1 channel, got 3" in refused(of_digits, np.zeros((3, 64)))
    assert "missing" in refused(of_digits, [[1.0, math.nan]])
    assert "infinite" in refused(of_digits, [[1.0, math.inf]])
    assert "not trained on times" in refused(of_digits, [[1.0, 2.0]], np.array([0.0, 1.0]))
    per_step = letters_preparation(tmp_path, monkeypatch, normalization="per_time_step")
    assert "at most 182 steps" in refused(per_step, np.zeros((3, 183)))
    timed = letters_preparation(tmp_path, monkeypatch, dropped_fraction=0.3, dropped_as="times")
    partly = np.zeros((3, 5))
    partly[0, 2] = math.nan
    assert "in all channels" in refused(timed, partly)
    assert "rise" in refused(timed, np.zeros((3, 2)), np.array([1.0, 1.0]))
    for length in (5, 182):
        both = letters_preparation(
            tmp_path,
            monkeypatch,
            dropped_fraction=0.3,
            dropped_as="times",
            normalization="per_time_step",
        )
        message = refused(both, np.zeros((3, length)), np.arange(float(length)))
        assert "no times of a file" in message


def test_a_shorter_sequence_is_continued_only_where_training_did_so(tmp_path, monkeypatch):
    letters = letters_preparation(tmp_path, monkeypatch)
    short = np.arange(30.0).reshape(1, 3, 10)
    long = np.concatenate([short, np.repeat(short[..., -1:], 172, axis=-1)], axis=-1)
    assert torch.equal(letters(short)[0], letters(long)[0])
    assert load(DigitsData()).preparation(np.zeros((1, 1, 10)))[0].shape == (1, 1, 10)


def test_times_of_a_file_stand_at_the_steps_that_are_there(tmp_path, monkeypatch):
    timed = letters_preparation(tmp_path, monkeypatch, dropped_fraction=0.3, dropped_as="times")
    raw = np.zeros((1, 3, 4))
    raw[:, :, 1] = math.nan
    inputs, times = timed(raw, np.array([[0.5, 2.0, 7.25, 9.0]]))
    assert inputs.shape == (1, 3, 3)
    assert times.tolist() == [[0.5, 7.25, 9.0]]


def test_what_is_no_preparation_is_not_read():
    plain = as_plain(load(DigitsData()).preparation)
    from_plain(plain)
    nan, inf = math.nan, math.inf
    wrong = {
        "std": ([0.0], [nan], [inf], [], ["1"]),
        "mean": ([nan], [-inf], [0.0, 0.0]),
        "type": ("int8",),
        "shape": ([2], [3], [1], [1, 1, 1, 1], "x", [2**70]),
        "missing": ("ignored", ["mask"]),
        "channels": (0, "1", 1.0, True, None),
        "length": (0, "64", 2**70),
        "rate": (0, -1, "2"),
        "scale": (0.0, nan, "1"),
        "measured_on": (None, 3),
        "continued": (None, 1),
        "order": ([99] * 64, [2**70], list(range(63)), [[0]], "x"),
        "image": ([8], [8, 0], 8),
    }
    assert wrong.keys() == plain.keys()
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match="no preparation"):
                from_plain(plain | {name: value})
        with pytest.raises(ValueError, match="no preparation"):
            from_plain({key: value for key, value in plain.items() if key != name})
    with pytest.raises(ValueError, match="no preparation"):
        from_plain({**plain, "more": 1})
    from_plain(plain | {"order": list(range(63, -1, -1))})


@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.parametrize("rate", [1, 2])
def test_equally_many_gaps_at_other_steps_are_no_equally_long_sequences(rate, continued):
    plain = as_plain(load(DigitsData()).preparation)
    changes = {"rate": rate, "missing": "times", "continued": continued, "length": 7}
    preparation = from_plain(plain | changes)
    gaps = ([2], [3], [4], [1, 3], [0, 2], [2, 4], [])
    series = [np.where(np.isin(np.arange(5), gap), math.nan, float(n))[None]
              for n, gap in enumerate(gaps)]  # fmt: skip
    given = of_file(SequenceFile(series), "x.npy", preparation, "classification", "0123456789")
    found = {}
    for group in given.groups:
        for place, times in zip(group.positions, group.split.times, strict=True):
            found[int(place)] = times.tolist()
    length = 7 if continued else 5
    for n, gap in enumerate(gaps):
        missing = [*gap, 5, 6] if 4 in gap else gap  # the last value is continued, or its gap
        assert found[n] == [t for t in range(0, length, rate) if t not in missing]
    with pytest.raises(ConfigError, match="one is there"):
        preparation.check(np.full((1, 3), math.nan), None, "x")


def test_a_sequence_whose_every_second_step_is_missing_has_none_at_half_the_rate():
    plain = as_plain(load(DigitsData()).preparation) | {"rate": 2, "missing": "times"}
    message = refused(from_plain(plain), [[math.nan, 1.0, math.nan, 1.0]])
    assert message.endswith("one is there of every 2")


def test_a_gap_is_filled_with_the_last_value_before_it():
    nan = math.nan
    x = np.array([[[nan, 1.0, nan, nan, 2.0]]])
    np.testing.assert_array_equal(forward_filled(x), [[[nan, 1.0, 1.0, 1.0, 2.0]]])
