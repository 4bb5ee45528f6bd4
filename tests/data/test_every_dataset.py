"""The contract of every row of the table of data sets."""

import pytest
import torch

from ckconv_sweep.config.trial import Data
from ckconv_sweep.data.datasets import DATASETS, describe, load
from ckconv_sweep.errors import UnknownNameError

OFFLINE = {"digits"}  # come with a package; the others need the folder `shared`


@pytest.fixture(scope="module", params=DATASETS)
def task(request):
    name = request.param
    data_dir = None if name in OFFLINE else request.getfixturevalue("shared") / "data"
    return load(Data(name=name), data_dir)


def splits(task):
    return {"train": task.train, "validation": task.validation, "test": task.read_test()}


def test_shapes_are_as_described(task):
    described = task.description
    for split in splits(task).values():
        assert split.inputs.shape == (len(split), described.in_channels, described.length)
        assert split.targets.shape == (len(split),)


def test_inputs_are_finite_float32_and_targets_int64(task):
    for split in splits(task).values():
        assert split.inputs.dtype == torch.float32
        assert split.inputs.isfinite().all()
        assert split.targets.dtype == torch.int64


def test_every_class_is_in_every_split_and_no_other(task):
    for split in splits(task).values():
        assert split.targets.unique().tolist() == list(range(task.description.classes))


def test_no_sequence_is_in_two_splits(task):
    rows = {
        name: {row.tobytes() for row in split.inputs.flatten(1).numpy()}
        for name, split in splits(task).items()
    }
    assert not rows["train"] & rows["validation"]
    assert not rows["train"] & rows["test"]
    assert not rows["validation"] & rows["test"]


def test_a_tenth_is_held_out_by_default_in_equal_shares(task):
    train, validation = (
        torch.bincount(split.targets) / len(split) for split in (task.train, task.validation)
    )
    share = len(task.validation) / (len(task.validation) + len(task.train))
    assert share == pytest.approx(0.1, abs=0.001)
    torch.testing.assert_close(train, validation, atol=0.006, rtol=0)


def test_a_task_is_described_under_its_own_name(task):
    assert describe(task.description.name) is task.description


@pytest.mark.parametrize("name", DATASETS)
def test_describing_reads_no_file(name, monkeypatch):
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("opened a file"))
    described = describe(name)
    assert described.name == name
    assert min(described.in_channels, described.length, described.classes) >= 1


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="no data set is called 'smnits'") as error:
        describe("smnits")
    assert error.value.hint == "did you mean 'smnist'?"


def test_official_numbers_of_sequences(task):
    expected = {
        "digits": [1293, 144, 360],
        "smnist": [54000, 6000, 10000],
        "pmnist": [54000, 6000, 10000],
    }
    sizes = [len(split) for split in splits(task).values()]
    assert sizes == expected.get(task.description.name, sizes)
