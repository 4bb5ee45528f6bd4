"""Which settings of a sweep are confirmed, and what they are compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.budget import asked, is_finished
from ckconv_sweep.record.confirmation import (
    Confirmation,
    command,
    ended,
    in_words,
    is_confirming,
    noted,
    openings,
)
from ckconv_sweep.record.seeds import by_setting
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import BASE, TrialRecord
from ckconv_sweep.report.summary import best_first
from ckconv_sweep.search.confirming import FEWEST, is_over

TOP, SEEDS = 5, 5
_OF_A_TRIAL = ("training.seed", "data.fold")
"""What differs among the trials of one setting."""


def planned(study: Study, top: int | None = None, seeds: int | None = None) -> Confirmation:
    """What the study's confirmation is to train: as it was begun, with more seeds where more are
    requested, or else of the best settings now.

    Args:
        top: how many settings; None: as it was begun, or `TOP`.
        seeds: with how many fresh seeds at most; None: as it was begun, or `SEEDS`.

    Raises:
        ConfigError: it was begun with other settings or more seeds, the test split was opened for
            it already, or there is nothing to confirm.
    """
    if seeds is not None and seeds < FEWEST:
        raise ConfigError(f"must be {FEWEST} or more, got {seeds}", where="--seeds")
    if top is not None and top < 1:
        raise ConfigError(f"must be 1 or more, got {top}", where="--top")
    if (begun := noted(study.notes())) is not None:
        return _again(study, begun, top, seeds)
    _check(study)
    settings = best_settings(study.trials(), study.space)[: top or TOP]
    return Confirmation(
        settings=tuple(record.number for record in settings),
        control=_control(settings, study.space),
        seeds=seeds or SEEDS,
        top=top or TOP,
        begun_ms=time.time_ns() // 1_000_000,
    )


def begins_in_words(study: Study, plan: Confirmation) -> list[str]:
    """What a confirmation is about to train, and that the search has not finished, if so."""
    names, records = [trial_name(number) for number in plan.settings], study.trials()
    what = f"the best {len(names)} settings" if len(names) > 1 else "the best setting"
    lines = [
        f"confirming {what} of {study.folder.name} ({', '.join(names)}){_control_in_words(plan)}: "
        f"{plan.seeds} fresh seeds each, at most {plan.most} trials"
    ]
    if not is_finished(records, study.space):
        over = ended(record for record in records if record.is_of_budget)
        lines.append(
            f"note: the search has not finished ({over} of {asked(records, study.space)} trials "
            "ended); these are its best settings so far, also when it is resumed later"
        )
    return lines


def _control_in_words(plan: Confirmation) -> str:
    """To follow the settings."""
    if plan.control is None:
        return ""
    if plan.control == BASE:
        return " and the base trial"
    if len(plan.settings) == 1:
        return ", which is the base trial itself; there is no other to compare it with"
    return f"; the base trial is one of them, {trial_name(plan.control)}"


def confirmation_in_words(study: Study, holder: str | None) -> str:
    """How far a sweep's confirmation is, and how to continue it or read it; empty where none was
    begun. `holder`: who holds the sweep."""
    notes, records = study.notes(), study.confirmations()
    if (plan := noted(notes)) is None:
        return ""
    again = command(study.folder, plan, openings(notes))
    if not is_over(plan, records, study.space.metric):
        told = in_words(plan, records)
        now = is_confirming(notes, holder)
        return f"{told}; it runs now" if now else f"{told}; to continue: {again}"
    return f"confirmation: finished, {len(records)} trials trained; to read it: {again}"


def how_far(study: Study) -> str:
    """`yes` of a sweep that is confirmed, `12 of 30` on the way; empty where none was begun."""
    records = study.confirmations()
    if (plan := noted(study.notes())) is None:
        return ""
    over = is_over(plan, records, study.space.metric)
    return "yes" if over else f"{ended(records)} of {plan.most}"


def best_settings(records: Sequence[TrialRecord], space: Space) -> list[TrialRecord]:
    """The completed settings of a search, best first by its own ranking; of trials that differ in
    nothing but their seed the best one."""
    found: dict[str, TrialRecord] = {}
    for record, _ in best_first(by_setting(records, space), space):
        found.setdefault(_setting(record), record)
    return list(found.values())


def _setting(record: TrialRecord) -> str:
    every = sorted({**record.params, **record.changes}.items())
    return repr([item for item in every if item[0] not in _OF_A_TRIAL])


def _again(study: Study, begun: Confirmation, top: int | None, seeds: int | None) -> Confirmation:
    name, known = study.folder.name, openings(study.notes())
    again = command(study.folder, begun, known)
    if top not in (None, begun.top):
        raise ConfigError(
            f"the confirmation of {name} was begun with --top {begun.top}, and which settings are "
            "compared was fixed then",
            where=f"--top {top}",
            hint=f"to continue it: {again}",
        )
    if seeds is None or seeds == begun.seeds:
        return begun
    opened = any(not opening.exploratory for opening in known)
    if seeds < begun.seeds or opened:
        why = (
            "the test split was opened for its winner, which is fixed since"
            if opened
            else f"it was begun with --seeds {begun.seeds}, and cannot have fewer"
        )
        raise ConfigError(
            f"the confirmation of {name} cannot be changed: {why}",
            where=f"--seeds {seeds}",
            hint=f"to show it, or continue it as it is: {again}",
        )
    return replace(begun, seeds=seeds)


def _check(study: Study) -> None:
    """Raises ConfigError if the sweep cannot be confirmed."""
    folder, space = study.folder, study.space
    if space.scheduler.kept_epochs:
        raise ConfigError(
            f"a sweep with the scheduler {space.scheduler.name} cannot be confirmed: its trials "
            "continue others with new settings, so none can be trained again as one",
            where=folder.name,
            hint=f"train the best one's settings anew: {folder.command('best')} --out FILE, then "
            "ckconv-sweep train FILE --set training.seed=1 --out FOLDER",
        )
    if not best_settings(study.trials(), space):
        raise ConfigError(
            "no setting has completed, so there is none to train again",
            where=folder.name,
            hint=f"to search further: {folder.command('resume')} --trials N",
        )


def _control(settings: Sequence[TrialRecord], space: Space) -> int:
    """The setting that is the base trial's, or `BASE` where none is."""
    base = _without_seed(space.base(0))
    for record in settings:
        changes = {k: v for k, v in record.changes.items() if k not in _OF_A_TRIAL}
        if _without_seed(space.resolve(record.params, 0, changes)) == base:
            return record.number
    return BASE


def _without_seed(trial: Trial) -> Trial:
    change: dict[str, Any] = {"seed": 0}
    return trial.model_copy(update={"training": trial.training.model_copy(update=change)})
