"""What a sweep's run in MLflow says of its confirmation and of its test numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.record.confirmation import Opening, add_openings
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import BASE
from ckconv_sweep.report.from_mlflow import results_at
from ckconv_sweep.sweep.delivery import deliver
from ckconv_sweep.sweep.opening import tell_mlflow
from ckconv_sweep.tracking.marks import find
from ckconv_sweep.tracking.store import database_uri, experiment_name, quiet_client
from tests.report.confirmations import confirmed_study

PATIENCE = 280.0
"""On a busy machine MLflow takes a minute to make its database."""
REACHED = {0: [0.90, 0.92, 0.91], 1: [0.5, 0.52, 0.51], BASE: [0.80, 0.83, 0.81]}


def opening(confirms: int, value: float, **more: Any) -> Opening:
    return Opening(
        scores={"test/accuracy": value},
        each={"test/accuracy": [value] * 3},
        trials=[4, 5, 6],
        confirms=confirms,
        by="confirm",
        exploratory=False,
        at_ms=1_800_000_000_000,
        **more,
    )


def run_of(folder: SweepFolder, uri: str) -> Any:
    client = quiet_client(uri)
    with folder.records.open() as study:
        uid = study.uid
    return client, find(client, client.get_experiment_by_name(experiment_name()).experiment_id, uid)


def test_the_winner_the_shrinkage_and_each_opening_are_told_once_however_often(
    tmp_path: Path,
) -> None:
    folder = confirmed_study(tmp_path, [0.95, 0.93], REACHED, seeds=3)
    uri = database_uri(tmp_path / "mlflow.db")
    assert deliver(folder, uri, patience_seconds=PATIENCE) == 0
    with folder.records.open_for_writing() as study:
        add_openings(study, opening(0, 0.9), opening(BASE, 0.8))
    said: list[str] = []
    for _ in range(2):
        tell_mlflow(folder, uri, say=said.append)
    assert deliver(folder, uri, patience_seconds=PATIENCE) == 0  # as `sync` does
    assert said == []
    client, run = run_of(folder, uri)
    tags = run.data.tags
    assert (tags[keys.TAG_CONFIRMED], tags[keys.TAG_TIE]) == ("t000", "t000")
    assert tags[keys.TAG_OPENINGS] == "1"  # of winner and control together
    first = json.loads(tags[f"{keys.TAG_OPENING}1"])
    assert (first["confirms"], first["scores"]) == (0, {"test/accuracy": 0.9})
    metrics = run.data.metrics
    assert abs(metrics["summary/confirmed_val_accuracy"] - 0.91) < 1e-12
    assert abs(metrics[keys.SUMMARY_SHRINKAGE] - 0.04) < 1e-12
    assert metrics["summary/test_accuracy"] == 0.9
    for name in ("summary/confirmed_val_accuracy", "summary/test_accuracy"):
        assert len(client.get_metric_history(run.info.run_id, name)) == 1
    found = results_at("mine", uri)  # for who has not the folder
    assert [(one.confirms, one.scores) for one in found.openings] == [
        (0, {"test/accuracy": 0.9}),
        (BASE, {"test/accuracy": 0.8}),
    ]


def test_a_database_that_is_gone_is_told_and_not_made(tmp_path: Path) -> None:
    folder = confirmed_study(tmp_path, [0.95, 0.93], REACHED, seeds=3)
    said: list[str] = []
    tell_mlflow(folder, database_uri(tmp_path / "gone.db"), say=said.append)
    assert len(said) == 1
    assert "is not there; to deliver the test numbers later: ckconv-sweep sync mine" in said[0]
    assert not (tmp_path / "gone.db").exists()


def test_a_sweep_that_was_never_tracked_has_nobody_to_tell(tmp_path: Path) -> None:
    said: list[str] = []
    tell_mlflow(confirmed_study(tmp_path, [0.95], {0: [0.9] * 3}, seeds=3), say=said.append)
    assert said == []
