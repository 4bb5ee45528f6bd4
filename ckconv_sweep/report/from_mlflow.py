"""A sweep from MLflow alone, for who has not its folder.

Everything of a trial that a table shows is there to the last bit, and is read by the words of
`keys`. What MLflow never had is empty: rejected trials (of a grid it has their number), names
of checkpoints, and in which session an epoch ended.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ckconv_sweep import keys
from ckconv_sweep.config.documents import MAX_BYTES
from ckconv_sweep.config.history import Continue, Epoch, Stop
from ckconv_sweep.config.names import check_sweep_name
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import (
    CkconvSweepError,
    ConfigError,
    DamagedData,
    TrackingError,
    nearest_or_all,
)
from ckconv_sweep.record.confirmation import Opening
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.summary import State
from ckconv_sweep.tracking.answers import check_address, problem
from ckconv_sweep.tracking.marks import search
from ckconv_sweep.tracking.store import (
    experiment_name,
    local_database,
    quiet_client,
    without_password,
)

_STATES: dict[str, State] = {"RUNNING": "running", "FINISHED": "finished"}
_AT_A_TIME = 8
"""Requests to a server, which answers each in some 30 ms."""


def results_at(name: str, uri: str) -> Results:
    """The newest sweep of this name at an address of MLflow.

    Raises:
        ConfigError, DamagedData: as `read_results`, or there is no database.
        TrackingError: MLflow cannot be used.
    """
    check_address(uri, "tracking_uri")
    where, database = without_password(uri), local_database(uri)
    if database is not None and not _is_database(database):
        raise ConfigError(
            "there is no MLflow database",
            where=where,
            hint="name a file, as in sqlite:///sweeps/mlflow.db, or a server",
        )
    try:
        return read_results(quiet_client(uri), experiment_name(), name, where)
    except CkconvSweepError:
        raise
    except Exception as error:
        found = problem(error, uri)
        named = "its address is --tracking-uri or MLFLOW_TRACKING_URI"
        raise TrackingError(
            f"MLflow {found.what}",
            where=where,
            hint=f"{found.todo}; {named}" if found.todo else named,
        ) from error


def _is_database(path: Path) -> bool:
    """MLflow would make one of a file that is empty or missing; a look must make nothing."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def read_results(client: Any, experiment: str, name: str, source: str) -> Results:
    """The newest sweep of this name in an MLflow experiment.

    Args:
        client: an `MlflowClient`. What it raises when MLflow does not answer is passed on.
        source: MLflow's address as it may be said.

    Raises:
        ConfigError: there is no such sweep.
        DamagedData: what is there was not written by ckconv-sweep.
    """
    check_sweep_name(name)
    parent, namesakes = _sweep(client, experiment, name, source)
    where = f"{name} in MLflow at {source}"
    try:
        space = _space(client, parent, where)
        records = _records(client, parent, space, where)
        rejections = int(parent.data.tags.get(keys.TAG_REJECTED, "0"))
        openings = tuple(_openings(parent.data.tags))
    except (ConfigError, ValueError, LookupError, TypeError) as error:
        said = error.message if isinstance(error, ConfigError) else error
        raise DamagedData(f"a run was not written by ckconv-sweep: {said}", where=where) from error
    return Results(
        name=name,
        uid=parent.data.tags[keys.TAG_UID],
        space=space,
        records=records,
        state=_STATES.get(parent.info.status, "interrupted"),
        source=source,
        notes=tuple(namesakes),
        rejections=rejections,
        openings=openings,
    )


def _openings(tags: Mapping[str, str]) -> Iterator[Opening]:
    for number in itertools.count(1):
        if (told := tags.get(f"{keys.TAG_OPENING}{number}")) is None:
            return
        yield Opening(**json.loads(told))


def _sweep(client: Any, experiment: str, name: str, source: str) -> tuple[Any, tuple[str, ...]]:
    """Its run, and a note where there are several of its name. No name enters what is asked."""
    found = client.get_experiment_by_name(experiment)
    asked = f"tags.{keys.TAG_ROLE} = '{keys.ROLE_SWEEP}'"
    sweeps = list(search(client, found.experiment_id, asked)) if found else []
    named = [run for run in sweeps if run.data.tags.get(keys.TAG_SWEEP) == name]
    if not named:
        there = {run.data.tags.get(keys.TAG_SWEEP, "") for run in sweeps}
        none = f"its experiment {experiment!r} holds none; MLFLOW_EXPERIMENT_NAME names another"
        raise ConfigError(
            f"MLflow has no sweep {name!r}",
            where=source,
            hint=nearest_or_all(name, there) if there else none,
        )
    newest = max(named, key=lambda run: run.info.start_time or 0)
    note = f"MLflow has {len(named)} sweeps called {name}; this is the newest"
    return newest, (note,) if len(named) > 1 else ()


def _space(client: Any, parent: Any, where: str) -> Space:
    missing = DamagedData(
        f"there is no {keys.ARTIFACT_SPACE} of it",
        where=where,
        hint="files lie beside MLflow's database or on its server; where the sweep's folder is, "
        "ckconv-sweep sync delivers what is missing",
    )
    run_id = parent.info.run_id
    if keys.ARTIFACT_SPACE not in {file.path for file in client.list_artifacts(run_id)}:
        raise missing
    with tempfile.TemporaryDirectory(prefix="ckconv-sweep-") as folder:
        path = Path(client.download_artifacts(run_id, keys.ARTIFACT_SPACE, folder))
        with path.open("rb") as file:
            content = file.read(4 * MAX_BYTES)
    return parse_space(content.decode(), f"{keys.ARTIFACT_SPACE} of {where}")


def _records(client: Any, parent: Any, space: Space, where: str) -> tuple[TrialRecord, ...]:
    run_id = parent.info.run_id
    if not re.fullmatch(r"[0-9a-f]{32}", run_id):
        raise ValueError(f"its id is {run_id!r}")
    asked = f"tags.`mlflow.parentRunId` = '{run_id}'"
    found = search(client, parent.info.experiment_id, asked)
    runs = [run for run in found if run.data.tags.get(keys.TAG_ROLE) != keys.ROLE_CONFIRM]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        histories = pool.map(lambda run: _history(client, run, space), runs)
        records = [
            _record(run, history, space, where)
            for run, history in zip(runs, histories, strict=True)
        ]
    return tuple(sorted(_continued(records), key=lambda record: record.number))


def _continued(records: Sequence[TrialRecord]) -> Iterator[TrialRecord]:
    """The same, each that was continued with what the stopping rule answered: its own run has the
    reason, and that of its continuation the rest."""
    by = {r.replaces: r for r in records if r.replaces is not None and r.retry_of is None}
    for record in records:
        other = by.get(record.number)
        if other is not None and isinstance(record.verdict, Stop):
            source, epoch = other.from_trial or 0, other.from_epoch or 0
            verdict = Continue(source, epoch, record.verdict.reason, other.params)
            record = replace(record, verdict=verdict)
        yield record


def _record(run: Any, history: tuple[Epoch, ...], space: Space, where: str) -> TrialRecord:
    tags = run.data.tags
    if keys.TAG_PARAMS not in tags:
        raise DamagedData(
            f"its run {run.info.run_name} does not say what was drawn",
            where=where,
            hint="an older ckconv-sweep wrote it; read the sweep's folder instead (--sweeps-dir)",
        )
    number, outcome = int(tags[keys.TAG_TRIAL]), tags.get(keys.TAG_OUTCOME, "running")
    if outcome not in get_args(keys.Outcome):
        raise ValueError(f"trial {number} has the outcome {outcome!r}")
    params = json.loads(tags[keys.TAG_PARAMS])
    origin = _origin(run)
    space.resolve(params, number, dict(origin.get("changes", {})))  # it is a trial, or is refused
    return TrialRecord(
        number=number,
        outcome=outcome,
        params=params,
        history=history,
        reason=tags.get(keys.TAG_REASON, ""),
        error=tags.get(keys.TAG_ERROR, ""),
        started_ms=run.info.start_time or 0,
        ended_ms=None if outcome == "running" else run.info.end_time,
        position=None if origin else number,
        verdict=Stop(tags[keys.TAG_VERDICT]) if keys.TAG_VERDICT in tags else None,
        **origin,
    )


def _origin(run: Any) -> dict[str, Any]:
    return dict(json.loads(run.data.tags.get(keys.TAG_ORIGIN, "{}")))


def _history(client: Any, run: Any, space: Space) -> tuple[Epoch, ...]:
    """Its epochs from the first without a gap. One whose metrics are on their way is not there
    yet."""
    before = int(_origin(run).get("from_epoch", 0))
    derived = keys.best_of(space.metric.name)
    metrics: dict[int, dict[str, float]] = {}
    times: dict[int, int] = {}
    for name in run.data.metrics:
        if name == derived or name.startswith((keys.SUMMARY, keys.LOG10)):
            continue
        for point in client.get_metric_history(run.info.run_id, name):
            metrics.setdefault(point.step, {})[name] = point.value
            times[point.step] = point.timestamp
    epochs: list[Epoch] = []
    needed = {metric.name for metric in space.metrics}
    while needed <= metrics.get(number := before + len(epochs) + 1, {}).keys():
        epochs.append(Epoch(number=number, metrics=metrics[number], timestamp_ms=times[number]))
    return tuple(epochs)
