"""What a session hands on to the next one, and what the options of `launch` and `resume` refuse."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from sweep.in_process import Machine, formula, machine, make_space
from typer.models import ParameterInfo

from ckconv_sweep.cli import app
from ckconv_sweep.cli.result import show_result
from ckconv_sweep.cli.run import _Before, _extended
from ckconv_sweep.cli.run_options import RunOptions
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.delivery import Session

from .commands import NOBODY, ckconv_sweep, ended, refused

GPUS = RunOptions(
    gpus_per_trial=1.0,
    pack="auto",
    address="10.0.0.1:6379",
    insecure_cluster=True,
    data_dir=Path("/data"),
    tracking_uri="http://me:S3CRET@mlflow:5000",
)


def begun(tmp_path: Path, options: RunOptions, hours: float | None = None) -> SweepFolder:
    space = make_space(trials=2)
    space = replace(space, budget=space.budget.model_copy(update={"hours": hours}))
    folder = machine(tmp_path / "sweeps", space).folder
    with folder.records.create(space) as study:
        study.set_note("options", options.kept())
    return folder


def after(folder: SweepFolder, options: RunOptions) -> tuple[RunOptions, str]:
    """The options of the next session, and what is told of them."""
    with folder.records.open() as study:
        return options.after(_Before.of(study).options)


@pytest.mark.fault("options-kept")
def test_the_placement_of_a_session_is_that_of_the_next_and_is_told(tmp_path: Path) -> None:
    options, told = after(begun(tmp_path, GPUS), RunOptions())
    assert options == replace(GPUS, tracking_uri=None)  # its password is nowhere
    assert told == (
        "as in the last session: --address 10.0.0.1:6379 --insecure-cluster --gpus-per-trial 1.0 "
        "--pack auto --data-dir /data"
    )
    assert "S3CRET" not in json.dumps(GPUS.kept())


@pytest.mark.fault("options-kept")
def test_what_is_requested_now_counts(tmp_path: Path) -> None:
    asked = RunOptions(gpus_per_trial=0.25, pack="4", address="local", data_dir=Path("/other"))
    options, told = after(begun(tmp_path, GPUS), asked)
    assert options == asked  # and a cluster without authentication was accepted there, not here
    assert told == ""


@pytest.mark.fault("options-kept")
def test_an_address_of_mlflow_without_a_password_is_kept(tmp_path: Path) -> None:
    folder = begun(tmp_path, RunOptions(tracking_uri="http://mlflow:5000"))
    options, _ = after(folder, RunOptions())
    assert options.tracking_uri == "http://mlflow:5000"
    assert after(folder, RunOptions(tracking_uri="http://b"))[0].tracking_uri == "http://b"


@pytest.mark.fault("options-kept")
def test_a_launch_of_the_same_file_keeps_the_hours_to_which_a_resume_extended_the_sweep(
    tmp_path: Path,
) -> None:
    folder = begun(tmp_path, RunOptions(), hours=20.0)
    space = make_space(trials=2)
    file = replace(space, budget=space.budget.model_copy(update={"hours": 8.0}))
    less = RunOptions(hours=9.0)
    with folder.records.open() as study:
        assert _extended(study, file, RunOptions()).budget.hours == 20.0
        assert _extended(study, space, RunOptions()).budget.hours == 20.0
        assert _extended(study, less.with_budget(file), less).budget.hours == 9.0


@pytest.mark.fault("space-changed")
def test_a_sweep_that_starts_over_takes_nothing_from_the_session_before(
    here: Path,
) -> None:
    begun(here, GPUS, hours=20.0)
    command = ("launch", "small.yaml", "--name", "sweep")
    plan = ended(ckconv_sweep(*command, "--dry-run", cwd=here, COLUMNS="200"))
    assert plan.startswith("sweep: 3 trials of up to 3 epochs")
    assert "no trial of the sweep sweep has begun with its old space: launch would start it" in plan
    said = refused(ckconv_sweep(*command, "--gpus-per-trial", 1.5, cwd=here))  # not one line more
    assert "--gpus-per-trial: more than one GPU must be a whole number" in said


def test_a_signal_after_the_last_trial_does_not_say_that_the_sweep_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = make_space(trials=2)
    there = machine(tmp_path / "sweeps", space)
    assert there.run()
    with there.folder.records.open() as study:
        records = study.trials()
    late = Session(
        records=records, experiment_id=None, undelivered=0, trained=True, signal_exit_code=143
    )
    show_result(there.folder, records, space, None, late)
    said = capsys.readouterr().out
    assert "2 trials completed" in said
    assert "stopped" not in said


def test_the_table_counts_what_it_leaves_out_and_the_last_line_is_the_first_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = make_space(trials=12)
    there = machine(tmp_path / "sweeps", space)
    assert there.run()
    records = there.records()
    show_result(there.folder, records, space, None)
    lines = capsys.readouterr().out.splitlines()
    folder = f"--sweeps-dir {tmp_path / 'sweeps'}"
    assert f"2 more trials: ckconv-sweep table sweep {folder}" in lines
    assert lines[-1] == (
        f"pictures and advice: ckconv-sweep report sweep {folder} (first: too few trials to tell "
        "which settings matter)"
    )
    show_result(there.folder, records[:10], space, None)
    assert "more trial" not in capsys.readouterr().out


def test_a_proposed_command_names_the_sweeps_folder_unless_it_is_the_default_one(
    here: Path,
) -> None:
    there = machine(here / "my sweeps", make_space(trials=2))
    assert there.run()
    folder, study = ("--sweeps-dir", "my sweeps"), there.folder.records.path
    launch = ckconv_sweep("launch", "small.yaml", "--name", "sweep", *folder, cwd=here)
    there.folder.trial(0).mkdir(exist_ok=True)
    path = study.rename(here / "kept")
    missing = ckconv_sweep("status", "sweep", *folder, cwd=here)
    study.write_bytes(bytes(4096) + path.read_bytes()[4096:])
    damaged = ckconv_sweep("table", "sweep", *folder, cwd=here)
    for done, verb, code in (
        (launch, "resume", 2),
        (missing, "doctor", 65),
        (damaged, "doctor", 65),
    ):
        line = f": ckconv-sweep {verb} sweep --sweeps-dir '{here / 'my sweeps'}'\n"
        assert refused(done, code).endswith(line), done.stderr
    (here / "my sweeps").rename(here / "sweeps")
    said = refused(ckconv_sweep("table", "sweep", cwd=here), 65)
    assert said.endswith(": ckconv-sweep doctor sweep\n")


def out_of_time(tmp_path: Path, epochs: int) -> Machine:
    """A sweep whose hour is up: each epoch took twenty minutes of it. One trial at a time."""
    space = make_space(trials=2, epochs=epochs, hours=1.0)
    run = machine(tmp_path / "sweeps", space, concurrency=1)

    def work(trial: Trial, number: int) -> Epoch:
        run.clock.now += 20 * 60
        return formula(trial, number, run.clock.now)

    run.work = work
    assert run.run()
    return run


def test_where_the_hours_are_up_nothing_starts_and_without_a_completed_trial_it_is_code_3(
    tmp_path: Path,
) -> None:
    run = out_of_time(tmp_path, epochs=9)
    done = ckconv_sweep("resume", "sweep", "--tracking-uri", NOBODY, cwd=tmp_path)
    assert done.returncode == 3
    assert re.search(r"│ +0 │ unfinished +│", done.stdout)
    assert "sweep: no trial completed (1 unfinished)" in done.stderr
    assert "the 1 hours are up; resume with: ckconv-sweep resume sweep --hours MORE" in done.stderr
    assert not run.folder.ray_log.exists()
    told = ended(ckconv_sweep("table", "sweep", "--columns", "outcome,epochs", cwd=tmp_path))
    assert re.search(r"│ unfinished +│ +3 │", told)


def test_where_the_gpu_hours_are_up_nothing_starts_and_the_option_to_go_on_is_named(
    tmp_path: Path,
) -> None:
    space = make_space(trials=4, epochs=2)
    space = replace(space, budget=space.budget.model_copy(update={"gpu_hours": 1.0}))

    def work(trial: Trial, number: int) -> Epoch:
        epoch = formula(trial, number)
        return replace(epoch, metrics={**epoch.metrics, "time/epoch_seconds": 1800.0})

    run = machine(tmp_path / "sweeps", space, concurrency=1, work=work, gpus=1.0)
    assert run.run()
    command = ("resume", "sweep", "--tracking-uri", NOBODY)
    said = ended(ckconv_sweep(*command, "--gpus-per-trial", 1, cwd=tmp_path))
    assert "the 1 GPU-hours are up; resume with: ckconv-sweep resume sweep --gpu-hours MORE" in said
    with run.folder.records.open() as study:
        assert _extended(study, make_space(trials=4), RunOptions()).budget.gpu_hours == 1.0
    told = refused(ckconv_sweep(*command, cwd=tmp_path))  # nothing says that it had a GPU
    assert "budget.gpu_hours: no trial uses a GPU, so GPU-hours would never be spent" in told


def test_where_the_hours_are_up_what_completed_is_a_result(tmp_path: Path) -> None:
    out_of_time(tmp_path, epochs=2)
    said = ended(ckconv_sweep("resume", "sweep", "--tracking-uri", NOBODY, cwd=tmp_path))
    assert "sweep: 1 trial completed, 0 pruned, 0 failed, 1 unfinished" in said
    assert "the 1 hours are up; resume with: ckconv-sweep resume sweep --hours MORE" in said


@pytest.mark.fault("no-address")
@pytest.mark.parametrize(
    "command",
    [
        "launch quickstart --dry-run --sweeps-dir s3://bucket/sweeps",
        "list --sweeps-dir gs://b",
        "launch quickstart --dry-run --data-dir https://example.com/data",
        "train digits --out s3://bucket/run",
        "table x --data-dir hdfs://x",
        "evaluate s3://bucket/best.pt",
        "import-checkpoint gs://bucket/theirs.pt",
        "report x --wider-space s3://bucket/wider.yaml",
    ],
)
def test_an_address_is_no_folder(command: str, tmp_path: Path) -> None:
    said = refused(ckconv_sweep(*command.split(), cwd=tmp_path))
    assert "addresses are not supported" in said
    assert list(tmp_path.iterdir()) == []


def test_no_path_that_a_command_takes_may_be_an_address() -> None:
    paths = {
        (command.callback.__name__, name): info
        for command in app.registered_commands
        if command.callback is not None
        for name, hint in get_type_hints(command.callback, include_extras=True).items()
        for kind, *infos in [get_args(hint)]
        for info in infos
        if Path in (kind, *get_args(kind)) and isinstance(info, ParameterInfo)
    }
    assert len(paths) > 20
    assert [where for where, info in paths.items() if info.callback is None] == []


@pytest.mark.fault("odd-surroundings")
@pytest.mark.parametrize(
    "command",
    ["list --sweeps-dir ~nobody-here/x", "launch quickstart --dry-run --data-dir ~nobody-here/x"],
)
def test_a_path_in_a_home_folder_that_nobody_knows_is_refused(command: str, tmp_path: Path) -> None:
    said = refused(ckconv_sweep(*command.split(), cwd=tmp_path))
    assert said.startswith("error: ~nobody-here/x: no home folder is known in the place of ~\n")


@pytest.mark.parametrize("place", ["nowhere", "/dev/full", "here.txt"])
def test_a_folder_that_is_not_there_is_no_folder_without_sweeps(place: str, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("")
    for command in (["list"], ["status"], ["status", "--json"], ["status", "x"]):
        said = refused(ckconv_sweep(*command, "--sweeps-dir", place, cwd=tmp_path))
        assert "no such folder" in said


@pytest.mark.fault("damaged-study")
def test_the_states_of_the_other_sweeps_are_told_beside_a_damaged_one(tmp_path: Path) -> None:
    begun(tmp_path, RunOptions())
    (tmp_path / "sweeps" / "lost" / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "sweeps" / "other").mkdir()
    (tmp_path / "sweeps" / "other" / "study.db").write_bytes(b"no database")
    (tmp_path / "sweeps" / "shut" / "study.db").mkdir(parents=True)  # for the superuser, too
    told = json.loads(ended(ckconv_sweep("status", "--json", cwd=tmp_path)))
    states = {one["name"]: one["state"] for one in told}
    assert states == {
        "lost": "damaged",
        "other": "damaged",
        "shut": "unreadable",
        "sweep": "interrupted",
    }
    assert "study is missing" in told[0]["error"]
    shown = ended(ckconv_sweep("list", cwd=tmp_path))
    assert "lost" in shown
    assert "unreadable: see doctor" in shown


def test_a_goal_is_given_taken_away_and_refused_on_the_command_line() -> None:
    space = make_space()
    asked = RunOptions(goal="val/accuracy >= 0.9").with_budget(space)
    assert asked.budget.goal == "val/accuracy >= 0.9"
    assert RunOptions(goal="none").with_budget(asked) == space
    assert RunOptions().with_budget(asked) == asked
    with pytest.raises(ConfigError, match=r"^--goal: this sweep has no metric 'x' for a goal"):
        RunOptions(goal="x > 1").with_budget(space)
