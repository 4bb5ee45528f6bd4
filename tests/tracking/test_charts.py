"""The saved view: what the experiment's tag holds, and the addresses that lead to it. What MLflow
makes of it is in `tests/browser/test_mlflow_pages.py`."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep.in_process import make_space, with_trials

from ckconv_sweep import keys
from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.tracking.charts import (
    MOST_CHARACTERS,
    TAG,
    comparison,
    view_key,
    view_tag,
)
from ckconv_sweep.tracking.outbox import uid

from .mlflow_real import runs_of
from .tracked import RECORDS, SPACE, make

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def opened(text: str) -> Any:
    """The state as MLflow's pages open it."""
    packed = json.loads(text)["state"]
    assert packed.startswith("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))


def charts(space: Space, kind: str) -> list[Any]:
    state = opened(view_tag(space, "s", 0))
    return [chart for chart in state["compareRunCharts"] if chart["type"] == kind]


def test_the_tag_is_an_envelope_of_mlflows_form() -> None:
    envelope = json.loads(view_tag(make_space(), "digits", 1_700_000_000_000))
    state = opened(json.dumps(envelope))
    assert envelope.pop("state")
    assert envelope == {
        "name": "digits",
        "createdAt": 1_700_000_000_000,
        "updatedAt": 1_700_000_000_000,
    }
    assert state["searchFilter"] == "tags.sweep = 'digits' and tags.role = 'trial'"
    assert state["orderByKey"] == "metrics.`val/accuracy_best`"
    assert state["orderByAsc"] is False
    assert state["isAccordionReordered"] is True
    sections = [section["uuid"] for section in state["compareRunSections"]]
    assert len(set(sections)) == len(sections)
    names = [chart["uuid"] for chart in state["compareRunCharts"]]
    assert len(set(names)) == len(names)
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == set(sections)


def test_the_table_shows_the_metric_the_outcome_and_first_what_every_trial_has() -> None:
    state = opened(view_tag(make_space(), "s", 0))
    assert state["selectedColumns"] == [
        "metrics.`val/accuracy_best`",
        "tags.`outcome`",
        "params.`schedule.name`",
        "params.`optimizer.learning_rate`",
        "params.`model.dropout`",
        "params.`schedule.patience`",
        "metrics.`summary/epochs`",
        "metrics.`summary/parameters`",
    ]
    assert [c for c in state["columnOrder"] if c in state["selectedColumns"]] == state[
        "selectedColumns"
    ]


def test_an_axis_of_the_parallel_coordinates_is_what_every_trial_has() -> None:
    """MLflow leaves a run out that lacks one of the axes."""
    (parallel,) = charts(make_space(), "PARALLEL")
    assert parallel["selectedParams"] == ["schedule.name", "model.dropout"]
    assert parallel["selectedMetrics"] == ["log10/learning_rate", "val/accuracy_best"]
    assert parallel["showAllRuns"] is True


def test_a_setting_of_every_block_is_an_axis() -> None:
    space = make_space(
        search="""
  model:
    choices:
      gru: {hidden_channels: {low: 4, high: 8}}
      ckcnn: {hidden_channels: {low: 2, high: 3}, kernel.omega_0: {low: 1.0, high: 9.0}}
"""
    )
    (parallel,) = charts(space, "PARALLEL")
    assert parallel["selectedParams"] == ["model.name", "model.hidden_channels"]


def test_each_number_that_was_searched_is_drawn_against_the_metric() -> None:
    drawn = {(c["xaxis"]["key"], c["xaxis"]["type"]) for c in charts(make_space(), "SCATTER")}
    assert drawn == {
        ("summary/parameters", "METRIC"),
        ("schedule.patience", "PARAM"),
        ("log10/learning_rate", "METRIC"),
        ("model.dropout", "PARAM"),
    }
    assert {c["yaxis"]["key"] for c in charts(make_space(), "SCATTER")} == {"val/accuracy_best"}


def test_curves_of_metric_and_losses_are_drawn_once_each() -> None:
    lines = [chart["metricKey"] for chart in charts(make_space(), "LINE")]
    assert lines == ["val/accuracy", "val/accuracy_best", "train/loss", "val/loss"]


def test_further_metrics_are_columns_curves_and_drawn_against_the_first() -> None:
    space = make_space(metrics="[{name: val/accuracy}, {name: train/accuracy}]")
    state = opened(view_tag(space, "s", 0))
    assert state["selectedColumns"][:2] == [
        "metrics.`val/accuracy_best`",
        "metrics.`summary/train_accuracy`",
    ]
    against = {(c["xaxis"]["key"], c["yaxis"]["key"]) for c in charts(space, "SCATTER")}
    assert ("summary/train_accuracy", "summary/val_accuracy") in against
    assert "train/accuracy" in [chart["metricKey"] for chart in charts(space, "LINE")]


def test_where_less_is_better_the_least_comes_first_and_blue_is_good() -> None:
    space = make_space()
    metric = Metric(name="val/loss", mode="min")
    state = opened(
        view_tag(replace(space, trial=space.trial.model_copy(update={"metric": metric})), "s", 0)
    )
    assert state["orderByKey"] == "metrics.`val/loss_best`"
    assert state["orderByAsc"] is True
    assert state["compareRunSections"][0]["name"] == "Which settings are good? The blue ones"
    assert [c["metricKey"] for c in state["compareRunCharts"] if c["type"] == "LINE"] == [
        "val/loss",
        "val/loss_best",
        "train/loss",
    ]


@pytest.mark.parametrize(("trials", "mode"), [(50, "SHOW_ALL"), (51, "FIRST_20_RUNS")])
def test_of_many_trials_the_best_are_drawn(trials: int, mode: str) -> None:
    state = opened(view_tag(with_trials(make_space(), trials), "s", 0))
    assert state["runsHiddenMode"] == mode
    assert ("20 best" in state["compareRunSections"][2]["name"]) == (trials > 50)


def test_the_same_space_gives_the_same_text() -> None:
    assert view_tag(make_space(), "s", 5) == view_tag(make_space(), "s", 5)
    assert view_tag(make_space(), "s", 5) != view_tag(make_space(), "t", 5)


def test_with_more_settings_than_fit_some_columns_are_left_out() -> None:
    import hashlib

    def path(i: int) -> str:  # as a name that cannot be packed
        return f"model.{hashlib.sha512(str(i).encode()).hexdigest()}"

    many = {path(i): Interval(low=0.0, high=1.0, whole=False) for i in range(150)}
    text = view_tag(replace(make_space(), search=many), "s", 0)
    assert len(text) <= MOST_CHARACTERS
    shown = opened(text)["selectedColumns"]
    assert 10 < len(shown) < 150
    assert shown[2] == f"params.`{path(0)}`"


def test_a_name_that_fits_nowhere_is_refused_and_not_cut_off() -> None:
    import secrets

    with pytest.raises(ValueError, match="a view of"):
        view_tag(make_space(), secrets.token_hex(30_000), 0)


@pytest.mark.parametrize("metric", ["val/accuracy", "val/loss"])
def test_without_a_saved_view_the_address_itself_filters_and_sorts(metric: str) -> None:
    found = comparison("http://host:5000", "3", "digits", metric, "")
    assert found.table == (
        "http://host:5000/#/experiments/3/runs?workflowType=machine_learning"
        "&searchFilter=tags.sweep%20%3D%20%27digits%27%20and%20tags.role%20%3D%20%27trial%27"
        f"&orderByKey=metrics.%60{metric}_best%60"
        f"&orderByAsc={'true' if metric == 'val/loss' else 'false'}"
    )
    assert found.charts == found.table + "&compareRunsMode=CHART"


def test_with_a_saved_view_the_address_names_it() -> None:
    found = comparison("http://host/mlflow", "3", "digits", "val/loss", view_key("ab"))
    assert found.table == (
        "http://host/mlflow/#/experiments/3/runs?workflowType=machine_learning"
        "&viewStateShareKey=sweep-ab"
    )


# In a real MLflow


def tags_of(uri: str) -> dict[str, str]:
    from mlflow import MlflowClient

    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name(keys.EXPERIMENT)
    assert experiment is not None
    return {k: v for k, v in experiment.tags.items() if k.startswith(TAG)}


def told(uri: str, name: str, space: Space = SPACE) -> tuple[str, list[str]]:
    """The view's key after a session that told all records, and what was said."""
    tracker, said = make(uri, name, space=space, more={"space": space, "created_ms": 7})
    tracker.catch_up(RECORDS, lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close("FINISHED") == 0
    return tracker.view, said


def test_each_sweep_has_one_view_however_often_it_is_told(database: str) -> None:
    key, said = told(database, "one")
    assert (key, said) == (view_key(uid("one")), [])
    first = tags_of(database)
    assert first == {f"{TAG}{key}": view_tag(SPACE, "one", 7)}
    told(database, "one")
    assert tags_of(database) == first
    told(database, "two")
    assert len(tags_of(database)) == 2
    told(database, "one", with_trials(SPACE, 400))  # extended
    assert tags_of(database)[f"{TAG}{key}"] == view_tag(with_trials(SPACE, 400), "one", 7)


def test_a_view_that_cannot_be_written_is_one_line_and_keeps_nothing_back(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("experiment tags are not for you")

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    key, said = told(database, "without")
    assert key == ""
    assert len(said) == 1
    assert said[0].endswith("has no saved charts: experiment tags are not for you")
    assert runs_of(database, "without")["without"].info.status == "FINISHED"
    assert tags_of(database) == {}
    assert Path(database.removeprefix("sqlite:///")).exists()
