"""A trial that is trained again in a child process, which is killed (SIGKILL) at random epochs and
started again by the same command."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import ckconv_sweep
from ckconv_sweep.errors import CkconvSweepError, as_it_was
from ckconv_sweep.record.blobs import FolderBlobs
from ckconv_sweep.record.checkpoints import checkpoints
from ckconv_sweep.sweep.again import GIVEN, TRIAL

ERRORS = "errors"
"""The file, in the folder of what is trained, with what the newest child wrote as its errors."""
_LAST = 5
"""Lines of it that are told of a child that failed."""
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from ckconv_sweep.sweep.again import main; main()"
)


@dataclass(frozen=True)
class Kill:
    """A kill that is to come: while the epoch is trained, at that part of it; 0 is its first
    moment."""

    epoch: int
    part: float


@dataclass(frozen=True)
class Killed:
    """A kill that came."""

    epoch: int
    """The epoch that was trained; the last one also where that was done."""
    kept: int
    """The last epoch that was safe in a checkpoint: what follows is trained again."""


def planned(kills: int, epochs: int, rng: random.Random) -> list[Kill]:
    """At so many different epochs, from the first on; at as many as there are, if these are
    fewer."""
    chosen = sorted(rng.sample(range(1, epochs + 1), min(kills, epochs)))
    return [Kill(epoch, rng.random()) for epoch in chosen]


@dataclass(frozen=True, kw_only=True)
class Again:
    """What is to be trained, in a folder that nobody else uses."""

    folder: Path
    text: str
    """The trial, as a file that `train` reads."""
    until: int
    """The number of its last epoch."""
    data_dir: Path | None
    device: str
    seconds: Mapping[int, float]
    """How long each epoch took, by number, as far as known: when to kill within one."""

    def train(
        self, kills: list[Kill], came: Callable[[Killed], None] = lambda killed: None
    ) -> None:
        """Train to the last epoch, and die meanwhile.

        Args:
            came: is told of each kill that came in time.

        Raises:
            CkconvSweepError: what the child could not do.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir = str(self.data_dir) if self.data_dir else None
        given = {"until": self.until, "data_dir": data_dir, "device": self.device}
        blobs = FolderBlobs(self.folder)
        blobs.put(TRIAL, self.text)
        blobs.put(GIVEN, json.dumps(given))
        for kill in kills:
            with self._child() as child:
                if not self._is_killed(child, kill):
                    break
                came(self._seen())
        with self._child() as child:
            self._hear(child, None)

    @contextlib.contextmanager
    def _child(self) -> Iterator[subprocess.Popen[str]]:
        root = str(Path(ckconv_sweep.__file__).parents[1])
        with (self.folder / ERRORS).open("w") as said:
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, root, str(self.folder), f"{os.getpid()}"],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,  # a Ctrl-C is ours to hear
            )
            try:
                yield child
            finally:
                child.kill()
                child.communicate()

    def _is_killed(self, child: subprocess.Popen[str], kill: Kill) -> bool:
        """Whether the child died by the kill, and not before it by itself."""
        self._hear(child, kill.epoch - 1)
        time.sleep(kill.part * self.seconds.get(kill.epoch, 0.0))
        if child.poll() is not None:
            self._hear(child, None)
            return False
        child.kill()
        child.wait()
        return True

    def _seen(self) -> Killed:
        """Where the child was, by what it left."""
        safe = noted = 0
        for place in (self.folder, *self.folder.glob("segment-*")):
            safe = max([safe, *(epoch for epoch, _ in checkpoints(place))])
            if (ledger := place / "ledger.jsonl").exists():
                lines = ledger.read_text().splitlines()
                noted = max([noted, *(json.loads(line)["epoch"] for line in lines)])
        return Killed(epoch=min(max(noted, safe) + 1, self.until), kept=safe)

    def _hear(self, child: subprocess.Popen[str], wanted: int | None) -> None:
        """Hear the child until it tells of that epoch, or, without one, until it ends."""
        assert child.stdout is not None
        for line in child.stdout:
            said = json.loads(line)
            if "error" in said:
                kind, message, where, hint = said["error"]
                raise as_it_was(kind, message, where or self.folder.name, hint)
            if wanted is not None and said["epoch"] >= wanted:
                return
        if code := child.wait():
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            lines = (self.folder / ERRORS).read_text(errors="replace").splitlines()
            raise CkconvSweepError(
                f"the process that trains it ended with {how}",
                where=self.folder.name,
                hint="\n  ".join([line for line in lines if line.strip()][-_LAST:]) or None,
            )
