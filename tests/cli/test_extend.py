"""A sweep that was launched, and the next one that starts with what it has learnt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sweep.in_process import machine, make_space

from ckconv_sweep.cli.extend import _next
from ckconv_sweep.cli.run import learning_from
from ckconv_sweep.record.folder import SweepFolder

from .commands import SPACE, ckconv_sweep, copied, ended, refused

WIDER = SPACE.replace("1.0e-2", "1.0e-1").replace("{name: random}", "{name: tpe}")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(180)
def test_a_sweep_is_extended_into_a_wider_space_and_both_tell_of_it(
    finished: Path, here: Path
) -> None:
    copied(finished / "sweeps", here / "sweeps")
    (here / "wider.yaml").write_text(WIDER)
    said = ended(ckconv_sweep("extend", "small", "wider.yaml", "--trials", 1, cwd=here))
    assert said.startswith("small-2 extends small\n")
    assert "small-2: 1 trial completed" in said
    told = "warm start: 3 of 3 completed and pruned trials of small fit"
    assert told in ended(ckconv_sweep("status", "small-2", cwd=here))
    later = "later sweeps that have learnt from it: small-2"
    assert later in ended(ckconv_sweep("status", "small", cwd=here))
    assert "learnt from" in ended(ckconv_sweep("list", cwd=here))
    ended(ckconv_sweep("report", "small", cwd=here))
    assert later in (here / "small-report.html").read_text()
    table = ("table", "small-2", "--with-parents", "--format", "json")
    rows = json.loads(ended(ckconv_sweep(*table, cwd=here)))
    assert [(row["sweep"], row["rank"]) for row in rows] == [
        ("small-2", 1),
        *[("small", None)] * 3,
    ]
    own = json.loads(ended(ckconv_sweep("table", "small", "--format", "json", cwd=here)))
    for row, other in zip(rows[1:], own, strict=True):
        assert {name: row[name] for name in ("trial", "val/accuracy", "seconds")} == {
            name: other[name] for name in ("trial", "val/accuracy", "seconds")
        }
    said = refused(ckconv_sweep("table", "small", "--with-parents", cwd=here))
    assert "--with-parents: small: it was not warm-started" in said


def test_the_next_sweep_has_the_next_free_name_or_that_of_the_same_space(tmp_path: Path) -> None:
    space = make_space(trials=2)
    folder = machine(tmp_path, space, name="mine").folder

    def extended(before: SweepFolder, trials: int, epochs: int) -> str:
        asked = learning_from(make_space(trials=trials, epochs=epochs), [before.name])
        found = _next(before, asked)
        if not found.records.exists():
            machine(tmp_path, asked, name=found.name)
        return found.name

    assert extended(folder, trials=2, epochs=4) == "mine-2"
    assert extended(folder, trials=9, epochs=4) == "mine-2"  # resumed
    second = replace(folder, root=tmp_path / "mine-2", name="mine-2")
    assert extended(second, trials=2, epochs=5) == "mine-3"
    other = machine(tmp_path, space, name="smnist-98").folder  # extends nothing
    assert extended(other, trials=2, epochs=4) == "smnist-98-2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extend", "none", "small.yaml"), "there is no sweep 'none'"),
        (("launch", "small.yaml", "--warm-start", "none", "--dry-run"), "warm_start: there is no"),
        (
            ("launch", "small.yaml", "--warm-start", "small", "--dry-run"),
            "cannot learn from itself",
        ),
    ],
)
def test_a_sweep_that_is_not_there_is_refused_before_anything_starts(
    arguments: tuple[str, ...], message: str, here: Path
) -> None:
    done = ckconv_sweep(*arguments, cwd=here)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (here / "sweeps").exists()
