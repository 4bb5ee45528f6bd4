"""Characters of the Penn Treebank: the next of 50 different ones, at every step.

Data: Marcus, Marcinkiewicz and Santorini 1993, in the form of Mikolov et al. 2010: words in lower
case, numbers as N, rare words as <unk>. Three files in `<data folder>/penn_treebank/`:
`ptb.train.txt`, `ptb.valid.txt` and `ptb.test.txt`. The text is licensed, so nothing is downloaded.

A character's number is its place in the order of first appearance in the training text. The end of
a line is one character like the others (`END_OF_LINE` where it is shown). The published code writes
it as the five characters of "<eos>" instead, so its 49 characters and its bits per character are
not quite those of others.

Windows, after Bai et al. 2018 (TCN, arXiv:1803.01271): `sequence_length` characters each, a new
window every `predicted_steps`, of which only the last `predicted_steps` are scored; those before
are context. The first window scores all its steps, and the last one ends with the text and scores
what is left: every character but the first of a text is scored once.

Split: as the files are; `split_seed` changes nothing.

Shapes: N windows, T = `sequence_length` steps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ckconv_sweep.config.data import Description, PennTreebankData
from ckconv_sweep.data.fetch import DATA_VARIABLE, data_folder
from ckconv_sweep.data.task import IGNORED, SequenceTask, Split
from ckconv_sweep.errors import ConfigError, DamagedData, reading

CHARACTERS = 50
"""Different ones in the training text, the end of a line among them."""
END_OF_LINE = "<eos>"
TRAIN, VALIDATION, TEST = "ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"
MAX_BYTES = 64 * 2**20
"""The largest file has 5 MB; another one put in its place cannot fill the memory."""


def describe(data: PennTreebankData, data_dir: Path | None = None) -> Description:
    """Follows from the settings; a text with another number of characters is refused when read."""
    return Description(
        name=data.name,
        kind=data.kind,
        in_channels=CHARACTERS,
        length=data.sequence_length,
        outputs=CHARACTERS,
    )


def load(data: PennTreebankData, data_dir: Path | None = None) -> SequenceTask:
    """Read the texts and cut them into windows.

    Raises:
        ConfigError: a file is missing, or shorter than one window.
        DamagedData: a file is no text of these characters.
    """
    folder = data_folder(data_dir) / "penn_treebank"
    # All three: a missing or damaged test file is told now, not at the end of a sweep.
    texts = {name: _read(folder / name) for name in (TRAIN, VALIDATION, TEST)}
    characters = in_order_of_appearance(texts[TRAIN])
    if len(characters) != CHARACTERS:
        raise DamagedData(
            f"expected a text of {CHARACTERS} different characters, got {len(characters)}: "
            f"{shown(characters)}",
            where=str(folder / TRAIN),
            hint="the text is in lower case, with N for numbers; its lines end in \\n alone",
        )
    train, validation, _ = (
        _split(data, folder / name, text, characters) for name, text in texts.items()
    )
    return SequenceTask(
        description=describe(data),
        train=train,
        validation=validation,
        test_reader=partial(_read_split, data, folder / TEST, characters),
        classes=[END_OF_LINE if one == "\n" else one for one in characters],
    )


def in_order_of_appearance(text: str) -> str:
    """The different characters of a text; the number of each is its place."""
    return "".join(dict.fromkeys(text))


def shown(characters: str) -> str:
    """Characters for people: in quotes, the end of a line as `<eos>`."""
    return " ".join(END_OF_LINE if one == "\n" else repr(one) for one in characters)


def windows(text_S: Tensor, length: int, predicted: int) -> Split:
    """Cut a text into windows of equal length.

    Args:
        text_S: numbers of its characters, `(S,)`, int64, S > length.
        length: characters of a window.
        predicted: how many of its last steps are scored at most, but for the first window.

    Returns:
        Inputs and targets, `(N, length)` each. Over all windows, the targets that are not `IGNORED`
        are the text from its second character on.
    """
    last_start = len(text_S) - 1 - length
    starts_N = torch.tensor([*range(0, last_start, predicted), last_start])
    # Where the window before ended, counted from this window's start; the first has none before.
    context_N = torch.cat([torch.zeros(1, dtype=torch.int64), length - starts_N.diff()])
    inputs_NT = text_S[:-1].unfold(0, length, 1)[starts_N]
    targets_NT = text_S[1:].unfold(0, length, 1)[starts_N]
    targets_NT[torch.arange(length) < context_N[:, None]] = IGNORED
    return Split(inputs_NT, targets_NT)


def _split(data: PennTreebankData, path: Path, text: str, characters: str) -> Split:
    if len(text) <= data.sequence_length:
        raise ConfigError(
            f"a window needs more than sequence_length = {data.sequence_length} characters, the "
            f"file has {len(text)}",
            where=str(path),
            hint="choose a smaller data.sequence_length, or put the whole file there",
        )
    numbers = np.full(0x110000, -1, dtype=np.int64)  # one for each character of Unicode
    numbers[_codes(characters)] = np.arange(len(characters))
    text_S = numbers[_codes(text)]
    if (text_S < 0).any():
        strange = "".join(sorted(set(text) - set(characters)))
        raise DamagedData(
            f"has characters that are not in {TRAIN}: {shown(strange)}", where=str(path)
        )
    return windows(torch.from_numpy(text_S), data.sequence_length, data.predicted_steps)


def _read_split(data: PennTreebankData, path: Path, characters: str) -> Split:
    return _split(data, path, _read(path), characters)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")


def _read(path: Path) -> str:
    hint = (
        f"the text is licensed and not downloaded: take {TRAIN}, {VALIDATION} and {TEST} from the "
        "folder data/ of T. Mikolov's simple-examples.tgz (or make them from LDC99T42) and put "
        f"them there, or name the folder above {path.parent.name}/ that has them with --data-dir "
        f"or {DATA_VARIABLE}"
    )
    with reading(path, hint), path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DamagedData(
            f"expected 5 MB of text, got more than {MAX_BYTES} bytes", where=str(path)
        )
    try:
        return content.decode()  # as bytes, so that \r\n is not taken for \n
    except UnicodeDecodeError as error:
        raise DamagedData(f"expected text in UTF-8, got {error}", where=str(path)) from error
