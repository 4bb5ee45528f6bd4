"""The real digits that come with scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from ckconv_sweep.config.data import DigitsData
from ckconv_sweep.data import digits


def load(**changes):
    return digits.load(DigitsData(**changes))


def rows(split):
    return [tuple(row) for row in split.inputs.flatten(1).tolist()]


@pytest.fixture(scope="module")
def task():
    return load()


def test_a_fifth_is_the_test_split_and_a_tenth_of_the_rest_validation(task):
    assert [len(task.train), len(task.validation), len(task.read_test())] == [1293, 144, 360]


def test_the_three_splits_are_all_1797_digits_once(task):
    values, targets = load_digits(return_X_y=True)
    parts = [task.train, task.validation, task.read_test()]
    inputs = torch.cat([part.inputs for part in parts]).flatten(1)
    back = inputs * digits_std(task) + digits_mean(task)
    found = sorted(
        (*np.rint(row).astype(int), t)
        for row, t in zip(
            back.tolist(), torch.cat([part.targets for part in parts]).tolist(), strict=True
        )
    )
    assert found == sorted((*row.astype(int), t) for row, t in zip(values, targets, strict=True))


def test_the_file_is_read_as_scikit_learn_reads_it():
    for ours, theirs in zip(digits._read(), load_digits(return_X_y=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def digits_mean(task):
    return task.test_reader.args[0]


def digits_std(task):
    return task.test_reader.args[1]


def test_every_split_holds_the_classes_in_the_same_shares(task):
    whole = np.bincount(load_digits().target) / 1797
    for split in (task.train, task.validation, task.read_test()):
        shares = torch.bincount(split.targets, minlength=10).numpy() / len(split)
        np.testing.assert_allclose(shares, whole, atol=0.007)


def test_another_seed_changes_validation_but_never_the_test_split(task):
    other = load(split_seed=1)
    assert set(rows(other.validation)) != set(rows(task.validation))
    assert torch.equal(other.read_test().targets, task.read_test().targets)


def test_the_fraction_never_moves_a_digit_out_of_the_test_split(task):
    wide = load(validation_fraction=0.5)
    assert torch.equal(wide.read_test().targets, task.read_test().targets)
    assert abs(len(wide.validation) - len(wide.train)) <= 1


def test_values_are_normalised_by_the_training_sequences_only(task):
    assert task.train.inputs.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert task.train.inputs.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    assert abs(task.validation.inputs.mean().item()) > 1e-4
    assert abs(task.read_test().inputs.mean().item()) > 1e-4


def test_an_image_is_read_row_by_row(task):
    images, targets = load_digits().images, load_digits().target
    expected = {tuple(image.reshape(-1)) for image in images[targets == 3]}
    threes = task.train.inputs[task.train.targets == 3, 0].double()
    values = torch.round(threes * digits_std(task) + digits_mean(task))
    assert {tuple(row) for row in values.tolist()} <= expected


def test_the_test_split_is_not_read_before_it_is_asked_for(monkeypatch):
    task = load()
    monkeypatch.setattr(digits, "_read", lambda: pytest.fail("read"))
    with pytest.raises(pytest.fail.Exception):
        task.read_test()
