"""Sequential CIFAR-10 (`scifar10`): 1,024 steps, 3 channels, 10 classes.

A colour image of 32 x 32 is read row by row, as in Romero et al. 2022 (CKConv, arXiv:2102.02611).

Data: CIFAR-10 (A. Krizhevsky, Learning multiple layers of features from tiny images, 2009), its
binary version in `<data folder>/scifar10/cifar-10-batches-bin/`: six files of 10,000 records, a
record being one byte for the class and 1,024 bytes each for red, green and blue, row by row
(https://www.cs.toronto.edu/~kriz/cifar.html). The Python version holds pickles, which may run code
when they are opened: it is not read.

Split: `validation_fraction` of the 50,000 training images is held out by `split_seed`, stratified;
the official 10,000 are the test split. (The published code chose its settings on those 10,000.)

Values: x / 255, normalised by each colour's mean and standard deviation over the training
sequences, or, with `imagenet`, by those of ImageNet's colours, the constants of the published code.

Shapes: N sequences, C = 3 channels, T = 1,024 time steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ckconv_sweep.config.data import Description, Scifar10Data
from ckconv_sweep.data.archives import unpack
from ckconv_sweep.data.fetch import data_folder, find_or_download_archive
from ckconv_sweep.data.preparation import by_normalizer, measured
from ckconv_sweep.data.sequences import Normalizer
from ckconv_sweep.data.splits import held_out_by
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import DamagedData, reading

SCIFAR10 = Description(name="scifar10", in_channels=3, length=1024, outputs=10)

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE = "cifar-10-binary.tar.gz"
CHECKSUM = "md5:c32a1d4ab5d03f1284b67883e8d87530"
"""As the dataset's page gives it. Nothing stronger is published, so
`_read` checks what comes out."""
MAX_ARCHIVE_BYTES = 200 * 10**6
MAX_UNPACKED_BYTES = 200 * 10**6
FOLDER = "cifar-10-batches-bin"
AGAIN = f"delete the folder {FOLDER}/ and run again: it is then made again"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)

RECORDS = 10_000
"""In each file."""
PIXELS_BYTES = 3 * 1024

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
"""In the order in which the dataset numbers them."""

IMAGENET = Normalizer(
    mean=torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1),
    std=torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1),
)


def describe(data: Scifar10Data, data_dir: Path | None = None) -> Description:
    """Always the same."""
    return SCIFAR10


def load(data: Scifar10Data, data_dir: Path | None = None) -> SequenceTask:
    """Read and split the images, after downloading 170 MB where they are missing."""
    folder = _find_or_unpack(data_folder(data_dir) / "scifar10")
    pixels_NCT, targets_N = _read(folder, TRAIN_FILES)
    _read(folder, TEST_FILES)  # damage is told now, not at the end of a sweep; nothing is kept
    train, validation = held_out_by(data, targets_N)
    normalizer, measured_on = IMAGENET, "the published constants of ImageNet's colours"
    if data.normalization == "per_channel":
        normalizer = Normalizer.of(_scaled(pixels_NCT[train]), "per_channel")
        measured_on = measured(len(train), data.name)
    return SequenceTask(
        description=SCIFAR10,
        train=_split(pixels_NCT[train], targets_N[train], normalizer),
        validation=_split(pixels_NCT[validation], targets_N[validation], normalizer),
        test_reader=partial(_read_test, folder, normalizer),
        classes=CLASSES,
        preparation=by_normalizer(
            normalizer,
            SCIFAR10.in_channels,
            SCIFAR10.length,
            measured_on=measured_on,
            scale=255.0,
            image=(32, 32),
        ),
    )


def _find_or_unpack(folder: Path) -> Path:
    if (folder / FOLDER).is_dir():
        return folder / FOLDER
    archive = find_or_download_archive(
        folder, ARCHIVE, MIRRORS, checksum=CHECKSUM, max_bytes=MAX_ARCHIVE_BYTES
    )
    return unpack(
        archive,
        folder / FOLDER,
        checksum=CHECKSUM,
        max_bytes=MAX_UNPACKED_BYTES,
        max_files=50,
        inside=FOLDER,
        wanted=(*TRAIN_FILES, *TEST_FILES).__contains__,
    )


def _read(folder: Path, names: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Colour values `(N, 3, 1024)` from 0 to 255 and classes `(N,)`, in the files' order.

    Raises:
        ConfigError: a file cannot be read.
        DamagedData: a file has another size, another class or not every class.
    """
    records = np.concatenate([_records(folder / name) for name in names])
    return records[:, 1:].reshape(len(records), 3, 1024), records[:, 0].astype(np.int64)


def _records(path: Path) -> NDArray[np.uint8]:
    """`(RECORDS, 1 + 3072)`"""
    expected_bytes = RECORDS * (1 + PIXELS_BYTES)
    with reading(path, AGAIN), path.open("rb") as file:
        content = file.read(expected_bytes + 1)
    if len(content) != expected_bytes:
        more = "more" if len(content) > expected_bytes else f"{len(content)}"
        raise _damaged(path, f"{expected_bytes} bytes for {RECORDS} images, got {more}")
    records = np.frombuffer(content, dtype=np.uint8).reshape(RECORDS, 1 + PIXELS_BYTES)
    classes = np.unique(records[:, 0])
    if classes.tolist() != list(range(SCIFAR10.outputs)):
        raise _damaged(path, f"each of the classes 0 to 9, got {classes[:12].tolist()}")
    return records


def _damaged(path: Path, expected_and_got: str) -> DamagedData:
    return DamagedData(
        f"no file of CIFAR-10's binary version: expected {expected_and_got}",
        where=str(path),
        hint=AGAIN,
    )


def _read_test(folder: Path, normalizer: Normalizer) -> Split:
    return _split(*_read(folder, TEST_FILES), normalizer)


def _scaled(pixels_NCT: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels_NCT).float().div_(255)


def _split(
    pixels_NCT: NDArray[np.uint8], targets_N: NDArray[np.int64], normalizer: Normalizer
) -> Split:
    return Split(normalizer(_scaled(pixels_NCT)), torch.from_numpy(targets_N))
