"""Sequential MNIST (`smnist`) and its permuted form (`pmnist`): 784 steps, 1 channel, 10 classes.

An image of 28 x 28 grey values is read row by row, as in Romero et al. 2022 (CKConv,
arXiv:2102.02611). `pmnist` reads the same 784 pixels in one fixed shuffled order.

Data: MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), four idx files in `<data folder>/mnist/`.

Split: `validation_fraction` of the 60,000 training images is held out by `split_seed`, stratified;
the official 10,000 are the test split. (The published code chose its settings on those 10,000.)

Values: (x / 255 - 0.1307) / 0.3081, the constants of the published code.

Shapes: N sequences, C = 1 channel, T = 784 time steps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ckconv_sweep.config.data import Description, PmnistData, SmnistData
from ckconv_sweep.data.fetch import data_folder, find_or_download, read_content
from ckconv_sweep.data.idx import parse_idx
from ckconv_sweep.data.preparation import Preparation
from ckconv_sweep.data.splits import held_out_by
from ckconv_sweep.data.task import SequenceTask, Split

SMNIST = Description(name="smnist", in_channels=1, length=784, outputs=10)
PMNIST = Description(name="pmnist", in_channels=1, length=784, outputs=10)

IMAGE_SHAPE = (28, 28)
MEAN, STD = 0.1307, 0.3081

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Folders that hold `<name>.gz`, in the order in which they are tried."""

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

SHA256 = {
    TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""Of the unpacked files, as archives of the same content differ. Computed from the official files
(the unpacked training images have md5 6bbc9ace898e44ae57da46a324031adb)."""


def describe(data: SmnistData | PmnistData, data_dir: Path | None = None) -> Description:
    """Always the same."""
    return SMNIST if data.name == "smnist" else PMNIST


def load(data: SmnistData | PmnistData, data_dir: Path | None = None) -> SequenceTask:
    """`smnist`: the pixels row by row. `pmnist`: in the published shuffled order."""
    length = SMNIST.length
    order_T = np.arange(length) if data.name == "smnist" else permutation(length)
    paths = find_or_download(data_folder(data_dir) / "mnist", SHA256, MIRRORS)
    values_NT, targets_N = _read(paths, TRAIN_IMAGES, TRAIN_LABELS)
    for name in (TEST_IMAGES, TEST_LABELS):
        # A damaged test file is told now, not at the end of a sweep. Its content is not kept.
        read_content(paths[name], SHA256[name])
    train, validation = held_out_by(data, targets_N)
    return SequenceTask(
        description=describe(data),
        train=_split(values_NT[train], targets_N[train], order_T),
        validation=_split(values_NT[validation], targets_N[validation], order_T),
        test_reader=partial(_read_test, paths, order_T),
        preparation=Preparation(
            channels=1,
            length=length,
            measured_on="the published constants of MNIST's training images",
            scale=255.0,
            mean=torch.tensor(MEAN).view(1, 1, 1),
            std=torch.tensor(STD).view(1, 1, 1),
            order=None if data.name == "smnist" else order_T,
            image=IMAGE_SHAPE if data.name == "smnist" else None,
        ),
    )


def permutation(length: int) -> NDArray[np.int64]:
    """The published order: step t of the sequence is pixel `permutation(784)[t]`.

    The first draw of numpy's legacy generator under seed 0. The published code draws it from the
    global generator, in training and again, different by then, in testing; only the first draw
    belongs to the published weights.
    """
    return np.random.RandomState(0).permutation(length).astype(np.int64)


def _read(
    paths: dict[str, Path], images: str, labels: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Grey values `(N, 784)` from 0 to 255, row by row, and classes `(N,)`, in the files' order."""
    images_NHW = parse_idx(read_content(paths[images], SHA256[images]), paths[images], IMAGE_SHAPE)
    labels_N = parse_idx(read_content(paths[labels], SHA256[labels]), paths[labels], ())
    assert len(images_NHW) == len(labels_N)  # both have their known content
    return images_NHW.reshape(len(images_NHW), -1), labels_N.astype(np.int64)


def _read_test(paths: dict[str, Path], order_T: NDArray[np.int64]) -> Split:
    return _split(*_read(paths, TEST_IMAGES, TEST_LABELS), order_T)


def _split(
    values_NT: NDArray[np.uint8], targets_N: NDArray[np.int64], order_T: NDArray[np.int64]
) -> Split:
    # Shuffled while a value is still one byte, then worked on in place: 188 MB are not copied
    # about. The three steps in this order give the published code's floats bit for bit.
    inputs_NT = torch.from_numpy(values_NT[:, order_T]).float()
    inputs_NT.div_(255).sub_(MEAN).div_(STD)
    return Split(inputs_NT.unsqueeze(1), torch.from_numpy(targets_N))
