"""Why a trial ended as it did: one sentence, from its record alone. The command `why`, the report
and MLflow all take it from here."""

from __future__ import annotations

from collections.abc import Callable

from ckconv_sweep.config.history import Continue, Stop, best, end_reason
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.keys import REASON_STOPPED, Outcome, trial_name
from ckconv_sweep.record.trials import TrialRecord


def why(record: TrialRecord, trial: Trial) -> str:
    """As in `stopped at epoch 9 of 30 by asha on val/accuracy: 0.71; of the 12 trials that reached
    this epoch the best 4 had 0.78 or more`.

    Args:
        trial: all its settings. The base trial will do for one that was rejected.
    """
    if not record.counts:
        return f"rejected before training, outside the budget: {record.error}"
    if record.reason == REASON_STOPPED:
        return f"stopped by hand {_after(record, trial)}"
    if isinstance(record.verdict, Stop):
        return _by_its_rule(record.verdict, record, trial)
    if isinstance(record.verdict, Continue):
        return _replaced(record.verdict, record, trial)
    return _SENTENCES.get(record.outcome, _other)(record, trial)


def last_line(error: str) -> str:
    """The last line of an error, which says what was wrong; the beginning of a very long one."""
    line = (error.strip().splitlines() or ["(no message)"])[-1].strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


_LONGEST = 400
"""Of an error's last line, in characters."""


def _by_its_rule(verdict: Stop, record: TrialRecord, trial: Trial) -> str:
    """`asha, epoch 9: 0.71; ...` is what a rule writes. A trial may also be stopped because of
    another one, in which case no rule judged it."""
    epoch = record.last_epoch
    rule, judged, told = verdict.reason.partition(f", epoch {epoch}: ")
    by = f" by {rule} on {trial.metric.name}: {told}" if judged else f": {verdict.reason}"
    return f"stopped at epoch {epoch} of {trial.training.epochs}{by}"


def _replaced(verdict: Continue, record: TrialRecord, trial: Trial) -> str:
    """`pbt, epoch 9: 0.71, ...` is what a rule writes; it may judge an epoch later."""
    rule, _, told = verdict.reason.partition(f", epoch {verdict.epoch}: ")
    at = f"epoch {record.last_epoch} of {trial.training.epochs}"
    return (
        f"ended at {at} by {rule} on {trial.metric.name} at epoch {verdict.epoch}: {told}; "
        f"replaced by a continuation of {trial_name(verdict.source)}"
    )


def _completed(record: TrialRecord, trial: Trial) -> str:
    metric, training, epochs = trial.metric, trial.training, record.last_epoch
    judged = _judged_by(record, metric)
    if end_reason(trial, record.history) != "early_stopping":
        return f"completed all its {epochs} epochs; {judged}"
    last = best(record.history, metric.model_copy(update={"at": "best"})).number
    return (
        f"completed at epoch {epochs} of {training.epochs} by its own early stopping: "
        f"{metric.name} had not improved since epoch {last} (training.early_stopping_epochs is "
        f"{training.early_stopping_epochs}); {judged}"
    )


def _pruned(record: TrialRecord, trial: Trial) -> str:
    return f"pruned {_after(record, trial)}; its record does not say why"


def _failed(record: TrialRecord, trial: Trial) -> str:
    epochs, reason = f"{record.last_epoch} of {trial.training.epochs} epochs", record.reason
    return f"failed after {epochs} ({reason or 'unknown'}): {last_line(record.error)}"


def _running(record: TrialRecord, trial: Trial) -> str:
    if not record.history:
        return f"has ended none of its {trial.training.epochs} epochs yet"
    epochs = f"{record.last_epoch} of {trial.training.epochs} epochs"
    return f"has ended {epochs} so far; {_judged_by(record, trial.metric)}"


def _other(record: TrialRecord, trial: Trial) -> str:
    return f"{record.outcome} {_after(record, trial)}{record.reason and f': {record.reason}'}"


_SENTENCES: dict[Outcome, Callable[[TrialRecord, Trial], str]] = {
    "completed": _completed,
    "pruned": _pruned,
    "failed": _failed,
    "running": _running,
}


def _judged_by(record: TrialRecord, metric: Metric) -> str:
    epoch = best(record.history, metric)
    return f"{metric.at} {metric.name} {epoch.metrics[metric.name]:.4g} at epoch {epoch.number}"


def _after(record: TrialRecord, trial: Trial) -> str:
    if not record.history:
        return "before its first epoch"
    return f"after epoch {record.last_epoch} of {trial.training.epochs}"
