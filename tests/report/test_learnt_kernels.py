"""The picture of what a model's convolutions have learnt."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np

from ckconv_sweep.report.plots.learnt_kernels import Layer, draw
from ckconv_sweep.report.plots.style import rendered

LAGS = np.arange(40.0)
FREQUENCIES = np.arange(40) / 80
ONE = Layer(
    name="blocks.0.conv1",
    pairs=[(3, 1), (0, 0)],
    kernels_SK=np.stack([np.cos(LAGS), np.sin(LAGS)]),
    lags_K=LAGS,
    frequencies_F=FREQUENCIES,
    amplitudes_F=np.exp(-FREQUENCIES),
    within_K=np.linspace(0.1, 1.0, 40),
    distances_K=LAGS,
    note="5% beyond 0.5",
)


def test_each_layer_is_a_row_of_kernels_with_their_spectrum_and_reach() -> None:
    data = (np.arange(20) / 40, np.linspace(3.0, 1.0, 20))
    other = replace(ONE, name="blocks.0.conv2", pairs=[(2, 2)], kernels_SK=ONE.kernels_SK[:1])
    figure = draw([ONE, other], "runs/mine", "how to read it", data)
    panels = np.reshape(np.array(figure.axes, dtype=object), (2, 4))
    assert [panel.get_title() for panel in panels[0]] == [
        "1 → 3",
        "0 → 0",
        "amplitude",
        "share of the squared kernel",
    ]
    assert [row[0].get_ylabel() for row in panels] == ["blocks.0.conv1", "blocks.0.conv2"]
    kernel = panels[0][1].lines[-1]
    np.testing.assert_array_equal(kernel.get_ydata(), ONE.kernels_SK[1])
    first, last = panels[0][1].get_xlim()
    assert first > last  # the past is on the left
    assert not panels[1][1].axison
    scaled, own = panels[0][2].lines
    np.testing.assert_array_equal(own.get_ydata(), ONE.amplitudes_F[1:])
    assert max(scaled.get_ydata()) == max(own.get_ydata())
    assert figure.get_suptitle() == "runs/mine"
    assert figure.get_supxlabel() == "how to read it"
    assert [text.get_text() for text in panels[0][2].texts] == ["5% beyond 0.5"]
    assert [panel.get_xlabel() for panel in (panels[1][0], *panels[1][2:])] == [
        "steps ago",
        "cycles per step",
        "steps from the present",
    ]


def test_kernels_of_zeros_and_of_one_sample_can_be_drawn() -> None:
    short = Layer(
        name="one",
        pairs=[(0, 0)],
        kernels_SK=np.zeros((1, 1)),
        lags_K=np.zeros(1),
        frequencies_F=np.zeros(1),
        amplitudes_F=np.zeros(1),
        within_K=np.zeros(1),
        distances_K=np.zeros(1),
    )
    figure = draw([short], "", "", (np.zeros(1), np.zeros(1)))
    assert rendered(figure, "png").startswith(b"\x89PNG")


def test_the_picture_needs_no_torch() -> None:
    code = "import sys, ckconv_sweep.report.plots.learnt_kernels; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
