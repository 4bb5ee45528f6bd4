"""The picture of which trial went on from which."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from matplotlib.collections import LineCollection

from ckconv_sweep.report.plots import draw

from .records import record, space
from .test_plots import texts


def continued(number: int, replaces: int, source: int, epoch: int, values: list[float]) -> Any:
    made = record(number, values)
    history = tuple(replace(e, number=e.number + epoch) for e in made.history)
    return replace(
        made, history=history, replaces=replaces, from_trial=source, from_epoch=epoch, position=None
    )


POPULATION = [
    record(0, [0.1, 0.4, 0.5, 0.6]),
    record(1, [0.1, 0.1], "continued"),
    continued(2, 1, 0, 2, [0.5, 0.9]),
    record(3, [0.2, 0.2, 0.2], "failed", reason="nonfinite"),
]


def test_a_lineage_has_a_bar_a_trial_from_its_checkpoint_on_and_the_best_ones_way_in_black() -> (
    None
):
    figure = draw("lineage", POPULATION, space())
    panel = figure.axes[0]
    bars = [c for c in panel.collections if isinstance(c, LineCollection)]
    begins = [bar.get_segments()[0][0][0] for bar in bars]
    ends = [bar.get_segments()[-1][-1][0] for bar in bars]
    assert begins == [0, 0, 2, 0]
    assert ends == [4, 2, 4, 3]
    rows = [bar.get_segments()[0][0][1] for bar in bars]
    assert rows == [0, 1, 2, 3]  # trial 2 has the place of trial 1, below it
    black = [line for line in panel.lines if line.get_color() == "#000000"]
    ways = {tuple(zip(*map(list, line.get_data()), strict=True)) for line in black}
    assert ways == {((0, 0), (2, 0)), ((2, 2), (4, 2)), ((2, 0), (2, 2), (2, 2))}
    said = texts(figure)
    assert "1 of them continuations" in said
    assert "to the best: t002" in said
    assert {"t000", "t001", "t002", "t003"} <= set(said.splitlines())


def test_of_a_sweep_without_continuations_a_lineage_says_so() -> None:
    assert "no trial goes on" in texts(draw("lineage", POPULATION[:1], space()))
