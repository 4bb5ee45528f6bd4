"""A row of the study's tables as what it means, and whether it is what a driver wrote."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from pydantic import BaseModel, ValidationError

from ckconv_sweep.config.history import Continue, Epoch, Go, Stop, Verdict, objectives
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.keys import REASON_CONTINUED, Outcome
from ckconv_sweep.record.trials import TrialRecord

_OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A trial as plain values. Raises TypeError if an epoch is not what a driver writes."""
    history, sessions, data, spent_seconds, verdict = [], [], [], 0.0, None
    gpu_seconds = 0.0
    for number in sorted(trial.intermediate_values):
        kept = trial.user_attrs.get(f"epoch:{number}")
        if kept is None:  # a reader's values and attributes are read in separate queries
            break
        _check_types(trial.number, number, kept)
        sessions.append(kept.get("session", 1))
        data.append(kept.get("data", ""))
        spent_seconds = kept.get("spent_seconds", 0.0)
        gpu_seconds += kept.get("gpu_seconds", 0.0)
        verdict = _verdict(kept.get("verdict"))
        of_epoch = {name: kept[name] for name in _OF_EPOCH if name in kept}
        history.append(Epoch(number=number, **of_epoch))
    outcome, reason = _OUTCOMES[trial.state], trial.user_attrs.get("reason", "")
    if outcome == "pruned" and reason == REASON_CONTINUED:
        outcome, reason = "continued", ""
    return TrialRecord(
        number=trial.number,
        outcome=outcome,
        params=trial.params,
        history=tuple(history),
        reason=reason,
        error=trial.user_attrs.get("error", ""),
        started_ms=_ms(trial.datetime_start) or 0,
        ended_ms=_ms(trial.datetime_complete),
        sessions=tuple(sessions),
        data=tuple(data),
        spent_seconds=spent_seconds,
        gpu_seconds=gpu_seconds,
        position=trial.user_attrs.get("position"),
        first=trial.user_attrs.get("first"),
        repeat_of=trial.user_attrs.get("repeat_of"),
        request=trial.user_attrs.get("request", ""),
        retry_of=trial.user_attrs.get("retry_of"),
        changes=dict(trial.user_attrs.get("changes", {})),
        replaces=trial.user_attrs.get("replaces"),
        from_trial=trial.user_attrs.get("from_trial"),
        from_epoch=trial.user_attrs.get("from_epoch"),
        confirms=trial.user_attrs.get("confirms"),
        seed_index=trial.user_attrs.get("seed_index"),
        verdict=verdict,
    )


class _OfSession(BaseModel):
    session: int


class _OfData(_OfSession):
    digest: str


class _Place(BaseModel):
    folder: str
    inode: int


class _Mirror(BaseModel):
    uri: str
    marks: dict[str, list[int]]
    whole: list[tuple[int, int]] = []
    experiment_id: str | None = None
    status: str = ""
    view: str = ""


class _Earlier(BaseModel):
    uid: str
    name: str
    named: bool
    ended: int
    fit: int
    why: dict[str, int]


class _Text(BaseModel):
    text: str
    digest: str


class _Confirmation(BaseModel):
    settings: list[int]
    control: int | None
    seeds: int
    begun_ms: int


class _Opening(BaseModel):
    at_ms: int
    scores: dict[str, float]
    trials: list[int]
    confirms: int | None
    each: dict[str, list[float]]
    by: Literal["confirm", "evaluate", "predict"]
    exploratory: bool
    dataset: str
    sampling_rate: int | None
    sequences: int
    data: str
    code: str


class _Notes(BaseModel):
    """What a study's attributes hold; those with a default come later, or unreleased versions did
    not write them. Each is explained where it is written."""

    uid: str
    space: str
    space_digest: str = ""
    created_ms: int = 0
    format: int = 0
    sessions: list[int] = []
    versions: list[_OfSession] = []
    data: list[_OfData] = []
    data_digest: str = ""
    options: dict[str, bool | int | float | str] = {}
    place: _Place | None = None
    mlflow: _Mirror | None = None
    warm_start: list[_Earlier] = []
    warm_trials: _Text | None = None
    confirmation: _Confirmation | None = None
    openings: list[_Opening] = []


def check_notes(notes: Mapping[str, Any]) -> None:
    """Raises ValueError if one of them is not what a driver writes."""
    try:
        _Notes.model_validate({key: value for key, value in notes.items() if value != {}})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


_KEPT = {
    "metrics": (dict,),
    "timestamp_ms": (int,),
    "checkpoint": (str,),
    "session": (int,),
    "spent_seconds": (float, int),
    "gpu_seconds": (float,),
    "data": (str,),
    "verdict": (str, dict),
}
"""What an epoch's attribute may hold."""
_TYPES = {(name, kind) for name, kinds in _KEPT.items() for kind in kinds}
_NUMBERS = {float, int}
_right: set[tuple[Any, ...]] = set()
"""Names and types of epochs that were found right; a study has a few kinds."""


def _check_types(trial: int, epoch: int, kept: Any) -> None:
    """Raises TypeError if an epoch's attribute is not what a driver writes."""
    if not isinstance(kept, dict):
        kept = {"": kept}
    types = (*kept, *map(type, kept.values()))
    if types not in _right:
        if not _TYPES.issuperset(zip(kept, map(type, kept.values()), strict=True)):
            raise TypeError(f"trial {trial}, epoch {epoch}: its values have other names or types")
        _right.add(types)
    if not _NUMBERS.issuperset(map(type, kept.get("metrics", {}).values())):
        raise TypeError(f"trial {trial}, epoch {epoch}: its values have other names or types")


_OF_EPOCH = ("metrics", "timestamp_ms", "checkpoint")


def written_verdict(verdict: Verdict) -> Any:
    """As it stands in the row of its epoch."""
    match verdict:
        case Stop(reason):
            return {"stop": reason}
        case Continue(source, epoch, reason, params):
            origin = {"from_trial": source, "from_epoch": epoch, "params": dict(params)}
            return {"continue": reason, **origin}
        case Go():
            return "go"


def _verdict(kept: Any) -> Verdict | None:
    if kept is None:  # the trial's last epoch
        return None
    if kept == "go":
        return Go()
    if "stop" in kept:
        return Stop(kept["stop"])
    return Continue(kept["from_trial"], kept["from_epoch"], kept["continue"], kept["params"])


def contradictions_of(trial: FrozenTrial, metrics: Sequence[Metric]) -> Iterator[str]:
    """What no driver leaves behind of a trial, a sentence each."""
    numbers, metric = sorted(trial.intermediate_values), metrics[0]
    first = 1 + (trial.user_attrs.get("from_epoch") or 0)
    if numbers != list(range(first, first + len(numbers))):
        yield f"its epochs are not counted from {first} without a gap: {numbers}"
    for number in numbers:
        kept = trial.user_attrs.get(f"epoch:{number}")
        if kept is None:
            yield f"epoch {number} was acknowledged and has no metrics"
            continue
        if kept["metrics"].get(metric.name) != trial.intermediate_values[number]:
            yield f"epoch {number} was acknowledged with another {metric.name} than its metrics say"
        stopped = isinstance(_verdict(kept.get("verdict")), Stop | Continue)
        if stopped and (number != numbers[-1] or trial.state is TrialState.COMPLETE):
            yield f"the stopping rule ended it after epoch {number}, and it went on"
    history = record_of(trial).history
    if trial.state is TrialState.COMPLETE:
        if trial.values != (list(objectives(history, metrics).values()) or None):
            told = ", ".join(map(str, trial.values or [None]))
            yield f"it completed with {told}, which is not what its epochs say"
    elif trial.state is TrialState.FAIL and not trial.user_attrs.get("reason"):
        yield "it failed without a reason"
    elif trial.state is TrialState.PRUNED and not history:
        yield "it was pruned before its first epoch"
    if was_changed(trial):
        yield "its record was changed after it had ended"


def was_changed(trial: FrozenTrial) -> bool:
    """Whether it is not what was written when it ended."""
    return trial.state.is_finished() and trial.user_attrs.get(DIGEST) != digest_of(trial)


_sorted = json.JSONEncoder(sort_keys=True).encode

DIGEST = "digest"
"""The attribute with the digest of an ended trial."""


def digest_of(trial: FrozenTrial) -> str:
    """16 hexadecimal digits of all that the study holds of an ended trial."""
    held = {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {k: _as_json(d) for k, d in trial.distributions.items()},
        "epochs": {str(step): value for step, value in trial.intermediate_values.items()},
        "attributes": {key: v for key, v in trial.user_attrs.items() if key != DIGEST},
        "times": [
            when and when.astimezone(datetime.UTC).isoformat()
            for when in (trial.datetime_start, trial.datetime_complete)
        ],
    }
    return short_hash(_sorted(held))


_texts: dict[int, tuple[BaseDistribution, str]] = {}
"""By `id`, with what has it: equal distributions may have other texts, as of 1 and 1.0."""


def _as_json(distribution: BaseDistribution) -> str:
    """A sweep has a few, and each trial names them all."""
    if id(distribution) not in _texts:
        if len(_texts) >= 1000:
            _texts.clear()
        _texts[id(distribution)] = distribution, distribution_to_json(distribution)
    return _texts[id(distribution)][1]


def short_hash(text: str) -> str:
    """16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ms(when: Any) -> int | None:
    return None if when is None else math.floor(when.timestamp() * 1000)
