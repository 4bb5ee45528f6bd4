"""Spoken words, one second each: 16,000 samples of sound, or 161 steps of 20 MFCC features.

Data: Warden 2018, Speech Commands version 0.02 (arXiv:1804.03209; CC BY 4.0); 35 words, of which
the ten of Romero et al. 2022 (CKConv, arXiv:2102.02611) are the default. Clips are
`<data folder>/speech_commands/<word>/*.wav`; the archive (2.4 GB) is downloaded into the data
folder and the words asked for are unpacked where they are missing. A folder of one's own clips
there is a word, too.

Only clips of exactly 16,000 samples are kept: 34,975 of the ten words. Samples are divided by
2 ** 15. `raw`: 1 channel, 16,000 steps, or fewer by `sampling_rate`. `mfcc`: 20 channels, 161 steps
(`mfcc.py`).

Split: 70/15/15, stratified, speakers in several splits (`sequences.published_split`; not the split
that came with the dataset). The published code takes the clips in the order in which the file
system lists them, which is not known; here they are sorted by word, as in the settings, and name.

All ten words as sound need about 6 GB of memory while they are read.

Shapes: N clips, C channels, L time steps of a whole clip.
"""

from __future__ import annotations

import wave
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import TEN_WORDS, Description, SpeechCommandsData
from ckconv_sweep.data.archives import unpack
from ckconv_sweep.data.fetch import DATA_VARIABLE, data_folder, find_or_download_archive
from ckconv_sweep.data.mfcc import COEFFICIENTS, HOP_SAMPLES, SAMPLES_PER_SECOND, mfcc
from ckconv_sweep.data.preparation import measured, of_resampled
from ckconv_sweep.data.sequences import (
    Positions,
    prepare,
    prepare_test,
    prepared_shape,
    published_split,
)
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import DamagedData, UnknownNameError, reading

ARCHIVE = "speech_commands_v0.02.tar.gz"
MIRRORS = (
    "https://storage.googleapis.com/download.tensorflow.org/data/",
    "https://download.tensorflow.org/data/",
)
"""Folders that hold the archive, in the order in which they are tried."""
CHECKSUM = "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
"""Of the archive, as TensorFlow Datasets and torchaudio publish it."""
ARCHIVE_BYTES = 2_428_923_189
MAX_BYTES, MAX_FILES = 4 * 2**30, 120_000
"""Of the unpacked archive: it has 105,829 clips of at most 32 kB, and some noise."""

# fmt: off
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four",
    "go", "happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right",
    "seven", "sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)
# fmt: on
"""What the archive holds."""
CLIPS_OF_TEN_WORDS = 34_975

CLIP_SAMPLES = SAMPLES_PER_SECOND
LOUDEST = 2**15
CLIPS_AT_ONCE = 256


def describe(data: SpeechCommandsData, data_dir: Path | None = None) -> Description:
    """Follows from the settings."""
    channels, length = prepared_shape(*_shape(data), data)
    return Description(name=data.name, in_channels=channels, length=length, outputs=len(data.words))


def load(data: SpeechCommandsData, data_dir: Path | None = None) -> SequenceTask:
    """Read and split the clips, after downloading and unpacking those that are missing.

    Raises:
        UnknownNameError: a word is neither in the dataset nor a folder of its own.
        ConfigError: the archive is missing and cannot be downloaded; a file cannot be read.
        DamagedData: an archive or a clip is not what it must be.
        CannotWrite: the archive cannot be kept or unpacked.
    """
    folder = find_words(data_folder(data_dir), data.words)
    inputs_NCL, targets_N = read_clips(folder, data)
    positions = published_split(targets_N, data.split_seed)
    train, validation, normalizer = prepare(inputs_NCL, targets_N, positions, data)
    measured_on = measured(len(train), data.name)
    return SequenceTask(
        description=describe(data),
        train=train,
        validation=validation,
        test_reader=partial(_read_test, folder, data, positions),
        classes=data.words,
        preparation=None
        if data.features == "mfcc"  # a file of sounds would be transformed first
        else of_resampled(normalizer, _shape(data), data, measured_on, continued=False),
    )


def find_words(root: Path, words: tuple[str, ...]) -> Path:
    """The folder in which every word has a folder; missing ones are brought first.

    Args:
        root: the data folder.
        words: those that are needed.
    """
    folder = root / "speech_commands"
    missing = [word for word in words if not _is_word(folder, word)]
    for word in missing:
        if word not in WORDS:
            raise UnknownNameError("word", word, WORDS, where="data.words")
    if not missing:
        return folder
    archive = find_or_download_archive(
        root, ARCHIVE, MIRRORS, checksum=CHECKSUM, max_bytes=ARCHIVE_BYTES
    )
    bring = partial(unpack, archive, checksum=CHECKSUM, max_bytes=MAX_BYTES, max_files=MAX_FILES)
    # All at once where nothing is there yet, as every walk through the archive takes a minute.
    if not folder.is_dir():
        bring(folder, wanted=lambda name: _is_clip(name) and name.partition("/")[0] in words)
    for word in missing:
        bring(folder / word, inside=word, wanted=_is_clip)
    return folder


def read_clips(folder: Path, data: SpeechCommandsData) -> tuple[Tensor, NDArray[np.int64]]:
    """All clips of a second, in the order of their words and names.

    Returns:
        Inputs `(N, C, L)`, float32, not normalised, and the number of each one's word, `(N,)`.

    Raises:
        ConfigError: a folder or file cannot be read.
        DamagedData: a clip is broken, or clips are missing.
    """
    paths = [(path, i) for i, word in enumerate(data.words) for path in _clips(folder / word)]
    inputs_NCL = torch.empty(len(paths), *_shape(data))  # too long where clips are left out
    targets: list[int] = []
    sounds: list[NDArray[np.int16]] = []
    for number, (path, target) in enumerate(paths, start=1):
        if (sound := read_clip(path)) is not None:
            sounds.append(sound)
            targets.append(target)
        if sounds and (len(sounds) == CLIPS_AT_ONCE or number == len(paths)):
            sound_NS = torch.from_numpy(np.stack(sounds).astype(np.float32) / LOUDEST)
            inputs_NCL[len(targets) - len(sounds) : len(targets)] = (
                mfcc(sound_NS) if data.features == "mfcc" else sound_NS.unsqueeze(1)
            )
            sounds.clear()
    targets_N = np.array(targets, dtype=np.int64)
    _check_counts(folder, data, targets_N)
    return inputs_NCL[: len(targets)], targets_N


def read_clip(path: Path) -> NDArray[np.int16] | None:
    """The samples of a clip, `(16000,)`, or None where it has another number of them.

    Raises:
        ConfigError: it cannot be read.
        DamagedData: it is no wav file of 16-bit samples, one channel and 16,000 samples a second,
            or is cut short.
    """
    try:
        with reading(path), path.open("rb") as file, wave.open(file) as clip:
            form = (clip.getsampwidth(), clip.getnchannels(), clip.getframerate())
            samples = clip.getnframes()
            content = clip.readframes(samples) if samples == CLIP_SAMPLES else None
    except (wave.Error, EOFError) as error:
        raise _damaged(path, str(error) or "it ends too early") from error
    if form != (2, 1, SAMPLES_PER_SECOND):
        raise _damaged(path, "{} bytes a sample, {} channels, {} samples a second".format(*form))
    if content is None:
        return None
    if len(content) != 2 * samples:
        raise _damaged(path, f"{len(content)} bytes of {2 * samples}")
    return np.frombuffer(content, dtype="<i2")


def _is_word(folder: Path, word: str) -> bool:
    is_name = word not in ("", ".", "..") and Path(word).name == word
    return is_name and (folder / word).is_dir()


def _is_clip(name: str) -> bool:
    return name.endswith(".wav")


def _shape(data: SpeechCommandsData) -> tuple[int, int]:
    """`(C, L)` of a whole clip."""
    if data.features == "mfcc":
        return COEFFICIENTS, CLIP_SAMPLES // HOP_SAMPLES + 1
    return 1, CLIP_SAMPLES


def _clips(folder: Path) -> list[Path]:
    with reading(folder):
        return sorted(path for path in folder.iterdir() if path.suffix == ".wav")


def _check_counts(folder: Path, data: SpeechCommandsData, targets_N: NDArray[np.int64]) -> None:
    counts = np.bincount(targets_N, minlength=len(data.words))
    for word, count in zip(data.words, counts, strict=True):
        if count == 0:
            raise DamagedData(
                f"holds no clip of {CLIP_SAMPLES} samples",
                where=str(folder / word),
                hint=f"put its .wav files there, or delete the folder: {ARCHIVE} is then unpacked",
            )
    if set(data.words) == set(TEN_WORDS) and len(targets_N) != CLIPS_OF_TEN_WORDS:
        raise DamagedData(
            f"expected {CLIPS_OF_TEN_WORDS} clips of {CLIP_SAMPLES} samples of the ten words, got "
            f"{len(targets_N)}",
            where=str(folder),
            hint=f"delete the folder: {ARCHIVE} is then unpacked again; or name the folder above "
            f"a whole {folder.name}/ with --data-dir or {DATA_VARIABLE}",
        )


def _damaged(path: Path, got: str) -> DamagedData:
    return DamagedData(
        f"not a valid clip: expected a wav file of 2 bytes a sample, 1 channel, "
        f"{SAMPLES_PER_SECOND} samples a second, got {got}",
        where=str(path),
        hint=f"delete the folder {path.parent.name}/: {ARCHIVE} is then unpacked again",
    )


def _read_test(folder: Path, data: SpeechCommandsData, positions: Positions) -> Split:
    inputs_NCL, targets_N = read_clips(folder, data)
    return prepare_test(inputs_NCL, targets_N, positions, data)
