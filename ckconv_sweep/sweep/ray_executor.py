"""Runs what a coordinator hands out as Ray Tune trials.

Tune places them, keeps so many running, restarts one whose worker or node died, and carries the
reports. It decides nothing and remembers nothing: each session is a fresh Tune run, and a resume
never reads what an earlier one left.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import CannotWrite, ClusterLost, OutOfMemory
from ckconv_sweep.sweep.cluster import Head
from ckconv_sweep.sweep.coordinator import Assignment, Coordinator
from ckconv_sweep.sweep.interruption import Interruption
from ckconv_sweep.sweep.worker import KEY, train_assignment

MOST_WORKER_DEATHS = 3
"""How often a trial is started again after its worker died; then it has failed."""

STOP_SECONDS = 6.0
"""How long Ray Tune may take to end after a signal. In a call to a cluster that does not answer it
would not end at all."""

MOST_FALSE_STARTS = 20
"""How often a trial may be given to a worker that is dead already, and then handed out again."""


def run(
    coordinator: Coordinator,
    interruption: Interruption,
    *,
    concurrency: int,
    cpus: float,
    gpus: float,
    data_dir: Path | None,
    folder: Path,
) -> None:
    """Train until the coordinator has nothing left. `folder` takes Tune's own files and is
    emptied. A cluster that is lost becomes the coordinator's `fatal`.

    Tune runs in a thread of its own, and is left alone where it does not come back.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    head, desk = Head(), _Desk(coordinator)
    shutil.rmtree(folder, ignore_errors=True)

    def fit() -> None:
        tune.Tuner(
            tune.with_resources(train_assignment, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                num_samples=-1,
                max_concurrent_trials=concurrency,
                search_alg=_Search(desk, head, gpus, data_dir),
                scheduler=_Scheduler(desk),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MOST_WORKER_DEATHS),
                callbacks=[_Stops(interruption)],
            ),
        ).fit()

    tuning = _Background(fit)
    signalled = None
    try:
        tuning.start()
        while not tuning.ended(within_seconds=1.0):
            if interruption.came:
                signalled = signalled or time.monotonic()
                if time.monotonic() - signalled > STOP_SECONDS:
                    break
            elif head.is_lost():
                coordinator.stop(_lost(head))
                break
        desk.close()
        interruption.check()
        if coordinator.fatal is None and tuning.error is not None:
            raise tuning.error
    finally:
        desk.close()
        shutil.rmtree(folder, ignore_errors=True)


def _lost(head: Head) -> ClusterLost:
    return ClusterLost(
        f"the Ray cluster at {head.address} does not answer any more; every ended trial and "
        "recorded epoch is kept"
    )


class _Stop(BaseException):
    """Ends Tune from inside. Not an `Exception`, so that it does not keep it."""


class _Background(threading.Thread):
    """Work that may hang, and then does not keep the process."""

    def __init__(self, work: Any) -> None:
        super().__init__(name="ray-tune", daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except _Stop:
            pass
        except BaseException as error:
            self.error = error

    def ended(self, *, within_seconds: float) -> bool:
        self.join(within_seconds)
        return not self.is_alive()


@dataclass
class _Desk:
    """Where Tune's thread meets the coordinator, until it is closed."""

    coordinator: Coordinator
    numbers: dict[str, int] = field(default_factory=dict)
    """Tune's name of a trial -> its number."""
    deaths: Counter[int] = field(default_factory=Counter)
    """Number of a trial -> how often a worker of it died."""
    false_starts: Counter[int] = field(default_factory=Counter)
    """Number of a trial -> how often it was given to a worker that was dead already."""
    never_began: set[str] = field(default_factory=set)
    """Tune's names of those."""
    last_error: dict[str, str] = field(default_factory=dict)
    """Tune's name of a trial -> what Ray said when its worker died."""
    memory_gib: dict[str, float] = field(default_factory=dict)
    """Tune's name of a trial -> the most that a worker of it had used at the end of an epoch."""
    _open: bool = True
    _one: Any = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def served(self) -> Iterator[bool]:
        """Whether it is open; it stays so inside."""
        with self._one:
            yield self._open

    def close(self) -> None:
        with self._one:
            self._open = False

    def died(self, trial_id: str) -> tuple[str, str]:
        """Why a trial is given up after its last worker died, as a reason and in words."""
        said = self.last_error.get(trial_id, "")
        times = f"its worker died {MOST_WORKER_DEATHS + 1} times"
        used = self.memory_gib.get(trial_id)
        had = f"; it had used {used:.2f} GiB" if used else ""
        if "memory" in said and ("low on memory" in said or "OutOfMemory" in said):
            return OutOfMemory.reason, f"{times}, at last because its node ran out of memory{had}"
        if "node" in said and "dead" in said:
            return "worker_died", f"{times}, at last with its node"
        return (
            "worker_died",
            f"{times} without saying why, probably killed for memory{had}",
        )


class _NotPickled:
    """Tune pickles what it is given; the study's handle must not be in there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())


class _Search(_NotPickled, Searcher):
    """Tune asks here what to run next."""

    def __init__(self, desk: _Desk, head: Head, gpus: float, data_dir: Path | None) -> None:
        super().__init__()
        self._desk, self._head = desk, head
        self._gpus, self._data_dir = gpus, data_dir

    def suggest(self, trial_id: str) -> Any:
        with self._desk.served() as is_open:
            assignment = self._desk.coordinator.next() if is_open else None
            if assignment is None:
                # One that runs may have to be handed out again: only later is nothing left.
                return None if is_open and self._desk.coordinator.awaited else Searcher.FINISHED
            self._desk.numbers[trial_id] = assignment.number
            return self._config(assignment)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with self._desk.served() as is_open:
            if not is_open:
                return
            # Tune may say twice that a worker died; by then the trial may run under another name.
            coordinator, number = self._desk.coordinator, self._desk.numbers.pop(trial_id, None)
            if number is None:
                return
            if not error:
                coordinator.end(number)
            elif not self._head.answers():
                # The workers of a lost cluster die with it, and no trial of theirs has failed.
                coordinator.stop(_lost(self._head))
            elif trial_id in self._desk.never_began and (
                self._desk.deaths[number] <= MOST_WORKER_DEATHS
                and self._desk.false_starts[number] <= MOST_FALSE_STARTS
            ):
                coordinator.again(number)
            else:
                reason, text = self._desk.died(trial_id)
                coordinator.end(number, reason=reason, error=text)

    def _config(self, assignment: Assignment) -> dict[str, Any]:
        return {
            "trial": assignment.trial.model_dump_json(),
            "folder": str(assignment.folder),
            "attempt": assignment.attempt,
            "gpus": self._gpus,
            "data_dir": str(self._data_dir) if self._data_dir else None,
        }

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""


class _Scheduler(_NotPickled, FIFOScheduler):
    """Tune shows here what a trial reported, before anybody else sees it."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self._desk.served() as is_open:
            is_open = is_open and trial.trial_id in self._desk.numbers
            goes_on = is_open and self._goes_on(trial.trial_id, json.loads(result[KEY]))
        return str(self.CONTINUE if goes_on else self.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A worker died, for the last time or not.

        Tune keeps the worker of an ended trial for the next one. Where that worker dies in between,
        Tune does not start the next trial again as it does others, but gives it up: the one
        failure of a trial that is not running yet.
        """
        desk, trial_id = self._desk, trial.trial_id
        if trial_id not in desk.numbers:
            return
        desk.last_error[trial_id] = trial.get_error() or ""
        if trial.status == "PENDING":
            desk.false_starts[desk.numbers[trial_id]] += 1
            desk.never_began.add(trial_id)
        else:
            desk.deaths[desk.numbers[trial_id]] += 1

    def _goes_on(self, trial_id: str, said: dict[str, Any]) -> bool:
        desk, coordinator, number = self._desk, self._desk.coordinator, self._desk.numbers[trial_id]
        if "epoch" in said:
            for warning in said["warnings"]:
                coordinator.say(f"trial {number}: {warning}")
            desk.memory_gib[trial_id] = max(said["memory_gib"], desk.memory_gib.get(trial_id, 0.0))
            return coordinator.epoch(number, Epoch(**said["epoch"]))
        if said["reason"] == "cannot_write":
            coordinator.stop(CannotWrite(said["error"]))
        else:
            coordinator.end(number, reason=said["reason"], error=said["error"])
        return False


class _Stops(_NotPickled, tune.Callback):
    """Tune passes here several times a second; the place where a signal may end it."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._interruption.came:
            raise _Stop
