"""What signals do to a sweep."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from ckconv_sweep.config.read import read_trial
from ckconv_sweep.sweep import single
from ckconv_sweep.sweep.interruption import SIGNALS, Interrupted, Interruption

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.fault("driver-sigint")
@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_raises_with_the_exit_code_of_the_shell(number: signal.Signals) -> None:
    with Interruption().caught(), pytest.raises(Interrupted) as caught:
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number
    assert str(caught.value) == number.name


def test_an_interruption_passes_whoever_keeps_exceptions() -> None:
    with Interruption().caught(), pytest.raises(Interrupted), contextlib.suppress(Exception):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_python_swallows_is_raised_at_the_next_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Referred:
        """Something to refer to weakly."""

    swallowed: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda said: swallowed.append(said.exc_type))
    with Interruption().caught() as interruption:
        referred = Referred()
        reference = weakref.ref(referred, lambda _: signal.raise_signal(signal.SIGINT))
        del referred
        assert reference() is None
        assert swallowed == [Interrupted]
        with pytest.raises(Interrupted):
            interruption.check()
        interruption.check()


def test_a_signal_inside_a_shield_waits_until_the_outermost_is_left() -> None:
    done = []
    interruption = Interruption()
    with interruption.caught():
        with pytest.raises(Interrupted), interruption.shielded():
            with interruption.shielded():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")
        with interruption.shielded():  # the way out writes too, and is not interrupted again
            done.append("after")
    assert done == ["inner", "outer", "after"]


def test_an_error_inside_a_shield_is_not_hidden_by_a_signal_which_is_kept() -> None:
    interruption = Interruption()
    with interruption.caught():
        with pytest.raises(ValueError, match="first"), interruption.shielded():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("first")
        with pytest.raises(Interrupted):
            interruption.check()


def test_inside_a_shield_a_signal_is_raised_where_it_is_asked_for() -> None:
    interruption = Interruption()
    with interruption.caught(), pytest.raises(Interrupted), interruption.shielded():
        interruption.check()
        signal.raise_signal(signal.SIGTERM)
        interruption.check()
        raise AssertionError


def test_the_handlers_from_before_are_back_afterwards_also_after_an_error() -> None:
    def handler(number: int, frame: object) -> None:
        raise AssertionError

    old = signal.signal(signal.SIGHUP, handler)
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with contextlib.suppress(ZeroDivisionError), Interruption().caught():
            assert signal.getsignal(signal.SIGHUP) is not handler
            raise ZeroDivisionError
        assert [signal.getsignal(number) for number in SIGNALS] == before
    finally:
        signal.signal(signal.SIGHUP, old)


def test_handlers_that_ray_put_in_place_are_replaced_on_request() -> None:
    interruption = Interruption()
    with interruption.caught():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interruption.install()
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)


def test_a_sweep_under_nohup_survives_the_end_of_its_terminal() -> None:
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interruption = Interruption()
        with interruption.caught():
            interruption.install()
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, old)


TWICE = """
import signal, subprocess, sys, time
from ckconv_sweep.sweep.interruption import Interrupted, Interruption
interruption = Interruption()
shell = ["sh", "-c", "sleep 60 & echo $!; wait"]
child = subprocess.Popen(shell, stdout=subprocess.PIPE, text=True)
grandchild = child.stdout.readline().strip()
with interruption.caught():
    with interruption.shielded() if sys.argv[1] == "shielded" else interruption.caught():
        try:
            print("ready", child.pid, grandchild, flush=True)
            time.sleep(60)
        except Interrupted:
            pass
        print("stopping", flush=True)
        time.sleep(60)
"""


@pytest.mark.fault("second-signal")
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("where", ["open", "shielded"])
def test_a_second_signal_ends_the_process_at_once(where: str, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TWICE.replace("time.sleep(60)", "time.sleep(5)", 1), where],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    with process:
        assert process.stdout is not None
        word, *family = process.stdout.readline().split()
        assert word == "ready"
        os.kill(process.pid, number)
        if where == "open":
            assert process.stdout.readline() == "stopping\n"
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
        os.kill(process.pid, number)
        assert process.wait(timeout=3) == 128 + number
        time.sleep(0.2)
        for stat in (Path("/proc") / pid / "stat" for pid in family):
            assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.fault("driver-sigterm")
def test_a_signal_while_a_single_run_reads_its_data_ends_it_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal was not heard")

    monkeypatch.setattr(single, "load", slow)
    run = single.run_single(
        read_trial("digits"),
        "digits",
        tmp_path / "run",
        tracking_uri="sqlite:///unused.db",
        data_dir=None,
        device="cpu",
    )
    assert (run.signal_exit_code, run.best, run.weights) == (143, None, None)
