"""`launch`, `resume` and `train` from Python: real command lines, with a formula for trials."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from without_ray import PROGRAM

from ckconv_sweep import Sweep, extend, launch, notebook, own_process, resume, train
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import ConfigError, SpaceChanged, SweepBusy
from tests.cli.commands import NOBODY
from tests.sweep.in_process import machine, make_space

TRIAL = {
    "data": {"name": "digits"},
    "model": {"hidden_channels": 4, "blocks": 1, "kernel": {"hidden_channels": 8}},
    "training": {"epochs": 4},
}
SPACE: dict[str, Any] = {
    "trial": TRIAL,
    "search": {
        "optimizer.learning_rate": {"low": 1e-3, "high": np.float64(1e-2), "log": True},
        "model.dropout": {"low": 0.0, "high": 0.2, "step": 0.1},
    },
    "sampler": {"name": "random"},
    "budget": {"trials": 3},
}
LONG = SPACE | {"budget": {"trials": 1000}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    return tmp_path


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_process, "_PROGRAM", PROGRAM)
    monkeypatch.setattr("ckconv_sweep.api._PAUSE_SECONDS", 0.05)


class Block:
    """A notebook's output; `pages` is what stood in it, one after the other."""

    def __init__(self, page: str, *, display_id: bool) -> None:
        self.pages = [page]
        self.shown.append(self)

    shown: ClassVar[list[Self]] = []

    def update(self, page: str) -> None:
        self.pages.append(page)


@pytest.fixture
def in_notebook(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    display = ModuleType("IPython.display")
    display.HTML, display.display = str, Block  # type: ignore[attr-defined]
    for name, module in {"IPython": ModuleType("IPython"), "IPython.display": display}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(notebook, "_in_notebook", lambda: True)
    monkeypatch.setattr(Block, "shown", [])
    return Block.shown


def test_a_sweep_is_launched_and_waited_for(
    without_ray: None, in_notebook: list[Block], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = launch(SPACE, name="mine", set={"training.epochs": 5})
    assert "<progress" in sweep._repr_html_()
    assert sweep.wait() is sweep
    assert repr(sweep) == "<Sweep mine: finished, 3 of 3 trials ended>"
    assert sweep.best().trial.training.epochs == 5
    (block,) = in_notebook
    assert '<progress value="' in block.pages[0]
    assert block.pages[-1] == sweep._repr_html_()
    assert "<progress" not in block.pages[-1]
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(" trials at a time: 2")

    with pytest.raises(SpaceChanged) as caught:
        launch(LONG | {"sampler": {"name": "tpe"}}, name="mine")
    assert 'take another name for the new space, or resume with the old one: resume("mine")' in str(
        caught.value
    )


def test_a_sweep_is_extended_over_another_space(without_ray: None, here: Path) -> None:
    space = make_space(search="  model.dropout: {choices: [0.0, 0.1]}", trials=2)
    digest = load(space.trial.data, None).identity["digest"]
    assert machine(here / "sweeps", space, name="mine", data=digest).run()
    wider = space.written() | {"search": {"model.dropout": {"choices": [0.0, 0.1, 0.2]}}}
    sweep = extend("mine", wider, trials=1).wait()
    assert repr(sweep) == "<Sweep mine-2: finished, 1 of 1 trials ended>"
    assert sweep.space.warm_start == ("mine",)


@pytest.mark.slow
@pytest.mark.fault("python-ends")
def test_a_running_sweep_is_stopped_from_any_python_and_resumed(
    without_ray: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    sweep = launch(LONG, name="mine")
    assert sweep.state == "running"
    with pytest.raises(SweepBusy, match="runs this sweep"):
        resume("mine")

    with monkeypatch.context() as patched:
        patched.setattr(notebook.Shown, "show", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep.wait()
    assert "mine is still running; its stop() stops it" in capsys.readouterr().out

    with monkeypatch.context() as patched:
        patched.setattr("socket.gethostname", lambda: "elsewhere")
        with pytest.raises(SweepBusy, match=r"mine: process .* runs this sweep"):
            Sweep.open("mine").stop()
    assert sweep.refresh().state == "running"

    other = Sweep.open("mine")
    threads = [threading.Thread(target=sweep.wait), threading.Thread(target=other.wait)]
    for thread in threads:
        thread.start()
    stopped = Sweep.open("mine").stop()
    assert stopped.state == "interrupted"
    for thread in threads:
        thread.join(timeout=60)
    assert (sweep.state, other.state) == ("interrupted", "interrupted")
    assert sweep.stop().state == "interrupted"  # it has ended already
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    ended = sum(t.outcome == "completed" for t in stopped.trials)
    best = f"best val/accuracy {stopped.best().value:.4g}" if ended else ""
    assert any(f"mine: interrupted, {ended} of 1000 trials ended" in line for line in lines)
    assert best in lines[-1]

    again = resume("mine", trials=ended + 2).wait()
    assert repr(again) == f"<Sweep mine: finished, {ended + 2} of {ended + 2} trials ended>"
    assert again.trials[:ended] == stopped.trials[:ended]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: launch(SPACE | {"search": {"model.kernel.omga_0": {}}}, name="a"),
            "the space: search: no setting is called 'model.kernel.omga_0'\n"
            "  did you mean 'model.kernel.omega_0'?",
        ),
        (
            lambda: launch(SPACE, name="a", trials=0),
            "Invalid value for 'trials': ",
        ),
        (
            lambda: launch("quikstart"),
            "quikstart: neither a file nor a bundled space\n  did you mean 'quickstart'?",
        ),
        (
            lambda: launch(SPACE, name="a", set={"training.epochs": "many"}),
            "set training.epochs=\"many\": training.epochs: expected a whole number, got 'many'",
        ),
        (
            lambda: train(TRIAL, out="b", set={"training.epoch": 3}),
            "set training.epoch=3: no setting is called 'training.epoch'",
        ),
        (lambda: resume("nothing"), "no sweep was launched here yet"),
    ],
)
def test_what_the_command_line_refuses_is_raised_in_words_of_python(
    call: Any, expected: str, here: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert expected in str(caught.value)
    assert "--" not in str(caught.value)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: launch(SPACE), "launch: a space that is no file needs a name"),
        (lambda: launch(SPACE, name="a/b"), "name: 'a/b' cannot be the name of a sweep"),
        (lambda: launch([1], name="a"), "space: must be a file, a name or a dict, got a list"),
        (
            lambda: launch(SPACE | {"trial": object()}, name="a"),
            "a setting cannot hold a object, got <object object at",
        ),
        (lambda: train(TRIAL), "train: a trial that is no file needs a folder"),
        (
            lambda: train("digits", out="a", set={"model.dropout": {1}}),
            "a setting cannot hold a set, got {1}",
        ),
    ],
)
def test_what_no_command_line_could_be_given_is_refused_at_once(
    call: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_process, "_PROGRAM", "1 / 0")
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value).startswith(expected)


def test_an_argument_that_is_none_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match=r"launch.* has no argument 'trails': did you mean 'trials'"
    ):
        launch(SPACE, name="a", trails=3)  # type: ignore[call-arg]


def test_a_trial_is_trained_shown_and_read_back(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(TRIAL, out="mine/first", set={"training.epochs": 2})
    assert run.folder == here / "mine" / "first"
    assert isinstance(run.trial, Trial)
    assert [epoch.number for epoch in run.history] == [1, 2]
    assert run.best in run.history
    assert run.weights is not None
    assert run.weights.is_file()
    last = run.history[-1].metrics["val/accuracy"]
    assert f"first: epoch 2 of 2, val/accuracy {last:.4g}" in capsys.readouterr().out

    again = train(run.trial, out="mine/first")  # it has ended, and is only read
    assert again == run


@pytest.mark.slow
def test_a_sweep_is_confirmed_from_python_and_the_same_call_resumes_it(
    without_ray: None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = machine(here / "sweeps", make_space(trials=3), name="mine")
    assert one.run()
    sweep = Sweep.open("mine")
    table = sweep.table()
    assert sweep.confirm(top=2, seeds=3, test=False, concurrency=1) is sweep
    sweep.stop().confirm(test=False)
    assert sweep.wait().state == "finished"
    said = capsys.readouterr().out
    assert "confirming the best 2 settings of mine" in said
    assert "confirming: 9 of at most 9" in said
    with one.folder.records.open() as study:
        again = study.confirmations()
    assert len({(r.confirms, r.seed_index) for r in again}) == len(again) == 9
    assert sweep.table().equals(table)
    with pytest.raises(ConfigError, match="begun with top 2"):
        sweep.confirm(top=3)
