"""What is asked of a sweep from Python: the requests of the command line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep import Sweep
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.requests import Requests
from tests.sweep.in_process import Machine, machine, make_space

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

SPACE = make_space(
    search="  model.dropout: {low: 0.0, high: 0.2, step: 0.1}", trials=3, epochs=9_000
)


def opened(one: Machine) -> Sweep:
    return Sweep.open("sweep", sweeps_dir=one.folder.root.parent)


def test_a_running_sweep_is_paused_added_to_slowed_and_its_trials_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = machine(tmp_path, SPACE)

    def answered(ask: Callable[[Sweep], Sweep]) -> str:
        """What it shows, while the driver goes on here."""
        asked = pool.submit(lambda: ask(opened(one)))
        while not asked.done():
            one.clock.now += 1.0
            session.step()
            time.sleep(0.005)
        assert isinstance(asked.result(), Sweep)
        return re.sub(r"\d\d:\d\d:\d\d | · \d+\.\d s", "", capsys.readouterr().out)

    with one.folder.records.lock(), one.session() as session, ThreadPoolExecutor(1) as pool:
        session.step()
        session.step()
        assert answered(Sweep.pause).splitlines()[-1].startswith("pause: paused")
        added = answered(lambda sweep: sweep.add(set={"model.dropout": 0.1}))
        assert added == "add dropout=0.1: it is t002, and comes next\n"
        assert answered(lambda sweep: sweep.add(SPACE.trial)).startswith(
            "add dropout=0.0: it is t003"
        )
        assert answered(lambda s: s.stop(trial=1)).startswith("stop t001: it ended after ")
        assert answered(lambda s: s.concurrency(1)).startswith("concurrency 1: at most 1 at a time")
        assert answered(lambda s: s.pause(off=True)) == "pause --off: it goes on\n"
        assert opened(one).trial(1).reason == "stopped"


def test_what_waits_for_a_driver_says_so_in_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = {0: "out_of_memory", 1: "nonfinite"}
    space = make_space(search="  model.dropout: {choices: [0.0, 0.1]}", trials=2)
    one = machine(tmp_path, space, fails=lambda number, epoch: fails[number])
    assert one.run()
    opened(one).retry(reason="out_of_memory", set={"training.batch_size": 16})
    said = capsys.readouterr().out
    assert "retry t000 batch_size=16: no driver runs sweep; it waits for: resume(" in said
    opened(one).retry(1)
    assert [str(asked) for _, asked in Requests(one.folder).waiting()] == [
        "retry t000 batch_size=16",
        "retry t001",
    ]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda sweep: sweep.pause(), "sweep: no driver runs this sweep now"),
        (lambda sweep: sweep.stop(trial=9), "sweep: there is no trial 9"),
        (lambda sweep: sweep.retry([0]), "trial: trial 0 has not failed: completed"),
        (lambda sweep: sweep.retry(), "sweep: no failed trial is left to be tried again"),
        (lambda sweep: sweep.concurrency(0), "concurrency: must be 1 or more, got 0"),
        (lambda sweep: sweep.add(set={"model.blocks": 7}), "set: model.blocks is 7, and the space"),
        (lambda sweep: sweep.add(7), "trial: must be a file, a name or a dict, got a int"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words_of_python(
    ask: Callable[[Any], Any], said: str, tmp_path: Path
) -> None:
    space = make_space(search="  model.dropout: {choices: [0.0, 0.1]}", trials=1, epochs=1)
    one = machine(tmp_path, space)
    assert one.run()
    with pytest.raises(ConfigError) as refused:
        ask(opened(one))
    assert said in str(refused.value)
    assert list(Requests(one.folder).waiting()) == []
