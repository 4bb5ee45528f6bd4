"""Records in the real format that the tests write themselves."""

import math

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import PhysioNetData
from ckconv_sweep.data import physionet2019
from ckconv_sweep.data.physionet2019 import read_record
from ckconv_sweep.errors import ConfigError, DamagedData

from .small_files import hour, psv, write_records

NAN = math.nan
DATA = PhysioNetData()


@pytest.fixture
def write(tmp_path):
    def write(content, name="p000001.psv"):
        path = tmp_path / name
        path.write_text(content)
        return path

    return write


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    write_records(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


def load(data_dir, **changes):
    return physionet2019.load(PhysioNetData(**changes), data_dir)


def splits(task):
    return [task.train, task.validation, task.read_test()]


def test_a_line_becomes_the_hour_of_its_number_and_gaps_are_missing(write):
    record = read_record(write(psv(hour(2, HR=80.5), hour(5, HR=90, Platelets=7))))
    assert record.series.shape == (34, 72)
    assert record.series[0, [1, 4]].tolist() == [80.5, 90.0]
    assert record.series[33, 4] == 7.0
    assert np.isfinite(record.series).sum() == 3
    assert record.hours == 5


def test_hours_after_the_third_day_are_left_out_but_for_their_label(write):
    record = read_record(write(psv(hour(72, HR=1), hour(73, sepsis=1, HR=2))))
    assert record.hours == 72
    assert np.isfinite(record.series).sum() == 1
    assert record.has_sepsis


def test_static_values_are_five_measures_and_two_flags(write):
    path = write(psv(hour(1, Age=44, Gender=0, Unit1=1, Unit2=0, HospAdmTime=-2)))
    assert read_record(path).static.tolist() == [44, 0, 1, 0, -2, 1, 1]


def test_unknown_units_and_time_of_admission_are_zero(write):
    path = write(psv(hour(1, Unit1=NAN, Unit2=NAN, HospAdmTime=NAN)))
    assert read_record(path).static.tolist() == [60, 1, 0, 0, 0, 0, 0]


def test_shapes_are_as_described(data_dir):
    task = load(data_dir)
    described = physionet2019.describe(DATA, None)
    assert task.description is described
    assert (described.kind, described.name) == ("binary", "physionet2019")
    assert (described.in_channels, described.length, described.outputs) == (75, 72, 1)
    assert [len(split) for split in splits(task)] == [42, 9, 9]
    for split in splits(task):
        assert split.inputs.shape == (len(split), 75, 72)
        assert split.inputs.dtype == split.targets.dtype == torch.float32
        assert split.inputs.isfinite().all()
        assert split.targets.sum() == len(split) // 3


def test_channels_are_counts_then_values_then_static_ones(data_dir):
    inputs = load(data_dir).train.inputs
    counts, values, static = inputs.split([34, 34, 7], dim=1)
    assert (counts[:, 0, :7] == torch.tensor([1.0, 2, 2, 3, 4, 5, 6])).all()
    assert (counts[:, 2, :4] == torch.tensor([0.0, 0, 1, 1])).all()
    assert (counts.diff(dim=2) >= 0).all()
    assert (counts[:, 0, -1] == counts[:, 0].max(1).values).all()
    assert (values[:, 0, 2] == 0).all()  # not measured
    assert (values[:, 0, 12:] == 0).all()  # after the end
    assert (values[:, 5:] == 0).all()  # never measured
    assert (static == static[:, :, :1]).all()
    assert (static[:, 5:] == 1).all()


def test_values_are_normalised_by_the_known_ones_of_the_training_records(data_dir):
    task = load(data_dir)
    counts, values, static = task.train.inputs.split([34, 34, 7], dim=1)
    measured = counts[:, 0].diff(dim=1, prepend=torch.zeros(42, 1)) > 0
    for known in (values[:, 0][measured], values[:, 2, 2], static[:, 0, 0]):
        assert known.mean().item() == pytest.approx(0.0, abs=1e-5)
        assert known.std().item() == pytest.approx(1.0, abs=1e-4)
    assert abs(task.validation.inputs[:, 68, 0].mean()) > 1e-3
    assert static[:, 1].abs().max() < 1e-3  # all of one gender: no division by zero


def test_records_that_end_within_two_hours_are_left_out(data_dir, monkeypatch):
    folder = data_dir / "physionet2019" / "training_setB"
    (folder / "p100000.psv").write_text(psv(hour(1), hour(2)))
    (folder / "p100001.psv").write_text(psv(hour(80), hour(81)))
    monkeypatch.setattr(physionet2019, "RECORDS", {"training_setA": 30, "training_setB": 32})
    assert sum(len(split) for split in splits(load(data_dir))) == 60
    (folder / "p100001.psv").write_text(psv(hour(3)))
    assert sum(len(split) for split in splits(load(data_dir))) == 61


def test_another_seed_deals_train_and_validation_anew_but_never_the_test_split(data_dir):
    one, other = load(data_dir), load(data_dir, split_seed=1)
    assert torch.equal(one.read_test().targets, other.read_test().targets)
    counts = slice(0, 34)
    assert torch.equal(one.read_test().inputs[:, counts], other.read_test().inputs[:, counts])
    assert not torch.equal(one.validation.inputs[:, counts], other.validation.inputs[:, counts])
    assert torch.equal(one.train.inputs, load(data_dir).train.inputs)


def test_missing_folders_are_told_with_where_to_get_them(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "physionet2019" / "training_setA"))
    for part in ("licence", "https://physionet.org/", "training_setB", "--data-dir", "CKCONV_DATA"):
        assert part in message


def test_a_folder_that_lacks_records_is_damaged(data_dir):
    (data_dir / "physionet2019" / "training_setB" / "p000007.psv").unlink()
    with pytest.raises(DamagedData, match=r"training_setB: expected 30 \.psv files, got 29"):
        load(data_dir)


def test_the_official_numbers_of_records_are_known():
    assert sum(physionet2019.RECORDS.values()) == 40_336


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the first line HR|O2Sat"),
        (psv(hour(1)).replace("HR", "Pulse"), "the first line HR|O2Sat"),
        (psv(), "at least one hour, got none"),
        (psv(hour(1) + "|3"), "41 numbers in every line"),
        (psv(hour(1), hour(2)[:60]), "lines of numbers"),
        (psv(hour(1, HR="high")), "lines of numbers"),
        (psv(hour(1, HR="inf")), "an infinite number"),
        (psv(hour(2), hour(2)), "whole, rising hours from 1 on as ICULOS, got 2.0"),
        (psv(hour(0)), "whole, rising hours"),
        (psv(hour(NAN)), "whole, rising hours"),
        (psv(hour(1, sepsis=2)), "0 or 1 as SepsisLabel, got 2.0"),
        (psv(hour(1, Age=NAN)), "an age and a gender"),
        ("\0\1\2", "the first line"),
    ],
)
def test_a_broken_record_says_where_what_was_expected_and_what_was_read(write, content, expected):
    path = write(content)
    with pytest.raises(DamagedData) as error:
        read_record(path)
    message = str(error.value)
    assert message.startswith(f"{path}: not a valid record: expected ")
    assert expected in message


def test_a_record_without_end_is_not_read_to_its_end(write, monkeypatch):
    monkeypatch.setattr(physionet2019, "MAX_BYTES", 100)
    with pytest.raises(DamagedData, match="more than 100 bytes"):
        read_record(write(psv(hour(1))))


def test_test_records_are_read_when_they_are_asked_for(data_dir):
    task = load(data_dir)
    for path in (data_dir / "physionet2019").glob("*/*.psv"):
        path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        task.read_test()
