"""The hypervolume is the plain sum of the cells that some trial beats."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep.in_process import make_space

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.hypervolume import hypervolume, hypervolume_in_words, won
from ckconv_sweep.report.plots import draw

from .records import examples, record, space

SIZE = 4
SPACE = make_space(metrics="[{name: val/accuracy}, {name: val/loss}]")


@examples
@given(st.data(), st.integers(1, 4), st.integers(0, 6))
def test_it_is_the_number_of_unit_cells_that_a_point_beats(
    data: st.DataObject, many: int, amount: int
) -> None:
    row = st.lists(st.integers(0, SIZE + 1), min_size=many, max_size=many)
    points = data.draw(st.lists(row, min_size=amount, max_size=amount))
    cells = itertools.product(range(SIZE), repeat=many)
    expected = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points)
        for cell in cells
    )
    losses_NM = np.array(points, dtype=float).reshape(-1, many)
    assert hypervolume(losses_NM, np.full(many, float(SIZE))) == expected


def trial(number: int, accuracy: float, loss: float, ended: int) -> TrialRecord:
    epoch = Epoch(
        number=1, metrics={"val/accuracy": accuracy, "val/loss": loss}, timestamp_ms=ended
    )
    return replace(record(number), history=(epoch,), ended_ms=ended, params={})


TRIALS = [trial(0, 0.5, 1.0, 4), trial(1, 0.7, 2.0, 2), trial(2, 0.9, 3.0, 3), trial(3, 0.6, 3, 1)]
"""Of accuracy and loss 0.5 to 0.9 and 1 to 3: the box is 0.4 by 2."""


def test_the_share_grows_in_the_order_in_which_trials_completed_from_the_worst_of_all() -> None:
    found = won([*TRIALS, replace(TRIALS[0], number=4, outcome="pruned")], SPACE)
    assert found is not None
    assert found.worst == {"val/accuracy": 0.5, "val/loss": 3.0}
    assert found.best == {"val/accuracy": 0.9, "val/loss": 1.0}
    assert [number for number, _ in found.steps] == [3, 1, 2, 0]
    # Trial 1 alone has won something: half of either side. The others lie on the edges.
    assert [share for _, share in found.steps] == pytest.approx([0.0, 0.25, 0.25, 0.25])


def test_a_metric_that_is_the_same_everywhere_takes_nothing_away() -> None:
    same = [trial(0, 0.5, 1.0, 1), trial(1, 0.7, 1.0, 2), trial(2, 0.9, 1.0, 3)]
    found = won(same, SPACE)
    assert found is not None
    assert [share for _, share in found.steps] == pytest.approx([0.0, 0.5, 1.0])


def test_it_is_told_with_its_reference_point_and_drawn_over_the_trials() -> None:
    (line,) = hypervolume_in_words(TRIALS, SPACE)
    assert line.startswith("hypervolume 0.250: ")
    assert "val/accuracy 0.5 to 0.9, val/loss 3 to 1" in line
    panel = draw("pareto", TRIALS, SPACE).axes[-1]
    assert panel.get_title(loc="left") == "hypervolume over the trials"
    (line_drawn,) = panel.get_lines()
    assert list(np.asarray(line_drawn.get_ydata())) == pytest.approx([0.0, 0.25, 0.25, 0.25])


def test_one_metric_has_none() -> None:
    assert won([record(0, [0.5])], space()) is None
    assert hypervolume_in_words([record(0, [0.5])], space()) == []
    assert won([], SPACE) is None
