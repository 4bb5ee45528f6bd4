"""What a sweep does next: the rules, without Ray, MLflow or a process of their own.

An executor asks `next` for work, gives every epoch to `epoch` and obeys its answer, and says `end`
when a trial's run is over. Everything is written to the study before it is answered.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ckconv_sweep.config.domains import Scalar
from ckconv_sweep.config.grid import grid_size, most_settings
from ckconv_sweep.config.history import (
    Continue,
    Epoch,
    Stop,
    Verdict,
    end_reason,
    objective,
)
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.execution.protocol import Assignment
from ckconv_sweep.keys import REASON_CONSTRAINT, REASON_STOPPED, Outcome
from ckconv_sweep.record import lease
from ckconv_sweep.record.budget import over
from ckconv_sweep.record.events import EpochEnded, Event, Listener, Rejected, Started, ended
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, rejected, trial_of
from ckconv_sweep.search.feasible import Infeasible, resolved
from ckconv_sweep.sweep.agenda import Agenda, Rule
from ckconv_sweep.sweep.choice import Choice
from ckconv_sweep.sweep.confirming import Confirming
from ckconv_sweep.sweep.control import Control
from ckconv_sweep.sweep.judging import Judge, Running
from ckconv_sweep.sweep.kept import kept
from ckconv_sweep.sweep.session_end import SessionEnd
from ckconv_sweep.sweep.sessions import Sessions

log = logging.getLogger(__name__)

MOST_VIOLATIONS = 200
"""Draws in a row that may be rejected before the sweep gives up."""


class Coordinator:
    """The rules of one session of a sweep.

    Args:
        count_parameters: the number of trainable numbers of a trial's model.
        is_interrupted: whether nothing new is to be drawn.
        clock: seconds that never go backwards, for the time budget.
        places: how many trials can run at a time; None where nobody knows.
        confirming: what is trained instead of the search.
        end: when the session has to be over.
    """

    def __init__(
        self,
        study: Study,
        *,
        count_parameters: Callable[[Trial], int],
        listeners: Sequence[Listener] = (),
        is_interrupted: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        places: int | None = None,
        confirming: Confirming | None = None,
        end: SessionEnd | None = None,
    ) -> None:
        self.space: Space = study.space
        self.fatal: Exception | None = None
        """Why the sweep cannot go on, if so: the first reason, of which others may be a result."""
        self._study = study
        self._count_parameters = count_parameters
        self._is_interrupted = is_interrupted
        self._listeners = listeners
        self._running: dict[int, Running] = {}
        self._heard: list[tuple[Callable[[], None], EpochEnded]] = []
        """Epochs that were acknowledged and are not recorded yet: how, and what is told of each."""
        self._are_together = False
        records = study.trials() if confirming is None else confirming.trials()
        self._judge: Rule = confirming or Judge(study, records, count_parameters)
        self._replaced = {r.replaces for r in records if r.retry_of is None}
        self._choice: Agenda = confirming or Choice(study, records)
        self._unfinished = [r for r in records if r.outcome == "running"]
        self._sessions = Sessions(study, records, clock)
        self._session_end = end or SessionEnd()
        self._session_end.heard_all(records)
        self.control = Control(
            study, records, self._sessions, count_parameters, places=places, clock=clock
        )
        self._gpu_seconds = sum(record.gpu_seconds for record in records)

    @property
    def time_is_up(self) -> bool:
        """Whether the hours, or the GPU-hours, of the search are spent."""
        budget = self.space.budget
        return self.searches and (
            over(self._sessions.spent(), budget.hours) or over(self._gpu_seconds, budget.gpu_hours)
        )

    @property
    def searches(self) -> bool:
        """Whether it is the search that runs, and no confirmation."""
        return self._choice.searches

    def trials(self) -> list[TrialRecord]:
        """Those that this session is about, as they are now, by number."""
        return self._choice.trials()

    @property
    def stopping(self) -> bool:
        """Whether nothing new is handed out any more."""
        ends = self.control.ends or self._is_interrupted() or self.session_ends
        return self.fatal is not None or self.time_is_up or ends

    @property
    def session_ends(self) -> bool:
        """Whether no time is left for another epoch; the sweep is continued later."""
        return self._session_end.is_near

    @property
    def running(self) -> list[int]:
        """The trials that are handed out."""
        return sorted(self._running)

    @property
    def room(self) -> float:
        """For how many more trials there is room; negative where fewer are to run than do."""
        return self.control.most - len(self._running)

    @kept
    def attend(self) -> None:
        """Do what people ask of the sweep, and what listeners do from time to time."""
        self.control.attend(self)
        self.control.settle(self)
        for listener in self._listeners:
            listener.attend()

    def wanted(self, number: int) -> bool:
        """Whether a trial that was handed out is still to be trained."""
        return number in self._running

    @kept
    def next(self) -> Assignment | None:
        """The next trial to train: first those that an interruption left unfinished. None when
        there is none left."""
        while not self.stopping and self.room > 0:
            record = self._unfinished.pop(0) if self._unfinished else self._choice.next()
            if record is None:
                return None
            number = record.number
            known = record.replaces is not None or record.confirms is not None
            if record.history or known:  # it was feasible when it began
                trial = trial_of(record, self.space)
            else:
                found = resolved(
                    self.space, record.params, number, self._count_parameters, record.changes
                )
                if isinstance(found, Infeasible):
                    self._reject(number, found.why)
                    continue
                trial = found
            self._start(record, trial)
            # The driver may have been killed between a verdict and the trial's end.
            if self._obey(number, record.verdict):
                continue
            place = self._study.folder.trial(number)
            attempt = f"{self._sessions.number}:{time.time_ns()}"
            lease.grant(place, attempt)
            return Assignment(
                number=number,
                trial=trial,
                folder=place,
                attempt=attempt,
                recorded=tuple(record.history),
                source=self._judge.source(record),
                kept_epochs=self.space.scheduler.kept_epochs,
            )
        return None

    @kept
    def epoch(self, number: int, epoch: Epoch, data: str = "", *, gpus: float = 0.0) -> bool:
        """Acknowledge an epoch; returns whether the trial goes on. An epoch that is known already
        (a resumed worker tells all of them) changes nothing. `data`: the digest of what it was
        trained on; `gpus`: how many it had, or which part of one."""
        running = self._running.get(number)
        if running is None:
            return False
        if epoch.number <= running.last_epoch:
            return True
        if epoch.number != running.last_epoch + 1:
            raise AssertionError(
                f"trial {number}: epoch {epoch.number} came after epoch {running.last_epoch}"
            )
        metric = self.space.metric
        value = epoch.metrics[metric.name]
        epoch = self._sized(running.trial, epoch)
        verdict = self._judge.verdict(number, running, epoch)
        crash_point("epoch.judged")
        running.history.append(epoch)
        self._session_end.heard(epoch)
        session = self._sessions.number
        gpu_seconds = gpus * epoch.metrics.get("time/epoch_seconds", 0.0)
        self._gpu_seconds += gpu_seconds
        write = functools.partial(
            self._study.add_epoch,
            number,
            epoch,
            value,
            verdict=verdict,
            session=session,
            spent_seconds=self._sessions.spent(),
            gpu_seconds=gpu_seconds,
            data=data,
        )
        best = objective(running.history, metric.model_copy(update={"at": "best"}))
        told = EpochEnded(number=number, epoch=epoch, best=best, session=session)
        self._heard.append((write, told))
        self.control.heard(number, epoch.number)
        if not self._are_together:
            self._record()
        if self._obey(number, verdict):
            return False
        if end_reason(running.trial, running.history) is not None:
            return True
        if self.room < 0:
            self.again(number)
            return False
        return not self.stopping

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is acknowledged inside is recorded as one, at the latest when it is left. Nobody may
        be answered before."""
        self._are_together = True
        try:
            yield
            self._record()
        except Exception as error:
            self.stop(error)
            raise
        finally:
            self._are_together = False

    def _record(self) -> None:
        """Write what was acknowledged, then tell of it."""
        heard, self._heard = self._heard, []
        if not heard:
            return
        with self._study.together():
            for write, _ in heard:
                write()
        for _, event in heard:
            crash_point("epoch.acknowledged")
            self._tell(event)

    @kept
    def end(self, number: int, *, reason: str = "", error: str = "") -> None:
        """A trial's run is over. Without a reason it ran to its own end, or it was stopped here
        (by the scheduler, or because the time is up) and this changes nothing."""
        running = self._running.get(number)
        if running is None:
            return
        if reason:
            self._end(number, "failed", reason=reason, error=error)
        elif ended := end_reason(running.trial, running.history):
            self._end(number, "completed", reason=ended)
        elif not self.stopping:
            self._end(number, "failed", reason="error", error="its run ended before its last epoch")

    @property
    def left(self) -> int:
        """How many trials `next` may still hand out, at most."""
        if self.stopping:
            return 0
        return int(min(self._left, max(0, self.room)))

    @property
    def _left(self) -> int:
        """The same, if as many may run as there are."""
        return len(self._unfinished) + self._choice.left

    @property
    def awaited(self) -> bool:
        """Whether a trial runs that may have to be handed out again, or more come when others
        have made room or a pause is over."""
        return not self.stopping and (bool(self._running) or (self.room <= 0 and self._left > 0))

    @kept
    def again(self, number: int) -> None:
        """A trial's run came to nothing, and not for its own sake: `next` hands it out again."""
        if self._running.pop(number, None) is not None:
            self._record()
            self._unfinished.append(self._study.trial(number))

    def queue(self, params: Mapping[str, Scalar], **origin: Any) -> int:
        """A trial that a person asks for, recorded; `next` hands it out before it draws."""
        record = self._choice.add(params, **origin)
        self._unfinished.append(record)
        return record.number

    def drop(self, number: int) -> int:
        """End an unfinished trial because a person asks for it; returns after how many epochs."""
        for record in [record for record in self._unfinished if record.number == number]:
            self._unfinished.remove(record)
            self._start(record, trial_of(record, self.space))
            if self._obey(number, record.verdict):
                return len(record.history)
        epochs = len(self._running[number].history)
        self._end(number, "pruned" if epochs else "failed", reason=REASON_STOPPED)
        return epochs

    def stop(self, error: Exception) -> None:
        """The sweep cannot go on; its running trials stay unfinished and are resumed later."""
        self.fatal = self.fatal or error

    def has_places(self, at_a_time: int) -> None:
        """So many trials can run at a time from now on."""
        self.control.places = at_a_time

    def say(self, message: str) -> None:
        for listener in self._listeners:
            listener.say(message)

    def _sized(self, trial: Trial, epoch: Epoch) -> Epoch:
        """With the number of parameters beside the scores, where a metric names it."""
        if all(metric.name != PARAMETERS for metric in self.space.further):
            return epoch
        size = float(self._count_parameters(trial))
        return replace(epoch, metrics={**epoch.metrics, PARAMETERS: size})

    def _start(self, record: TrialRecord, trial: Trial) -> None:
        self._running[record.number] = Running(
            trial, list(record.history), record.repeat_of, record.from_epoch or 0
        )
        self._judge.begin(record)
        self._tell(
            Started(
                number=record.number,
                trial=trial,
                params=record.params,
                started_ms=record.started_ms,
                epochs_before=record.last_epoch,
                origin=record.origin,
            )
        )

    def _obey(self, number: int, verdict: Verdict | None) -> bool:
        """Do what the stopping rule has answered; returns whether the trial has ended by it. The
        driver may have been killed after the answer was recorded, or on the way here."""
        if isinstance(verdict, Stop):
            self._end(number, "pruned")
        elif isinstance(verdict, Continue):
            self._record()
            if number not in self._replaced:
                origin: dict[str, Any] = {"from_trial": verdict.source, "from_epoch": verdict.epoch}
                if changes := self._study.trial(verdict.source).changes:
                    origin["changes"] = dict(changes)
                record = self._choice.add(verdict.params, replaces=number, **origin)
                self._replaced.add(number)
                self._unfinished.insert(0, record)
            self._end(number, "continued")
        return isinstance(verdict, Stop | Continue)

    def _end(self, number: int, outcome: Outcome, *, reason: str = "", error: str = "") -> None:
        self._record()
        running = self._running.pop(number)
        record = self._study.end(number, outcome, reason=reason, error=error)
        self._judge.end(record)
        self._choice.ended(record)
        self._tell(ended(record, running.trial, self.space.metrics))

    def _reject(self, number: int, broken: str) -> None:
        """Outside the budget and outside MLflow; a new one is asked in its place, if there is
        one: a grid goes on to its next point."""
        log.debug("trial %d is rejected: %s", number, broken)
        self._study.end(number, "failed", reason=REASON_CONSTRAINT, error=broken)
        records = self.trials()
        self._choice.rejected(self._study.trial(number))
        if grid_size(self.space) is not None:
            self._tell(Rejected(number=number, most=most_settings(self.space, rejected(records))))
        last = records[-MOST_VIOLATIONS:]
        if len(last) == MOST_VIOLATIONS and not any(r.counts for r in last):
            self.stop(
                ConfigError(
                    f"the last {MOST_VIOLATIONS} draws were rejected, at last: {broken}",
                    where=self._study.folder.name,
                    hint="loosen the constraint or narrow the ranges that break it, and launch it"
                    + (" with another --name" if any(r.counts for r in records) else " again"),
                )
            )

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener.hear(event)
