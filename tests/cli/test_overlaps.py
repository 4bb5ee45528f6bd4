"""A space that sets one setting in two places, as a user meets it; also in a sweep that an earlier
version began with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawing import new_trial

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.record.folder import SweepFolder

from .commands import SPACE, TRIAL, ckconv_sweep, ended, files_in, refused

pytestmark = pytest.mark.fault("setting-in-two-places")

TWICE = SPACE.replace(
    "sampler:", "  optimizer: {choices: {adam: {learning_rate: {low: 1e-5, high: 1e-4}}}}\nsampler:"
)


@pytest.mark.parametrize("command", ["launch", "validate"])
def test_a_space_that_sets_a_setting_twice_is_refused_and_leaves_nothing(
    command: str, here: Path
) -> None:
    (here / "small.yaml").write_text(TWICE)
    before = files_in(here)
    said = refused(ckconv_sweep(*command.split(), "small.yaml", cwd=here))
    assert said == (
        "error: small.yaml:5: search: optimizer.learning_rate is set in two places, here and at "
        "small.yaml:3\n  remove one of the two\n"
    )
    assert files_in(here) == before


@pytest.mark.parametrize("command", ["launch", "validate"])
def test_a_change_of_a_searched_setting_is_refused_and_leaves_nothing(
    command: str, here: Path
) -> None:
    before = files_in(here)
    change = ("--set", "model.dropout=0.1")
    said = refused(ckconv_sweep(*command.split(), "small.yaml", *change, cwd=here))
    assert said == (
        "error: --set model.dropout=0.1: model.dropout is set by the search, at small.yaml:4, so "
        "this value would have no effect\n  edit the space there, or choose another setting\n"
    )
    assert files_in(here) == before


def begun(here: Path) -> SweepFolder:
    """The sweep `small` as an earlier version left it: one of three trials has ended."""
    folder = SweepFolder.of(here / "sweeps", "small")
    space = parse_space(TWICE.replace("trial.yaml", f"{{{', '.join(TRIAL.splitlines())}}}"), "old")
    folder.make()
    folder.space.write_text(space.to_yaml())
    with folder.records.create(space) as study:
        study.set_note("uid", 32 * "0")
        new_trial(study)
        study.add_epoch(0, Epoch(number=1, metrics={"val/accuracy": 0.5}, timestamp_ms=1), 0.5)
        study.end(0, "completed")
    return folder


def test_an_earlier_sweep_with_a_setting_set_twice_is_read_with_a_note(here: Path) -> None:
    with begun(here).records.open() as study:
        (record,) = study.trials()
    trained = record.params["optimizer.learning_rate"]
    for command in ("table small --format csv", "report small"):
        done = ckconv_sweep(*command.split(), cwd=here)
        ended(done)
        assert done.stderr.startswith("optimizer.learning_rate was set in two places of the space")
    assert "set in two places" in (here / "small-report.html").read_text()
    ended(ckconv_sweep("best", "small", "--out", "best.yaml", cwd=here))
    assert f"learning_rate: {trained!r}\n" in (here / "best.yaml").read_text()


def test_an_earlier_sweep_with_a_setting_set_twice_is_not_resumed_and_stays_as_it_was(
    here: Path,
) -> None:
    folder = begun(here)
    lines = folder.space.read_text().splitlines()
    inside = lines.index("        learning_rate:") + 1
    outside = lines.index("  optimizer.learning_rate:") + 1
    before = files_in(folder.root)
    said = refused(ckconv_sweep("resume", "small", cwd=here))
    assert said == (
        f"error: {folder.space}:{inside}: search: optimizer.learning_rate is set in two places, "
        f"here and at {folder.space}:{outside}\n  the sweep can be read but not resumed: copy the "
        "file without one of the two, and launch it with another --name\n"
    )
    after = files_in(folder.root)
    after.pop("lock", None)
    assert after == before
    examined = ckconv_sweep("doctor", "small", cwd=here).stdout
    assert "optimizer.learning_rate was set in two places of the space" in examined
    assert "its trials cannot be resumed" in examined
