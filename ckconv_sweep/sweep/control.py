"""What people ask of a sweep while it runs: taken in order, answered in the study.

The driver looks into the sweep's folder (`record.requests`), does what a request says, writes the
answer, and only then deletes the file. Whatever is done twice because a driver was killed in
between changes nothing the second time; a trial that is added has the name of its request.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ckconv_sweep.config.first import check_params
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import REASON_STOPPED, trial_name
from ckconv_sweep.record.requests import NOTE, PAUSED, Answer, Request, Requests, answers
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, check_failed, check_runs
from ckconv_sweep.search.feasible import Infeasible, resolved
from ckconv_sweep.sweep.sessions import Sessions

if TYPE_CHECKING:
    from ckconv_sweep.sweep.coordinator import Coordinator

WAITS_FOR_THE_SEARCH = "a confirmation runs, so it waits until the search is resumed"

LOOK_SECONDS = 0.5
"""How often at most the folder is looked at."""


class Control:
    """The requests of one session.

    Args:
        records: the sweep's trials as they are when it begins.
        places: how many trials can run at a time; None where nobody knows.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        study: Study,
        records: Sequence[TrialRecord],
        sessions: Sessions,
        count_parameters: Callable[[Trial], int],
        *,
        places: int | None,
        clock: Callable[[], float],
    ) -> None:
        self.ends = False
        """Whether the session was asked to end."""
        self.paused = False
        self.places = places
        self._study, self._clock = study, clock
        self._sessions, self._count_parameters = sessions, count_parameters
        self._added = {record.request: record.number for record in records if record.request}
        self._at_a_time: float = math.inf
        self._requests = Requests(study.folder)
        self._left_alone: set[str] = set()
        self._settling: dict[str, tuple[Answer, str]] = {}
        """Answers that are not the last word yet: it begins with this."""
        self._last = ""
        """The last epoch that was recorded since."""
        self._looked_at = -math.inf
        notes = study.notes()
        if notes.get(PAUSED):
            study.set_note(PAUSED, False)
        for name, answer in answers(notes).items():
            if not answer.done:
                self._answer(name, answer.asked, "the session ended before that")

    @property
    def most(self) -> float:
        """How many trials may run at a time."""
        return 0 if self.paused or self.ends else self._at_a_time

    def heard(self, number: int, epoch: int) -> None:
        """An epoch is recorded."""
        self._last = f"trial {number}, epoch {epoch}"

    def attend(self, sweep: Coordinator) -> None:
        """Look into the folder, and do what the requests there say."""
        if self._clock() < self._looked_at + LOOK_SECONDS:
            return
        self._looked_at = self._clock()
        for name, request in self._requests.waiting():
            if name in self._left_alone:
                continue
            if isinstance(request, Request) and request.kind == "add" and not sweep.searches:
                self._left_alone.add(name)
                sweep.say(f"{request}: {WAITS_FOR_THE_SEARCH}")
            else:
                self._take(sweep, name, request)

    def settle(self, sweep: Coordinator) -> None:
        """Say what had to wait for epochs, if the last of them has ended."""
        if not self._settling or len(sweep.running) > self.most:
            return
        for name, (answer, begins) in self._settling.items():
            after = f" after {self._last}" if self._last else ""
            self._answer(name, answer.asked, f"{begins}{after}")
            sweep.say(f"{begins}{after}")
        self._settling.clear()

    def close(self, sweep: Coordinator) -> None:
        """The session is over: what still seems to run is unfinished."""
        if self.ends:
            for number in sweep.running:
                sweep.again(number)
            self.settle(sweep)

    def _take(self, sweep: Coordinator, name: str, request: Request | str) -> None:
        if isinstance(request, str):
            self._left_alone.add(name)
            sweep.say(f"requests/{name} is no request: {request}; it is left alone")
            return
        if self._study.note(NOTE + name) is None:
            try:
                answer = self._obey(sweep, name, request)
            except ConfigError as error:
                answer = Answer(asked=str(request), said=error.message, refused=True)
            crash_point("request.obeyed")
            self._study.set_note(NOTE + name, answer.written())
            sweep.say(str(answer))
        crash_point("request.answered")
        self._left_alone.add(name)
        with contextlib.suppress(OSError):  # it has its answer, and is not taken again
            self._requests.take_away(name)

    def _obey(self, sweep: Coordinator, name: str, request: Request) -> Answer:
        asked = str(request)
        match request.kind:
            case "add":
                return Answer(asked=asked, said=self._add(sweep, name, request))
            case "stop_trial":
                after = self._stop(sweep, request.number)
                return Answer(asked=asked, said=f"it ended after {after} epochs")
            case "concurrency":
                return Answer(asked=asked, said=self._set_concurrency(request.number))
            case "continue":
                if not self.paused:
                    return Answer(asked=asked, said="it was not paused")
                self._pause(pauses=False)
                return Answer(asked=asked, said="it goes on")
            case "pause":
                if self.paused:
                    return Answer(asked=asked, said="it was paused already")
                self._pause(pauses=True)
                return self._wait_for(sweep, name, asked, "paused")
            case "stop":
                self.ends = True
                return self._wait_for(sweep, name, asked, "stopped")

    def _stop(self, sweep: Coordinator, number: int) -> int:
        """After how many epochs a trial ended; a driver may have been killed before it said so."""
        records = sweep.trials()
        for record in records:
            if record.number == number and record.reason == REASON_STOPPED:
                return len(record.history)
        check_runs(records, number)
        return sweep.drop(number)

    def _add(self, sweep: Coordinator, name: str, request: Request) -> str:
        if name not in self._added:
            params, changes, number = request.params, request.changes, self._study.next_number()
            check_params(sweep.space, params)
            if request.retry_of is not None:
                check_failed(self._study.trials(), request.retry_of)
            found = resolved(sweep.space, params, number, self._count_parameters, changes)
            if isinstance(found, Infeasible):
                raise ConfigError(found.why)
            origin = request.model_dump(include={"retry_of", "changes"}, exclude_defaults=True)
            self._added[name] = sweep.queue(params, request=name, **origin)
        return f"it is {trial_name(self._added[name])}, and comes next"

    def _pause(self, *, pauses: bool) -> None:
        self.paused = pauses
        self._study.set_note(PAUSED, pauses)
        self._sessions.rest(pauses)

    def _set_concurrency(self, at_a_time: int) -> str:
        if at_a_time < 1:
            raise ConfigError("at least one trial must run at a time; to let none run, pause it")
        self._at_a_time = at_a_time
        options = self._study.note("options") or {}
        self._study.set_note("options", {**options, "concurrency": at_a_time})
        if self.places is not None and at_a_time > self.places:
            return (
                f"this session can run {self.places} at a time, and does so from now on; the next "
                f"one can run {at_a_time}"
            )
        return f"at most {at_a_time} at a time from now on, also after a resume"

    def _wait_for(self, sweep: Coordinator, name: str, asked: str, begins: str) -> Answer:
        """The last word comes once all running trials have left."""
        running, self._last = sweep.running, ""
        if not running:
            return Answer(asked=asked, said=f"{begins}; no trial was running")
        those = ", ".join(map(trial_name, running))
        said = f"first {those} end{'s' * (len(running) == 1)} the epoch that is being trained"
        answer = Answer(asked=asked, said=said, done=False)
        self._settling[name] = answer, begins
        return answer

    def _answer(self, name: str, asked: str, said: str) -> None:
        self._study.set_note(NOTE + name, Answer(asked=asked, said=said).written())
