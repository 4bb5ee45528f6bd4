"""What is asked of a sweep, from the side of whoever asks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ckconv_sweep.record.requests import Request, Requests
from ckconv_sweep.sweep.asking import ask
from ckconv_sweep.sweep.interruption import Interrupted

from .in_process import machine, make_space


def interrupt() -> None:
    raise Interrupted(signal.SIGINT)


@pytest.mark.parametrize(
    ("request_", "back"),
    [
        (Request(kind="pause"), "pause sweep --sweeps-dir DISK --off"),
        (Request(kind="continue"), "pause sweep --sweeps-dir DISK"),
        (Request(kind="stop"), "resume sweep --sweeps-dir DISK"),
        (Request(kind="concurrency", number=1), "concurrency sweep --sweeps-dir DISK N"),
        (Request(kind="add", params={"model.dropout": 0.1}), "stop sweep --sweeps-dir DISK TRIAL"),
        (Request(kind="stop_trial", number=0), ""),
    ],
    ids=str,
)
def test_who_waits_no_longer_is_told_that_it_still_happens_and_how_to_take_it_back(
    request_: Request, back: str, disk: Path
) -> None:
    one = machine(disk, make_space())
    said: list[str] = []
    with one.folder.records.lock(), pytest.raises(Interrupted):
        ask(one.folder, [request_], said.append, interrupt)
    undo = f"; to take it back: ckconv-sweep {back.replace('DISK', str(disk))}" if back else ""
    assert said == [f"{request_}: not done yet; it still takes effect{undo}"]
    assert [asked for _, asked in Requests(one.folder).waiting()] == [request_]
