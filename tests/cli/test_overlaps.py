"""A space that sets one setting in two places, as a user meets it; also in a sweep that an earlier
version began with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import SPACE, ckconv_sweep, files_in, refused

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
