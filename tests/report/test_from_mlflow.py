"""What the driver wrote to MLflow is read back from there alone, to the last bit."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sweep.in_process import Machine, machine, make_space
from tracking.mlflow_real import served

from ckconv_sweep import keys
from ckconv_sweep.config.history import Continue, Stop
from ckconv_sweep.errors import ConfigError, DamagedData, TrackingError
from ckconv_sweep.record.requests import Request, Requests
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report import from_mlflow
from ckconv_sweep.report.confirmable import planned
from ckconv_sweep.report.found import results_of
from ckconv_sweep.report.latex import to_latex
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.page import page
from ckconv_sweep.report.render import to_csv, to_json, to_markdown
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.why import sentences
from ckconv_sweep.sweep.delivery import deliver, deliver_rest
from ckconv_sweep.tracking.store import quiet_client

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SEARCH = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  model.causal: {choices: [true, false]}
  training.batch_size: {choices: [9007199254740993, 64]}
  schedule:
    choices:
      short: {name: plateau, patience: {low: 1, high: 3}}
      long: {name: plateau, patience: {low: 3, high: 9}}
      constant: {}
"""
"""Real, whole, true or false; and labels that say more than the trial's settings do."""


def finished(root: Path) -> Machine:
    """A sweep in which trials completed, were pruned and failed, each with its words."""
    space = make_space(
        search=SEARCH, scheduler="{name: median, startup_trials: 2}", trials=9, epochs=4
    )
    ends = {2: ("nonfinite", 2), 5: ("error", 1)}

    def fails(number: int, epoch: int) -> str | None:
        reason, at = ends.get(number, ("", 0))
        return reason if epoch == at else None

    swept = machine(root, space, fails=fails)
    assert swept.run()
    failed = next(record for record in swept.records() if record.outcome == "failed")
    again = Request(
        kind="add", params=dict(failed.params), changes={"model.blocks": 2}, retry_of=failed.number
    )
    Requests(swept.folder).put(again)
    assert swept.run()
    assert swept.records()[9].changes == {"model.blocks": 2}
    outcomes = {record.outcome for record in swept.records()}
    assert outcomes == {"completed", "pruned", "failed"}
    return swept


def of_study(swept: Machine) -> Results:
    with swept.folder.records.open() as study:
        return Results.of_study(study)


def as_mlflow_can_say(record: TrialRecord) -> TrialRecord:
    """Without what is never written there."""
    history = tuple(replace(epoch, checkpoint="") for epoch in record.history)
    verdict = record.verdict if isinstance(record.verdict, Stop | Continue) else None
    return replace(
        record, history=history, sessions=(), data=(), spent_seconds=0.0, verdict=verdict
    )


def check_equal(results: Results, swept: Machine) -> None:
    """Both ways the same results, to the last bit, and the same bytes of every table."""
    study = of_study(swept)
    counted = tuple(as_mlflow_can_say(r) for r in study.records if r.counts)
    assert results == replace(study, records=counted)
    for one, other in zip(results.records, counted, strict=True):
        assert {k: (type(v), v) for k, v in one.params.items()} == {
            k: (type(v), v) for k, v in other.params.items()
        }
    for write in (to_csv, to_json, to_latex, to_markdown):
        tables = [leaderboard(r.records, r.space) for r in (results, study)]
        assert write(tables[0]).encode() == write(tables[1]).encode()
    assert results.summary() == study.summary()


def test_what_confirms_a_sweep_has_runs_of_its_own_and_is_left_out_of_the_search(
    database: str, tmp_path: Path
) -> None:
    swept = machine(tmp_path / "sweeps", make_space(trials=4))
    assert swept.run()
    before = of_study(swept)
    with swept.folder.records.open() as study:
        plan = planned(study, 2, 3)
    assert replace(swept, plan=plan).run()
    assert deliver(swept.folder, database) == 0
    results = results_of("sweep", tmp_path / "nowhere", database)
    check_equal(results, swept)
    assert results.records == tuple(map(as_mlflow_can_say, before.records))
    client = quiet_client(database)
    (experiment,) = client.search_experiments(filter_string="name = 'ckconv-sweep'")
    runs = client.search_runs([experiment.experiment_id], "tags.role = 'confirm'")
    told = {(r.data.tags["confirms"], r.data.tags["seed_index"]) for r in runs}
    names = [*map(keys.trial_name, plan.settings), "base"]
    assert told == {(name, str(index)) for name in names for index in range(3)}
    assert {r.data.tags["mlflow.parentRunId"] for r in runs} == {
        r.data.tags["mlflow.parentRunId"]
        for r in client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    }
    (own,) = client.search_runs([experiment.experiment_id], "tags.role = 'sweep'")
    assert "4 trials requested (4 completed)" in own.data.tags["mlflow.note.content"]
    assert deliver_rest(swept.folder, database, every(swept)).undelivered == 0


def every(swept: Machine) -> list[TrialRecord]:
    with swept.folder.records.open() as study:
        return study.every_trial()


def test_a_finished_sweep_reads_the_same_from_a_database_as_from_its_folder(
    database: str, tmp_path: Path
) -> None:
    swept = finished(tmp_path / "sweeps")
    assert deliver(swept.folder, database) == 0
    results = results_of("sweep", tmp_path / "nowhere", database)
    check_equal(results, swept)
    assert results.state == "finished"
    assert (results.source, results.notes) == (database, ())


@pytest.mark.slow  # a server of its own
def test_a_finished_sweep_reads_the_same_from_a_server_as_from_its_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    swept = finished(tmp_path / "sweeps")
    with served(tmp_path) as server:
        assert deliver(swept.folder, server.uri) == 0
        capfd.readouterr()
        check_equal(results_of("sweep", tmp_path / "nowhere", server.uri), swept)
    assert capfd.readouterr() == ("", "")


def test_a_population_reads_the_same_with_why_each_of_its_trials_ended(
    database: str, tmp_path: Path
) -> None:
    space = make_space(
        search="  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}",
        scheduler="{name: pbt, interval_epochs: 2, fraction: 0.3}",
        epochs=5,
    )
    swept = machine(tmp_path / "sweeps", space, concurrency=4)
    swept.fails = lambda number, epoch: "nonfinite" if number == 4 else None
    assert swept.run()
    again = next(record for record in swept.records() if record.outcome == "failed")
    Requests(swept.folder).put(
        Request(kind="add", params=dict(again.params), retry_of=again.number)
    )
    swept.fails = lambda number, epoch: None
    assert swept.run()
    assert any(record.outcome == "continued" for record in swept.records())
    assert deliver(swept.folder, database) == 0
    results = results_of("sweep", tmp_path / "nowhere", database)
    check_equal(results, swept)
    told, study = (list(sentences(r.records, r.space)) for r in (results, of_study(swept)))
    assert told == study


def test_an_interrupted_sweep_has_its_unfinished_trials_with_their_epochs(
    database: str, tmp_path: Path
) -> None:
    swept = machine(tmp_path / "sweeps", make_space(trials=4, epochs=3))
    assert not swept.run(kill_before=15)
    assert "running" in {record.outcome for record in swept.records()}
    deliver(swept.folder, database)
    results = results_of("sweep", tmp_path / "nowhere", database)
    assert results.state == "interrupted"
    check_equal(results, swept)


def test_a_trial_that_violated_a_constraint_was_never_in_mlflow(
    database: str, tmp_path: Path
) -> None:
    space = make_space(
        search="  model.hidden_channels: {low: 4, high: 9}",
        constraints=["model.parameters <= 600"],
        trials=3,
    )
    swept = machine(tmp_path / "sweeps", space)
    assert swept.run()
    assert not all(record.counts for record in swept.records())
    deliver(swept.folder, database)
    check_equal(results_of("sweep", tmp_path / "nowhere", database), swept)


def test_the_rejected_points_of_a_grid_are_not_asked_for_in_mlflow_either(
    database: str, tmp_path: Path
) -> None:
    space = make_space(
        search="  model.hidden_channels: {low: 4, high: 9}",
        sampler="grid",
        constraints=["model.parameters <= 600"],
        trials=6,
    )
    swept = machine(tmp_path / "sweeps", space)
    assert swept.run()
    deliver(swept.folder, database)
    study, results = of_study(swept), results_of("sweep", tmp_path / "nowhere", database)
    assert (study.summary().asked, study.rejected) == (3, 3)
    assert results.summary() == study.summary()
    assert results.rejected == 3
    for said in map(page, (results, study)):
        assert "3 trials requested" in said
        assert "the grid has only 6 points, 3 of them were rejected" in said


def test_of_several_sweeps_of_one_name_the_newest_is_read_and_that_is_said(
    database: str, tmp_path: Path
) -> None:
    for place, trials in (("old", 2), ("new", 3)):
        swept = machine(tmp_path / place, make_space(trials=trials))
        assert swept.run()
        deliver(swept.folder, database)
    results = results_of("sweep", tmp_path / "nowhere", database)
    assert results.notes == ("MLflow has 2 sweeps called sweep; this is the newest",)
    check_equal(results, swept)


# What is not as it should be


@pytest.fixture
def small(database: str, tmp_path: Path) -> str:
    """A database with a sweep of one trial."""
    swept = machine(tmp_path / "sweeps", make_space(trials=1, epochs=1))
    assert swept.run()
    deliver(swept.folder, database)
    return database


def test_a_name_that_mlflow_does_not_have_gets_the_nearest(small: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MLflow has no sweep 'sweeep'") as caught:
        results_of("sweeep", tmp_path / "nowhere", small)
    assert caught.value.hint == "did you mean 'sweep'?"


def test_an_experiment_without_sweeps_says_how_to_name_another(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    with pytest.raises(ConfigError, match="no sweep 'sweep'") as caught:
        results_of("sweep", tmp_path / "nowhere", small)
    assert "MLFLOW_EXPERIMENT_NAME names another" in str(caught.value.hint)


@pytest.mark.parametrize("content", [None, b"", b"no database"])
def test_what_is_no_database_is_refused_and_nothing_is_made(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="there is no MLflow database"):
        results_of("sweep", tmp_path / "nowhere", f"sqlite:///{path}")
    assert (path.read_bytes() if path.exists() else None) == content
    assert {p.name for p in tmp_path.iterdir()} <= {"mlflow.db"}


def test_a_server_that_does_not_answer_is_one_message_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="MLflow does not answer") as caught:
        results_of("sweep", tmp_path, "http://me:s3cret-word@127.0.0.1:1")
    assert "s3cret-word" not in str(caught.value)
    assert "http://me:***@127.0.0.1:1" in str(caught.value)


def test_without_its_file_of_the_space_a_sweep_cannot_be_read(small: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "mlartifacts")
    with pytest.raises(DamagedData, match=r"there is no space\.yaml of it"):
        results_of("sweep", tmp_path / "nowhere", small)


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (keys.TAG_TRIAL, "one", "not written by ckconv-sweep"),
        (keys.TAG_OUTCOME, "won", "not written by ckconv-sweep: trial 0 has the outcome 'won'"),
        (keys.TAG_PARAMS, "{", "not written by ckconv-sweep"),
        (keys.TAG_PARAMS, "[]", "not written by ckconv-sweep"),
        (
            keys.TAG_PARAMS,
            '{"model.dropout": 0.1}',
            "not written by ckconv-sweep: these are not parameters",
        ),
        (keys.TAG_ORIGIN, "[1]", "not written by ckconv-sweep"),
        (keys.TAG_ORIGIN, '{"changes": 3}', "not written by ckconv-sweep"),
        (keys.TAG_ORIGIN, '{"outcome": "won"}', "not written by ckconv-sweep"),
        (keys.TAG_PARAMS, None, "run t000 does not say what was drawn"),
    ],
)
def test_a_run_that_is_none_of_ours_is_refused(
    tag: str, value: str | None, said: str, small: str, tmp_path: Path
) -> None:
    client = quiet_client(small)
    experiment = client.get_experiment_by_name(keys.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    if value is None:
        client.delete_tag(run.info.run_id, tag)
    else:
        client.set_tag(run.info.run_id, tag, value)
    with pytest.raises(DamagedData, match=re.escape(said)):
        results_of("sweep", tmp_path / "nowhere", small)


def test_an_epoch_whose_metrics_are_on_their_way_is_not_there_yet(
    small: str, tmp_path: Path
) -> None:
    client = quiet_client(small)
    experiment = client.get_experiment_by_name(keys.EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], "tags.role = 'trial'")
    client.log_metric(run.info.run_id, "val/loss", 0.5, step=2)
    client.log_metric(run.info.run_id, "val/accuracy", 0.5, step=3)
    (record,) = results_of("sweep", tmp_path / "nowhere", small).records
    assert [epoch.number for epoch in record.history] == [1]


@pytest.mark.fault("filters")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.text(min_size=1, max_size=40), uid=st.text(max_size=40))
@example(name="a", uid="' OR tags.role = 'sweep")
@example(name="a", uid="0" * 32)
@example(name="r' AND params.lr = '0.1", uid="0" * 32)
def test_nothing_that_a_user_or_a_server_named_enters_what_mlflow_is_asked(
    name: str, uid: str
) -> None:
    asked: list[str] = []

    class Client:
        def get_experiment_by_name(self, _: str) -> Any:
            return SimpleNamespace(experiment_id="1")

        def search_runs(self, _: list[str], filter_string: str, **__: Any) -> Any:
            asked.append(filter_string)
            tags = {keys.TAG_SWEEP: name, keys.TAG_UID: uid}
            info = SimpleNamespace(
                run_id=uid, run_name="t000", start_time=1, experiment_id="1", status="FINISHED"
            )
            page = [SimpleNamespace(info=info, data=SimpleNamespace(tags=tags, metrics={}))]
            return type("Page", (list,), {"token": None})(page)

        def list_artifacts(self, _: str) -> list[Any]:
            return [SimpleNamespace(path=keys.ARTIFACT_SPACE)]

        def download_artifacts(self, _: str, file: str, folder: str) -> str:
            (Path(folder) / file).write_text(make_space().to_yaml())
            return str(Path(folder) / file)

    with pytest.raises((ConfigError, DamagedData)):
        from_mlflow.read_results(Client(), "any", name, "there")
    shapes = r"tags\.role = 'sweep'|tags\.`mlflow\.parentRunId` = '[0-9a-f]{32}'"
    assert all(re.fullmatch(shapes, one) for one in asked)
