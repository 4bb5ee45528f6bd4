"""Everything that this package raises on purpose.

    CkconvSweepError              exit code 1
    |-- ConfigError          2    a file, an option or a name is wrong; the user can mend it
    |   |-- UnknownNameError 2    a name that no table holds (dataset, sampler, setting, ...)
    |   |-- SpaceChanged     2    a sweep of this name was started with another space
    |   |-- DataChanged      2    the data are not those that training began on
    |   `-- ResourcesMissing 2    the cluster has less than a trial asks for
    |-- NoResult             3    nothing ended with a result
    |-- NotReproduced        4    a trial that was trained again is not as it was recorded
    |-- DamagedData         65    a file is there, but its content is not what it must be
    |-- CannotWrite         73    a folder or file cannot be made or written
    |-- SweepBusy           75    another driver holds the sweep
    |-- ClusterLost         75    the Ray cluster does not answer any more
    |-- TrackingError       75    MLflow cannot be read or written
    |-- NodeUnfit            1    a node of the cluster may not train; others can
    |   `-- NodeFault        1    it cannot at the moment
    `-- TrialFailed               one training run cannot go on; the sweep can
        |-- NonFiniteLoss
        |-- OutOfMemory
        `-- SourceLost

The command line prints one of these and ends with its exit code. Anything else is a bug and keeps
its traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class CkconvSweepError(Exception):
    """The root of the tree. `hint` is the next step, printed on a line of its own."""

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(message, where, hint)

    def __str__(self) -> str:
        first = f"{self.where}: {self.message}" if self.where else self.message
        return f"{first}\n  {self.hint}" if self.hint else first


class ConfigError(CkconvSweepError):
    """A file, an option or a name is wrong; the user can mend it."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name that no table holds; says which names there are, and the nearest one."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, where: str | None = None
    ) -> None:
        known = list(known)
        super().__init__(
            f"no {kind} is called {name!r}", where=where, hint=nearest_or_all(name, known)
        )


class SpaceChanged(ConfigError):
    """A sweep of this name was started with another space."""


class DataChanged(ConfigError):
    """The data are not those that training began on."""


class ResourcesMissing(ConfigError):
    """The cluster has less than a trial asks for."""


class NoResult(CkconvSweepError):
    """Nothing ended with a result."""

    exit_code = 3


class NotReproduced(CkconvSweepError):
    """A trial that was trained again is not as it was recorded."""

    exit_code = 4


class DamagedData(CkconvSweepError):
    """A file is there, but its content is not what it must be."""

    exit_code = 65


class CannotWrite(CkconvSweepError):
    """A folder or file cannot be made or written."""

    exit_code = 73


class SweepBusy(CkconvSweepError):
    """Another driver holds the sweep."""

    exit_code = 75


class ClusterLost(CkconvSweepError):
    """The Ray cluster does not answer any more. The sweep goes on when it does, or on another."""

    exit_code = 75


class TrackingError(CkconvSweepError):
    """MLflow cannot be read or written."""

    exit_code = 75


class NodeUnfit(CkconvSweepError):
    """A node may not train: it differs from the driver. No trial fails by it."""


class NodeFault(NodeUnfit):
    """A node cannot train: no data, no disk, a broken GPU. Its trials go to others."""


class TrialFailed(CkconvSweepError):
    """One training run cannot go on. `reason` is the word that the study keeps."""

    reason = "error"


class NonFiniteLoss(TrialFailed):
    """A loss or a weight became infinite or not a number."""

    reason = "nonfinite"


class OutOfMemory(TrialFailed):
    """The device, or the host, has no room for this trial."""

    reason = "out_of_memory"


class SourceLost(TrialFailed):
    """The checkpoint that a continuation begins with is gone or damaged."""

    reason = "source_lost"


def as_it_was(kind: str, message: str, where: str | None, hint: str | None) -> CkconvSweepError:
    """An error of another process, to be raised in this one. `kind`: the name of its class."""
    found = globals().get(kind, CkconvSweepError)
    error: CkconvSweepError = found.__new__(found)
    CkconvSweepError.__init__(error, message, where=where, hint=hint)
    return error


@contextmanager
def reading(path: Path, hint: str | None = None) -> Iterator[None]:
    """Raises ConfigError where the system says that a file or folder cannot be read."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), hint=hint
        ) from error


def no_room(error: BaseException, where: str | None = None) -> CannotWrite | None:
    """The error of a disk that is full, read-only or broken, of whatever library, as ours; None for
    any other. `where`: what was written, if the error does not say it."""
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        where = where if error.filename is None else str(error.filename)
        return CannotWrite(f"a file cannot be written: {os.strerror(error.errno)}", where=where)
    return None


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the whole list where nothing is near."""
    known = sorted(known)
    if ends := [path for path in known if path.endswith(f".{name}")]:
        return f"did you mean {' or '.join(map(repr, ends))}?"
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "there are: " + ", ".join(known)


def exit_codes() -> dict[int, list[str]]:
    """What each exit code of the command line means, in sentences."""
    found: dict[int, list[str]] = {
        0: ["Done; of `doctor`: nothing is wrong, or there are warnings only."],
        1: ["`doctor` found a problem, or an error that nobody expected, with its traceback."],
    }
    for error in (
        ConfigError,
        NoResult,
        NotReproduced,
        DamagedData,
        CannotWrite,
        SweepBusy,
        ClusterLost,
        TrackingError,
    ):
        sentence = str(error.__doc__).partition(".")[0]
        found.setdefault(error.exit_code, []).append(f"{sentence}.")
    found[TrackingError.exit_code].append("Try again later.")
    for signal, how in ((1, "the terminal was closed"), (2, "Ctrl-C"), (15, "it was told to end")):
        found[128 + signal] = [f"Stopped by a signal: {how}."]
    return found
