"""Texts of fifty characters that the tests write themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckconv_sweep.config.data import PennTreebankData
from ckconv_sweep.data import penn_treebank
from ckconv_sweep.data.penn_treebank import TEST, TRAIN, VALIDATION, windows
from ckconv_sweep.data.task import IGNORED
from ckconv_sweep.errors import ConfigError, DamagedData

from .small_files import treebank_texts, write_treebank

SMALL = PennTreebankData(sequence_length=12, predicted_steps=8)


@pytest.fixture
def texts():
    return treebank_texts()


@pytest.fixture
def data_dir(tmp_path):
    write_treebank(tmp_path / "data")
    return tmp_path / "data"


def load(data_dir, data=SMALL):
    return penn_treebank.load(data, data_dir)


def test_the_next_character_is_asked_for(texts, data_dir):
    task = load(data_dir)
    order = " pierN\n"  # the first appearances, each once
    numbers = [order.index(c) for c in " pierre N\n"]
    assert task.train.inputs[0, :10].tolist() == numbers
    assert task.train.targets[0, :9].tolist() == numbers[1:]


def test_all_texts_share_the_numbers_of_the_training_text(texts, data_dir):
    task = load(data_dir)
    characters = penn_treebank.in_order_of_appearance(texts[TRAIN])
    for name, split in ((VALIDATION, task.validation), (TEST, task.read_test())):
        first = "".join(characters[i] for i in split.inputs[0])
        assert first == texts[name][:12]


def test_shapes_are_as_described(data_dir):
    task = load(data_dir)
    described = penn_treebank.describe(SMALL, None)
    assert task.description == described
    assert (described.kind, described.name) == ("text", "ptb_characters")
    assert (described.in_channels, described.length, described.outputs) == (50, 12, 50)
    for split in (task.train, task.validation, task.read_test()):
        assert split.inputs.shape == split.targets.shape == (len(split), 12)
        assert split.inputs.dtype == split.targets.dtype == torch.int64
        assert split.inputs.min() >= 0
        assert max(split.inputs.max(), split.targets.max()) < 50


def test_only_the_last_steps_count_but_for_the_first_window():
    split = windows(torch.arange(30), 12, 8)
    assert [(row != IGNORED).sum().item() for row in split.targets] == [12, 8, 8, 1]
    assert split.inputs[:, 0].tolist() == [0, 8, 16, 17]
    assert split.targets[1].tolist() == [IGNORED] * 4 + list(range(13, 21))


@settings(max_examples=200, deadline=None)
@given(length=st.integers(2, 20), predicted=st.integers(1, 20), more=st.integers(1, 100))
def test_every_character_but_the_first_is_asked_for_once(length, predicted, more):
    predicted = min(predicted, length)
    whole = torch.arange(length + more)
    split = windows(whole, length, predicted)
    asked = split.targets[split.targets != IGNORED]
    assert asked.tolist() == whole[1:].tolist()
    counted = split.targets != IGNORED
    assert (split.targets[counted] == split.inputs[counted] + 1).all()
    assert (counted[1:].sum(1) <= predicted).all()
    assert counted[:, -1].all()


def test_a_text_with_another_number_of_characters_is_damaged(texts, data_dir):
    path = data_dir / "penn_treebank" / TRAIN
    path.write_bytes(texts[TRAIN].replace("\n", "\r\n").encode())
    with pytest.raises(DamagedData) as error:
        load(data_dir)
    message = str(error.value)
    assert message.startswith(f"{path}: expected a text of 50 different characters, got 51")
    assert "'\\r'" in message
    assert "<eos>" in message


@pytest.mark.parametrize("name", [VALIDATION, TEST])
def test_a_character_that_training_never_saw_is_damage_told_before_any_training(data_dir, name):
    path = data_dir / "penn_treebank" / name
    path.write_bytes(b"in Upper case and more than a window")
    with pytest.raises(DamagedData, match=r"not in ptb\.train\.txt: 'U'"):
        load(data_dir)


@pytest.mark.parametrize("name", [TRAIN, VALIDATION, TEST])
def test_a_missing_file_is_told_before_any_training_with_where_to_get_it(data_dir, name):
    path = data_dir / "penn_treebank" / name
    path.unlink()
    with pytest.raises(ConfigError) as error:
        load(data_dir)
    message = str(error.value)
    assert message.startswith(f"{path}: cannot be read: No such file")
    for part in ("simple-examples.tgz", "--data-dir", "CKCONV_DATA", "penn_treebank/"):
        assert part in message


def test_a_file_that_is_no_text_is_damaged(data_dir):
    path = data_dir / "penn_treebank" / TEST
    path.write_bytes(b"\x1f\x8b\x08\xff" * 40)
    with pytest.raises(DamagedData, match="expected text in UTF-8"):
        load(data_dir)


def test_a_file_without_end_is_not_read_to_its_end(data_dir, monkeypatch):
    monkeypatch.setattr(penn_treebank, "MAX_BYTES", 100)
    with pytest.raises(DamagedData, match="got more than 100 bytes"):
        load(data_dir)


def test_a_file_shorter_than_a_window_is_refused(data_dir):
    path = data_dir / "penn_treebank" / VALIDATION
    path.write_bytes(b"n" * 13)
    assert load(data_dir).validation.targets.shape == (1, 12)
    path.write_bytes(b"n" * 12)
    with pytest.raises(ConfigError, match="sequence_length = 12 characters, the file has 12"):
        load(data_dir)


def test_the_test_text_is_not_kept_before_it_is_asked_for(data_dir):
    task = load(data_dir)
    (data_dir / "penn_treebank" / TEST).unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        task.read_test()
