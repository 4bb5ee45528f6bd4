"""One trial by itself, in this process: trained, tracked in MLflow, resumable."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from ckconv_sweep import keys
from ckconv_sweep.config import documents
from ckconv_sweep.config.history import Epoch, best, end_reason, objective, objectives
from ckconv_sweep.config.segments import SEGMENTS, Segments, written
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.identity import PUT_BACK, check_same
from ckconv_sweep.errors import CannotWrite, ConfigError, TrialFailed
from ckconv_sweep.record.blobs import FolderBlobs
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Started
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.interruption import Interrupted, Interruption, ended_by_signal
from ckconv_sweep.tracking.outbox import RunOfSweep, Tracker, uid
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.loop import train_in_segments


@dataclass(frozen=True, kw_only=True)
class SingleRun:
    """How it ended: `best` is the epoch that counts, None if there was none."""

    best: Epoch | None
    weights: Path | None
    undelivered: int
    experiment_id: str | None
    signal_exit_code: int | None = None


def run_single(
    trial: Trial,
    name: str,
    folder: Path,
    *,
    tracking_uri: str,
    data_dir: Path | None,
    device: str,
    allow_data_change: bool = False,
    listeners: tuple[Listener, ...] = (),
    segments: Segments = (),
) -> SingleRun:
    """Train a trial in `folder`, or go on with it.

    Args:
        segments: what it was before its own epochs: each is trained in a folder there, and the next
            one begins with its last checkpoint.

    Raises:
        ConfigError: the folder holds another trial.
        DataChanged: it was trained on other data before, and that is not allowed.
        SweepBusy: another process trains there.
        NonFiniteLoss, OutOfMemory, DamagedData, CannotWrite: it cannot go on.
    """
    interruption, history, exit_codes = Interruption(), list[Epoch](), list[int]()
    after = segments[-1][1] if segments else 0
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot be made: {error.strerror}", where=str(folder)) from None

    def say(message: str) -> None:
        for listener in listeners:
            listener.say(message)

    with contextlib.ExitStack() as stack:
        # Also before the first epoch: reading the data may take minutes.
        stack.enter_context(ended_by_signal(exit_codes))
        stack.enter_context(interruption.caught())
        stack.enter_context(SweepFolder(folder, folder.name).records.lock())
        task = load(trial.data, data_dir)
        text = documents.write(
            written([*segments, (trial, trial.training.epochs)])
            if segments
            else trial.model_dump(mode="json")
        )
        _claim(folder, trial, text)
        begun, _ = checkpoint.newest(folder)
        if begun is not None and not allow_data_change:
            check_same(checkpoint.data_of(begun), task.identity, where=str(folder), hint=PUT_BACK)
        before = len((begun or {}).get("history", ()))
        del begun
        tracker = Tracker(
            tracking_uri,
            RunOfSweep(
                name=name,
                uid=uid(f"{folder}/{text if segments else trial.model_dump_json()}"),
                role=keys.ROLE_SINGLE,
                params=flat(trial.model_dump(mode="json")),
                artifacts={"trial.yaml": text},
            ),
            base=trial,
            say=say,
        )
        tracker.start()

        def tell(event: Event) -> None:
            for listener in (*listeners, tracker):
                listener.hear(event)

        def report(epoch: Epoch) -> None:
            history.append(epoch)
            at_best = trial.metric.model_copy(update={"at": "best"})
            own = [e for e in history if e.number > after] or history
            tell(EpochEnded(number=0, epoch=epoch, best=objective(own, at_best)))

        tell(Started(number=0, trial=trial, params={}, started_ms=_now_ms(), epochs_before=before))
        signal_exit_code = None
        outcome: keys.Outcome = "completed"
        reason = message = ""
        try:
            train_in_segments(
                segments,
                trial,
                task,
                report,
                folder=folder,
                device=device,
                warn=say,
                allow_data_change=allow_data_change,
            )
            reason = end_reason(trial, [e for e in history if e.number > after]) or ""
        except Interrupted as interrupted:
            signal_exit_code = interrupted.exit_code
        except TrialFailed as failure:
            outcome, reason, message = "failed", failure.reason, failure.message
            raise
        finally:
            status = "KILLED"
            own = [epoch for epoch in history if epoch.number > after]
            if reason:
                tell(
                    Ended(
                        number=0,
                        outcome=outcome,
                        reason=reason,
                        error=message,
                        epochs=len(history),
                        last_epoch=history[-1].number if history else 0,
                        values=objectives(own, (trial.metric,)),
                        # Not now: told again later, it must be the same point to MLflow.
                        ended_ms=history[-1].timestamp_ms if history else _now_ms(),
                    )
                )
                status = "FINISHED" if outcome == "completed" else "FAILED"
            try:
                undelivered = tracker.close(
                    status, patience_seconds=30.0 if signal_exit_code is None else 3.0
                )
            except Interrupted as interrupted:
                signal_exit_code, undelivered = interrupted.exit_code, tracker.waiting
        return SingleRun(
            best=best(own, trial.metric) if own else None,
            weights=checkpoint.best(folder),
            undelivered=undelivered,
            experiment_id=tracker.experiment_id,
            signal_exit_code=signal_exit_code,
        )
    return SingleRun(
        best=None,
        weights=checkpoint.best(folder),
        undelivered=0,
        experiment_id=None,
        signal_exit_code=exit_codes[0],
    )


def _claim(folder: Path, trial: Trial, text: str) -> None:
    """Write down which trial is trained in a folder.

    Raises:
        ConfigError: another one was begun there.
        CannotWrite: the folder cannot be written.
    """
    path = folder / "trial.yaml"
    try:
        if path.is_file() and not _holds(path, trial, text) and checkpoint.checkpoints(folder):
            raise ConfigError(
                "the checkpoint here is of a trial with other settings",
                where=str(folder),
                hint="take another --out, or delete this folder",
            )
    except OSError as error:
        raise CannotWrite(f"cannot be read: {error.strerror}", where=str(path)) from None
    FolderBlobs(folder).put(path.name, text)


def _holds(path: Path, trial: Trial, text: str) -> bool:
    wanted = documents.parse(text, path.name).value
    try:
        value = documents.parse(path.read_text(), path.name).value
        told = {name: part for name, part in value.items() if name != SEGMENTS}
        return trial.is_meant_by(told) and value.get(SEGMENTS) == wanted.get(SEGMENTS)
    except ConfigError:
        return False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
