"""`table` and `compare` as a user types them, on a sweep that was really launched."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from drawing import new_trial

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import read_space
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.record.folder import SweepFolder

from .commands import NOBODY, ckconv_sweep, copied, ended, files_in, refused, rows, typed_here

pytestmark = [
    pytest.mark.ray,  # the sweep is a real one
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]


@pytest.fixture
def typed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command typed where the sweep was launched, in this process; returns what it printed."""
    monkeypatch.chdir(finished)
    return typed_here


@pytest.fixture(scope="session")
def uri(finished: Path) -> str:
    return f"sqlite:///{finished}/sweeps/mlflow.db"


@pytest.mark.parametrize("format", ["terminal", "csv", "json", "markdown", "latex"])
def test_mlflow_alone_gives_the_same_bytes_as_the_folder(format: str, uri: str, typed: Any) -> None:
    command = ("table", "small", "--format", format)
    alone = typed(*command, "--tracking-uri", uri, "--sweeps-dir", "nowhere")
    # How many sequences were scored, and so the sampling error, is known beside the data alone.
    here, *error = re.split(r"val/accuracy 0\.\d+ on 144 sequences", typed(*command))
    assert bool(error) == (format in ("terminal", "markdown", "latex"))
    assert alone.rstrip() == here.removesuffix("% ").rstrip()
    command = ("compare", "small", "--trials", "--format", format)
    alone = typed(*command, "--tracking-uri", uri, "--sweeps-dir", "nowhere")
    assert alone == typed(*command)


def test_a_colleague_without_the_folder_is_told_of_mlflow_and_reads_it(
    uri: str, typed: Any, tmp_path: Path
) -> None:
    said = refused(ckconv_sweep("table", "small", cwd=tmp_path))
    assert "there is no sweep 'small'" in said
    assert "--tracking-uri" in said
    here = typed("table", "small", "--format", "json")
    named = ckconv_sweep("table", "small", "--format", "json", "--tracking-uri", uri, cwd=tmp_path)
    assert ended(named) == here
    assert named.stderr == ""
    variable = {"MLFLOW_TRACKING_URI": uri}
    assert (
        ended(ckconv_sweep("table", "small", "--format", "json", cwd=tmp_path, **variable)) == here
    )
    assert files_in(tmp_path) == {}


def test_the_folder_comes_before_the_mlflow_of_the_environment(
    typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    assert "completed" in typed("table", "small")


def test_rows_are_filtered_sorted_and_cut(typed: Any) -> None:
    every = rows(typed("table", "small", "--format", "json"))
    rates = sorted(row["optimizer.learning_rate"] for row in every)
    said = typed("table", "small", "--format", "json", "--sort", "learning_rate:desc", "--top", 2)
    assert [row["optimizer.learning_rate"] for row in rows(said)] == rates[:0:-1]
    where = f"optimizer.learning_rate < {rates[1]!r}"
    (row,) = rows(typed("table", "small", "--format", "json", "--where", where))
    assert row["optimizer.learning_rate"] == rates[0]
    two = ("--where", where, "--where", "outcome == pruned")
    assert rows(typed("table", "small", "--format", "json", *two)) == []
    assert "no trial of 3 matches" in typed("table", "small", *two)


def test_a_terminal_is_shown_the_first_rows_of_very_many_and_is_told_how_many_follow(
    typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckconv_sweep.cli.tables.MOST_ROWS", 2)
    said = typed("table", "small")
    assert "the first 2 of 3 rows: --top 3 shows all" in said
    whole = typed("table", "small", "--top", 3)
    assert len(whole.splitlines()) == len(said.splitlines())  # one row more, and one note less
    assert "rows: --top" not in whole
    assert len(rows(typed("table", "small", "--format", "json"))) == 3


def test_columns_of_other_metrics_and_of_parameters_can_be_asked_for(
    typed: Any, finished: Path
) -> None:
    columns = "trial,val/loss,parameters"
    said = rows(typed("table", "small", "--format", "json", "--columns", columns))
    assert list(said[0]) == ["trial", "val/loss", "model.parameters"]
    with SweepFolder.existing(finished / "sweeps", "small").records.open() as study:
        records = {record.number: record for record in study.trials()}
    for row in said:
        history = records[row["trial"]].history
        judged = max(history, key=lambda e: (e.metrics["val/accuracy"], -e.number))
        assert row["val/loss"] == judged.metrics["val/loss"]
    assert len({row["model.parameters"] for row in said}) == 1


def test_of_trials_of_one_size_the_front_is_the_best(typed: Any) -> None:
    first = rows(typed("table", "small", "--format", "json"))[0]
    front = rows(typed("table", "small", "--format", "json", "--pareto", "model.parameters"))
    assert [row["trial"] for row in front if row["val/accuracy"] == first["val/accuracy"]]
    assert {row["val/accuracy"] for row in front} == {first["val/accuracy"]}


def test_groups_say_their_interval_and_what_was_left_out(typed: Any) -> None:
    said = typed("table", "small", "--group-by", "dropout")
    assert "small: completed trials by model.dropout" in said
    assert "interval of the mean: 95 %, Student t" in said
    groups = rows(typed("table", "small", "--group-by", "dropout", "--format", "json"))
    assert sum(row["trials"] for row in groups) == 3
    values = [row["model.dropout"] for row in groups]
    assert values == sorted(values)
    (one,) = rows(
        typed("table", "small", "--group-by", "learning_rate", "--bins", 1, "--format", "json")
    )
    assert one["trials"] == 3
    assert one["95 % low"] < one["val/accuracy mean"] < one["95 % high"]


def test_a_setting_that_never_varied_is_named_below_and_kept_for_programs(
    typed: Any, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "trial.yaml").write_text((finished / "trial.yaml").read_text())
    text = (finished / "small.yaml").read_text()
    (tmp_path / "same.yaml").write_text(
        text.replace("sampler:", "  model.blocks: {choices: [1]}\nsampler:")
    )
    folder, space = SweepFolder.of(tmp_path, "same"), read_space(str(tmp_path / "same.yaml"))
    folder.make()
    with folder.records.create(space) as study:
        for number in range(3):
            new_trial(study)
            epoch = Epoch(number=1, metrics={"val/accuracy": 0.5}, timestamp_ms=1)
            study.add_epoch(number, epoch, 0.5)
            study.end(number, "completed", reason="epochs")
    there = ("table", "same", "--sweeps-dir", tmp_path)
    for format in ("terminal", "markdown", "latex"):
        *table, below = typed(*there, "--format", format).strip().splitlines()
        assert below.removeprefix("% ") == "the same in every trial that has it: blocks=1"
        assert not any("blocks" in line for line in table)
    assert all(row["model.blocks"] == 1 for row in rows(typed(*there, "--format", "json")))
    heading = typed(*there, "--format", "csv").splitlines()[0]
    assert "model.blocks" in next(csv.reader(io.StringIO(heading)))


@pytest.fixture(scope="session")
def two(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweeps folder with `small`, and `other`, which is it under another name."""
    folder = tmp_path_factory.mktemp("two")
    copied(finished / "sweeps" / "small", folder / "small")
    copied(finished / "sweeps" / "small", folder / "other")
    with sqlite3.connect(folder / "other" / "study.db") as database:
        database.execute("update studies set study_name = 'other'")
    return folder


@pytest.mark.parametrize("format", ["terminal", "csv", "json", "markdown", "latex"])
def test_two_sweeps_are_two_rows_in_every_format(format: str, two: Path, typed: Any) -> None:
    said = typed("compare", "small", "other", "--sweeps-dir", two, "--format", format)
    status = rows("[" + typed("status", "small", "--json") + "]")[0]
    number = status["best_value"] if format in ("csv", "json") else f"{status['best_value']:.4g}"
    lines = [line for line in said.splitlines() if "small" in line or "other" in line]
    if format == "json":
        lines = [json.dumps(row) for row in rows(said)]
    assert len(lines) == 2
    assert all(str(number) in line for line in lines)
    assert "ranked" not in said


def test_all_trials_of_two_sweeps_are_one_ranking(two: Path, typed: Any) -> None:
    said = rows(
        typed("compare", "small", "other", "--sweeps-dir", two, "--trials", "--format", "json")
    )
    assert [row["rank"] for row in said] == [1, 2, 3, 4, 5, 6]
    assert sorted({(row["sweep"], row["trial"]) for row in said}) == [
        (name, trial) for name in ("other", "small") for trial in range(3)
    ]
    settings = set(said[0]) - {"rank", "sweep", "trial", "outcome", "val/accuracy"}
    assert settings - {"at epoch", "epochs", "seconds"} == {
        "optimizer.learning_rate",
        "model.dropout",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("table small --where hiden<3", "--where hiden < 3: no column is called 'hiden'"),
        ("table small --where dropout=3", "a comparison is written with =="),
        ("table small --sort dropout:up", "asc or desc must follow the colon, got 'up'"),
        ("table small --columns trial,drop", "--columns trial,drop: no column is called 'drop'"),
        ("table small --group-by drop", "--group-by drop: no column is called 'drop'"),
        (
            "table small --group-by dropout --top 1",
            "--group-by: cannot be combined with --sort, --top, --columns or --pareto",
        ),
        ("table small --pareto reason", "reason holds no numbers"),
        ("table smal", "there is no sweep 'smal'"),
        ("table small --tracking-uri sqlite:///no.db", "there is no MLflow database"),
        ("table ../small", "cannot be the name of a sweep"),
        ("compare small small", "the sweep small is named twice"),
        ("compare small --sort trials:x", "asc or desc must follow"),
    ],
)
def test_a_mistake_is_one_message(words: str, said: str, typed: Any, finished: Path) -> None:
    before = sorted(path.name for path in finished.iterdir())
    with pytest.raises(CkconvSweepError) as caught:
        typed(*words.split())
    assert caught.value.exit_code == 2
    assert said in str(caught.value)
    assert sorted(path.name for path in finished.iterdir()) == before
