"""The commands that look at a sweep, on one that has ended."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drawing import new_trial

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import read_space, read_trial
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.summary import winner
from ckconv_sweep.training import checkpoint

from .commands import (
    NOBODY,
    PROGRAM,
    SPACE,
    ckconv_sweep,
    copied,
    ended,
    environment,
    files_in,
    refused,
)

pytestmark = pytest.mark.ray  # the sweep is a real one


def best_of(finished: Path) -> TrialRecord:
    with SweepFolder.existing(finished / "sweeps", "small").records.open() as study:
        record = winner(study.trials(), study.space)
    assert record is not None
    return record


@pytest.mark.fault("no-terminal")
def test_launch_says_every_event_on_a_line_and_then_the_table(finished: Path) -> None:
    lines = (finished / "said").read_text().splitlines()
    stamped = [line[9:] for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    for trial in ("t000", "t001", "t002"):
        mine = [line for line in stamped if line.startswith(trial)]
        assert re.match(rf"{trial} started: learning_rate=\S+ dropout=\S+$", mine[0])
        for i in (1, 2, 3):
            assert mine[i].startswith(f"{trial} epoch {i}/3: val/accuracy 0.")
        assert mine[4].startswith(f"{trial} completed after 3 epochs, val/accuracy 0.")
        assert len(mine) == 5
    text = "\n".join(lines)
    assert "small: 3 trials completed, 0 pruned, 0 failed" in text
    assert "every number is a validation number" in text
    assert "\x1b" not in text


def test_the_command_that_launch_names_writes_over_no_file_of_the_user(finished: Path) -> None:
    said = (finished / "said").read_text()
    (out,) = re.findall(r"ckconv-sweep best small --out (\S+)", said)
    assert not (finished / out).exists()


def test_a_sweep_leaves_its_files_and_no_others(finished: Path) -> None:
    names = {re.sub(r"-[0-9a-f]{16}", "", name) for name in files_in(finished / "sweeps" / "small")}
    trials = {f"trials/{n:04d}/{f}" for n in range(3) for f in ("best.pt", "ledger.jsonl", "lease")}
    assert names == {"lock", "space.yaml", "study.db"} | trials


@pytest.mark.fault("launched-twice")
def test_the_same_launch_again_shows_the_table_and_trains_nothing(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    ended(ckconv_sweep("sync", "small", cwd=here))  # it notes that the folder is another one now
    before = files_in(here / "sweeps" / "small")
    said = ended(ckconv_sweep("launch", "small.yaml", cwd=here))
    assert "small: 3 trials completed" in said
    assert "started" not in said
    assert files_in(here / "sweeps" / "small") == before


def test_mlflow_has_a_finished_run_of_the_sweep_and_one_of_each_trial(finished: Path) -> None:
    with sqlite3.connect(finished / "sweeps" / "mlflow.db") as database:
        rows = database.execute(
            "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'role' order by 1"
        ).fetchall()
    assert rows == [("sweep", "FINISHED")] + [("trial", "FINISHED")] * 3


def test_status_as_json_says_what_the_study_says(finished: Path) -> None:
    record = best_of(finished)
    with SweepFolder.existing(finished / "sweeps", "small").records.open() as study:
        records = study.trials()

    def iso(ms: int) -> str:
        whole = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{whole}.{ms % 1000:03d}Z"

    said = json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=finished)))
    value = max(e.metrics["val/accuracy"] for e in record.history)
    assert said == {
        "name": "small",
        "state": "finished",
        "asked": 3,
        "completed": 3,
        "pruned": 0,
        "continued": 0,
        "failed": 0,
        "unfinished": 0,
        "metric": "val/accuracy",
        "best_trial": record.number,
        "best_value": value,
        "best_values": {"val/accuracy": value},
        "best_epoch": next(e.number for e in record.history if e.metrics["val/accuracy"] == value),
        "best_repeats": 1,
        "best_params": record.params,
        "started_at": iso(min(r.started_ms for r in records)),
        "last_epoch_at": iso(max(e.timestamp_ms for r in records for e in r.history)),
    }
    every = json.loads(ended(ckconv_sweep("status", "--json", cwd=finished)))
    assert every == [said]


def test_status_and_list_name_the_sweep_and_its_state(finished: Path) -> None:
    said = ended(ckconv_sweep("status", "small", cwd=finished))
    assert said.splitlines()[:2] == [
        "small: finished, 3 trials requested",
        "  3 completed, 0 pruned, 0 failed, 0 unfinished",
    ]
    row = next(x for x in ended(ckconv_sweep("list", cwd=finished)).splitlines() if "small" in x)
    assert [cell.strip() for cell in row.split("│")][1:5] == ["small", "finished", "3", "3"]


def test_list_shows_the_other_sweeps_beside_a_damaged_one(finished: Path, tmp_path: Path) -> None:
    copied(finished / "sweeps", tmp_path / "sweeps")
    (tmp_path / "sweeps" / "broken").mkdir()
    (tmp_path / "sweeps" / "broken" / "study.db").write_bytes(b"no database")
    rows = [
        r.split("│") for r in ended(ckconv_sweep("list", cwd=tmp_path)).splitlines() if "│" in r
    ]
    states = {row[1].strip(): row[2].strip() for row in rows}
    assert states == {"broken": "damaged: see doctor", "small": "finished"}


def test_list_and_status_in_an_empty_folder_say_that_there_is_none(tmp_path: Path) -> None:
    assert ended(ckconv_sweep("list", cwd=tmp_path)) == "no sweeps in sweeps\n"
    assert ended(ckconv_sweep("status", cwd=tmp_path)) == "no sweeps in sweeps\n"
    assert json.loads(ended(ckconv_sweep("status", "--json", cwd=tmp_path))) == []
    assert files_in(tmp_path) == {}


def test_every_format_of_the_table_tells_the_same_numbers(finished: Path) -> None:
    as_json = json.loads(ended(ckconv_sweep("table", "small", "--format", "json", cwd=finished)))
    as_csv = ended(ckconv_sweep("table", "small", "--format", "csv", cwd=finished))
    markdown = ended(ckconv_sweep("table", "small", "--format", "markdown", cwd=finished))
    terminal = ended(ckconv_sweep("table", "small", cwd=finished))
    assert [row["rank"] for row in as_json] == [1, 2, 3]
    read = list(csv.DictReader(io.StringIO(as_csv)))
    assert [{k: str(v) for k, v in row.items()} for row in as_json] == read
    for row in as_json:
        shown = f"{row['val/accuracy']:.4g}"
        assert sum(f"| {shown} |" in line for line in markdown.splitlines()) >= 1
        assert sum(f" {shown} " in line for line in terminal.splitlines()) >= 1
    top = ended(ckconv_sweep("table", "small", "--top", 1, "--format", "json", cwd=finished))
    assert json.loads(top) == as_json[:1]


@pytest.mark.fault("no-terminal")
@pytest.mark.parametrize("command", ["table small", "table small --format csv", "list", "--help"])
def test_a_reader_that_has_gone_is_no_failure(command: str, finished: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [PROGRAM, *command.split()],
        cwd=finished,
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.fault("no-terminal")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["table small", "table small --format csv", "--help"])
def test_a_full_disk_under_the_output_is_one_message(command: str, finished: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, *command.split()],
            cwd=finished,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (
        73,
        "error: standard output: No space left on device\n",
    )


@pytest.mark.fault("no-terminal")
def test_a_closed_output_is_no_failure(finished: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", PROGRAM, "table", "small"],
        cwd=finished,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_best_trained_again_gives_its_curve_bit_for_bit(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.yaml"
    said = ended(ckconv_sweep("best", "small", "--out", out, cwd=finished))
    assert f"ckconv-sweep train {out}" in said
    record = best_of(finished)
    space = read_space(str(finished / "small.yaml"))
    assert read_trial(str(out)) == space.resolve(record.params, record.number)
    printed = ended(ckconv_sweep("best", "small", cwd=finished))
    assert printed == out.read_text()

    ended(ckconv_sweep("train", out, "--tracking-uri", NOBODY, cwd=tmp_path))
    state, _ = checkpoint.newest(tmp_path / "runs" / "again")
    assert state is not None
    curves = [
        [{k: v for k, v in metrics.items() if not k.startswith("time/")} for metrics in several]
        for several in (
            [epoch["metrics"] for epoch in state["history"]],
            [dict(epoch.metrics) for epoch in record.history],
        )
    ]
    assert curves[0] == curves[1]


def test_a_dry_run_writes_nothing_and_names_the_first_trials(here: Path) -> None:
    before = files_in(here)
    said = ended(ckconv_sweep("launch", "small.yaml", "--dry-run", cwd=here))
    assert "small: 3 trials of up to 3 epochs on digits, sampler random (seed 0)" in said
    assert f"nothing was started; it would be kept in {here / 'sweeps' / 'small'}" in said
    assert files_in(here) == before
    assert not (here / "sweeps").exists()


def test_a_dry_run_draws_what_the_sweep_draws(finished: Path) -> None:
    said = ended(ckconv_sweep("launch", "small.yaml", "--dry-run", cwd=finished))
    assert "the sweep small exists: launch would resume it" in said
    with SweepFolder.existing(finished / "sweeps", "small").records.open() as study:
        records = study.trials()
    rows = [[c.strip() for c in x.split("│")] for x in said.splitlines() if x.startswith("│")]
    drawn = {row[1]: row[3:5] for row in rows if row[1].isdigit()}  # behind the parameters
    assert drawn == {
        str(r.number): [
            f"{r.params['optimizer.learning_rate']:.4g}",
            f"{r.params['model.dropout']:.4g}",
        ]
        for r in records
    }


def told(here: Path, text: str, outcomes: list[tuple[Outcome, str]]) -> None:
    """A study of the sweep `small` as a driver leaves it, with these ends of its trials."""
    (here / "small.yaml").write_text(text)
    folder, space = SweepFolder.of(here / "sweeps", "small"), read_space(str(here / "small.yaml"))
    folder.make()
    with folder.records.create(space) as study:
        for number, (outcome, reason) in enumerate(outcomes):
            new_trial(study)
            epoch = Epoch(number=1, metrics={"val/accuracy": 0.5}, timestamp_ms=1)
            study.add_epoch(number, epoch, 0.5)
            study.end(number, outcome, reason=reason, error=f"it was {reason}")


@pytest.mark.fault("no-success")
def test_a_sweep_without_success_shows_its_table_the_reasons_and_ends_with_3(here: Path) -> None:
    ends: list[tuple[Outcome, str]] = [("failed", "nonfinite"), ("failed", "nonfinite")]
    told(here, SPACE, [*ends, ("failed", "out_of_memory")])
    done = ckconv_sweep("launch", "small.yaml", cwd=here)
    assert done.returncode == 3
    assert "small: 0 trials completed, 0 pruned, 3 failed" in done.stdout
    assert sum("nonfinite" in line for line in done.stdout.splitlines()) == 2
    assert done.stderr == (
        "error: small: no trial completed (2 nonfinite, 1 out_of_memory)\n"
        "  the last error: it was out_of_memory\n"
    )


@pytest.mark.fault("no-success")
def test_a_sweep_whose_trials_were_all_stopped_early_ends_with_3(here: Path) -> None:
    told(here, SPACE, [("pruned", "")] * 3)
    done = ckconv_sweep("launch", "small.yaml", cwd=here)
    assert done.returncode == 3
    assert "no trial completed (3 pruned)" in done.stderr


@pytest.mark.fault("no-success")
@pytest.mark.fault("launched-twice")
@pytest.mark.fault("grid-smaller-than-budget")
def test_a_grid_that_is_walked_to_its_end_is_finished_whatever_its_budget(here: Path) -> None:
    grid = (
        "trial: trial.yaml\nsearch: {model.dropout: {low: 0.0, high: 0.2, step: 0.1}}\n"
        "sampler: {name: grid}\nbudget: {trials: 50}\n"
    )
    told(here, grid, [("completed", "epochs")] * 3)
    said = ended(ckconv_sweep("launch", "small.yaml", cwd=here))
    assert "small: 3 trials completed" in said
    assert "started" not in said
    note = "the grid has only 3 points; the budget allows 50 trials\n"
    assert said.startswith(note)
    status = ended(ckconv_sweep("status", "small", cwd=here))
    assert status.startswith(f"small: finished, 3 trials requested\n  {note}  3 completed")
    assert json.loads(ended(ckconv_sweep("status", "small", "--json", cwd=here)))["asked"] == 3
    dry = ended(ckconv_sweep("launch", "small.yaml", "--dry-run", cwd=here))
    assert dry.startswith("small: 3 trials of up to")
    assert dry.splitlines()[1] == note.strip()
    assert "3 trials, sampler grid, scheduler none: valid\n  the grid has only 3" in ended(
        ckconv_sweep("validate", "small.yaml", cwd=here)
    )
    more = ended(ckconv_sweep("resume", "small", "--trials", 80, cwd=here))
    assert more.startswith("the grid has only 3 points; the budget allows 80 trials\n")


@pytest.mark.fault("grid-smaller-than-budget")
def test_a_grid_of_which_every_point_violates_a_constraint_says_so(here: Path) -> None:
    grid = (
        "trial: trial.yaml\nsearch: {model.dropout: {choices: [0.1, 0.2]}}\n"
        "constraints: [model.dropout < 0.05]\nsampler: {name: grid}\nbudget: {trials: 2}\n"
    )
    told(here, grid, [("failed", "constraint")] * 2)
    done = ckconv_sweep("launch", "small.yaml", cwd=here)
    assert done.returncode == 3
    assert done.stdout.startswith("the grid has only 2 points, 2 of them were rejected; ")
    assert "no trial completed (every point of the grid was rejected)" in done.stderr


@pytest.mark.fault("no-success")
def test_best_of_a_sweep_without_a_completed_trial_ends_with_3(here: Path) -> None:
    folder = SweepFolder.of(here / "sweeps", "small")
    folder.make()
    with folder.records.create(read_space(str(here / "small.yaml"))):
        pass
    said = refused(ckconv_sweep("best", "small", cwd=here), 3)
    assert said.startswith("error: small: no trial has completed yet\n")
    status = ended(ckconv_sweep("status", "small", cwd=here))
    assert status.startswith("small: interrupted, 3 trials requested\n")
    assert status.endswith("  resume with: ckconv-sweep resume small\n")
    assert json.loads(ended(ckconv_sweep("table", "small", "--format", "json", cwd=here))) == []


def test_a_sweep_that_was_copied_elsewhere_is_read_there(finished: Path, tmp_path: Path) -> None:
    copied(finished / "sweeps", tmp_path / "copied")
    for how in ({"CKCONV_SWEEPS": "copied"}, {}):
        option = [] if how else ["--sweeps-dir", "copied"]
        said = ended(ckconv_sweep("status", "small", *option, cwd=tmp_path, **how))
        assert said.startswith("small: finished")
