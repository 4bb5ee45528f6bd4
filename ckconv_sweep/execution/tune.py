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
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ckconv_sweep.config.data import Data
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import CannotWrite, ClusterLost, OutOfMemory, ResourcesMissing
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.cluster import Head, Placement, processes
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.local_ray import dead_processes
from ckconv_sweep.execution.packing import Packing
from ckconv_sweep.execution.packs import Packs
from ckconv_sweep.execution.protocol import Assignment, Signals, Work
from ckconv_sweep.execution.relay import KEY, relay_assignment
from ckconv_sweep.execution.worker import UNFIT, train_assignment
from ckconv_sweep.record import versions

MOST_WORKER_DEATHS = 3
"""How often a trial is started again after its worker died; then it has failed."""

STOP_SECONDS = 6.0
"""How long Ray Tune may take to end after a signal. In a call to a cluster that does not answer it
would not end at all."""

SHOW_SECONDS = 30.0
"""How often at most the occupation of the packs is reported."""

RELAY_BYTES = 100 * 2**20
"""The memory that Ray sets aside for a relay: Tune needs a resource to place it by, and it needs no
CPU."""

MOST_FALSE_STARTS = 20
"""How often a trial may be given to a worker that is dead already or whose node does not fit, and
then handed out again."""

ROOM_SECONDS = 5.0
"""How often the cluster is asked whether a node is left that fits, once one did not."""


def run(
    coordinator: Work,
    interruption: Signals,
    *,
    placement: Placement,
    data_dir: Path | None,
    data: KnownData,
    folder: Path,
    unfit: Mapping[str, str] = MappingProxyType({}),
    packs: Packs | None = None,
) -> None:
    """Train until the coordinator has nothing left. `folder` takes Tune's own files and is
    emptied. A cluster that is lost, or has no node left that fits, becomes the coordinator's
    `fatal`. With `packs` each trial is a relay to one of their hosts, which have the CPUs and GPUs.

    Args:
        placement: how many trials run at a time, and what each of them gets.
        data: what the workers' data are compared with.
        unfit: the nodes that may not train, by id, and why.

    Tune runs in a thread of its own, and is left alone where it does not come back.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    head = Head()
    desk = _Desk(
        coordinator, data, Packing(packs.hosts, packs.places) if packs else None, unfit=dict(unfit)
    )
    cpus, gpus = placement.cpus_per_trial, placement.gpus_per_trial
    bundle: dict[str, float] = {"memory": RELAY_BYTES} if packs else {"CPU": cpus, "GPU": gpus}
    shutil.rmtree(folder, ignore_errors=True)

    def fit() -> None:
        tune.Tuner(
            tune.with_resources(
                relay_assignment if packs else train_assignment, partial(_resources, bundle)
            ),
            tune_config=tune.TuneConfig(
                num_samples=-1,
                max_concurrent_trials=placement.concurrency,
                search_alg=_Search(desk, head, gpus, data_dir),
                scheduler=_Scheduler(desk),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=MOST_WORKER_DEATHS),
                callbacks=[_Stops(interruption, desk, placement)],
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
        if (error := desk.error or tuning.error) and coordinator.fatal is None:
            raise error
    finally:
        desk.close()
        shutil.rmtree(folder, ignore_errors=True)


def _resources(bundle: dict[str, float], config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """What Tune places a trial by: not on a node that was unfit when the trial was handed out."""
    avoid: Any = {"bundle_label_selector": [config["where"]]} if config["where"] else {}
    return tune.PlacementGroupFactory([bundle], **avoid)


def _lost(head: Head) -> ClusterLost:
    if ended := dead_processes():
        return ClusterLost(
            f"Ray's {' and '.join(ended)} on this machine died, perhaps killed because memory ran "
            "out; every ended trial and recorded epoch is kept"
        )
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

    coordinator: Work
    data: KnownData
    packing: Packing[Hashable] | None = None
    """None where each trial is trained in a process of its own."""
    drawn: dict[int, Assignment] = field(default_factory=dict)
    """What waits for a pack, by its number."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Tune's name of a trial -> its number."""
    unfit: dict[str, str] = field(default_factory=dict)
    """Id of a node that may not train -> why."""
    settings: dict[int, Data] = field(default_factory=dict)
    """Number of a trial that was handed out -> the settings of its data."""
    deaths: Counter[int] = field(default_factory=Counter)
    """Number of a trial -> how often a worker of it died."""
    false_starts: Counter[int] = field(default_factory=Counter)
    """Number of a trial -> how often it was given to a worker that was dead already, or unfit."""
    never_began: set[str] = field(default_factory=set)
    """Tune's names of those."""
    last_error: dict[str, str] = field(default_factory=dict)
    """Tune's name of a trial -> what Ray said when its worker died."""
    memory_gib: dict[str, float] = field(default_factory=dict)
    """Tune's name of a trial -> the most that a worker of it had used at the end of an epoch."""
    _shown: tuple[int, int] = (0, 0)
    """Places of packs that were taken, and trials that waited, when it was last said."""
    _shown_at: float = field(default_factory=time.monotonic)
    error: Exception | None = None
    """What went wrong in the coordinator: the study cannot be written, say."""
    _open: bool = True
    _one: Any = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def served(self) -> Iterator[bool]:
        """Whether it is open; it stays so inside. What is raised inside closes it and ends Tune,
        which would tell it as an error of its own."""
        with self._one:
            try:
                yield self._open
            except Exception as error:
                self.error, self._open = error, False
                raise _Stop from None

    def close(self) -> None:
        with self._one:
            self._open = False

    def next(self) -> tuple[Assignment, str | None] | None:
        """What to start now, and the host whose pack trains it."""
        if self.packing is None:
            assignment = self.coordinator.next()
            return (assignment, None) if assignment else None
        if self.coordinator.stopping:  # what waits stays unfinished
            return None
        found = self.packing.next(self._draw)
        self._show_places(self.packing)
        return (self.drawn.pop(found[0]), found[1]) if found else None

    def _show_places(self, packing: Packing[Hashable]) -> None:
        now, places = time.monotonic(), len(packing.hosts) * packing.places
        taken, waiting = places - packing.empty_places, len(packing.waiting)
        if self._shown == (taken, waiting) or now < self._shown_at + SHOW_SECONDS:
            return
        self._shown, self._shown_at = (taken, waiting), now
        self.coordinator.say(
            f"packs: {taken} of {places} places taken, waiting for others of their shape: {waiting}"
        )

    def _draw(self) -> tuple[int, Hashable] | None:
        from ckconv_sweep.training.shape import shape_key, why_alone

        assignment = self.coordinator.next()
        if assignment is None:
            return None
        number, trial = assignment.number, assignment.trial
        self.drawn[number] = assignment
        return number, number if why_alone(trial) else shape_key(trial)

    def ended(self, trial_id: str) -> int | None:
        """The number of a trial whose run is over, the first time that Tune says so. It may say
        it twice where a worker died; by then the trial may run under another name."""
        number = self.numbers.pop(trial_id, None)
        if number is not None and self.packing is not None:
            self.packing.free(number)
        return number

    def came_back(self, trial_id: str, said: dict[str, Any]) -> None:
        """A worker refused a trial because of its node: another node gets it."""
        number, why = self.numbers[trial_id], f"{said['name']}: {said['error']}"
        if said["node"] not in self.unfit:
            self.coordinator.say(f"this node is not used: {why}")
        self.unfit[said["node"]] = why
        self.false_starts[number] += 1
        if self.packing is not None:
            self.packing.close(number)
        closed = self.packing is not None and not self.packing.hosts
        if closed or self.false_starts[number] > MOST_FALSE_STARTS:
            self.coordinator.stop(
                ResourcesMissing(
                    f"no node may train trial {number}; whatever was recorded is kept",
                    where="the Ray cluster",
                    hint=f"at last {why}\n  repair a node, then run the same command again",
                )
            )
        self.ended(trial_id)
        self.coordinator.again(number)

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
            f"{times} without an error message, probably killed for memory{had}",
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
            found = self._desk.next() if is_open else None
            if found is None:
                # One that runs may have to be handed out again: only later is nothing left.
                return None if is_open and self._desk.coordinator.awaited else Searcher.FINISHED
            assignment, host = found
            self._desk.numbers[trial_id] = assignment.number
            self._desk.settings[assignment.number] = assignment.trial.data
            return self._config(assignment, host)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with self._desk.served() as is_open:
            if not is_open:
                return
            coordinator, number = self._desk.coordinator, self._desk.ended(trial_id)
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

    def _config(self, assignment: Assignment, host: str | None) -> dict[str, Any]:
        return {
            "trial": assignment.trial.model_dump_json(),
            "folder": str(assignment.folder),
            "attempt": assignment.attempt,
            "host": host,
            "gpus": self._gpus,
            "data_dir": str(self._data_dir) if self._data_dir else None,
            "versions": versions.of_worker(),
            "data": self._desk.data.of(assignment.trial.data),
            "allow_data_change": self._desk.data.allow_change,
            "where": nodes.without(self._desk.unfit),
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
            desk.data.heard(desk.settings[number], said["data"])
            return coordinator.epoch(number, Epoch(**said["epoch"]), said["data"])
        if said["reason"] == UNFIT:
            desk.came_back(trial_id, said)
        elif said["reason"] == "cannot_write":
            coordinator.stop(CannotWrite(said["error"]))
        else:
            coordinator.end(number, reason=said["reason"], error=said["error"])
        return False


class _Stops(_NotPickled, tune.Callback):
    """Tune passes here several times a second; the place where a signal may end it, and where it
    ends when no node is left that fits: a trial that cannot be placed would wait for ever."""

    def __init__(self, interruption: Signals, desk: _Desk, placement: Placement) -> None:
        self._interruption, self._desk, self._placement = interruption, desk, placement
        self._asked_at, self._known = 0.0, len(desk.unfit)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._interruption.came:
            raise _Stop
        now, unfit = time.monotonic(), self._desk.unfit
        if unfit and (len(unfit) > self._known or now > self._asked_at + ROOM_SECONDS):
            self._asked_at, self._known = now, len(unfit)
            try:
                processes(self._placement, unfit)
            except ResourcesMissing as error:
                self._desk.coordinator.stop(error)
                raise _Stop from None
