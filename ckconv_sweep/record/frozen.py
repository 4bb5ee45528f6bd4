"""The trials of a study as Optuna's frozen trials, read with one query a table.

Optuna reads each row as an object of its own and each distribution anew: at 10,000 trials that is
most of the time of `status`, `table` and a resume.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

MOST_NAMED = 500
"""Trials that a query names by their ids; SQLite takes 999 at least."""


class FrozenTrials:
    """Reads trials; one that has ended does not change any more, and is read once."""

    def __init__(self, storage: RDBStorage, study_id: int) -> None:
        self._engine, self._study_id = storage.engine, study_id
        self._known: dict[int, FrozenTrial] = {}
        """By Optuna's id."""
        self._newest = -1
        """The highest id of which no lower one is unknown."""

    def know(self, other: FrozenTrials) -> None:
        """What another reader of the same study has read need not be read again."""
        self._known, self._newest = dict(other._known), other._newest

    def all(self) -> list[FrozenTrial]:
        """Every trial, by number."""
        running = [i for i, trial in self._known.items() if not trial.state.is_finished()]
        if len(running) > MOST_NAMED:
            running, self._newest = [], -1
        self._known |= self._read(after=self._newest, and_these=running)
        self._newest = max(self._known, default=-1)
        return sorted(self._known.values(), key=lambda trial: trial.number)

    def one(self, trial_id: int) -> FrozenTrial:
        """A trial by Optuna's id. It is not kept: a driver asks for each of its trials, and would
        hold them all. Raises KeyError if there is none."""
        known = self._known.get(trial_id)
        if known is not None and known.state.is_finished():
            return known
        return self._read(after=None, and_these=[trial_id])[trial_id]

    def _read(self, *, after: int | None, and_these: list[int]) -> dict[int, FrozenTrial]:
        """The trials with a higher id than `after`, and these others, by id."""
        read: dict[int, FrozenTrial] = {}
        with without_collection(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")  # all tables as they are at one moment
            some = f"trial_id IN ({', '.join('?' * len(and_these))})"
            where = some if after is None else f"({some} OR trial_id > {after:d})"
            # Not by SQLAlchemy, whose rows take longer than reading them.
            cursor = connection.connection.cursor()

            def rows(model: Any, *names: str) -> list[tuple[Any, ...]]:
                table = model.__table__
                order = next(iter(table.primary_key)).name
                text = f"SELECT trial_id, {', '.join(names)} FROM {table.name} WHERE {where} "
                found: list[tuple[Any, ...]] = cursor.execute(
                    f"{text} ORDER BY {order}", and_these
                ).fetchall()
                return found

            params: defaultdict[int, dict[str, Any]] = defaultdict(dict)
            distributions: defaultdict[int, dict[str, BaseDistribution]] = defaultdict(dict)
            fields = "param_name", "param_value", "distribution_json"
            for trial_id, name, value, text in rows(models.TrialParamModel, *fields):
                distributions[trial_id][name] = drawn_from = _distribution(text)
                params[trial_id][name] = drawn_from.to_external_repr(value)
            attributes = []
            for model in (models.TrialUserAttributeModel, models.TrialSystemAttributeModel):
                found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
                of_model = rows(model, "key", "value_json")
                for (trial_id, key, _), value in zip(of_model, _decoded(of_model), strict=True):
                    found[trial_id][key] = value
                attributes.append(found)
            reported: defaultdict[int, dict[int, float]] = defaultdict(dict)
            intermediate: Any = models.TrialIntermediateValueModel
            fields = "step", "intermediate_value", "intermediate_value_type"
            for trial_id, step, value, kind in rows(intermediate, *fields):
                if kind != _FINITE:
                    told_as = intermediate.TrialIntermediateValueType[kind]
                    value = intermediate.stored_repr_to_intermediate_value(value, told_as)
                reported[trial_id][step] = value
            values: defaultdict[int, dict[int, float]] = defaultdict(dict)
            told: Any = models.TrialValueModel
            for trial_id, objective, value, kind in rows(told, "objective", "value", "value_type"):
                if kind != _FINITE:
                    value = told.stored_repr_to_value(value, told.TrialValueType[kind])
                values[trial_id][objective] = value
            of_trials = "study_id", "number", "state", "datetime_start", "datetime_complete"
            for trial_id, study_id, number, state, start, complete in rows(
                models.TrialModel, *of_trials
            ):
                if study_id != self._study_id:
                    continue
                read[trial_id] = FrozenTrial(
                    number=number,
                    state=TrialState[state],
                    value=None,
                    values=[value for _, value in sorted(values[trial_id].items())] or None,
                    datetime_start=_local(start),
                    datetime_complete=_local(complete),
                    params=params[trial_id],
                    distributions=distributions[trial_id],
                    user_attrs=attributes[0][trial_id],
                    system_attrs=attributes[1][trial_id],
                    intermediate_values=reported[trial_id],
                    trial_id=trial_id,
                )
        return read


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Without Python's search for cyclic garbage: it would find none, and take a third of the time
    in which 10,000 trials are read."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@lru_cache(maxsize=1000)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _decoded(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The values of rows that end in JSON texts. Many are decoded as one text, which takes a third
    of the time. Raises ValueError where a text is none."""
    values: list[Any] = []
    for start in range(0, len(rows), _TOGETHER):
        texts = [row[-1] for row in rows[start : start + _TOGETHER]]
        found = json.loads(f"[{','.join(texts)}]")
        if len(found) != len(texts):
            raise ValueError("an attribute is not one value")
        values += found
    return values


_FINITE = "FINITE"
"""What the tables call a number that is one."""
_TOGETHER = 1000


def _local(text: str | None) -> datetime.datetime | None:
    """Of a time in UTC without a time zone, as the tables keep it, that of this place without."""
    if text is None:
        return None
    when = datetime.datetime.fromisoformat(text)
    return when.replace(tzinfo=datetime.UTC).astimezone().replace(tzinfo=None)
