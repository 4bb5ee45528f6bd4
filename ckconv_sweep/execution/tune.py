"""Runs seats as Ray Tune trials.

A Tune trial is a seat: a long-lived process with places for trials of the sweep (`execution.seat`).
Tune places the seats, keeps so many running, puts another one elsewhere where a process or a node
died, and carries what they say. It decides nothing and remembers nothing: each session is a fresh
Tune run, and a resume never reads what an earlier one left.

A report of Tune's has no answer. Ours is a call to the seat's actor, which comes to it before the
call of its next step.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from ckconv_sweep.errors import ClusterLost, ResourcesMissing
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.cluster import Head, Placement
from ckconv_sweep.execution.desk import Closed, Desk
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.local_ray import dead_processes
from ckconv_sweep.execution.nodes import Census
from ckconv_sweep.execution.places import Places
from ckconv_sweep.execution.protocol import Session, Signals, Work
from ckconv_sweep.execution.trainable import KEY, SeatTrainable
from ckconv_sweep.record import versions

STOP_SECONDS = 6.0
"""How long Ray Tune may take to end after a signal. In a call to a cluster that does not answer it
would not end at all."""


def run(
    coordinator: Work,
    interruption: Signals,
    *,
    placement: Placement,
    at_a_time: int,
    census: Census,
    session: Session,
    data: KnownData,
) -> None:
    """Train until the coordinator has nothing left. A cluster that is lost, or has no node left
    that fits, becomes the coordinator's `fatal`.

    Args:
        placement: what each process that trains gets, and how many trials run at most.
        at_a_time: how many have room at first.
        census: asks the nodes that come later.
        data: what the workers' data are compared with.

    Tune runs in a thread of its own, and is left alone where it does not come back.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    assert placement.pack != "auto"
    head, folder = Head(), session.folder / "tune"
    desk = Desk(
        coordinator,
        data,
        places=placement.pack or 1,
        at_a_time=at_a_time,
        roster=census.roster,
        here=nodes.this_node()[0],
        gpus=placement.gpus_per_trial,
    )
    places = Places(placement, census, at_a_time)
    bundle = {"CPU": placement.cpus_per_trial, "GPU": placement.gpus_per_trial}
    config = {
        "gpus": placement.gpus_per_trial,
        "data_dir": str(session.data_dir) if session.data_dir else None,
        "marker": census.marker,
        "group": places.group,
        "allow_data_change": data.allow_change,
    }
    shutil.rmtree(folder, ignore_errors=True)

    def fit() -> None:
        tune.Tuner(
            tune.with_resources(SeatTrainable, partial(_resources, bundle)),
            tune_config=tune.TuneConfig(
                num_samples=-1,
                search_alg=_Search(desk, head, config),
                scheduler=_Scheduler(desk),
            ),
            run_config=tune.RunConfig(
                name="session",
                storage_path=str(folder),
                verbose=0,
                stop=_Stops(interruption, desk, coordinator, places),
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
    """What Tune places a seat by: not on a node that was unused when the seat was wanted."""
    avoid: Any = {"bundle_label_selector": [config["where"]]} if config["where"] else {}
    return tune.PlacementGroupFactory([bundle], name=config["group"], **avoid)


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


class _Background(threading.Thread):
    """Work that may hang, and then does not keep the process."""

    def __init__(self, work: Any) -> None:
        super().__init__(name="ray-tune", daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except Closed:
            pass
        except BaseException as error:
            self.error = error

    def ended(self, *, within_seconds: float) -> bool:
        self.join(within_seconds)
        return not self.is_alive()


class _NotPickled:
    """Tune pickles what it is given; the study's handle must not be in there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())


class _Search(_NotPickled, Searcher):
    """Tune asks here for its next trial, which is a seat."""

    def __init__(self, desk: Desk, head: Head, config: Mapping[str, Any]) -> None:
        super().__init__()
        self._desk, self._head, self._config = desk, head, config

    def suggest(self, trial_id: str) -> Any:
        with self._desk.served() as is_open:
            if is_open:  # without a seat Tune waits here, and not in `_Stops`
                self._desk.attend()
            if not is_open or self._desk.over:
                return Searcher.FINISHED
            places = self._desk.seat_wanted()
            if not places:
                return None
            return {
                **self._config,
                "places": places,
                "group": f"{self._config['group']}-{trial_id}",
                "pause_seconds": self._desk.open(trial_id, places),
                "versions": versions.of_worker(),
                "where": nodes.without(self._desk.roster.unfit),
            }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with self._desk.served() as is_open:
            if not is_open:
                return
            if not error:
                self._desk.ended(trial_id)
            elif not self._head.answers():
                # The seats of a lost cluster die with it, and no trial of theirs has failed.
                self._desk.lost(_lost(self._head))
            else:
                self._desk.died(trial_id, nodes.named_in(self._desk.last_words.get(trial_id, "")))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study remembers."""


class _Scheduler(_NotPickled, FIFOScheduler):
    """Tune shows here what a seat reported, before anybody else sees it."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        with self._desk.served() as is_open:
            orders = self._desk.heard(trial.trial_id, json.loads(result[KEY])) if is_open else None
        if orders is None:
            return str(self.STOP)
        if any(orders.values()):
            trial.temporary_state.ray_actor.answer.remote(json.dumps(orders))
        return str(self.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        # Not by Tune's own `get_error`, which reads a copy of this file that is not there yet.
        path = trial.error_file
        self._desk.last_words[trial.trial_id] = Path(path).read_text() if path else ""


class _Stops(_NotPickled, tune.Stopper):
    """Tune passes here several times a second; the place where a signal may end it, and where it
    ends when no node is left that fits: a seat that cannot be placed would wait for ever. No
    callback of Tune's: to count of which kind those are it imports MLflow, a second before the
    first seat is started."""

    def __init__(
        self, interruption: Signals, desk: Desk, coordinator: Work, places: Places
    ) -> None:
        self._interruption, self._desk, self._coordinator = interruption, desk, coordinator
        self._places = places

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a seat is to end: `_Scheduler` says that."""
        return False

    def stop_all(self) -> bool:
        """Never: it raises `Closed` where all is to end."""
        if self._interruption.came or self._coordinator.fatal is not None:
            raise Closed
        before = self._places.at_a_time
        try:
            said = self._places.look()  # not while the desk is held: a lost cluster does not answer
        except ResourcesMissing as error:
            self._coordinator.stop(error)
            raise Closed from None
        with self._desk.served() as is_open:
            if is_open:
                self._desk.attend()
                for line in said:
                    self._coordinator.say(line)
                if self._places.at_a_time != before:
                    self._desk.has_places(self._places.at_a_time)
        return False
