"""What people ask of a sweep: one small file a request, and the driver's answer in the study.

requests/00…1764-pause-1f2e….json      there whole, from the moment that it has its name

The driver takes them in the order of their names, which begin with the time. The answer stands in
the study under `request:<file>`; a request that has one was taken, and its file only has to go.
"""

from __future__ import annotations

import contextlib
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ckconv_sweep import durable
from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.blobs import FolderBlobs
from ckconv_sweep.record.folder import SweepFolder

NOTE = "request:"
"""How the attributes of a study begin that hold an answer."""

PAUSED = "paused"
"""The study's note that the running driver pauses. A resume goes on."""

_SHOWN = 3
"""Answers."""
MOST_BYTES = 64 * 1024
"""Of a request's file; no command writes a longer one."""


class Request(BaseModel):
    """What is asked. Each kind has fields of its own, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["add", "pause", "continue", "stop", "stop_trial", "concurrency"]
    number: int = Field(default=0, ge=0)
    """`stop_trial`: which one. `concurrency`: how many trials at a time."""
    params: dict[str, Scalar] = {}
    """`add`: the parameters of the new trial."""
    changes: dict[str, Any] = {}
    """`add`: what it has beside the space, by path."""
    retry_of: int | None = None
    """`add`: the failed trial that it is once more."""

    def __str__(self) -> str:
        match self.kind:
            case "add":
                told = self.params | self.changes if self.retry_of is None else self.changes
                names = short_names(told)
                words = "".join(f" {names[path]}={value}" for path, value in told.items())
                again = "" if self.retry_of is None else f" {trial_name(self.retry_of)}"
                return ("add" if self.retry_of is None else "retry") + again + words
            case "stop_trial":
                return f"stop {trial_name(self.number)}"
            case "concurrency":
                return f"concurrency {self.number}"
            case "continue":
                return "pause --off"
        return self.kind


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the driver says to a request. `done` is false while trials that it stops still end the
    epoch that they are in."""

    asked: str
    said: str
    refused: bool = False
    done: bool = True
    at_ms: int = 0

    def __str__(self) -> str:
        return f"{self.asked}: {'refused, ' * self.refused}{self.said}"

    def written(self) -> dict[str, Any]:
        """As it stands in the study."""
        return vars(self) | {"at_ms": time.time_ns() // 1_000_000}


def answers(notes: Mapping[str, Any]) -> dict[str, Answer]:
    """All answers of a study by the file of the request, in the order in which they were asked."""
    found = {key.removeprefix(NOTE): kept for key, kept in notes.items() if key.startswith(NOTE)}
    return {name: Answer(**found[name]) for name in sorted(found) if found[name]}


def in_words(folder: SweepFolder, notes: Mapping[str, Any], *, held: bool) -> list[str]:
    """What waits for an answer, a line each. Where a driver holds the sweep, whether it is paused,
    and the newest answers, too."""
    found, lines = answers(notes), list[str]()
    if held and notes.get(PAUSED):
        lines.append(f"paused; to go on: {folder.command('pause')} --off")
    if held:
        lines += [f"asked: {answer}" for answer in list(found.values())[-_SHOWN:]]
    waits = "waits" if held else "waits for a resume"
    return lines + [
        f"{waits}: {request}" for name, request in Requests(folder).waiting() if name not in found
    ]


class Requests:
    """The requests that wait in a sweep's folder."""

    def __init__(self, folder: SweepFolder) -> None:
        self._folder = folder
        self._blobs = FolderBlobs(folder.root / "requests")

    def put(self, request: Request) -> str:
        """Let a request wait; returns the name of its file. Raises CannotWrite."""
        name = f"{time.time_ns():020d}-{request.kind}-{uuid.uuid4().hex[:8]}.json"
        try:
            durable.make_folder(self._blobs.folder)
            self._blobs.put(name, request.model_dump_json(exclude_defaults=True))
        except OSError as error:
            raise CannotWrite(
                f"nothing can be asked of this sweep: {error.strerror}",
                where=str(self._blobs.folder),
            ) from None
        return name

    def waiting(self) -> Iterator[tuple[str, Request | str]]:
        """The requests by the names of their files, in order. Of what is none it says why."""
        try:
            names = self._blobs.list("[!.]*")
        except OSError:
            return
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # taken back just now
                yield name, self._read(name)

    def _read(self, name: str) -> Request | str:
        path = self._blobs.folder / name
        try:
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode) or not name.endswith(".json"):
                return "it is no file of ours"
            if found.st_size > MOST_BYTES:
                return f"it has {found.st_size:,} bytes"
            return Request.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            return ": ".join([*map(str, first["loc"]), first["msg"]])
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            return str(error.strerror)

    def take_away(self, name: str) -> None:
        """Delete the file of a request that has an answer. Raises OSError."""
        self._blobs.delete(name)
