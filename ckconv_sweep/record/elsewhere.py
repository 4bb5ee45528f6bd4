"""A sweep whose trials keep their files elsewhere than in its own folder: `launch --blobs`.

There, beside the folder `trials`, lie

    driver.json                          which sweep's they are, and which driver runs it
    snapshot-<ms>-<16 hex digits>.db     copies of the study: `record.backup`

The lock of a sweep excludes a second driver on the machines that see its folder. From a snapshot a
sweep is continued on others: a driver that finds there another one's name than its own ends.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import Any

from ckconv_sweep.config.names import expanded
from ckconv_sweep.errors import ConfigError, SweepBusy
from ckconv_sweep.record.blobs import Place, blobs_at
from ckconv_sweep.record.filesystem import check_writable
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.remote import Remote

OPTION = "--blobs"
_DRIVER = "driver.json"
_OF_A_TRIAL = re.compile(r"trials/(\d{4,})/.+")


def asked_place(text: str, name: str) -> Place:
    """Where `--blobs` puts the files of the sweep of this name. Raises ConfigError for an address
    that was not tried."""
    if "://" in text:
        return Remote.of(text, OPTION) / name
    return expanded(Path(text)).resolve() / name


def settle(
    folder: SweepFolder, asked: str | None, uid: str | None, copy_of: Path | None = None
) -> None:
    """For the driver of a sweep, which holds its lock: where the files lie is noted, and can be
    written to.

    Args:
        asked: what `--blobs` says.
        uid: the sweep's; None of a new one.
        copy_of: the folder of which this is a copy.

    Raises:
        ConfigError: they lie elsewhere already, another sweep's are there, or a copy's original has
            the same.
        CannotWrite: nothing can be written there.
    """
    place = folder.files if asked is None else asked_place(asked, folder.name)
    if uid is not None and place != folder.files:
        raise ConfigError(
            f"the files of this sweep's trials are in {folder.files}, not in {place}",
            where=OPTION,
            hint=f"leave it out: {folder.command('resume')}",
        )
    if place == folder.root:
        return
    if copy_of is not None and SweepFolder(copy_of, copy_of.name).files == place:
        raise ConfigError(
            f"this is a copy of the sweep in {copy_of}, and both have their files in {place}",
            where=folder.name,
            hint=f"continue it there, or take that folder away first: rm -r {quote(str(copy_of))}",
        )
    _check_usable(place)
    there = owner(place)
    if there and there.get("uid") != uid:
        raise ConfigError(
            f"the files of another sweep are in {place}, last driven on {_of(there)}",
            where=OPTION,
            hint=f"to continue that one: ckconv-sweep resume --from {place}\n  for a new one take "
            "another --name",
        )
    if uid is None:
        if blobs_at(place).sizes():
            raise ConfigError(
                f"there are other files in {place}", where=OPTION, hint="take another --name"
            )
        folder.keep_files_at(place)


def _check_usable(place: Place) -> None:
    if isinstance(place, Path):
        blobs_at(place / "trials").make()
        check_writable(place, option=OPTION)
        return
    blobs, probe = blobs_at(place), f".tmp-probe-{uuid.uuid4().hex}"
    blobs.put(probe, "probe")
    blobs.delete(probe)


def owner(place: Place) -> dict[str, Any]:
    """What the last driver wrote of itself; empty where there was none."""
    try:
        found: dict[str, Any] = json.loads(blobs_at(place).get(_DRIVER))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _of(there: dict[str, Any]) -> str:
    return f"{there.get('host')} in {there.get('folder')} ({there.get('since')})"


class Claim:
    """A driver's word that it runs the sweep whose files lie there, until another one's is."""

    def __init__(self, folder: SweepFolder, uid: str) -> None:
        self._place = folder.files
        self._name = folder.name
        self._said = {
            "uid": uid,
            "token": uuid.uuid4().hex,
            "folder": str(folder.root),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }

    def make(self) -> None:
        """Raises CannotWrite."""
        blobs_at(self._place).put(_DRIVER, json.dumps(self._said))

    def check(self) -> None:
        """Raises SweepBusy if it is another driver's by now."""
        there = owner(self._place)
        if there.get("token") != self._said["token"]:
            raise SweepBusy(
                f"the sweep was continued on {_of(there)}" if there else "its files were deleted",
                where=self._name,
                hint="every epoch that was recorded here until then is kept here; go on there",
            )


def forget_unknown(folder: SweepFolder, numbers: Iterable[int]) -> int:
    """Delete the files of trials that the study does not have: those that a lost driver began after
    the snapshot. Returns of how many."""
    known, blobs = set(numbers), blobs_at(folder.files)
    names: dict[int, list[str]] = {}
    for name in blobs.sizes():
        found = _OF_A_TRIAL.fullmatch(name)
        if found and int(found[1]) not in known:
            names.setdefault(int(found[1]), []).append(name)
    for files in names.values():
        blobs.delete(*files)
    return len(names)


def sweep_at(place: Path) -> SweepFolder | None:
    """The sweep whose files lie in a folder, if its own folder is on this machine."""
    root = Path(str(owner(place).get("folder") or "/nowhere"))
    sweep = SweepFolder(root, root.name)
    return sweep if sweep.records.exists() and sweep.files == place else None
