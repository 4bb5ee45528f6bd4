"""A model handed over: a folder that needs neither the sweep nor its data.

trial.yaml          all settings; `ckconv-sweep train` trains it again
model.safetensors   the weights
model.json          what goes with them: the data's shape, classes, normalisation and digest,
                    where the model comes from, and the SHA-256 of all files, of itself the rest
README.md           the model card, for people; one that was edited is kept
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ckconv_sweep.config import documents
from ckconv_sweep.config.build import build
from ckconv_sweep.config.data import Description
from ckconv_sweep.config.segments import SEGMENTS
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.data.plain_preparation import as_plain, from_plain
from ckconv_sweep.data.preparation import Preparation
from ckconv_sweep.durable import whole_folder
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData
from ckconv_sweep.record.blobs import UNFINISHED, Blobs
from ckconv_sweep.record.openings import FILE as OPENINGS

WEIGHTS, TRIAL, ABOUT, CARD = "model.safetensors", "trial.yaml", "model.json", "README.md"
FORMAT = 1
"""Of the folder; another number where an older program would read it wrongly."""
MAX_BYTES = 2**33


@dataclass(frozen=True, kw_only=True, eq=False)
class Promoted:
    """What such a folder holds."""

    trial: Trial
    weights: Mapping[str, Tensor]
    description: Description
    classes: Sequence[str]
    preparation: Preparation | None
    data: Identity
    """Of the data that it was trained on."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from, as plain values: the sweep's name and uid, the trial, ..."""


def contents(promoted: Promoted, trial_text: str, card: str) -> dict[str, bytes]:
    """The files of a folder, by name: the same model gives the same bytes."""
    whole = torch.contiguous_format  # the library takes no parts of a tensor, nor one twice
    apart = {name: part.clone(memory_format=whole) for name, part in promoted.weights.items()}
    weights = safetensors.torch.save(apart, {"format": "pt"})
    files = {TRIAL: trial_text.encode(), WEIGHTS: weights, CARD: card.encode()}
    preparation = promoted.preparation
    digests = {name: _sha256(content) for name, content in files.items()}
    about = {
        "format": FORMAT,
        "origin": dict(promoted.origin),
        "description": asdict(promoted.description),
        "classes": list(promoted.classes),
        "preparation": None if preparation is None else as_plain(preparation),
        "data": dict(promoted.data),
        "sha256": digests,
    }
    digests[ABOUT] = _sha256_of_rest(about)
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return {**files, ABOUT: text.encode()}


def _sha256_of_rest(about: Mapping[str, Any]) -> str:
    """Of all in `model.json` but for this digest itself."""
    noted: Mapping[str, str] = about["sha256"]
    rest = {name: digest for name, digest in noted.items() if name != ABOUT}
    text = json.dumps({**about, "sha256": rest}, sort_keys=True)
    return _sha256(text.encode())


def is_promoted(folder: Path) -> bool:
    """Whether a folder is meant to be one."""
    return any((folder / name).is_file() for name in (ABOUT, WEIGHTS))


def write(folder: Path, files: Mapping[str, bytes], uid: str) -> bool:
    """Write a folder, or what has changed of one of the same sweep; returns whether anything did.
    A new one is there whole or not at all. One whose change was interrupted is refused by `read`,
    because what tells the digests is written last, and the same again completes it. A model card
    that was edited stays.

    Args:
        uid: the sweep's.

    Raises:
        ConfigError: something else is there.
        CannotWrite: it cannot be written.
    """
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if folder.exists():
            _check_replaceable(folder, uid)
            Blobs(folder).delete(*Blobs(folder).list(UNFINISHED))
            kept = {CARD} if card_is_edited(folder) else set()
            changed = [n for n in files if n not in kept and not _holds(folder / n, files[n])]
            for name in sorted(changed, key=lambda name: name == ABOUT):
                Blobs(folder).put(name, files[name])
            return bool(changed)
        with whole_folder(folder) as new:
            for name, content in files.items():
                Blobs(new).put(name, content)
    except OSError as error:
        raise CannotWrite(f"cannot be written: {error.strerror}", where=str(folder)) from error
    return True


def card_is_edited(folder: Path) -> bool:
    """Whether the model card of a promoted folder is not as it was written."""
    noted = _about(folder)["sha256"].get(CARD)
    path = folder / CARD
    return noted is not None and path.is_file() and _sha256(path.read_bytes()) != noted


def _check_replaceable(folder: Path, uid: str) -> None:
    """Only what was promoted from the same sweep is replaced, with no file of anybody beside it."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir() if not path.match(UNFINISHED)}
        ours = names <= {WEIGHTS, TRIAL, ABOUT, CARD, OPENINGS} and ABOUT in names
        if ours and _about(folder)["origin"].get("uid") == uid:
            return
    raise ConfigError(
        "something else is there already",
        where=str(folder),
        hint="take another --out, or delete it",
    )


def read(folder: Path) -> Promoted:
    """Raises ConfigError or DamagedData if it is not what `contents` gives, whole."""
    about = _about(folder)
    files = {name: _file(folder, name) for name in (TRIAL, WEIGHTS)}
    digests = {ABOUT: _sha256_of_rest(about)}
    digests |= {name: _sha256(content) for name, content in files.items()}
    for name, digest in digests.items():
        if digest != about["sha256"].get(name):
            raise DamagedData(
                f"its SHA-256 is not the one in {ABOUT}: it was changed or damaged",
                where=str(folder / name),
                hint="promote it again; other settings or weights are another model",
            )
    weights = weights_of(files[WEIGHTS], str(folder / WEIGHTS))
    where = str(folder / ABOUT)
    try:
        plain = about["preparation"]
        description = Description(**about["description"])
        return Promoted(
            trial=_trial(folder, files[TRIAL]),
            weights=weights,
            description=description,
            classes=_classes(description, about["classes"]),
            preparation=None if plain is None else from_plain(plain),
            data=dict(about["data"]),
            origin=dict(about["origin"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedData(f"cannot be read: {error!r}", where=where) from None


def weights_of(content: bytes, where: str) -> dict[str, Tensor]:
    """Raises DamagedData if it is no safetensors file."""
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, KeyError, RuntimeError) as error:  # KeyError: a type torch lacks
        raise DamagedData(
            f"no whole safetensors file: {error}", where=where, hint="promote it again"
        ) from None


def _classes(description: Description, names: Any) -> tuple[str, ...]:
    """Raises ValueError if they are not one name for each class."""
    many = 0 if description.kind == "regression" else max(2, description.outputs)
    if not isinstance(names, list) or len(names) != many or len(set(map(str, names))) != many:
        raise ValueError(f"{many} different classes expected, got {names!r:.80}")
    return tuple(map(str, names))


def _about(folder: Path) -> dict[str, Any]:
    where = str(folder / ABOUT)
    try:
        about = json.loads(_file(folder, ABOUT))
    except (ValueError, RecursionError) as error:
        raise DamagedData(f"no JSON: {error}", where=where) from None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise DamagedData("not written by ckconv-sweep promote", where=where)
    if about["format"] > FORMAT:
        raise ConfigError(
            f"a newer ckconv-sweep wrote this folder: its format is {about['format']}, this "
            f"program knows {FORMAT}",
            where=where,
            hint="update ckconv-sweep",
        )
    if not isinstance(about.get("sha256"), dict) or not isinstance(about.get("origin"), dict):
        raise DamagedData("not written by ckconv-sweep promote", where=where)
    return about


def _trial(folder: Path, content: bytes) -> Trial:
    document = documents.parse(content.decode(), str(folder / TRIAL))
    tree = {name: part for name, part in document.value.items() if name != SEGMENTS}
    return build(Trial, documents.Document(str(folder / TRIAL), tree))


def _file(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DamagedData(f"has more than {MAX_BYTES} bytes", where=str(path))
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"{name} is missing: a promoted folder has {TRIAL}, {WEIGHTS} and {ABOUT}",
            where=str(folder),
            hint="copy the whole folder, or promote it again",
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
