"""The checks of `benchmarks.gpu` that need CUDA, with a CPU in its place."""

from __future__ import annotations

import os
from argparse import Namespace
from typing import Any

import pytest

from benchmarks.gpu import correctness
from benchmarks.gpu.check import Row
from ckconv_sweep.training import graphs, steps
from ckconv_sweep.training.dropout_masks import DeviceMasks
from ckconv_sweep.training.graphs import Repeated

from .test_graphs import Recording

QUICK = Namespace(device="cpu", quick=True)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_masks_that_are_not_numpys_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.passed for row in correctness.masks(QUICK)] == [True, True]

    class Stuck(DeviceMasks):
        def next_step(self) -> None: ...

    monkeypatch.setattr(correctness, "DeviceMasks", Stuck)
    assert [row.passed for row in correctness.masks(QUICK)] == [True, False]


@pytest.fixture
def few_steps(as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one case, and not in this process's own settings."""
    monkeypatch.setattr(correctness, "CASES", {"digits": correctness.CASES["digits"]})
    monkeypatch.setattr(graphs, "LEAST_REPEATED", 1)
    monkeypatch.setattr(Repeated, "given_up", False)
    monkeypatch.setenv(graphs.VARIABLE, "0")


def graph_rows(monkeypatch: pytest.MonkeyPatch, record: Any) -> list[Row]:
    def repeated(step: graphs.Step, state: Any, *_: Any) -> graphs.Step:
        wanted = os.environ[graphs.VARIABLE] == "1" and not Repeated.given_up
        return Repeated(step, state, graphs.as_cuda_graph) if wanted else step

    monkeypatch.setattr(steps, "repeated", repeated)
    monkeypatch.setattr(graphs, "as_cuda_graph", record)
    return list(correctness.with_graphs(QUICK))


@pytest.mark.usefixtures("few_steps")
def test_recorded_steps_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = graph_rows(monkeypatch, Recording)
    assert row.passed
    assert row.numbers == {"train/loss": 0.0, "val/loss": 0.0, "weights": 0.0}


@pytest.mark.usefixtures("few_steps")
def test_steps_that_cannot_be_recorded_fail_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: graphs.Step) -> graphs.Step:
        raise RuntimeError("operation not permitted when stream is capturing")

    (row,) = graph_rows(monkeypatch, refused)
    assert row.passed is False
    assert "operation not permitted when stream is capturing" in row.note


@pytest.mark.usefixtures("few_steps")
def test_steps_that_nobody_recorded_fail_although_they_are_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "as_cuda_graph", Recording)
    (row,) = correctness.with_graphs(QUICK)  # on a CPU they are called
    assert row.numbers["weights"] == 0.0
    assert row.passed is False
