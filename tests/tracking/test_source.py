"""What a run says of where it comes from, and what it must not say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.data import DigitsData
from ckconv_sweep.data.datasets import load
from ckconv_sweep.tracking.source import (
    command_line,
    dataset_input,
    in_words,
    source_tags,
)

PROGRAM = "/opt/venv/bin/ckconv-sweep"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["launch", "small.yaml", "--trials", "3"], "launch small.yaml --trials 3"),
        (["launch", "my space.yaml"], "launch 'my space.yaml'"),
        (
            ["launch", "s", "--tracking-uri", "http://me:S3CR3T@host:5000/p"],
            "launch s --tracking-uri http://me:***@host:5000/p",
        ),
        (["launch", "s", "--tracking-uri=https://h?token=S3CR3T"], None),
        (["launch", "s", "--tracking-uri", "http://me:S3 CR3T S3CR3T@host"], None),
        (["launch", "s", "--on-finish", "curl https://chat/S3CR3T"], "launch s --on-finish ***"),
        (["launch", "s", "--on-best=curl -d S3CR3T host", "--trials", "3"], None),
    ],
)
@pytest.mark.fault("secrets")
def test_the_command_is_said_without_secrets(typed: list[str], said: str | None) -> None:
    line = command_line([PROGRAM, *typed])
    assert "S3CR3T" not in line
    if said is not None:
        assert line == f"ckconv-sweep {said}"


@pytest.mark.fault("secrets")
@given(
    words=st.lists(st.text(min_size=1, max_size=20), max_size=4),
    option=st.sampled_from(["--on-finish", "--on-best"]),
    rest=st.lists(st.text(max_size=20), max_size=3),
    joined=st.booleans(),
)
def test_what_a_users_own_command_says_is_never_said(
    words: list[str], option: str, rest: list[str], joined: bool
) -> None:
    secret = "S3CR3T"
    hidden = [f"{option}=say {secret}"] if joined else [option, f"say {secret}"]
    before = [word for word in words if not word.startswith("--on-")]
    assert secret not in command_line([PROGRAM, *before, *hidden, *rest])


def test_nothing_is_said_of_what_another_program_was_called_with() -> None:
    assert command_line(["/usr/lib/ipykernel_launcher.py", "-f", "kernel-S3CR3T.json"]) == ""
    assert command_line([]) == ""
    assert command_line(["cli.py", "launch", "s"]) == "cli.py launch s"


def test_the_source_is_a_short_name_with_a_user() -> None:
    tags = source_tags()
    assert tags["mlflow.source.name"] == "ckconv-sweep"
    assert len(tags.get("mlflow.source.git.commit", "0" * 40)) == 40


def test_versions_are_said_in_a_line() -> None:
    noted = {"session": 2, "ckconv-sweep": "0.1.0", "torch": "2.13.0", "code": "00ff"}
    assert in_words(noted) == "ckconv-sweep 0.1.0, torch 2.13.0, code 00ff"


def test_what_mlflow_is_told_of_a_data_set_follows_from_its_content_and_its_settings() -> None:
    base, other = DigitsData(name="digits"), DigitsData(name="digits", split_seed=1)
    content = load(base).identity["content"]
    told = [dataset_input(data, base, content).dataset for data in (base, base, other)]
    assert [d.name for d in told] == ["digits"] * 3
    assert told[0].digest == told[1].digest == content
    assert told[2].digest != content
    assert all(len(d.digest) <= 36 for d in told)  # MLflow refuses longer ones
