from __future__ import annotations

import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from ckconv_sweep.report.plots.fitted_kernels import Column, draw
from ckconv_sweep.report.plots.style import rendered

POSITIONS = np.linspace(-1.0, 1.0, 12)
TARGETS = np.stack([np.sin(5 * POSITIONS), np.sign(POSITIONS)])


@pytest.fixture
def figure() -> Figure:
    columns = {
        "sine, omega_0 30": Column(TARGETS + 0.1, np.array([0.25, 3e-5])),
        "leaky_relu": Column(np.zeros((2, 12)), np.array([1.0, 0.5])),
        "runaway": Column(np.full((2, 12), np.nan), np.array([np.nan, np.inf])),
    }
    return draw(POSITIONS, ["wave", "jump"], TARGETS, columns)


def test_each_panel_shows_target_fit_and_error(figure: Figure) -> None:
    titles = ["0.25", "1", "nan", "3e-05", "0.5", "inf"]
    assert [panel.get_title() for panel in figure.axes] == titles
    for number, panel in enumerate(figure.axes):
        target, fitted = panel.lines
        assert np.array_equal(target.get_ydata(), TARGETS[number // 3])
        if number % 3 == 0:
            assert np.array_equal(fitted.get_ydata(), TARGETS[number // 3] + 0.1)
        assert np.array_equal(fitted.get_xdata(), POSITIONS)


def test_rows_are_named_by_target_and_columns_by_net(figure: Figure) -> None:
    assert [figure.axes[i].get_ylabel() for i in (0, 3)] == ["wave", "jump"]
    names = [panel.texts[0].get_text() for panel in figure.axes[:3]]
    assert names[1:] == ["leaky relu", "runaway"]
    assert names[0].startswith("sine, ")
    assert names[0].endswith(" = 30")


def test_a_fit_that_ran_away_leaves_its_target_in_sight(figure: Figure) -> None:
    low, high = figure.axes[5].get_ylim()
    assert -2.0 < low < -1.0
    assert 1.0 < high < 2.0


def test_the_suffix_says_what_is_written(figure: Figure) -> None:
    assert rendered(figure, "png").startswith(b"\x89PNG")
    assert ElementTree.fromstring(rendered(figure, "svg")).tag.endswith("svg")


def test_drawing_leaves_the_global_state_of_matplotlib_alone(figure: Figure) -> None:
    assert figure.axes
    assert "matplotlib.pyplot" not in sys.modules
