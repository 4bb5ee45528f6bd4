"""MNIST's loaders on tiny files of the real format, and the published numbers."""

import gzip

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import PmnistData, SmnistData
from ckconv_sweep.data import mnist
from ckconv_sweep.data.mnist import load
from ckconv_sweep.errors import ConfigError, DamagedData

DATA = SmnistData(validation_fraction=1 / 6)


def test_packed_and_plain_files_give_the_same(tiny_mnist, tiny_mnist_folder, tmp_path):
    plain = tmp_path / "plain"
    (plain / "mnist").mkdir(parents=True)
    for name, content in tiny_mnist.items():
        (plain / "mnist" / name).write_bytes(content)
    one, other = load(DATA, tiny_mnist_folder), load(DATA, plain)
    assert torch.equal(one.train.inputs, other.train.inputs)
    assert torch.equal(one.read_test().inputs, other.read_test().inputs)


def test_a_file_unpacked_by_a_browser_under_its_packed_name_is_accepted(
    tiny_mnist, tiny_mnist_folder
):
    packed = tiny_mnist_folder / "mnist" / f"{mnist.TRAIN_IMAGES}.gz"
    packed.write_bytes(tiny_mnist[mnist.TRAIN_IMAGES])
    assert len(load(DATA, tiny_mnist_folder).train) == 50


def test_a_folder_that_has_all_files_is_not_written_to(tiny_mnist_folder):
    load(DATA, tiny_mnist_folder).read_test()
    assert len(list((tiny_mnist_folder / "mnist").iterdir())) == 4


def test_the_folder_may_come_from_the_environment(tiny_mnist_folder, monkeypatch):
    monkeypatch.setenv("CKCONV_DATA", str(tiny_mnist_folder))
    assert len(load(DATA).train) == 50


def test_the_folder_is_the_users_cache_when_nothing_is_said(tiny_mnist, tmp_path):
    with pytest.raises(ConfigError) as error:
        load(DATA)
    assert str(tmp_path / "cache" / "ckconv-sweep" / "data" / "mnist") in str(error.value)


def test_validation_is_held_out_of_the_training_images_in_equal_shares(tiny_mnist_folder):
    task = load(DATA, tiny_mnist_folder)
    assert task.validation.targets.tolist().count(3) == 1
    assert [len(task.train), len(task.validation), len(task.read_test())] == [50, 10, 20]


def test_values_are_normalised_by_the_published_constants(tiny_mnist, tiny_mnist_folder):
    pixels = np.frombuffer(tiny_mnist[mnist.TEST_IMAGES][16:], np.uint8).reshape(20, 1, 784)
    expected = torch.from_numpy((pixels / 255 - 0.1307) / 0.3081).float()
    torch.testing.assert_close(load(DATA, tiny_mnist_folder).read_test().inputs, expected)


def test_pmnist_reads_the_same_pixels_in_the_published_order(tiny_mnist_folder):
    rows = load(DATA, tiny_mnist_folder)
    shuffled = load(PmnistData(validation_fraction=1 / 6), tiny_mnist_folder)
    order = torch.from_numpy(mnist.permutation(784))
    for split in ("train", "validation"):
        one, other = getattr(rows, split), getattr(shuffled, split)
        assert torch.equal(one.inputs[:, :, order], other.inputs)
        assert torch.equal(one.targets, other.targets)
    assert torch.equal(rows.read_test().inputs[:, :, order], shuffled.read_test().inputs)


def test_the_published_order_begins_693_85_647_392_765():
    order = mnist.permutation(784)
    assert order[:5].tolist() == [693, 85, 647, 392, 765]
    assert sorted(order) == list(range(784))


def test_the_order_does_not_depend_on_the_global_generator_nor_change_it():
    np.random.seed(1)
    expected = np.random.random(2)
    np.random.seed(1)
    drawn = [np.random.random()]
    assert mnist.permutation(784)[0] == 693
    drawn.append(np.random.random())
    assert drawn == expected.tolist()


@pytest.mark.parametrize("name", [mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS, mnist.TEST_IMAGES])
def test_a_flipped_bit_is_told_before_any_training(tiny_mnist, tiny_mnist_folder, name):
    content = bytearray(tiny_mnist[name])
    content[-1] ^= 1
    path = tiny_mnist_folder / "mnist" / name
    path.write_bytes(content)
    with pytest.raises(DamagedData) as error:
        load(DATA, tiny_mnist_folder)
    message = str(error.value)
    assert message.startswith(str(path))
    assert mnist.SHA256[name] in message
    assert "delete the file and run again" in message


def test_an_archive_cut_short_is_told_as_damage(tiny_mnist, tiny_mnist_folder):
    path = tiny_mnist_folder / "mnist" / f"{mnist.TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(tiny_mnist[mnist.TRAIN_IMAGES])[:-9])
    with pytest.raises(DamagedData, match="cannot be unpacked"):
        load(DATA, tiny_mnist_folder)


def test_the_test_images_are_not_kept_before_they_are_asked_for(tiny_mnist_folder):
    task = load(DATA, tiny_mnist_folder)
    (tiny_mnist_folder / "mnist" / f"{mnist.TEST_IMAGES}.gz").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        task.read_test()


def test_files_that_are_missing_are_downloaded_once(tiny_mnist, mirror, tmp_path, monkeypatch):
    mirror.files = {f"{name}.gz": gzip.compress(tiny_mnist[name]) for name in tiny_mnist}
    monkeypatch.setattr(mnist, "MIRRORS", (mirror.address,))
    for _ in range(2):
        assert len(load(DATA, tmp_path / "new").read_test()) == 20
    assert sorted(mirror.requested) == sorted(mirror.files)


def test_every_mirror_is_reached_over_https():
    assert len(mnist.MIRRORS) >= 2
    assert all(m.startswith("https://") and m.endswith("/") for m in mnist.MIRRORS)


def test_inputs_equal_those_of_the_published_code_bit_for_bit(shared):
    with np.load(shared / "reference" / "smnist_98k.npz") as reference:
        inputs, labels = reference["x"], reference["labels"]
    test = load(SmnistData(), shared / "data").read_test()
    assert torch.equal(test.inputs[:16], torch.from_numpy(inputs))
    assert torch.equal(test.targets[:16], torch.from_numpy(labels))
