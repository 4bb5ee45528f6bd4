"""Runs what a coordinator hands out as Ray Tune trials.

Tune places them, keeps so many running, restarts one whose worker or node died, and carries the
reports. It decides nothing and remembers nothing: each session is a fresh Tune run, and a resume
never reads what an earlier one left.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.sweep.coordinator import Assignment, Coordinator
from ckconv_sweep.sweep.interruption import Interruption
from ckconv_sweep.sweep.worker import KEY, train_assignment

MOST_WORKER_DEATHS = 3
"""How often a trial is started again after its worker died; then it has failed."""


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
    emptied."""
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    numbers: dict[str, int] = {}  # Tune's name of a trial -> its number
    search = _Search(coordinator, numbers, gpus, data_dir)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        tune.Tuner(
            tune.with_resources(train_assignment, {"cpu": cpus, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                num_samples=-1,
                max_concurrent_trials=concurrency,
                search_alg=search,
                scheduler=_Scheduler(coordinator, numbers),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MOST_WORKER_DEATHS),
                callbacks=[_Interrupts(interruption)],
            ),
        ).fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _NotPickled:
    """Tune pickles what it is given; the study's handle must not be in there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())


class _Search(_NotPickled, Searcher):
    """Tune asks here what to run next."""

    def __init__(
        self,
        coordinator: Coordinator,
        numbers: dict[str, int],
        gpus: float,
        data_dir: Path | None,
    ) -> None:
        super().__init__()
        self._coordinator, self._numbers = coordinator, numbers
        self._gpus, self._data_dir = gpus, data_dir

    def suggest(self, trial_id: str) -> Any:
        assignment = self._coordinator.next()
        if assignment is None:
            return Searcher.FINISHED
        self._numbers[trial_id] = assignment.number
        return self._config(assignment)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if error:
            self._coordinator.end(
                self._numbers[trial_id],
                reason="error",
                error=f"its worker died {MOST_WORKER_DEATHS + 1} times, the last time without "
                "saying why; was it killed for memory?",
            )
        else:
            self._coordinator.end(self._numbers[trial_id])

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

    def __init__(self, coordinator: Coordinator, numbers: dict[str, int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._coordinator, self._numbers = coordinator, numbers

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number, said = self._numbers[trial.trial_id], json.loads(result[KEY])
        if "epoch" in said:
            for warning in said["warnings"]:
                self._coordinator.say(f"trial {number}: {warning}")
            goes_on = self._coordinator.epoch(number, Epoch(**said["epoch"]))
        else:
            goes_on = False
            if said["reason"] == "cannot_write":
                self._coordinator.stop(CannotWrite(said["error"]))
            else:
                self._coordinator.end(number, reason=said["reason"], error=said["error"])
        return str(self.CONTINUE if goes_on else self.STOP)


class _Interrupts(_NotPickled, tune.Callback):
    """Tune passes here several times a second; the place where a signal may end it."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._interruption.check()
