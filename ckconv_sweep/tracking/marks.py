"""What MLflow has of a sweep: the marks of what was delivered, and MLflow's own answer.

A run is written from front to back, and an older copy of MLflow's database is what was written up
to a moment. So the last step of each metric, which a search for runs returns, tells how many epochs
a run has, and a sweep of any size costs a few calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ckconv_sweep import keys
from ckconv_sweep.record.trials import TrialRecord

PARENT = "mlflow.parentRunId"
STATUS = {
    "completed": "FINISHED",
    "pruned": "FINISHED",
    "continued": "FINISHED",
    "failed": "FAILED",
}
"""A pruned trial is no failure, and MLflow draws KILLED like one."""
_PAGE = 500


@dataclass
class Mark:
    """What MLflow is known to have of a trial."""

    epochs: int = 0
    """The number of the last epoch that it has."""
    ended: bool = False


@dataclass(frozen=True)
class Found:
    """What MLflow has of a sweep."""

    status: str
    """Of the sweep's own run; empty where that or its file is missing."""
    marks: dict[int, Mark]
    """A trial whose run is missing has none; one whose run lacks its file has an empty one."""
    without_file: list[str]
    """The runs whose tag promises a file that is gone."""


def noted_marks(kept: Mapping[str, Any], address: str, records: Iterable[TrialRecord]) -> Found:
    """What MLflow has by a study's note `mlflow`, as `tracking.store.kept_notes` reads it.

    Args:
        address: of MLflow, without a password; of another one the note says nothing.
        records: the trials of the study.
    """
    if kept.get("uri") != address:
        return Found("", {}, [])
    whole = {n for first, last in kept.get("whole", ()) for n in range(first, last + 1)}
    others, marks = kept.get("marks", {}), dict[int, Mark]()
    for record in records:
        if not record.counts:
            continue
        if record.number in whole:
            marks[record.number] = Mark(record.last_epoch, record.outcome != "running")
        elif mark := others.get(str(record.number)):
            marks[record.number] = Mark(*mark)
    return Found(kept.get("status", ""), marks, [])


def ranges(upto: int, without: Collection[int]) -> list[list[int]]:
    """The numbers from 0 to before `upto` but for some, as the first and last of each row."""
    edges = [-1, *sorted(number for number in without if number < upto), upto]
    return [[a + 1, b - 1] for a, b in pairwise(edges) if b - a > 1]


def uid(sweep: str, number: int | None = None) -> str:
    """32 hexadecimal digits that name a sweep's run, or a trial's, for ever."""
    text = sweep if number is None else f"{sweep}/{number}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


def find(client: Any, experiment_id: str | None, run_uid: str) -> Any:
    """The run of this uid, a deleted one too; None where there is none."""
    from mlflow.entities import ViewType

    asked = f"tags.`{keys.TAG_UID}` = '{run_uid}'"
    found = client.search_runs([experiment_id], asked, run_view_type=ViewType.ALL)
    return min(found, key=is_deleted, default=None)


def is_deleted(run: Any) -> bool:
    """Whether it was deleted in MLflow's pages, which keep it until `mlflow gc`."""
    return bool(run.info.lifecycle_stage == "deleted")


def in_mlflow(
    client: Any,
    experiment_id: str,
    sweep_uid: str,
    records: Iterable[TrialRecord],
    *,
    metrics: Sequence[str],
    files: str | None,
) -> Found:
    """Ask MLflow for the runs of a sweep; changes nothing.

    Args:
        records: the trials that it should have.
        metrics: the names of what trials are judged by, the primary one first.
        files: where the files of its runs lie on this machine; None where they lie on a server.

    Raises:
        Exception: what MLflow raises when it cannot be reached.
    """
    parent = find(client, experiment_id, sweep_uid)
    if parent is None:
        return Found("", {}, [])
    gone = _is_gone(parent, keys.ARTIFACT_SPACE, files)
    if files is None and keys.TAG_FILES in parent.data.tags:
        with contextlib.suppress(Exception):  # one call, not one for each trial
            there = client.list_artifacts(parent.info.run_id)
            gone = keys.ARTIFACT_SPACE not in {file.path for file in there}
    runs: dict[str | None, Any] = {}
    for run in search(client, experiment_id, f"tags.`{PARENT}` = '{parent.info.run_id}'"):
        runs.setdefault(run.data.tags.get(keys.TAG_UID), run)
    marks, without_file = dict[int, Mark](), [parent.info.run_id] * gone
    for record in records:
        run = runs.get(uid(sweep_uid, record.number))
        if run is None:
            continue
        on_server = files is None and keys.TAG_FILES in run.data.tags
        if (gone and on_server) or _is_gone(run, keys.ARTIFACT_TRIAL, files):
            without_file.append(run.info.run_id)
            marks[record.number] = Mark()
        else:
            marks[record.number] = _mark(run, record, metrics)
    whole = keys.TAG_FILES in parent.data.tags and not gone and not is_deleted(parent)
    return Found(parent.info.status if whole else "", marks, without_file)


def has_still(
    client: Any,
    experiment_id: str,
    sweep_uid: str,
    *,
    newest: int | None,
    running: Collection[int] = (),
    status: str | None = None,
    files: str | None,
) -> bool:
    """Whether MLflow seems to have all trials of a sweep that it once had; four short questions,
    however many there are. Changes nothing.

    An older copy lacks what was written last: the newest trial's run, or how the sweep's own run
    ended. What was deleted in MLflow's pages is found as deleted. A single run that `mlflow gc`
    took for good, and a part of a run that is gone, `in_mlflow` alone finds.

    Args:
        newest: the last trial of which it had all.
        running: the trials that it may show as running.
        status: of the sweep's own run, if that is to be as it was.

    Raises:
        Exception: what MLflow raises when it cannot be reached.
    """
    from mlflow.entities import ViewType

    parent = find(client, experiment_id, sweep_uid)
    if not _is_whole(parent, keys.ARTIFACT_SPACE, files):
        return False
    parent_id = parent.info.run_id
    if status is not None and parent.info.status != status:
        return False
    if newest is not None:
        last = find(client, experiment_id, uid(sweep_uid, newest))
        if not _is_whole(last, keys.ARTIFACT_TRIAL, files) or last.info.status == "RUNNING":
            return False
        if last.data.tags.get(PARENT) != parent_id:  # the sweep's own run is another one
            return False
    asked = f"tags.`{PARENT}` = '{parent_id}'"
    deleted = client.search_runs(
        [experiment_id], asked, run_view_type=ViewType.DELETED_ONLY, max_results=1
    )
    runs = client.search_runs(
        [experiment_id],
        f"{asked} AND attributes.status = 'RUNNING'",
        max_results=len(running) + 1,
    )
    known = {uid(sweep_uid, number) for number in running}
    return not deleted and all(run.data.tags.get(keys.TAG_UID) in known for run in runs)


def mark_in_mlflow(
    client: Any,
    experiment_id: str,
    sweep_uid: str,
    record: TrialRecord,
    *,
    metrics: Sequence[str],
    files: str | None,
) -> Mark | None:
    """How much of one trial MLflow has; None where its run, or its file, is missing. Raises as
    `in_mlflow`."""
    run = find(client, experiment_id, uid(sweep_uid, record.number))
    whole = _is_whole(run, keys.ARTIFACT_TRIAL, files)
    return _mark(run, record, metrics) if whole else None


def _is_whole(run: Any, file: str, files: str | None) -> bool:
    """Whether a run is there, not deleted, and has its file."""
    if run is None or is_deleted(run) or keys.TAG_FILES not in run.data.tags:
        return False
    return not _is_gone(run, file, files)


def search(client: Any, experiment_id: str, asked: str) -> Iterator[Any]:
    """All runs that a search finds, however many."""
    token = None
    while True:
        page = client.search_runs([experiment_id], asked, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _is_gone(run: Any, name: str, files: str | None) -> bool:
    """Whether a run's tag promises a file that is not in the folder where it must be."""
    place = run.info.artifact_uri
    if files is None or keys.TAG_FILES not in run.data.tags or not place.startswith(f"{files}/"):
        return False
    return not Path(unquote(urlsplit(place).path), name).exists()


def _mark(run: Any, record: TrialRecord, metrics: Sequence[str]) -> Mark:
    """How much of a trial its run has."""
    # Both are written before anything is marked.
    if not run.data.params or keys.TAG_FILES not in run.data.tags:
        return Mark()
    steps = {point.key: point.step for point in run.data.to_proto().metrics}
    mark = Mark()
    for epoch in record.history:
        names = (*epoch.metrics, keys.best_of(metrics[0]))
        if any(steps.get(name, 0) < epoch.number for name in names):
            break
        mark.epochs = epoch.number
    if record.outcome != "running":
        told = {keys.TAG_REASON: record.reason, keys.TAG_ERROR: record.error}
        judged = metrics if record.history else ()
        summary = [keys.SUMMARY_EPOCHS, *map(keys.summary_of, judged)]
        mark.ended = (
            run.info.status == STATUS[record.outcome]
            and run.info.end_time == (record.ended_ms or 0)
            and run.data.tags.get(keys.TAG_OUTCOME) == record.outcome
            and all(tag in run.data.tags for tag, text in told.items() if text)
            and all(name in steps for name in summary)
        )
    return mark
