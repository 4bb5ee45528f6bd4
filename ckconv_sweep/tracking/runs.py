"""What is written to MLflow of a sweep: one parent run, one child run a trial.

Writing twice changes nothing: a run is found again by its uid, and MLflow keeps one of several
equal points (same step, value and time). No method waits or tries again; `tracking.outbox` does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import TrackingError
from ckconv_sweep.record.events import Ended, EpochEnded, Event, Started
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking.answers import is_refusal, obstacle_to
from ckconv_sweep.tracking.artifacts import Files
from ckconv_sweep.tracking.described import (
    RunOfSweep,
    end_tags,
    known_before,
    params,
    trial_file,
    trial_params,
    trial_tags,
)
from ckconv_sweep.tracking.marks import (
    PARENT,
    STATUS,
    Mark,
    find,
    has_still,
    in_mlflow,
    is_deleted,
    mark_in_mlflow,
    search,
    uid,
)
from ckconv_sweep.tracking.page import Page
from ckconv_sweep.tracking.source import command_line, dataset_input, in_words, source_tags
from ckconv_sweep.tracking.store import (
    artifact_location,
    experiment,
    first_to_open,
    local_database,
    quiet_client,
    reason,
    without_password,
)

MANY = 100
"""Trials, from which on MLflow is not asked about each one when a sweep goes on."""


class Runs:
    """The runs of one sweep.

    Args:
        base: the base trial, to say what differs from it.
        say: hears, once each, that MLflow refused something and that it takes no files.
        marks: what MLflow is known to have; kept up to date here.
    """

    def __init__(
        self,
        uri: str,
        sweep: RunOfSweep,
        *,
        base: Trial,
        say: Callable[[str], None],
        marks: dict[int, Mark],
    ) -> None:
        self.experiment_id: str | None = None
        self.metrics = (base.metric,) if sweep.space is None else sweep.space.metrics
        """What trials are judged by, the primary metric first."""
        self.delivered_before: dict[int, list[EpochEnded]] = {}
        """Epochs of unfinished trials that an earlier session delivered; needed again where a run
        was deleted since."""
        self._refused: set[str] = set()
        self._without_run = 0
        """How many records are of trials whose run was refused."""
        self._uri, self._sweep, self._base = uri, sweep, base
        self._say, self._marks = say, marks
        self._owed: dict[int, list[EpochEnded]] = {}
        self._ids: dict[int | None, str] = {}
        self._described: dict[int, list[Any]] = {}
        """What is known of trials before they begin, and not yet written. MLflow's page that
        compares runs opens on the metric that was written first, which shall be none of these."""
        self._client: Any = None
        self._unanswered: set[str] = set()
        self._files = Files(uri, say)
        self._source = {**source_tags(), keys.TAG_VERSIONS: in_words(sweep.versions)}
        self.page = None if sweep.space is None else Page(uri, sweep, sweep.space, say)

    @property
    def undelivered(self) -> int:
        """How many records MLflow did not take, though it answered."""
        return len(self._refused) + self._without_run + self._files.missing

    def connect(self) -> None:
        """Raises what MLflow raises when it cannot be reached; so do all that follow."""
        if self._client is not None:
            return
        database = local_database(self._uri)
        if database is not None and (obstacle := obstacle_to(database)):
            raise TrackingError(obstacle)  # MLflow would try for minutes
        with first_to_open(self._uri):
            client = quiet_client(self._uri)
            self.experiment_id = experiment(client, artifact_location(self._uri), self._say)
        self._client = client

    def ask(self) -> None:
        """One short call."""
        self.connect()
        self._client.get_experiment(self.experiment_id)

    def compare(self, records: Sequence[TrialRecord], *, thoroughly: bool) -> None:
        """Drop the marks that MLflow does not confirm. If not `thoroughly` and there are many, it
        is asked about each trial only where something tells of a loss."""
        self._run_of_sweep()
        if not thoroughly and len(records) > MANY and self._confirms(records):
            return
        found = in_mlflow(
            self._client,
            self.experiment_id or "",
            self._sweep.uid,
            records,
            metrics=[metric.name for metric in self.metrics],
            files=artifact_location(self._uri),
        )
        for run_id in found.without_file:
            self._client.delete_tag(run_id, keys.TAG_FILES)
        for number, mark in list(self._marks.items()):
            there = found.marks.get(number, Mark())
            epochs = min(mark.epochs, there.epochs)
            self._marks[number] = Mark(epochs, mark.ended and there.ended)

    def _confirms(self, records: Sequence[TrialRecord]) -> bool:
        """Whether MLflow seems to have all that is marked, by a few short questions."""
        where, sweep = self.experiment_id or "", self._sweep.uid
        files = artifact_location(self._uri)
        newest, running, partly = None, list[int](), list[TrialRecord]()
        for record in records:
            mark = self._marks.get(record.number, Mark())
            if mark.ended and not record.epochs_after(mark.epochs):
                newest = record.number
            else:
                running.append(record.number)
                partly += [record] * (mark != Mark())
        if newest is None or len(running) > MANY:
            return False
        if not has_still(self._client, where, sweep, newest=newest, running=running, files=files):
            return False
        metrics = [metric.name for metric in self.metrics]
        for record in partly:
            there = mark_in_mlflow(self._client, where, sweep, record, metrics=metrics, files=files)
            mark = self._marks[record.number]
            if there is None or there.epochs < mark.epochs or (mark.ended and not there.ended):
                return False
        return True

    def write_sweep(self, status: str) -> None:
        """That the sweep runs, or how it ended; and its files."""
        run_id = self._run_of_sweep()
        if status == "RUNNING":
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, status=status)
        self._files.want(run_id, self._sweep.artifacts)
        self._files.put_missing(self._client)
        if self.page is not None:
            self.page.write(self._client, self.experiment_id or "", run_id)

    def write_trial(self, number: int, events: Sequence[Event]) -> None:
        """What happened to one trial."""
        from mlflow.entities import Metric

        for event in events:
            if isinstance(event, Started):
                self._start_trial(event)
        run_id = self._ids.get(number)
        if run_id is None:  # its run was refused
            self._without_run += len(events)
            return
        epochs = [*self._owed.get(number, ()), *(e for e in events if isinstance(e, EpochEnded))]
        points = [
            Metric(name, value, event.epoch.timestamp_ms, event.epoch.number)
            for event in epochs
            for name, value in {
                keys.best_of(self._base.metric.name): event.best,
                **event.epoch.metrics,
            }.items()
        ]
        # Nothing is marked of a run that lacks its file, so that it is all told again with it.
        mark = Mark() if self._files.lacks(run_id) else self._marks.setdefault(number, Mark())
        if points or any(isinstance(event, Ended) for event in events):
            points += self._described.get(number, ())
        if points:
            self._log(run_id, keys.trial_name(number), points)
            self._described.pop(number, None)
            crash_point("tracking.delivered")
        if epochs:
            mark.epochs = max(event.epoch.number for event in epochs)
            self._owed.pop(number, None)
        for event in events:
            if isinstance(event, Ended):
                self._end_trial(run_id, event)
                mark.ended = True

    def refuse(self, what: str, error: Exception) -> None:
        """What MLflow refuses is not sent again: it would keep back all that follows."""
        self._refused.add(what)
        if len(self._refused) == 1:
            self._say(
                f"MLflow at {without_password(self._uri)} refused {what} and goes without it: "
                f"{reason(error, self._uri)}"
            )

    def _log(self, run_id: str, name: str, values: Sequence[Any]) -> None:
        """Log metrics, parameters and tags in one call. Where MLflow refuses one of them, the
        others are logged without it.

        Args:
            name: of the run.
        """
        from mlflow.entities import Metric, Param, RunTag

        kinds = [[v for v in values if isinstance(v, kind)] for kind in (Metric, Param, RunTag)]
        try:
            self._client.log_batch(run_id, *kinds)
        except Exception as error:
            if not is_refusal(error) or is_deleted(self._client.get_run(run_id)):
                raise
            if len(values) == 1:
                at = f" at epoch {step}" if (step := getattr(values[0], "step", 0)) else ""
                self.refuse(f"{values[0].key}{at} of {name}", error)
                return
            half = len(values) // 2
            self._log(run_id, name, values[:half])
            self._log(run_id, name, values[half:])

    def _run_of_sweep(self) -> str:
        if None not in self._ids:
            sweep = self._sweep
            run_id, new = self._find_or_create(
                sweep.uid,
                sweep.name,
                None,
                {
                    keys.TAG_SWEEP: sweep.name,
                    keys.TAG_ROLE: sweep.role,
                    keys.TAG_COMMAND: command_line(sys.argv),
                    **sweep.tags,
                },
            )
            if new:
                self._log(run_id, sweep.name, params(sweep.params))
            self._ids[None] = run_id
        return self._ids[None]

    def _start_trial(self, event: Started) -> None:
        if event.number in self._ids:
            return
        alone = self._sweep.role == keys.ROLE_SINGLE
        if alone:
            run_id, new = self._run_of_sweep(), False
        else:
            run_id, new = self._find_or_create(
                uid(self._sweep.uid, event.number),
                keys.trial_name(event.number),
                event.started_ms,
                {**trial_tags(self._sweep, self._base, event), PARENT: self._run_of_sweep()},
            )
        if not alone:
            self._files.put(self._client, run_id, trial_file(event.trial), new=new)
        if new:
            self._name_dataset(run_id, event)
            # The last: who finds them finds all before.
            self._log(run_id, keys.trial_name(event.number), trial_params(self._sweep, event))
            # Its run may have been deleted in MLflow's pages; this one has nothing of it yet.
            self._marks[event.number] = Mark()
            self._owed[event.number] = self.delivered_before.pop(event.number, [])
        else:
            self._client.update_run(run_id, status="RUNNING")
        self._described[event.number] = list(known_before(self._sweep, event))
        self._ids[event.number] = run_id

    def _name_dataset(self, run_id: str, event: Started) -> None:
        """For the column of datasets."""
        if self._sweep.data_digest:
            used = dataset_input(event.trial.data, self._base.data, self._sweep.data_digest)
            try:
                self._client.log_inputs(run_id, datasets=[used])
            except Exception as error:
                if not is_refusal(error):
                    raise
                self.refuse(f"the dataset of {keys.trial_name(event.number)}", error)

    def _end_trial(self, run_id: str, event: Ended) -> None:
        from mlflow.entities import Metric, RunTag

        tags = end_tags(event, self._client.get_run(run_id).data.tags)
        summary = {keys.SUMMARY_EPOCHS: float(event.epochs)}
        summary |= {keys.summary_of(name): value for name, value in event.values.items()}
        self._log(
            run_id,
            keys.trial_name(event.number),
            [
                *(Metric(name, value, event.ended_ms, 0) for name, value in summary.items()),
                *(RunTag(name, value) for name, value in tags.items()),
            ],
        )
        self._client.set_terminated(run_id, status=STATUS[event.outcome], end_time=event.ended_ms)

    def _find_or_create(
        self, run_uid: str, name: str, start_ms: int | None, tags: Mapping[str, str]
    ) -> tuple[str, bool]:
        """The run of this uid and whether it is new. Looked up first: the answer to an earlier
        creation may have been lost, and it may have been deleted."""
        if run_uid in self._unanswered:
            # It may lie unread before a server that hung and is just waking up.
            self._client.get_experiment(self.experiment_id)
            time.sleep(1.0)
        run = find(self._client, self.experiment_id, run_uid)
        if run is not None:
            run_id = run.info.run_id
            if is_deleted(run):  # with all that it has, and under its address
                self._client.restore_run(run_id)
            if run.data.tags.get(keys.TAG_SWEEP) != tags[keys.TAG_SWEEP]:
                self._rename(run_id, name, tags[keys.TAG_SWEEP])
            if PARENT in tags and run.data.tags.get(PARENT) != tags[PARENT]:  # deleted for good
                self._client.set_tag(run_id, PARENT, tags[PARENT])
            # It may have been made by a session that was killed before it wrote the parameters.
            return run_id, not run.data.params
        self._unanswered.add(run_uid)
        run = self._client.create_run(
            self.experiment_id,
            run_name=name,
            start_time=start_ms,
            tags={keys.TAG_UID: run_uid, **{k: v for k, v in tags.items() if v}, **self._source},
        )
        self._unanswered.discard(run_uid)
        crash_point("tracking.created")
        return run.info.run_id, True

    def _rename(self, run_id: str, name: str, sweep: str) -> None:
        """Of a sweep whose folder was renamed. Its own run is the last to bear the new name, so
        that who finds that finds it everywhere."""
        asked = f"tags.`{PARENT}` = '{run_id}'"
        for run in search(self._client, self.experiment_id or "", asked):
            self._client.set_tag(run.info.run_id, keys.TAG_SWEEP, sweep)
        self._client.update_run(run_id, name=name)
        self._client.set_tag(run_id, keys.TAG_SWEEP, sweep)
