"""What a sweep leaves on disk.

sweeps/mlflow.db                MLflow, unless a tracking server is named
sweeps/<name>/                  0700, files 0600; shared: 2750, 0640
    space.yaml                  the space as it was resolved, for a person to read
    study.db                    the study
    lock                        held by the driver that runs the sweep
    ray.log                     what Ray wrote in the last session, if anything
    blobs                       where the trials' files lie, if not here
    trials/0004/                a trial's checkpoints, best weights and ledger
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from ckconv_sweep import durable
from ckconv_sweep.config.names import SWEEPS_DIR, check_sweep_name, expanded
from ckconv_sweep.errors import CannotWrite, ConfigError, nearest_or_all
from ckconv_sweep.record.blobs import FolderBlobs, Place, place_of
from ckconv_sweep.record.records import STUDY, Records

_EMPTY = {"lock", "trials", "ray.log", "blobs"}
"""What a new sweep's folder holds before its study is made."""
_ELSEWHERE = "blobs"


@dataclass(frozen=True)
class SweepFolder:
    """The paths of one sweep. `root` is absolute."""

    root: Path
    name: str

    @classmethod
    def of(cls, sweeps_dir: Path, name: str) -> SweepFolder:
        """Raises ConfigError if the name cannot be a folder's."""
        return cls(expanded(sweeps_dir).resolve() / check_sweep_name(name), name)

    @classmethod
    def existing(cls, sweeps_dir: Path, name: str) -> SweepFolder:
        """Raises ConfigError if there is no such sweep, and DamagedData if its study is missing."""
        folder = cls.of(sweeps_dir, name)
        folder.records.check_not_lost()
        if not folder.records.exists():
            if who := folder.records.holder():
                raise ConfigError(
                    "the sweep is starting: its data are read and Ray starts",
                    where=name,
                    hint=f"try again in a moment; {who} starts it",
                )
            names = [other.name for other in all_sweeps(sweeps_dir)]
            raise ConfigError(
                f"there is no sweep {name!r}",
                where=str(folder.root.parent),
                hint=nearest_or_all(name, names) if names else "no sweep was launched here yet",
            )
        return folder

    @property
    def space(self) -> Path:
        return self.root / "space.yaml"

    @property
    def records(self) -> Records:
        """Its study and its lock."""
        return Records(self)

    @property
    def blobs(self) -> FolderBlobs:
        """Its own files. Those of a trial are in the place `trial`."""
        return FolderBlobs(self.root)

    @property
    def files(self) -> Place:
        """Where the trials keep their checkpoints and weights: in this folder, unless the sweep was
        launched with `--blobs`."""
        try:
            return place_of(self.blobs.get(_ELSEWHERE).decode().strip())
        except FileNotFoundError:
            return self.root

    def keep_files_at(self, place: Place) -> None:
        """For a new sweep: its trials keep their files there. Raises CannotWrite."""
        self.blobs.put(_ELSEWHERE, f"{place}\n")

    @property
    def tune(self) -> Path:
        """Ray Tune's own files of one session. Nothing is ever read from them."""
        return self.root / "tune"

    @property
    def ray_log(self) -> Path:
        """What Ray wrote in the last session, if anything."""
        return self.root / "ray.log"

    def command(self, verb: str) -> str:
        """What to type for a command on this sweep. Where the sweep lies is not said of the default
        folder."""
        sweeps_dir = self.root.parent
        default = sweeps_dir == SWEEPS_DIR.resolve()
        where = "" if default else f" --sweeps-dir {quote(str(sweeps_dir))}"
        return f"ckconv-sweep {verb} {self.name}{where}"

    def trial(self, number: int) -> Place:
        """The place of a trial's files."""
        return self.files / "trials" / f"{number:04d}"

    def has_trials(self) -> bool:
        """Whether a trial left files here."""
        return any((self.root / "trials").glob("*"))

    def make(self, *, shared: bool = False) -> list[Path]:
        """Make what is missing of it; returns which of the sweep's folder and the one that it lies
        in were made. `shared`: see `share`. Raises CannotWrite if that cannot be done."""
        made = [path for path in (self.root, self.root.parent) if not path.exists()]
        if shared:
            self._check_way()
        try:
            self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.mkdir(mode=0o700, exist_ok=True)
            durable.make_folder(self.root / "trials")
        except OSError as error:
            raise CannotWrite(f"cannot be made: {error.strerror}", where=str(self.root)) from None
        if shared:
            self.share(above=self.root.parent in made)
        return made

    def share(self, *, above: bool = False) -> None:
        """Let the folder's group read it, for good: what is here and what comes. Other sweeps stay
        as they are. Raises CannotWrite.

        Args:
            above: also the folder of all sweeps, which is new.
        """
        try:
            if above:
                durable.share(self.root.parent)
            else:
                self._check_way()
                durable.share(self.root)
        except OSError as error:
            raise CannotWrite(
                f"cannot be shared: {error.strerror or error}", where=str(self.root)
            ) from None

    def _check_way(self) -> None:
        """A folder that was there is not opened to a group unasked: it may be somebody's home."""
        above = self.root.parent
        if above.exists() and above.stat().st_mode & 0o050 != 0o050:
            raise CannotWrite(
                "cannot be shared: its group cannot enter the folder of all sweeps",
                where=str(self.root),
                hint=f"chmod g+rx {quote(str(above))}",
            )

    def put_aside(self) -> Path:
        """Give the folder another name, so that a new sweep can have this one: `NAME.before-1`, or
        the next number that is free. For who holds the lock, which goes with it. Raises
        CannotWrite."""
        names = (f"{self.name}.before-{n}" for n in itertools.count(1))
        aside = next(path for path in map(self.root.with_name, names) if not path.exists())
        try:
            durable.give_name(self.root, aside)
        except OSError as error:
            raise CannotWrite(
                f"cannot be renamed: {error.strerror}", where=str(self.root)
            ) from None
        return aside

    def remove_if_unused(self, made: Sequence[Path]) -> None:
        """Take away what `make` made, if the sweep did not begin. A folder goes only if it is
        empty, whatever became of its study. For who holds the lock, whose file goes too."""
        if self.root not in made or {path.name for path in self.root.glob("*")} - _EMPTY:
            return
        with contextlib.suppress(OSError):  # it is in use
            (self.root / "trials").rmdir()
            self.blobs.delete("lock", "ray.log", _ELSEWHERE)
            for path in made:
                path.rmdir()


def all_sweeps(sweeps_dir: Path) -> list[SweepFolder]:
    """Every sweep of a folder, by name; also one whose study is missing.

    Raises:
        ConfigError: there is no such folder. The default one may be missing.
    """
    root = expanded(sweeps_dir).resolve()
    if not root.is_dir() and (root.exists() or sweeps_dir != SWEEPS_DIR):
        raise ConfigError("no such folder", where=str(root), hint="--sweeps-dir names another")
    found = {path.parent for path in root.glob(f"*/{STUDY}")}
    found |= {path.parents[1] for path in root.glob("*/trials/*")}
    return [SweepFolder(path, path.name) for path in sorted(found)]
