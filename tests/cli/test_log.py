from __future__ import annotations

import re
from pathlib import Path

import pytest

from .commands import NOBODY, ckconv_sweep, ended, refused

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|ERROR) +ckconv_sweep\.[\w.]+: "
)


def test_v_logs_on_standard_error(here: Path) -> None:
    silent = ckconv_sweep("validate", "small.yaml", cwd=here)
    done = ckconv_sweep("validate", "small.yaml", "-v", cwd=here)
    assert (ended(done), silent.stderr) == (ended(silent), "")
    lines = done.stderr.splitlines()
    assert [line for line in lines if not LINE.match(line)] == []
    assert lines[0].endswith(": ckconv-sweep validate small.yaml -v")
    assert ": ckconv-sweep 0." in lines[1]
    assert [line.rpartition(" ")[2] for line in lines[2:]] == ["small.yaml", "trial.yaml", "done"]


def test_a_log_file_has_what_led_to_a_mistake_and_the_terminal_one_message(here: Path) -> None:
    (here / "bad.yaml").write_text("budget: {}\n")
    for _ in range(2):  # it is appended to
        said = refused(ckconv_sweep("launch", "bad.yaml", "--log-file", "my.log", cwd=here))
    text = (here / "my.log").read_text()
    assert text.count("ends with exit code 2\nTraceback (most recent call last):\n") == 2
    assert text.endswith(said.removeprefix("error: "))
    assert (here / "my.log").stat().st_mode & 0o777 == 0o600


def test_a_log_has_every_epoch_of_a_training(here: Path) -> None:
    ended(ckconv_sweep(*["train", "trial.yaml", "--log-file", "my.log"], cwd=here))
    lines = [LINE.sub("", line) for line in (here / "my.log").read_text().splitlines()]
    assert "reading trial.yaml" in lines
    assert "loading the dataset digits" in lines
    told = [line for line in lines if line.startswith("trial 0")]
    begins = ["trial 0 starts after epoch 0:"]
    begins += [f"trial 0, epoch {epoch}: {{'train/loss': " for epoch in (1, 2, 3)]
    begins += ["trial 0 completed (epochs) after epoch 3: {'val/accuracy': "]
    assert [line[: len(begin)] for line, begin in zip(told, begins, strict=True)] == begins


@pytest.mark.fault("secrets")
def test_a_log_has_no_password(here: Path) -> None:
    command = "train trial.yaml --set training.epochs=1 --log-file my.log -v --tracking-uri"
    address = NOBODY.replace("//", "//me:S3CR3T@")
    done = ckconv_sweep(*command.split(), address, cwd=here)
    assert f"--tracking-uri {NOBODY.replace('//', '//me:***@')}" in done.stderr
    assert "S3CR3T" not in ended(done) + done.stderr + (here / "my.log").read_text()


def test_a_log_file_that_cannot_be_written_is_one_message(here: Path) -> None:
    said = refused(ckconv_sweep("list", "--log-file", "none/my.log", cwd=here), code=73)
    assert said == "error: none/my.log: cannot be written: No such file or directory\n"
