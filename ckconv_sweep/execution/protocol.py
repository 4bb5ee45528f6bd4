"""What a sweep and that which trains its trials know of each other.

The coordinator of a sweep is a `Work`: it hands out assignments and hears what became of them. An
`Executor` trains them, with Ray Tune (`execution.executor`) or, in tests, in this process.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ckconv_sweep.config.history import Epoch, Source
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.surveyor import Surveyor
from ckconv_sweep.record.blobs import Place


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One trial for an executor to train, alone or again after an interruption."""

    number: int
    trial: Trial
    folder: Place
    attempt: str
    """Names this hand-out: a worker whose trial was handed out again writes nothing more."""
    recorded: tuple[Epoch, ...] = ()
    """What is known of it already."""
    source: Source | None = None
    """What it begins with, if that is another trial's checkpoint."""
    kept_epochs: int = 0
    """The checkpoint after each so many epochs is kept; 0: none is for long."""


class Work(Protocol):
    """What is to be trained. Every answer is recorded before it is given."""

    fatal: Exception | None
    """Why the sweep cannot continue, if so. Also what one of the methods here has raised: an
    executor only has to end then, and its own error is forgotten."""

    @property
    def stopping(self) -> bool:
        """Whether nothing new is handed out any more."""

    @property
    def left(self) -> int:
        """How many trials `next` may still hand out, at most, as long as none that runs ends."""

    @property
    def room(self) -> float:
        """For how many more trials there is room, as people ask: without any, what trains nothing
        is not needed for now; where it is negative, so many leave with their next epoch."""

    @property
    def awaited(self) -> bool:
        """Whether a trial runs that may have to be handed out again, or others come later."""

    def attend(self) -> None:
        """Hear what people ask meanwhile; to be called several times a second."""

    def wanted(self, number: int) -> bool:
        """Whether a trial that was handed out is still to be trained."""

    def next(self) -> Assignment | None:
        """The next trial to train; None when there is none left."""

    def together(self) -> AbstractContextManager[None]:
        """What is acknowledged inside is recorded as one, at the latest when it is left; no answer
        may be given before."""

    def epoch(self, number: int, epoch: Epoch, data: str = "", *, gpus: float = 0.0) -> bool:
        """Acknowledge an epoch; returns whether the trial goes on. `data`: the digest of what it
        was trained on; `gpus`: how many it had, or which part of one."""

    def end(self, number: int, *, reason: str = "", error: str = "") -> None:
        """A trial's run is over; with a reason it failed."""

    def again(self, number: int) -> None:
        """A trial's run came to nothing, and not for its own sake: hand it out again."""

    def stop(self, error: Exception) -> None:
        """The sweep cannot continue; its running trials are resumed later."""

    def has_places(self, at_a_time: int) -> None:
        """So many trials can run at a time from now on."""

    def say(self, message: str) -> None:
        """Something that a person should read."""


class Signals(Protocol):
    """Signals that came for this process."""

    @property
    def came(self) -> bool:
        """Whether one has come; for any thread."""

    def check(self) -> None:
        """Raises what ends the work if one has come."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the trials of one session of a sweep have in common.

    `folder` is the sweep's; `files` where its trials keep theirs; `trial` the base trial; `data`
    the identity of its data, None if a node may have others.
    """

    folder: Path
    files: Place
    trial: Trial
    data_dir: Path | None
    data: Identity | None


class Executor(Protocol):
    """Trains trials, several at a time."""

    surveyor: Surveyor
    """Knows the models and the data of trials that are not handed out yet."""

    def check(self) -> None:
        """Raises ConfigError if what was requested is nowhere to be had."""

    def connected(self, log: Path, signals: Signals) -> AbstractContextManager[None]:
        """In touch with what trains, until it is left; `log` takes what that writes. Raises what
        `signals.check` does, and ConfigError or ClusterLost where it cannot be reached."""

    def prepare(self, session: Session, signals: Signals) -> tuple[int, list[str]]:
        """How many trials run at a time, and what a person should know of the machines.

        Raises:
            ConfigError, ResourcesMissing, OutOfMemory: such trials cannot be trained there.
        """

    def run(self, work: Work, signals: Signals, session: Session, known: KnownData) -> None:
        """Train until nothing is left. `known`: what the workers' data are compared with."""
