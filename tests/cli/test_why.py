"""`why`: what became of a trial, as a user asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ckconv_sweep.config.read import read_space
from tests.sweep.in_process import machine

from .commands import ckconv_sweep, ended, files_in, refused


@pytest.fixture
def swept(here: Path) -> Path:
    """The folder of a sweep in which the second trial failed."""
    one = machine(here / "sweeps", read_space(str(here / "small.yaml")), name="small")
    one.fails = lambda number, epoch: "nonfinite" if number == 1 else None
    assert one.run()
    return here


@pytest.mark.parametrize("name", ["t001", "1"])
def test_why_a_trial_failed_is_told_from_its_record_alone(name: str, swept: Path) -> None:
    before = files_in(swept)
    assert ended(ckconv_sweep("why", "small", name, cwd=swept)) == (
        "t001: failed after 0 of 3 epochs (nonfinite): it was nonfinite\n"
        "  what to do: search lower learning rates, or clip the gradient (training.clip_norm)\n"
        "  retry it: ckconv-sweep retry small --trial t001 --set training.clip_norm=1.0\n"
    )
    assert files_in(swept) == before


def test_the_command_that_it_names_is_taken(swept: Path) -> None:
    said = ended(ckconv_sweep("why", "small", "t001", cwd=swept))
    command = said.rpartition("retry it: ckconv-sweep ")[2].split()
    assert "retry t001 clip_norm=1.0: " in ended(ckconv_sweep(*command, cwd=swept))


def test_json_has_the_parts_of_the_answer(swept: Path) -> None:
    found = json.loads(ended(ckconv_sweep("why", "small", "t000", "--json", cwd=swept)))
    assert list(found) == [
        *("sweep", "number", "outcome", "reason", "why", "epochs", "epochs_requested", "error"),
        *("repeat_of", "retry_of", "retried_as", "replaces", "from_trial", "from_epoch"),
        *("continued_as", "notes"),
    ]
    assert found["why"].startswith("completed all its 3 epochs; best val/accuracy ")


def test_the_whole_error_is_printed_where_it_is_asked_for(swept: Path) -> None:
    assert ended(ckconv_sweep("why", "small", "1", "--error", cwd=swept)) == "it was nonfinite\n"
    said = refused(ckconv_sweep("why", "small", "0", "--error", cwd=swept))
    assert said == "error: --error: small: trial 0 has no error: completed\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("small t009", "error: small: there is no trial 9\n  there are 0 to 2\n"),
        ("small nine", "'nine' is no trial; write it as in t017 or 17"),
        ("smal t001", "there is no sweep 'smal'\n  did you mean 'small'?"),
    ],
)
def test_a_wrong_name_gets_one_clear_message(arguments: str, said: str, swept: Path) -> None:
    assert said in refused(ckconv_sweep("why", *arguments.split(), cwd=swept))
