"""The test split, which opens once: `confirm` scores the fixed winner and its control, and records
that in the study before anybody sees a number.

What is killed before that has shown nothing, and may score again; what is killed after it prints
the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import fmean

from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.data.identity import Identity, check_same
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.record.confirmation import Opening, add_openings
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.versions import code
from ckconv_sweep.search.confirmed import Confirmed, Setting, confirmed_in
from ckconv_sweep.tracking.store import tracked_at
from ckconv_sweep.tracking.told import told_of, write_to
from ckconv_sweep.training.scoring import Scorer
from ckconv_sweep.training.weights import Trained, read_trained


def open_test(
    folder: SweepFolder,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    lock: AbstractContextManager[object] | None = None,
) -> Confirmed | None:
    """Score what a confirmation that has ended offers, and its control, on the test split, unless
    that was done before; each by all its completed seeds. Returns what the confirmation says now;
    None where none was begun.

    Nothing is scored as long as it has not ended, or where nothing can be offered.

    Args:
        lock: held already, as of `run_sweep`.

    Raises:
        SweepBusy: a driver runs the sweep.
        ConfigError, DamagedData: weights are missing or damaged.
        DataChanged: the data are not those that the trials were trained on.
        NoResult: a model's answers are not finite.
    """
    with lock or folder.records.lock(), folder.records.open_for_writing() as study:
        found = confirmed_in(study, data_dir)
        if found is None or found.test or not found.finished or found.offered is None:
            return found
        settings = [found.offered]
        if found.control is not None and found.control.number != found.offered.number:
            settings.append(found.control)
        now = time.time_ns() // 1_000_000
        scorer = _Scorer(folder, data_dir, device)
        new = [scorer.opening(setting, now) for setting in settings if setting.values]
        crash_point("test.scored")
        add_openings(study, *new)
        crash_point("test.recorded")
        return confirmed_in(study, data_dir)


class _Scorer:
    """Scores the trials of a confirmation on the test split."""

    def __init__(self, folder: SweepFolder, data_dir: Path | None, device: str) -> None:
        self._folder = folder
        self._trained: Trained | None = None
        self._identity: Identity = {}
        """Of the data that are read."""
        self._scorer = Scorer("test", device=device, data_dir=data_dir, look=self._look)

    def opening(self, setting: Setting, now_ms: int) -> Opening:
        records = [record for record in setting.records if record.outcome == "completed"]
        scored = []
        for record in records:
            self._trained = read_trained(self._folder.trial(record.number))
            scored.append(self._scorer.score(self._trained))
            self._check()
        assert self._trained is not None
        each = {f"test/{name}": [one.scores[name] for one in scored] for name in scored[0].scores}
        return Opening(
            scores={name: fmean(values) for name, values in each.items()},
            each=each,
            trials=[record.number for record in records],
            confirms=setting.number,
            by="confirm",
            exploratory=False,
            dataset=self._trained.trial.data.name,
            sequences=scored[-1].sequences,
            data=scored[-1].data,
            code=code(),
            at_ms=now_ms,
        )

    def _look(self, task: SequenceTask) -> None:
        self._identity = task.identity
        self._check()

    def _check(self) -> None:
        assert self._trained is not None
        check_same(
            self._trained.data,
            self._identity,
            where=str(self._trained.path),
            hint="put the old data back; nothing was scored",
        )


def tell_mlflow(
    folder: SweepFolder,
    tracking_uri: str | None = None,
    *,
    say: Callable[[str], None],
    data_dir: Path | None = None,
) -> None:
    """Give the sweep's run in MLflow what the confirmation says, and each opening of the test
    split. What it does not take now, `sync` and the next session deliver.

    Args:
        tracking_uri: None: where the sweep was tracked last, if it was.
        say: hears that it was not taken, and why.
    """
    with folder.records.open() as study:
        uri = tracking_uri or tracked_at(study.notes(), folder.root.parent)
        told, uid = told_of(study.notes(), confirmed_in(study, data_dir)), study.uid
    if uri is not None and (why := write_to(uri, uid, told)):
        say(f"{why}; to deliver the test numbers later: {folder.command('sync')}")
