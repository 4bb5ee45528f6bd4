"""A whole sweep in a real MLflow, as a colleague finds it there."""

from __future__ import annotations

import contextlib
import html
import math
import re
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sweep.in_process import Machine, machine, make_space

from ckconv_sweep import keys
from ckconv_sweep.config.history import Stop
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.settings import flat
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.record import versions
from ckconv_sweep.record.trials import trial_of
from ckconv_sweep.record.why import why
from ckconv_sweep.tracking.described import colour_of
from ckconv_sweep.tracking.store import quiet_client

from .mlflow_real import points_of, runs_of
from .tracked import deliver, make
from .tracked import record as recorded

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

DIGEST = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def tracked_sweep(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[str, Machine]:
    """A sweep that was tracked while it ran: six trials, one of which fails. Not to be changed."""
    import shutil

    folder = tmp_path_factory.mktemp("tracked")
    shutil.copy(empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    space = make_space(trials=6, scheduler="{name: asha, grace_epochs: 1}")
    tracker, said = make(
        uri,
        "sweep",
        space=space,
        more={
            "space": space,
            "data_digest": DIGEST,
            "count_parameters": partial(parameters_of, data_dir=None),
        },
    )
    run = machine(
        folder,
        space,
        listeners=(tracker,),
        fails=lambda number, epoch: "nonfinite" if (number, epoch) == (1, 1) else None,
    )
    tracker.start()
    assert run.run()
    assert tracker.close("FINISHED") == 0
    assert said == []
    return uri, run


def file_of(uri: str, run: Any, name: str, into: Path) -> str:
    """The path of a run's file."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return str(client.download_artifacts(run.info.run_id, name, str(into)))


def test_each_trials_run_holds_its_settings_as_a_file_that_trains_it_again(
    tracked_sweep: tuple[str, Machine], tmp_path: Path
) -> None:
    uri, run = tracked_sweep
    runs = runs_of(uri, "sweep")
    for record in run.records():
        found = runs[keys.trial_name(record.number)]
        trial = run.space.resolve(record.params, record.number)
        assert read_trial(file_of(uri, found, "trial.yaml", tmp_path)) == trial
        assert found.data.params == {
            k: str(v) for k, v in flat(trial.model_dump(mode="json")).items()
        }


def test_outcomes_are_told_apart_and_early_stopping_is_no_failure(
    tracked_sweep: tuple[str, Machine],
) -> None:
    uri, run = tracked_sweep
    records = run.records()
    assert {r.outcome for r in records} == {"completed", "pruned", "failed"}
    for record in records:
        found = runs_of(uri, "sweep")[keys.trial_name(record.number)]
        assert found.data.tags["outcome"] == record.outcome
        assert found.data.tags.get("reason", "") == record.reason
        assert found.info.status == ("FAILED" if record.outcome == "failed" else "FINISHED")


def test_each_trials_description_says_why_it_ended(tracked_sweep: tuple[str, Machine]) -> None:
    uri, run = tracked_sweep
    runs = runs_of(uri, "sweep")
    for one in run.records():
        tags = runs[keys.trial_name(one.number)].data.tags
        assert html.unescape(tags["mlflow.note.content"]) == why(one, trial_of(one, run.space))
        stopped = one.verdict.reason if isinstance(one.verdict, Stop) else None
        assert tags.get("verdict") == stopped


def test_the_description_that_a_person_wrote_stays(database: str) -> None:
    one = recorded(2, "failed", 1, "error", "KeyError: '<b>'")
    deliver(database, "described", [one])
    client, (run,) = quiet_client(database), [runs_of(database, "described")["t002"]]
    written = run.data.tags["mlflow.note.content"]
    assert written == "failed after 1 of 3 epochs (error): KeyError: '&lt;b&gt;'"
    client.set_tag(run.info.run_id, "mlflow.note.content", "my own words")
    deliver(database, "described", [one])
    again = runs_of(database, "described")["t002"]
    assert again.data.tags["mlflow.note.content"] == "my own words"


def test_what_is_known_of_a_trial_from_the_start_stands_at_step_0(
    tracked_sweep: tuple[str, Machine],
) -> None:
    uri, run = tracked_sweep
    for record in run.records():
        points = points_of(uri, runs_of(uri, "sweep")[keys.trial_name(record.number)])
        trial = run.space.resolve(record.params, record.number)
        when = record.started_ms
        assert points["summary/parameters"] == [(0, float(parameters_of(trial)), when)]
        exponent = math.log10(trial.optimizer.learning_rate)
        assert points["log10/learning_rate"] == [(0, exponent, when)]
        assert "log10/dropout" not in points  # its scale is linear


def test_mlflow_lists_the_metric_that_trials_are_judged_by_first(
    tracked_sweep: tuple[str, Machine],
) -> None:
    """Its page that compares two runs opens on the first of a run's metrics."""
    uri, _ = tracked_sweep
    database = sqlite3.connect(uri.removeprefix("sqlite:///"))
    first = "select key from latest_metrics where run_uuid = ? limit 1"
    with contextlib.closing(database):
        for name, run in runs_of(uri, "sweep").items():
            if name != "sweep" and run.data.tags["outcome"] != "failed":
                assert database.execute(first, (run.info.run_id,)).fetchone() == (
                    "val/accuracy_best",
                )


def test_the_first_hundred_trials_have_colours_of_their_own_in_mlflow() -> None:
    made = [colour_of(number) for number in range(100)]
    assert len(set(made)) == 100
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in made)


def test_every_trial_names_its_data_set_and_one_digest(tracked_sweep: tuple[str, Machine]) -> None:
    uri, _ = tracked_sweep
    runs = runs_of(uri, "sweep")
    trials = [run for name, run in runs.items() if name != "sweep"]
    assert len(trials) == 6
    for run in trials:
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == ("digits", DIGEST)


def test_every_run_says_under_which_versions_it_was_made(
    tracked_sweep: tuple[str, Machine],
) -> None:
    uri, _ = tracked_sweep
    for run in runs_of(uri, "sweep").values():
        for name, version in versions.versions().items():
            assert f"{name} {version}" in run.data.tags[keys.TAG_VERSIONS]


def test_the_charts_axes_are_names_that_mlflow_has(tracked_sweep: tuple[str, Machine]) -> None:
    """A misspelt axis leaves a chart empty, and MLflow says nothing."""
    from ckconv_sweep.tracking.charts import view_tag

    from .test_charts import opened

    uri, run = tracked_sweep
    runs = [r.data for name, r in runs_of(uri, "sweep").items() if name != "sweep"]
    params = {name for data in runs for name in data.params}
    metrics = {name for data in runs for name in data.metrics}
    # The trials here are a formula: they report no more than these.
    reported = metrics | {"train/loss"}
    for chart in opened(view_tag(run.space, "sweep", 0))["compareRunCharts"]:
        if chart["type"] == "PARALLEL":
            assert set(chart["selectedParams"]) <= params
            assert set(chart["selectedMetrics"]) <= metrics
        elif chart["type"] == "SCATTER":
            for axis in (chart["xaxis"], chart["yaxis"]):
                assert axis["key"] in (params if axis["type"] == "PARAM" else metrics)
        else:
            assert chart["metricKey"] in reported


def test_telling_it_all_again_from_the_study_changes_nothing(
    tracked_sweep: tuple[str, Machine],
) -> None:
    uri, run = tracked_sweep

    def everything() -> Any:
        return {
            name: (r.data.params, r.data.tags, points_of(uri, r), len(r.inputs.dataset_inputs))
            for name, r in runs_of(uri, "sweep").items()
        }

    before = everything()
    with run.folder.records.open() as study:
        space, records = study.space, study.trials()
    tracker, said = make(uri, "sweep", space=space, more={"space": space, "data_digest": DIGEST})
    tracker.catch_up(records, lambda r: space.resolve(r.params, r.number))
    tracker.start()
    assert (tracker.close("FINISHED"), said) == (0, [])
    assert everything() == before
