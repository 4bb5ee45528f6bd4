"""What a sweep's run in MLflow says of its confirmation, and of each opening of the test split:
tags for people and programs, and metrics for charts. Writing twice changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.errors import TrackingError
from ckconv_sweep.record.confirmation import Opening, openings, times
from ckconv_sweep.search.confirmed import Confirmed
from ckconv_sweep.tracking.answers import obstacle_to, problem
from ckconv_sweep.tracking.marks import find
from ckconv_sweep.tracking.note import MOST_CHARACTERS
from ckconv_sweep.tracking.store import (
    experiment_name,
    first_to_open,
    local_database,
    quiet_client,
    without_password,
)


@dataclass(frozen=True)
class Told:
    """Tags by name, and metrics by name with the time of each in milliseconds."""

    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, tuple[float, int]] = field(default_factory=dict)


def told_of(notes: Mapping[str, Any], found: Confirmed | None) -> Told:
    """Of a study's notes and its confirmation. What is offered is told once nothing is left to be
    trained."""
    opened = openings(notes)
    tags = {
        f"{keys.TAG_OPENING}{number}": _as_tag(opening)
        for number, opening in enumerate(opened, start=1)
    }
    tags |= {keys.TAG_OPENINGS: str(times(opened))} if opened else {}
    metrics: dict[str, tuple[float, int]] = {}
    if found is not None and found.finished and found.offered is not None:
        offered = found.offered
        ended_ms = max(record.ended_ms or 0 for s in found.settings for record in s.records)
        tags[keys.TAG_CONFIRMED] = keys.trial_name(offered.number)
        tags[keys.TAG_TIE] = " ".join(keys.trial_name(one.number) for one in found.tie)
        name = keys.summary_of(f"confirmed/{found.metric.name}")
        metrics[name] = offered.mean, ended_ms
        if found.shrinkage is not None:
            metrics[keys.SUMMARY_SHRINKAGE] = found.shrinkage.mean, ended_ms
        for opening in found.test[:1]:
            for name, value in opening.scores.items():
                metrics[keys.summary_of(name)] = value, opening.at_ms
    return Told(tags, metrics)


def _as_tag(opening: Opening) -> str:
    """As JSON; without the scores of each of many seeds, where MLflow would cut it off."""
    text = json.dumps(asdict(opening))
    return text if len(text) <= MOST_CHARACTERS else json.dumps(asdict(replace(opening, each={})))


def write(client: Any, run_id: str, told: Told) -> None:
    """Raises what MLflow raises."""
    from mlflow.entities import Metric, RunTag

    if told.tags or told.metrics:
        client.log_batch(
            run_id,
            metrics=[Metric(name, value, ms, 0) for name, (value, ms) in told.metrics.items()],
            tags=[RunTag(name, value) for name, value in told.tags.items()],
        )


def write_to(uri: str, sweep_uid: str, told: Told) -> str:
    """Write it to the run of a sweep; returns why that was not done, or nothing."""
    where = f"MLflow at {without_password(uri)}"
    try:
        database = local_database(uri)
        if database is not None and not database.exists():  # it is not made for this
            return f"{where} is not there"
        if database is not None and (obstacle := obstacle_to(database)):
            raise TrackingError(obstacle)
        with first_to_open(uri):
            client = quiet_client(uri)
            experiment = client.get_experiment_by_name(experiment_name())
        run = find(client, experiment.experiment_id, sweep_uid) if experiment else None
        if run is None:
            return f"{where} has no run of this sweep"
        write(client, run.info.run_id, told)
    except Exception as error:
        return f"{where} {problem(error, uri)}"
    return ""
