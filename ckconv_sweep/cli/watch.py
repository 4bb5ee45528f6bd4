"""`watch`: the live view of a sweep that runs in another terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from ckconv_sweep.cli.options import SWEEPS_DIR, Name, SweepsDir

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space
    from ckconv_sweep.record.events import Event
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.trials import TrialRecord
    from ckconv_sweep.sweep.interruption import Interruption

_PAUSE_SECONDS = 1.0
_LAG_SECONDS = 5.0
"""How often it is looked how far MLflow is behind."""
_FIXED = ("space", "confirms_now", "confirmation")
"""Notes of a study with which another look begins when they change."""


def watch(name: Name, sweeps_dir: SweepsDir = SWEEPS_DIR) -> None:
    """Follow a sweep that runs in another terminal.

    Ctrl-C stops the view, not the sweep.

    Example: ckconv-sweep watch quickstart
    """
    from ckconv_sweep.cli.look import status
    from ckconv_sweep.record.folder import SweepFolder

    _wait_for_study(SweepFolder.of(sweeps_dir, name))
    folder = SweepFolder.existing(sweeps_dir, name)
    if folder.records.holder() is not None:
        from ckconv_sweep.sweep.interruption import Interrupted, Interruption

        try:
            # Not from within SQLAlchemy's callbacks, where Python would swallow it.
            with Interruption().caught() as interruption, interruption.shielded():
                while _budget_changed(folder, interruption):
                    pass
        except Interrupted as interrupted:
            typer.echo(f"{name} is still running; watch it again with: {folder.command('watch')}")
            raise typer.Exit(interrupted.exit_code) from None
    status(name, sweeps_dir=sweeps_dir)
    typer.echo(f"  all its trials: {folder.command('table')}")


def _wait_for_study(folder: SweepFolder) -> None:
    """A new sweep has none until its data are read and Ray has started."""
    said = False
    while not folder.records.exists() and folder.records.holder() is not None:
        if not said:
            typer.echo(f"{folder.name} is starting")
        said = True
        time.sleep(_PAUSE_SECONDS)


def _budget_changed(folder: SweepFolder, interruption: Interruption) -> bool:
    """Look on until no driver holds the sweep any more, or it was extended."""
    from ckconv_sweep.cli.progress import PlainLines, view_of
    from ckconv_sweep.record.budget import asked
    from ckconv_sweep.record.confirmation import ended, is_confirming, noted
    from ckconv_sweep.record.events import Ended
    from ckconv_sweep.record.requests import answers
    from ckconv_sweep.tracking.lag import Behind, lag_of

    since = folder.records.held_since() or time.time()
    with folder.records.open() as study:
        space, notes = study.space, study.notes()
        plan = noted(notes) if is_confirming(notes, folder.records.holder()) else None
        trials = study.trials if plan is None else study.confirmations
        found, written = trials(), [study.note(name) for name in _FIXED]
        with view_of(folder.name, space.metrics, space, found, since=since, plan=plan) as view:
            news, brief, held = News(space), isinstance(view, PlainLines), True
            mlflow, looked_at = Behind(), -_LAG_SECONDS
            known = set(answers(study.notes()).values())
            records = [record for record in found if record.counts]
            news.skip(records)
            if brief:
                over = ended(records)
                of = f"at most {plan.most}" if plan else asked(found, space)
                what = "confirming: " * bool(plan)
                view.say(f"{what}{over} of {of} trials ended; a line for each follows")
            else:
                view.begin(records)
            while held:
                held = folder.records.holder() is not None  # asked first: the end is read, too
                for answer in answers(study.notes()).values():
                    if answer not in known:
                        view.say(str(answer))
                        known.add(answer)
                for event in news.of(trials()):
                    if not brief or isinstance(event, Ended):
                        view.hear(event)
                if [study.note(name) for name in _FIXED] != written:
                    return True
                if time.monotonic() > looked_at + _LAG_SECONDS:
                    looked_at = time.monotonic()
                    lag = lag_of(study.notes(), study.every_trial(), folder.root.parent, held=held)
                    if said := mlflow.news(lag):
                        view.say(said)
                for _ in range(10 * held):
                    interruption.check()
                    time.sleep(_PAUSE_SECONDS / 10)
    return False


class News:
    """What happened in a sweep from one look at its study to the next."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._over: set[int] = set()
        self._seen: set[int] = set()
        self._before: dict[int, int] = {}
        self._told: dict[int, int] = {}

    def skip(self, records: Sequence[TrialRecord]) -> None:
        """What is there already is none: trials that have ended, and epochs but the last."""
        for record in records:
            if record.outcome != "running":
                self._over.add(record.number)
            self._before[record.number] = record.last_epoch

    def of(self, records: Sequence[TrialRecord]) -> Iterator[Event]:
        """What is new since the last look. A trial is told of when a second look finds it, or its
        first epoch has ended: one that violates a constraint is there for a moment, too."""
        from ckconv_sweep.config.grid import grid_size, most_settings
        from ckconv_sweep.record.events import Rejected
        from ckconv_sweep.record.trials import rejected

        for record in records:
            number = record.number
            if number in self._over:
                continue
            if not record.counts:
                self._over.add(number)
                if grid_size(self._space) is not None:
                    yield Rejected(
                        number=number, most=most_settings(self._space, rejected(records))
                    )
            elif record.history or record.outcome != "running" or number in self._seen:
                yield from self._of_trial(record)
            self._seen.add(number)

    def _of_trial(self, record: TrialRecord) -> Iterator[Event]:
        from dataclasses import replace

        from ckconv_sweep.errors import ConfigError
        from ckconv_sweep.record.events import Ended, EpochEnded, Started
        from ckconv_sweep.record.trials import trial_of
        from ckconv_sweep.tracking.outbox import events_of

        number = record.number
        try:
            trial = trial_of(record, self._space)
        except ConfigError:  # it is about to be rejected
            return
        before = self._before.get(number, record.from_epoch or 0)
        for event in events_of(record, trial, self._space.metrics):
            if isinstance(event, Started) and number not in self._told:
                self._told[number] = max(before - 1, 0)
                yield replace(event, epochs_before=before)
            elif isinstance(event, EpochEnded) and event.epoch.number > self._told[number]:
                self._told[number] = event.epoch.number
                yield event
            elif isinstance(event, Ended):
                self._over.add(number)
                yield event
