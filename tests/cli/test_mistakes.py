"""Whatever a user can get wrong: exit code 2, one message with its place, nothing left on disk."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ckconv_sweep.config.read import read_space
from ckconv_sweep.data.mnist import SHA256
from ckconv_sweep.record.folder import SweepFolder

from .commands import (
    PROGRAM,
    REPOSITORY,
    SPACE,
    TRIAL,
    ckconv_sweep,
    copied,
    ended,
    environment,
    files_in,
    refused,
)

MNIST = "data: {name: smnist}\nmodel: {hidden_channels: 4}\ntraining: {epochs: 1}\n"


def space(old: str, new: str) -> dict[str, str]:
    """The small space with one thing changed."""
    assert old in SPACE
    return {"bad.yaml": SPACE.replace(old, new)}


RATE = "{low: 1.0e-3, high: 1.0e-2, log: true}"
# What is wrong -> files, command, what the message must hold.
MISTAKES: dict[str, tuple[dict[str, str], str, str]] = {
    "missing file": ({}, "launch bad.yaml", "bad.yaml: no such file\n  bundled spaces: adding"),
    "missing trial": ({}, "train bad.yaml", "bad.yaml: no such file\n  bundled trials: adding"),
    "misspelt bundled": ({}, "launch quickstrt", "did you mean 'quickstart'?"),
    "a folder": ({}, "launch .", ".: this is a folder, not a file"),
    "no YAML": ({"bad.yaml": "a: [1\nb: 2"}, "launch bad.yaml", "bad.yaml:2: this is not YAML"),
    "not UTF-8": ({"bad.yaml": "a: \udcff"}, "launch bad.yaml", "bad.yaml:1: must be UTF-8"),
    "a list": ({"bad.yaml": "[1]"}, "launch bad.yaml", "a space must be a block of settings"),
    "empty": ({"bad.yaml": ""}, "train bad.yaml", "a trial must be a block of settings"),
    "unknown key": (
        space("sampler:", "smapler:"),
        "launch bad.yaml",
        "bad.yaml:5: no setting is called 'smapler'\n  did you mean 'sampler'?",
    ),
    "unknown setting": (
        space("model.dropout", "model.dropuot"),
        "launch bad.yaml",
        "bad.yaml:4: search: no setting is called 'model.dropuot'\n  did you mean 'model.dropout'?",
    ),
    "unknown key of a trial": (
        {"bad.yaml": TRIAL.replace("epochs", "epoch")},
        "train bad.yaml",
        "bad.yaml:4: no setting is called 'epoch' in training\n  did you mean 'epochs'?",
    ),
    "low > high": (
        space(RATE, "{low: 2.0, high: 1.0}"),
        "launch bad.yaml",
        "bad.yaml:3: search: optimizer.learning_rate: low <= high must hold, got low=2.0 and high",
    ),
    "log from zero": (
        space("low: 1.0e-3", "low: 0.0"),
        "launch bad.yaml",
        "bad.yaml:3: search: optimizer.learning_rate: low > 0 must hold where log is true, got",
    ),
    "log below zero": (
        space("low: 1.0e-3", "low: -1.0"),
        "launch bad.yaml",
        "low > 0 must hold where log is true, got low=-1.0",
    ),
    "unknown sampler": (
        space("name: random", "name: randon"),
        "launch bad.yaml",
        "bad.yaml:5: sampler: no sampler is called 'randon'",
    ),
    "unknown scheduler": (
        {"bad.yaml": SPACE + "scheduler: {name: asah}\n"},
        "launch bad.yaml",
        "bad.yaml:7: scheduler: no scheduler is called 'asah'\n  did you mean 'asha'?",
    ),
    "no trials in the file": (
        space("trials: 3", "trials: 0"),
        "launch bad.yaml",
        "bad.yaml:6: budget.trials: trials >= 1 must hold, got 0",
    ),
    "no trials": ({}, "launch small.yaml --trials 0", "'--trials'"),
    "trials in words": ({}, "launch small.yaml --trials many", "'--trials'"),
    "no base trial": (
        space("trial.yaml", "other.yaml"),
        "launch bad.yaml",
        "bad.yaml:1: trial: there is no base trial 'other.yaml'\n  looked at other.yaml",
    ),
    "a name with a way out": ({}, "launch small.yaml --name ../x", "--name: '../x' cannot be"),
    "a name with a folder": ({}, "launch small.yaml --name a/b", "--name: 'a/b' cannot be"),
    "a name with a way out in status": ({}, "status ../x", "'../x' cannot be the name of a sweep"),
    "a trial as a space": (
        {},
        "launch trial.yaml",
        "trial.yaml: this is a trial, not a search space\n  train it: ckconv-sweep train trial",
    ),
    "a space as a trial": (
        {},
        "train small.yaml",
        "small.yaml: this is a search space, not a trial\n  launch it: ckconv-sweep launch small",
    ),
    "a bundled trial as a space": ({}, "launch smnist_98k", "this is a bundled trial, not a"),
    "a bundled space as a trial": ({}, "train quickstart", "this is a bundled space, not a trial"),
    "unknown dataset in train": (
        {"bad.yaml": TRIAL.replace("digits", "digit")},
        "train bad.yaml",
        "bad.yaml:1: data: no dataset is called 'digit'\n  did you mean 'digits'?",
    ),
    "unknown dataset in validate": (
        {"bad.yaml": TRIAL.replace("digits", "digit")},
        "validate bad.yaml",
        "did you mean 'digits'?",
    ),
    "unknown dataset in launch": (
        {"trial.yaml": TRIAL.replace("digits", "digit")},
        "launch small.yaml",
        "trial.yaml:1: data: no dataset is called 'digit'",
    ),
    "unknown dataset in a dry run": (
        {"trial.yaml": TRIAL.replace("digits", "digit")},
        "launch small.yaml --dry-run",
        "did you mean 'digits'?",
    ),
    "--set without a value": (
        {},
        "train trial.yaml --set model.dropout",
        "--set model.dropout: a change is written key=value, as in model.dropout=0.1",
    ),
    "--set of nothing": (
        {},
        "train trial.yaml --set modle.dropout=0.1",
        "--set modle.dropout=0.1: no setting is called 'modle.dropout'\n  did you mean 'model.dro",
    ),
    "--set out of range": (
        {},
        "train trial.yaml --set model.dropout=1.5",
        "--set model.dropout=1.5: model.dropout: dropout < 1.0 must hold, got 1.5",
    ),
    "--set of a word": (
        {},
        "launch small.yaml --set training.epochs=few",
        "--set training.epochs=few: training.epochs: expected a whole number, got 'few'",
    ),
    "--set of a block": (
        {},
        "launch small.yaml --set model.kernel=3",
        "--set model.kernel=3: model.kernel: expected a block of settings, got 3",
    ),
    "one and a half GPUs": (
        {},
        "launch small.yaml --gpus-per-trial 1.5",
        "--gpus-per-trial: more than one GPU must be a whole number, got 1.5",
    ),
    "a client address": (
        {},
        "launch small.yaml --address ray://head:10001",
        "--address: ray:// addresses are not supported",
    ),
    "no such device": ({}, "train trial.yaml --device tpu", "--device: must be auto, cpu or cuda"),
    "status of no sweep": ({}, "status none", "there is no sweep 'none'\n  no sweep was launched"),
    "resume of no sweep": ({}, "resume none", "there is no sweep 'none'"),
    "table of no sweep": ({}, "table none", "there is no sweep 'none'"),
    "best of no sweep": ({}, "best none", "there is no sweep 'none'"),
    "sync of no sweep": ({}, "sync none", "there is no sweep 'none'"),
    "ui without a sweep": ({}, "ui", "no MLflow database here\n  launch a sweep first"),
    "no weights": ({}, "evaluate none.pt", "none.pt: no such file"),
    "no checkpoint": ({}, "evaluate .", ".: this folder holds no checkpoint"),
    "unknown command": ({}, "lunch", "No such command 'lunch'"),
    "unknown option": ({}, "launch small.yaml --trial 3", "--trial"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_and_leaves_nothing(mistake: str, here: Path) -> None:
    files, command, message = MISTAKES[mistake]
    for name, text in files.items():
        (here / name).write_bytes(text.encode(errors="surrogateescape"))
    before = files_in(here)
    said = refused(ckconv_sweep(*command.split(), cwd=here))
    assert message in said
    assert files_in(here) == before


@pytest.mark.fault("space-changed")
def test_another_space_under_the_same_name_is_refused_with_the_difference(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    before = files_in(here / "sweeps" / "small")
    said = refused(ckconv_sweep("launch", "small.yaml", "--set", "model.blocks=2", cwd=here))
    assert said.startswith("error: the sweep 'small' was started with another space\n")
    assert "\n  -    blocks: 1\n  +    blocks: 2\n" in said
    assert "ckconv-sweep resume small" in said
    assert files_in(here / "sweeps" / "small") == before


@pytest.mark.parametrize("command", ["launch small.yaml", "resume small"])
def test_fewer_trials_than_there_are_already_are_refused(command: str, finished: Path) -> None:
    said = refused(ckconv_sweep(*command.split(), "--trials", 2, cwd=finished))
    assert said == (
        "error: --trials: the sweep has 3 trials already, so it cannot have 2\n"
        "  ask for 3 or more, or leave it out\n"
    )


@pytest.mark.parametrize("command", ["status", "resume", "table", "best"])
def test_a_misspelt_sweep_is_answered_with_the_nearest(command: str, finished: Path) -> None:
    said = refused(ckconv_sweep(command, "smal", cwd=finished))
    assert "there is no sweep 'smal'\n  did you mean 'small'?" in said


THE_CLUSTER_HAS = re.compile(
    r"--gpus-per-trial: a trial needs 1 CPUs and 99 GPUs, and no node has them\n"
    r"  the cluster has 1 node: \d+ CPUs and \d+ GPUs\n"
)


@pytest.mark.fault("resources-changed")
@pytest.mark.slow
@pytest.mark.ray
def test_gpus_that_the_cluster_has_not_are_refused_with_what_it_has(here: Path) -> None:
    said = refused(ckconv_sweep("launch", "small.yaml", "--gpus-per-trial", 99, cwd=here))
    assert THE_CLUSTER_HAS.search(said)
    assert files_in(here).keys() == {"small.yaml", "trial.yaml"}
    assert not (here / "sweeps" / "small").exists()


@pytest.mark.fault("resources-changed")
@pytest.mark.ray
def test_a_resume_that_asks_for_gpus_where_there_are_none_is_refused_and_changes_nothing(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    before = files_in(here)
    done = ckconv_sweep("resume", "small", "--trials", 4, "--gpus-per-trial", 99, cwd=here)
    assert done.stdout[9:] == "resuming: 3 trials ended before, 0 unfinished\n"
    done.stdout = ""
    said = refused(done)
    assert THE_CLUSTER_HAS.search(said)
    assert {k: v for k, v in files_in(here).items() if not k.endswith("lock")} == {
        k: v for k, v in before.items() if not k.endswith("lock")
    }


@pytest.mark.fault("damaged-data")
def test_a_data_set_that_cannot_be_downloaded_is_one_message_before_any_trial(here: Path) -> None:
    (here / "trial.yaml").write_text(MNIST)
    (here / "data").mkdir()
    nowhere = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "all_proxy"), "http://127.0.0.1:1")
    said = refused(
        ckconv_sweep("launch", "small.yaml", "--data-dir", "data", cwd=here, **nowhere, no_proxy="")
    )
    assert str(here / "data" / "mnist") in said
    assert not (here / "sweeps" / "small").exists()


@pytest.mark.fault("damaged-data")
def test_a_damaged_data_file_is_one_message_before_any_trial(here: Path) -> None:
    (here / "trial.yaml").write_text(MNIST)
    (here / "data" / "mnist").mkdir(parents=True)
    for name in SHA256:
        (here / "data" / "mnist" / name).write_bytes(b"damaged")
    said = refused(ckconv_sweep("launch", "small.yaml", "--data-dir", "data", cwd=here), 65)
    assert said.startswith("reading the data and starting Ray\n")
    assert "train-images-idx3-ubyte: expected content with SHA-256 ba891046e6505d7a" in said
    assert not (here / "sweeps" / "small").exists()


@pytest.mark.fault("read-only-storage")
@pytest.mark.parametrize(
    "command", ["launch small.yaml --sweeps-dir file/sweeps", "train trial.yaml --out file/run"]
)
def test_a_folder_that_cannot_be_made_ends_with_73(command: str, here: Path) -> None:
    (here / "file").write_text("")
    said = refused(ckconv_sweep(*command.split(), cwd=here), 73)
    assert "cannot be made: Not a directory" in said


@pytest.mark.fault("read-only-storage")
@pytest.mark.parametrize("older", [False, True])
def test_a_launch_on_read_only_storage_ends_with_73_and_one_message(
    older: bool, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As on a disk that was mounted read-only: everything below this folder."""
    if older:
        folder = SweepFolder.of(here / "sweeps", "small")
        folder.make()
        with folder.records.create(read_space(str(here / "small.yaml"))):
            pass
    before = files_in(here)
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && cd "$1" && shift && "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", str(here), PROGRAM, "launch", "small.yaml"],
        env=environment(TMPDIR=str(tmp_path_factory.mktemp("tmp"))),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this system lets nobody mount a file system of his own")
    said = refused(done, 73)
    assert str(here / "sweeps") in said
    assert files_in(here) == before


def test_a_trial_that_cannot_be_written_down_ends_with_73(here: Path) -> None:
    (here / "run" / "trial.yaml").mkdir(parents=True)
    said = refused(ckconv_sweep("train", "trial.yaml", "--out", "run", cwd=here), 73)
    assert f"{here / 'run' / 'trial.yaml'}: cannot be written: Is a directory" in said


def test_a_file_that_best_cannot_write_ends_with_73(finished: Path) -> None:
    said = refused(ckconv_sweep("best", "small", "--out", "said/best.yaml", cwd=finished), 73)
    assert said.startswith("error: said/best.yaml: cannot be written: ")


def test_best_writes_over_no_other_file_unless_forced(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("# mine\n")
    said = refused(ckconv_sweep("best", "small", "--out", out, cwd=finished))
    assert f"{out}: the file is there and holds something else" in said
    assert out.read_text() == "# mine\n"
    ended(ckconv_sweep("best", "small", "--out", out, "--force", cwd=finished))
    assert out.read_text().startswith("# The best trial")


@pytest.mark.fault("two-drivers")
def test_a_second_driver_ends_with_75_and_says_who_runs_it(finished: Path, here: Path) -> None:
    copied(finished / "sweeps", here / "sweeps")
    lock = here / "sweeps" / "small" / "lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write('{"pid": 4711, "host": "elsewhere", "since": "2026-01-01 00:00:00"}')
        file.flush()
        before = files_in(here)
        said = refused(ckconv_sweep("resume", "small", "--trials", 9, cwd=here), 75)
        assert files_in(here) == before
    assert "small: process 4711 on elsewhere (since 2026-01-01 00:00:00) runs this sweep" in said


@pytest.mark.fault("damaged-study")
@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(5_000)])
def test_a_damaged_study_ends_with_65(content: bytes, here: Path) -> None:
    study = here / "sweeps" / "small" / "study.db"
    study.parent.mkdir(parents=True)
    study.write_bytes(content)
    said = refused(ckconv_sweep("status", "small", cwd=here), 65)
    assert f"{study}: the study cannot be read: " in said
    assert study.read_bytes() == content


def with_python(variable: str, value: str, here: Path) -> subprocess.CompletedProcess[str]:
    """`list` in a Python of its own, which reads the variable as it starts."""
    return subprocess.run(
        [PROGRAM, "list"],
        cwd=here,
        env=environment(**{variable: value}),
        capture_output=True,
        text=True,
    )


@pytest.mark.fault("odd-surroundings")
def test_python_without_docstrings_is_refused(tmp_path: Path) -> None:
    said = refused(with_python("PYTHONOPTIMIZE", "2", tmp_path))
    assert "unset PYTHONOPTIMIZE" in said


@pytest.mark.fault("odd-surroundings")
def test_warnings_as_errors_are_meant_for_other_programs(tmp_path: Path) -> None:
    said = ended(with_python("PYTHONWARNINGS", "error", tmp_path))
    assert said == "no sweeps in sweeps\n"


@pytest.mark.fault("odd-surroundings")
def test_a_module_beside_the_users_files_is_not_imported(here: Path) -> None:
    (here / "numpy.py").write_text("raise RuntimeError('of the user')")
    done = subprocess.run(
        [sys.executable, "-m", "ckconv_sweep", "validate", "small.yaml"],
        cwd=here,
        env=environment(PYTHONPATH=str(REPOSITORY)),
        capture_output=True,
        text=True,
    )
    assert ended(done).startswith("small.yaml: a space of 2 searched settings")


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("launch small.yaml", ""),
        ("launch small.yaml", "MLFLOW_TRACKING_URI"),
        ("train trial.yaml", ""),
        ("table small", ""),
    ],
)
def test_an_mlflow_that_there_cannot_be_is_refused_before_anything_begins(
    command: str, variable: str, here: Path
) -> None:
    before = files_in(here)
    option = [] if variable else ["--tracking-uri", "localhost:5000"]
    more = {variable: "localhost:5000"} if variable else {}
    said = refused(ckconv_sweep(*command.split(), *option, cwd=here, **more))
    assert said == (
        f"error: {variable or '--tracking-uri'}: an address begins with http:// or https://: "
        "localhost:5000\n  did you mean http://localhost:5000?\n"
    )
    assert files_in(here) == before
