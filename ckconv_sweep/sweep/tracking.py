"""MLflow, as a picture of the study: one parent run a sweep, one child run a trial.

A thread of its own talks to MLflow, so that a server that is slow, down or gone never slows a
trial. What was delivered is marked in the study by the driver; what is not marked is delivered
again when the sweep goes on. Delivering twice changes nothing: a run is found again by its uid,
and MLflow keeps one of several equal points (same step, value and time).
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ckconv_sweep import __version__, keys
from ckconv_sweep.config.history import objective
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.study import TrialRecord
from ckconv_sweep.sweep.events import Ended, EpochEnded, Event, Listener, Started
from ckconv_sweep.sweep.mlflow_store import artifact_location, first_to_open, without_password

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Client calls must fail soon: this file's thread tries again by itself, for as long as it takes.
# The client's own second try would make a second run when only the answer to the first was lost.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

_LONGEST_PAUSE_SECONDS = 30.0
_REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's words for what it will not take however often it is sent."""
_STATUS = {"completed": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
"""An early-stopped trial is no failure, and MLflow draws KILLED like one."""


def uid(sweep: str, number: int | None = None) -> str:
    """32 hexadecimal digits that name a sweep's run, or a trial's, for ever."""
    text = sweep if number is None else f"{sweep}/{number}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RunOfSweep:
    """What the parent run says, or the only run where a trial is trained alone."""

    name: str
    uid: str
    role: str
    params: Mapping[str, Any]
    artifacts: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Mark:
    """What MLflow is known to have of a trial."""

    epochs: int = 0
    ended: bool = False


class Tracker(Listener):
    """Delivers what it hears to MLflow.

    Args:
        uri: MLflow's tracking address.
        sweep: the parent run.
        base: the base trial, to say what differs from it.
        say: hears, once each, that the server does not answer, that it answers again, and what
            it refused.
    """

    def __init__(
        self,
        uri: str,
        sweep: RunOfSweep,
        *,
        base: Trial,
        say: Callable[[str], None],
        marks: Mapping[int, Mark] | None = None,
    ) -> None:
        self.uri = uri
        self.experiment_id: str | None = None
        self.marks: dict[int, Mark] = dict(marks or {})
        self._sweep, self._base, self._say = sweep, base, say
        self._queue: deque[Event | str] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._failing = ""
        self._refused = 0
        self._client: Any = None
        self._runs: dict[int | None, str] = {}
        self._thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)

    # For the driver

    def start(self) -> None:
        self._put("RUNNING")
        self._thread.start()

    def hear(self, event: Event) -> None:
        self._put(event)

    def catch_up(
        self, records: Iterable[TrialRecord], resolve: Callable[[TrialRecord], Trial]
    ) -> None:
        """Queue what the study has and MLflow is not known to have."""
        for record in records:
            mark = self.marks.get(record.number, Mark())
            over = record.outcome != "running"
            if not record.counts or (mark.epochs >= len(record.history) and mark.ended == over):
                continue
            for event in events_of(record, resolve(record)):
                known = isinstance(event, EpochEnded) and event.epoch.number <= mark.epochs
                if not known:
                    self._put(event)

    @property
    def address(self) -> str:
        """The server's address as it may be written down."""
        return without_password(self.uri)

    @property
    def waiting(self) -> int:
        """How many records are not delivered yet."""
        return len(self._queue)

    def close(self, status: str, *, patience_seconds: float = 60.0) -> int:
        """Deliver what is left and end the parent run; returns how many records are not delivered,
        those that MLflow refused among them. A server that does not answer is not waited for."""
        self._put(status)
        with self._wake:
            self._closing = True
            self._wake.notify()
        deadline = time.monotonic() + patience_seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(timeout=0.1)
            if self._failing and self._thread.is_alive():
                self._thread.join(timeout=min(3.0, max(0.0, deadline - time.monotonic())))
                break
        return self.waiting + self._refused

    # The thread

    def _put(self, item: Event | str) -> None:
        with self._wake:
            self._queue.append(item)
            self._wake.notify()

    def _deliver_all(self) -> None:
        pause = 1.0
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if not self._queue:
                    return
                batch = list(self._queue)
            try:
                done = self._deliver(batch)
            except Exception as error:
                if self._closing:
                    self._failing = self._failing or str(error)
                    return
                if not self._failing:
                    self._failing = str(error) or type(error).__name__
                    self._say(
                        f"MLflow at {self.address} does not answer; training goes "
                        "on, and what it misses is kept on disk and delivered later"
                    )
                with self._wake:
                    self._wake.wait(timeout=pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            if self._failing:
                self._failing, pause = "", 1.0
                self._say("MLflow answers again")
            with self._wake:
                for _ in range(done):
                    self._queue.popleft()

    def _deliver(self, batch: list[Event | str]) -> int:
        """Deliver the first items that belong together; returns how many. Raises what MLflow
        raises when it cannot be reached."""
        self._connect()
        together = [batch[0]]
        for item in batch[1:500]:
            if isinstance(item, str) or isinstance(batch[0], str) or item.number != batch[0].number:
                break
            together.append(item)
        try:
            self._deliver_together(together)
        except Exception as error:
            if not _is_refusal(error):
                raise
            if len(together) > 1:  # one by one, so that only what is refused is lost
                return self._deliver(together[:1])
            self._refuse(_name_of(together[0]), error)
        return len(together)

    def _deliver_together(self, items: list[Event | str]) -> None:
        words = [item for item in items if isinstance(item, str)]
        events = [item for item in items if not isinstance(item, str)]
        for word in words:
            self._deliver_to_sweep(word)
        if events:
            self._deliver_to_trial(events[0].number, events)

    def _refuse(self, what: str, error: Exception) -> None:
        """What MLflow refuses is not sent again: it would keep back all that follows."""
        self._refused += 1
        if self._refused == 1:
            reason = str(error).partition("\n")[0].replace(self.uri, self.address)[:300]
            self._say(f"MLflow at {self.address} refused {what} and goes without it: {reason}")

    def _connect(self) -> None:
        if self._client is not None:
            return
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic"):  # they would write into the live view
            logging.getLogger(library).setLevel(logging.ERROR)
        with first_to_open(self.uri):
            client = MlflowClient(tracking_uri=self.uri)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", keys.EXPERIMENT)
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                self.experiment_id = client.create_experiment(
                    name, artifact_location=artifact_location(self.uri)
                )
            else:
                self.experiment_id = experiment.experiment_id
        self._client = client

    def _deliver_to_sweep(self, word: str) -> None:
        run_id = self._run_of_sweep()
        if word == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, status=word)

    def _run_of_sweep(self) -> str:
        if None not in self._runs:
            sweep = self._sweep
            run_id, new = self._find_or_create(
                sweep.uid,
                sweep.name,
                None,
                {keys.TAG_SWEEP: sweep.name, keys.TAG_ROLE: sweep.role, **sweep.tags},
            )
            if new:
                self._log_params(run_id, sweep.params)
                for name, text in sweep.artifacts.items():
                    self._client.log_text(run_id, text, name)
            self._runs[None] = run_id
        return self._runs[None]

    def _deliver_to_trial(self, number: int, events: list[Event]) -> None:
        from mlflow.entities import Metric

        mark = self.marks.setdefault(number, Mark())
        points: list[Any] = []
        for event in events:
            if isinstance(event, Started):
                self._start_trial(event)
            elif isinstance(event, EpochEnded):
                values = {
                    **event.epoch.metrics,
                    keys.best_of(self._base.metric.name): event.best,
                }
                when, step = event.epoch.timestamp_ms, event.epoch.number
                points += [Metric(name, value, when, step) for name, value in values.items()]
        run_id = self._runs.get(number)
        if run_id is None:  # its run was refused
            self._refused += len(events)
            return
        if points:
            self._client.log_batch(run_id, metrics=points)
            mark.epochs = max(e.epoch.number for e in events if isinstance(e, EpochEnded))
        for event in events:
            if isinstance(event, Ended):
                self._end_trial(run_id, event)
                mark.ended = True

    def _start_trial(self, event: Started) -> None:
        if event.number in self._runs:
            return
        alone = self._sweep.role == keys.ROLE_SINGLE
        settings = flat(event.trial.model_dump(mode="json"))
        base = flat(self._base.model_dump(mode="json"))
        changed = {k: v for k, v in settings.items() if base.get(k) != v and k != "training.seed"}
        if alone:
            run_id, new = self._run_of_sweep(), False
        else:
            run_id, new = self._find_or_create(
                uid(self._sweep.uid, event.number),
                keys.trial_name(event.number),
                event.started_ms,
                {
                    keys.TAG_SWEEP: self._sweep.name,
                    keys.TAG_ROLE: keys.ROLE_TRIAL,
                    keys.TAG_TRIAL: str(event.number),
                    keys.TAG_CHANGED: " ".join(f"{k}={_short(v)}" for k, v in changed.items()),
                    "mlflow.parentRunId": self._run_of_sweep(),
                },
            )
        if new:
            self._log_params(run_id, settings)
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._runs[event.number] = run_id

    def _end_trial(self, run_id: str, event: Ended) -> None:
        from mlflow.entities import Metric, RunTag

        tags = {
            keys.TAG_OUTCOME: event.outcome,
            keys.TAG_REASON: event.reason,
            keys.TAG_ERROR: event.error[-5000:],
        }
        summary = {"summary/epochs": float(event.epochs)}
        if event.value is not None:
            summary[f"summary/{self._base.metric.name.replace('/', '_')}"] = event.value
        # At step 0, so that MLflow draws one bar a trial instead of scattered dots.
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, event.ended_ms, 0) for name, value in summary.items()],
            tags=[RunTag(name, value) for name, value in tags.items() if value],
        )
        self._client.set_terminated(run_id, status=_STATUS[event.outcome], end_time=event.ended_ms)

    def _find_or_create(
        self, run_uid: str, name: str, start_ms: int | None, tags: Mapping[str, str]
    ) -> tuple[str, bool]:
        """The run of this uid and whether it is new. Looked up first: the answer to an earlier
        creation may have been lost."""
        found = self._client.search_runs(
            [self.experiment_id], f"tags.`{keys.TAG_UID}` = '{run_uid}'", max_results=1
        )
        if found:
            # It may have been made by a session that was killed before it wrote the parameters.
            return found[0].info.run_id, not found[0].data.params
        run = self._client.create_run(
            self.experiment_id,
            run_name=name,
            start_time=start_ms,
            tags={keys.TAG_UID: run_uid, **{k: v for k, v in tags.items() if v}, **_source()},
        )
        return run.info.run_id, True

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        try:
            self._client.log_batch(
                run_id, params=[Param(name, _short(value)) for name, value in params.items()]
            )
        except Exception as error:
            if not _is_refusal(error):
                raise
            self._refuse("the settings of a run", error)


def _is_refusal(error: Exception) -> bool:
    # A server whose pool of connections is used up says BAD_REQUEST too, but only for a moment.
    return getattr(error, "error_code", "") in _REFUSALS and "QueuePool" not in str(error)


def _name_of(item: Event | str) -> str:
    if isinstance(item, EpochEnded):
        return f"epoch {item.epoch.number} of trial {item.number}"
    if isinstance(item, str):
        return "the state of the sweep's run"
    return f"the {'start' if isinstance(item, Started) else 'end'} of trial {item.number}"


def events_of(record: TrialRecord, trial: Trial) -> list[Event]:
    """What was heard of a trial while it ran, from what the study keeps."""
    at_best = trial.metric.model_copy(update={"at": "best"})
    events: list[Event] = [
        Started(
            number=record.number, trial=trial, params=record.params, started_ms=record.started_ms
        )
    ]
    for i, epoch in enumerate(record.history):
        best = objective(record.history[: i + 1], at_best)
        events.append(EpochEnded(number=record.number, epoch=epoch, best=best))
    if record.outcome != "running":
        value = objective(record.history, trial.metric) if record.history else None
        events.append(
            Ended(
                number=record.number,
                outcome=record.outcome,
                reason=record.reason,
                error=record.error,
                epochs=len(record.history),
                value=value,
                ended_ms=record.ended_ms or 0,
            )
        )
    return events


@lru_cache(maxsize=1)
def _source() -> Mapping[str, str]:
    tags = {
        "mlflow.source.name": "ckconv-sweep",
        "mlflow.source.type": "LOCAL",
        "ckconv.version": __version__,
    }
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            commit = subprocess.run(
                ["git", "rev-parse", "HEAD"],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
                cwd=checkout,
            )
            tags["mlflow.source.git.commit"] = commit.stdout.strip()
    return tags


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
