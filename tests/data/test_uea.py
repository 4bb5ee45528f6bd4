"""UEA problems, on small files of their format."""

import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ckconv_sweep.config.data import UeaData
from ckconv_sweep.data.preparation import forward_filled
from ckconv_sweep.data.ts_format import read_ts
from ckconv_sweep.data.uea import describe, load
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData

from .small_files import UEA_HEADER, ts, write_uea

DATA = UeaData(problem="Tiny", validation_fraction=0.25)
NAN = np.nan


@pytest.fixture
def folder(tmp_path):
    write_uea(tmp_path)
    return tmp_path


def test_the_description_is_read_from_both_files(folder):
    described = describe(DATA, folder)
    assert described.name == "uea"
    assert (described.in_channels, described.length, described.outputs) == (2, 9, 2)
    assert load(DATA, folder).description == described


def test_validation_is_held_out_of_the_train_file(folder):
    task = load(DATA, folder)
    assert [len(task.train), len(task.validation), len(task.read_test())] == [12, 4, 6]
    assert task.validation.targets.bincount().tolist() == [3, 1]


def test_every_series_keeps_its_length_and_zeros_come_after_it(folder):
    task = load(DATA, folder)
    read = {
        name: read_ts(folder / "uea" / "Tiny" / f"Tiny_{name}.ts") for name in ("TRAIN", "TEST")
    }
    lengths = {name: sorted(len(x_CT[0]) for x_CT in file.series) for name, file in read.items()}
    found = [*task.train.lengths.tolist(), *task.validation.lengths.tolist()]
    assert sorted(found) == lengths["TRAIN"]
    assert sorted(task.read_test().lengths.tolist()) == lengths["TEST"]
    assert len(set(found)) > 1
    for split in (task.train, task.validation, task.read_test()):
        assert split.inputs.shape[1:] == (2, 9)
        assert split.inputs.dtype == torch.float32
        for number, length in enumerate(split.lengths):
            assert not split.inputs[number, :, length:].any()
            assert split.sequence(number).shape == (2, length)


def test_where_each_step_has_a_mean_series_are_continued_to_the_longest_of_both_files(folder):
    task = load(DATA.model_copy(update={"normalization": "per_time_step"}), folder)
    assert task.train.lengths is None
    content = read_ts(folder / "uea" / "Tiny" / "Tiny_TEST.ts")
    test = task.read_test()
    for number, x_CT in enumerate(content.series):
        inputs, _ = task.preparation(forward_filled(x_CT)[None])
        assert torch.equal(test.inputs[number], inputs[0])


def test_where_all_series_are_as_long_there_are_no_lengths(folder):
    for name in ("TRAIN", "TEST"):
        series = [[[float(i), 1.0], [2.0, float(i)]] for i in range(8)]
        text = ts(series, "aaaabbbb", UEA_HEADER)
        (folder / "uea" / "Tiny" / f"Tiny_{name}.ts").write_text(text)
    task = load(DATA, folder)
    assert task.train.lengths is task.validation.lengths is task.read_test().lengths is None


def test_classes_are_numbered_in_the_order_of_the_train_files_header(folder):
    path = folder / "uea" / "Tiny" / "Tiny_TEST.ts"
    assert load(DATA, folder).read_test().targets.tolist() == [1, 0] * 3
    path.write_text(path.read_text().replace("true b a", "true a b"))
    assert load(DATA, folder).read_test().targets.tolist() == [1, 0] * 3


@pytest.mark.parametrize(
    ("normalization", "over"), [("per_channel", (0, 2)), ("per_time_step", (0, 1))]
)
def test_training_series_are_normalised_by_themselves(folder, normalization, over):
    task = load(DATA.model_copy(update={"normalization": normalization}), folder)
    known = torch.cat([task.train.sequence(i) for i in range(12)], dim=-1)
    mean, std = task.train.inputs.mean(over), task.train.inputs.std(over)
    if normalization == "per_channel":
        mean, std = known.mean(-1), known.std(-1)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std), atol=1e-3, rtol=0)


def test_a_missing_value_is_the_last_one_before_it():
    x = np.float32([[1, NAN, NAN, 4, NAN], [NAN, 2, NAN, NAN, 3], [NAN] * 5])
    expected = np.float32([[1, 1, 1, 4, 4], [NAN, 2, 2, 2, 3], [NAN] * 5])
    np.testing.assert_array_equal(forward_filled(x), expected)


def test_where_no_value_comes_before_a_missing_one_stands_the_mean(folder):
    path = folder / "uea" / "Tiny" / "Tiny_TEST.ts"
    path.write_text(ts([[[NAN, 7.0], [NAN, NAN]], [[1.0], [2.0]]], "ab", UEA_HEADER))
    first = load(DATA, folder).read_test().inputs[0]
    assert first[0, 0] == 0
    assert first[0, 1] != 0
    assert (first[1] == 0).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("true b a", "true b a c"),
        ("true b a", "true b A"),
        ("@dimensions 2", "@dimensions 3"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(folder, old, new):
    path = folder / "uea" / "Tiny" / "Tiny_TEST.ts"
    path.write_text(path.read_text().replace(old, new))
    for function in (describe, load):
        with pytest.raises(DamagedData, match="both must have the same") as error:
            function(DATA, folder)
        assert error.value.where == str(path.parent)


@pytest.mark.parametrize("name", ["Tiny_TRAIN.ts", "Tiny_TEST.ts"])
def test_damage_is_told_before_any_training(folder, name):
    path = folder / "uea" / "Tiny" / name
    path.write_text(path.read_text().replace("\n", "\n1,x:3,4:a\n").replace("1,x:3,4:a\n@", "@"))
    with pytest.raises(DamagedData, match="no number") as error:
        load(DATA, folder)
    assert error.value.where.startswith(f"{path}:")


@pytest.mark.parametrize("name", ["Tiny_TRAIN.ts", "Tiny_TEST.ts"])
def test_a_file_that_is_missing_is_told_with_how_to_get_it(folder, name):
    path = folder / "uea" / "Tiny" / name
    path.unlink()
    with pytest.raises(ConfigError, match="this file is missing") as error:
        describe(DATA, folder)
    assert error.value.where == str(path)
    assert "https://www.timeseriesclassification.com" in error.value.hint
    assert "--data-dir" in error.value.hint


def test_a_rare_class_gives_one_sequence_to_each_side(folder):
    """Of 16 series a share of 0.01 is none."""
    task = load(DATA.model_copy(update={"validation_fraction": 0.01}), folder)
    assert sorted(task.validation.targets.tolist()) == [0, 1]
    assert set(task.train.targets.tolist()) == {0, 1}


def test_no_message_about_the_users_own_files_speaks_of_a_download(folder):
    said = []
    path = folder / "uea" / "Tiny" / "Tiny_TEST.ts"
    whole = path.read_text()
    for content in (
        whole.replace("@data\n", "@data\nx\n"),
        whole.replace("true b a", "true b c"),
        None,
    ):
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(CkconvSweepError) as error:
            load(DATA, folder)
        said.append(f"{error.value} {error.value.hint}")
    assert len(set(said)) == 3
    for text in said:
        assert not re.search("download|fetch|again", text), text


@pytest.mark.parametrize("problem", ["../Tiny", "/Tiny", "a/b", "", "."])
def test_a_problem_is_a_name_and_no_path(problem):
    with pytest.raises(ValidationError):
        UeaData(problem=problem)
