"""Sequential CIFAR-10 on small files of the real format."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import Scifar10Data
from ckconv_sweep.data import cifar10
from ckconv_sweep.data.cifar10 import describe, load
from ckconv_sweep.errors import ConfigError, DamagedData

from .small_files import cifar10_records, write_cifar10

DATA = Scifar10Data(validation_fraction=0.2)


@pytest.fixture
def records(monkeypatch):
    return cifar10_records(monkeypatch)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with the small files, unpacked."""
    write_cifar10(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


@pytest.fixture
def archive(records, monkeypatch):
    """The small files as CIFAR-10's archive packs them, under its checksum."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        top = tarfile.TarInfo(cifar10.FOLDER)
        top.type = tarfile.DIRTYPE
        tar.addfile(top)
        files = {name: content.tobytes() for name, content in records.items()}
        for name, content in (files | {"readme.html": b"read me"}).items():
            info = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    content = buffer.getvalue()
    monkeypatch.setattr(cifar10, "CHECKSUM", f"md5:{hashlib.md5(content).hexdigest()}")
    return content


def test_shapes_and_sizes_are_as_described(folder):
    task = load(DATA, folder)
    assert task.description is describe(DATA)
    for split, size in ((task.train, 80), (task.validation, 20), (task.read_test(), 20)):
        assert split.inputs.shape == (size, 3, 1024)
        assert split.inputs.dtype == torch.float32
        assert split.targets.dtype == torch.int64
        assert split.targets.unique().tolist() == list(range(10))


def test_red_green_and_blue_are_the_channels_and_rows_follow_each_other(records, folder):
    test = load(Scifar10Data(normalization="imagenet", validation_fraction=0.2), folder).read_test()
    record = records["test_batch.bin"][7]
    for channel, (mean, std) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]):
        values = record[1 + 1024 * channel :][:1024].astype(np.float64)
        expected = torch.from_numpy((values / 255 - mean) / std).float()
        torch.testing.assert_close(test.inputs[7, channel], expected, rtol=1e-4, atol=1e-4)


def test_each_channel_is_normalised_by_the_training_images(folder):
    task = load(DATA, folder)
    torch.testing.assert_close(task.train.inputs.mean((0, 2)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(task.train.inputs.std((0, 2)), torch.ones(3), atol=1e-3, rtol=0)
    assert task.validation.inputs.mean((0, 2)).abs().min() > 1e-4  # by others than its own


def test_the_archive_is_downloaded_and_unpacked_once(archive, mirror, monkeypatch, tmp_path):
    mirror.files[cifar10.ARCHIVE] = archive
    monkeypatch.setattr(cifar10, "MIRRORS", (mirror.address,))
    for _ in range(2):
        assert len(load(DATA, tmp_path / "new").read_test()) == 20
    assert mirror.requested == [cifar10.ARCHIVE]
    inner = tmp_path / "new" / "scifar10" / cifar10.FOLDER
    assert sorted(path.name for path in inner.iterdir()) == sorted(
        (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES)
    )


def test_an_archive_with_another_checksum_is_not_unpacked(archive, tmp_path):
    path = tmp_path / "scifar10" / cifar10.ARCHIVE
    path.parent.mkdir()
    path.write_bytes(archive + b"\0")
    with pytest.raises(DamagedData, match=f"expected {cifar10.CHECKSUM}"):
        load(DATA, tmp_path)
    assert not (path.parent / cifar10.FOLDER).exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "61460 bytes for 20 images, got 61459"),
        (lambda content: content + b"\0", "61460 bytes for 20 images, got more"),
        (lambda content: b"\x0a" + content[1:], "classes 0 to 9"),
        (lambda content: b"\0" * len(content), r"classes 0 to 9, got \[0\]"),
        (lambda content: b"<html>", "got 6"),
    ],
    ids=["cut", "trailing", "class-10", "zeros", "html"],
)
@pytest.mark.parametrize("name", ["data_batch_3.bin", "test_batch.bin"])
def test_a_damaged_file_is_told_before_any_training(folder, name, damage, message):
    path = folder / "scifar10" / cifar10.FOLDER / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedData, match=message) as error:
        load(DATA, folder)
    assert error.value.where == str(path)


def test_a_file_that_is_missing_is_told_by_name(folder):
    (folder / "scifar10" / cifar10.FOLDER / "data_batch_2.bin").unlink()
    with pytest.raises(ConfigError, match=r"data_batch_2\.bin: cannot be read"):
        load(DATA, folder)


def test_the_official_files_are_fetched_over_https_and_checked():
    assert all(mirror.startswith("https://") for mirror in cifar10.MIRRORS)
    assert cifar10.CHECKSUM.startswith("md5:")
    assert cifar10.RECORDS * (1 + cifar10.PIXELS_BYTES) == 30_730_000
