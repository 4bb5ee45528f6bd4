"""Why a trial ended as it did, with what belongs to the answer: its repeats and retries, where its
error can be read, and what to try next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import REASON_STOPPED, trial_name
from ckconv_sweep.record.lineage import in_words
from ckconv_sweep.record.trials import TrialRecord, numbered, trial_of
from ckconv_sweep.record.why import last_line, why
from ckconv_sweep.report.results import Results


@dataclass(frozen=True, kw_only=True)
class Why:
    """What became of a trial, and why. `str` of it is what `ckconv-sweep why` prints."""

    sweep: str
    number: int
    outcome: str
    """`completed`, `pruned`, `continued`, `failed`, `rejected`, and of a trial that has not ended
    `running` while a driver runs the sweep, otherwise `unfinished`."""
    reason: str
    """The word that the study keeps, as `nonfinite`; empty where it keeps none."""
    why: str
    """The sentence, which the report and MLflow have, too."""
    epochs: int
    epochs_requested: int
    error: str
    """The whole error of a trial that failed."""
    repeat_of: int | None
    retry_of: int | None
    retried_as: int | None
    """The trial that tries this one again."""
    replaces: int | None
    """Of a continuation the trial whose place it has, `from_trial` and `from_epoch` the checkpoint
    that it begins with."""
    from_trial: int | None
    from_epoch: int | None
    continued_as: int | None
    """The continuation that has its place."""
    notes: tuple[str, ...]
    """On these other trials, on where the error can be read, and on what to do next."""

    def __str__(self) -> str:
        return "\n  ".join([f"{trial_name(self.number)}: {self.why}", *self.notes])


def explained(
    results: Results, number: int, command: Callable[[str], str] | None = None, log: str = ""
) -> Why:
    """What became of a trial, and why.

    Args:
        command: what to type for a command on this sweep; None where its folder is not here.
        log: the file with what the processes of the last session wrote, if there is one.

    Raises:
        ConfigError: there is no such trial.
    """
    records = results.records
    try:
        record = numbered(records, number)
    except ConfigError as error:
        error.where = results.name
        raise
    trial = _trial(record, results.space)
    again = next((one for one in records if one.retry_of == number), None)
    notes = [*_on_others(record, again, results)]
    if record.outcome == "failed" and record.counts:
        notes += _on_its_error(record, command, log)
        notes.append(f"what to do: {remedy(record.reason)}")
        if command is not None and again is None:
            change = _change(record, trial, results.space)
            notes.append(f"retry it: {command('retry')} --trial {trial_name(number)}{change}")
            if change and record.replaces is not None:
                begins = "with --set it begins with new weights, without it again with"
                notes.append(f"{begins} {in_words(record)}")
    if record.outcome == "running" and results.state == "interrupted" and command is not None:
        notes.append(f"the sweep is interrupted; resume it: {command('resume')}")
    return Why(
        sweep=results.name,
        number=number,
        outcome=_outcome(record, results),
        reason=record.reason,
        why=why(record, trial),
        epochs=record.last_epoch,
        epochs_requested=trial.training.epochs,
        error=record.error,
        repeat_of=record.repeat_of,
        retry_of=record.retry_of,
        retried_as=None if again is None else again.number,
        replaces=record.replaces,
        from_trial=record.from_trial,
        from_epoch=record.from_epoch,
        continued_as=next((r.number for r in records if _continues(r, number)), None),
        notes=tuple(notes),
    )


def sentences(records: Iterable[TrialRecord], space: Space) -> Iterator[tuple[str, str]]:
    """Of each trial its name, and why it ended as it did."""
    for record in records:
        yield trial_name(record.number), why(record, _trial(record, space))


def _trial(record: TrialRecord, space: Space) -> Trial:
    """The base trial where its own settings make none, as of one that was rejected for that."""
    try:
        return trial_of(record, space)
    except ConfigError:
        return space.trial


def _outcome(record: TrialRecord, results: Results) -> str:
    ended = record.outcome != "running" or results.state == "running"
    return record.told if ended else "unfinished"


def _on_others(record: TrialRecord, again: TrialRecord | None, results: Results) -> Iterator[str]:
    """On its setting's first trial, the one that it retries, and the one that retries it."""

    def told(other: TrialRecord) -> str:
        return f"{trial_name(other.number)}: {why(other, _trial(other, results.space))}"

    if record.repeat_of is not None:
        yield f"repeats the setting of {told(numbered(results.records, record.repeat_of))}"
    if record.replaces is not None:
        old = numbered(results.records, record.replaces)
        yield f"began with the checkpoint of {in_words(record)}, in place of {told(old)}"
    for other in results.records:
        if _continues(other, record.number):
            yield f"was replaced by {told(other)}"
    if record.retry_of is not None:
        names = short_names(record.changes)
        changed = ", ".join(f"{names[path]}={value}" for path, value in record.changes.items())
        before = numbered(results.records, record.retry_of)
        yield f"retries{f', with {changed},' if changed else ''} {told(before)}"
    if again is not None:
        yield f"was retried as {told(again)}"


def _continues(record: TrialRecord, number: int) -> bool:
    """Whether it has the place of the trial of this number; a retry of its continuation has not."""
    return record.replaces == number and record.retry_of is None


def _on_its_error(
    record: TrialRecord, command: Callable[[str], str] | None, log: str
) -> Iterator[str]:
    if record.reason == REASON_STOPPED:
        return
    if command is not None and record.error.strip() not in ("", last_line(record.error)):
        yield f"its whole error: {command('why')} {trial_name(record.number)} --error"
    if log:
        yield f"what the processes of the last session wrote: {log}"


def remedy(reason: str) -> str:
    """What to do about trials that failed for a reason."""
    return _REMEDIES.get(reason, _REMEDIES["error"])


_REMEDIES = {
    "nonfinite": "search lower learning rates, or clip the gradient (training.clip_norm)",
    "out_of_memory": "bound the model's size by a constraint, or take smaller batches",
    "source_lost": "put the checkpoint back; a retry with --set begins with new weights instead",
    "worker_died": "run fewer trials at a time if memory was full, or take smaller batches",
    "stopped": "retry what was stopped by mistake",
    "error": "mend what the error names: the code, the data or the machine",
}


def _change(record: TrialRecord, trial: Trial, space: Space) -> str:
    """With which a trial that failed for its reason may succeed."""
    path, value = {
        "nonfinite": ("training.clip_norm", 1.0),
        "out_of_memory": ("training.batch_size", max(1, trial.training.batch_size // 2)),
    }.get(record.reason, ("", 0))
    return f" --set {path}={value}" if path and path not in space.parameters() else ""
