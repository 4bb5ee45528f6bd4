"""`add`, `retry`, `pause`, `stop`, `concurrency` and `launch --restart` as a user types them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.driver import Conditions, command
from ckconv_sweep.config.read import read_space
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.requests import Request, Requests
from ckconv_sweep.record.trials import TrialRecord
from tests.sweep.in_process import Machine, machine

from .commands import NOBODY, PROGRAM, ckconv_sweep, ended, environment, files_in, refused

REASONS = {0: "out_of_memory", 1: "nonfinite", 2: "out_of_memory"}


def swept(here: Path, fails: Callable[[int, int], str | None], **options: Any) -> Machine:
    """The sweep `small`, run to its end by nobody's driver."""
    one = machine(here / "sweeps", read_space(str(here / "small.yaml")), fails=fails, **options)
    assert one.run()
    (here / "sweeps" / "sweep").rename(here / "sweeps" / "small")
    one.folder = SweepFolder.of(here / "sweeps", "small")
    return one


def all_fail(number: int, epoch: int) -> str | None:
    return REASONS.get(number)


def none_fails(number: int, epoch: int) -> str | None:
    return None


def waiting(folder: SweepFolder) -> list[Request | str]:
    return [request for _, request in Requests(folder).waiting()]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "add small --set model.dropout=0.15",
            "--set: model.dropout is 0.15, and what is searched",
        ),
        ("add small --set model.blocks=3", "--set: model.blocks is 3, and the space, in which it"),
        (
            "add small --set model.omega=3",
            "--set model.omega=3: no setting is called 'model.omega'",
        ),
        ("add small --set training.seed=3", "each of its trials a seed of its own"),
        ("add small --set metric.mode=min", "a sweep has one metric"),
        ("add small other.yaml", "other.yaml: model.hidden_channels is 5, and the space, in which"),
        ("add nothing", "there is no sweep 'nothing'"),
        ("pause small", "small: no driver runs this sweep now"),
        ("pause small --off", "small: no driver runs this sweep now"),
        ("stop small", "small: no driver runs this sweep now"),
        ("stop small t017", "small: there is no trial 17"),
        ("stop small t000", "small: trial 0 has ended already: failed"),
        ("stop small all", "'all' is no trial; write it as in t017 or 17"),
        ("concurrency small 0", "greater than or equal to 1"),
        ("retry small --reason error", "small: no failed trial with the reason 'error'"),
        ("retry small --trial 9", "--trial: there is no trial 9"),
        ("retry small --trial t003", "there is no trial 3"),
        ("retry small --set model.blocks=x", "--set model.blocks=x: model.blocks: "),
        ("retry small --set training.seed=3", "each of its trials a seed of its own"),
        ("launch small.yaml --restart --set sampler.name=nothing", "no sampler is called"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(
    arguments: str, said: str, here: Path
) -> None:
    swept(here, all_fail)
    other = (here / "trial.yaml").read_text().replace("hidden_channels: 4", "hidden_channels: 5")
    (here / "other.yaml").write_text(other)
    before = files_in(here)
    assert said in refused(ckconv_sweep(*arguments.split(), cwd=here))
    assert files_in(here) == before


def test_what_violates_a_constraint_is_not_added(here: Path) -> None:
    space = here / "small.yaml"
    space.write_text(space.read_text() + "constraints: ['model.dropout < 0.2']\n")
    swept(here, none_fails)
    said = refused(ckconv_sweep("add", "small", "--set", "model.dropout=0.2", cwd=here))
    assert "model.dropout < 0.2 does not hold: 0.2" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("stop small t000", "small: trial 0 has ended already: rejected"),
        ("retry small --trial 0", "--trial: trial 0 has not failed: rejected"),
    ],
)
def test_a_rejected_trial_is_called_rejected(arguments: str, said: str, here: Path) -> None:
    space = here / "small.yaml"
    rates = "optimizer.learning_rate: {choices: [0.001, 0.002]}\n"
    space.write_text(
        f"trial: trial.yaml\nsearch:\n  {rates}sampler: {{name: grid}}\nfirst: []\n"
        "constraints: ['optimizer.learning_rate > 0.001']\nbudget: {trials: 2}\n"
    )
    swept(here, none_fails)
    assert said in refused(ckconv_sweep(*arguments.split(), cwd=here))


def test_without_a_driver_a_request_waits_for_the_next_resume_and_says_so(here: Path) -> None:
    one = swept(here, none_fails)
    for arguments, told in {
        "add small --set model.dropout=0.2": "add learning_rate=0.005 dropout=0.2",
        "concurrency small 1": "concurrency 1",
    }.items():
        assert ended(ckconv_sweep(*arguments.split(), cwd=here)) == (
            f"{told}: no driver runs small; it waits for: ckconv-sweep resume small\n"
        )
    said = ended(ckconv_sweep("status", "small", cwd=here))
    waits = ("add learning_rate=0.005 dropout=0.2", "concurrency 1")
    assert "".join(f"  waits for a resume: {asked}\n" for asked in waits) in said
    again = command(
        ["resume", "small", "--sweeps-dir", here / "sweeps", "--tracking-uri", NOBODY],
        here / "said",
        Conditions(),
    )
    assert again.wait() == 0, again.said()
    assert "add learning_rate=0.005 dropout=0.2: it is t003, and comes next" in again.said()
    assert "t003 started: learning_rate=0.005 dropout=0.2 (added)" in again.said()
    assert "added by hand: t003" in again.said()
    assert waiting(one.folder) == []
    assert len(one.records()) == 4


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), [0, 1, 2]),
        (("--reason", "out_of_memory"), [0, 2]),
        (("--trial", "t001", "--trial", "2"), [1, 2]),
    ],
)
def test_failed_trials_are_asked_for_again_by_reason_or_number(
    options: tuple[str, ...], chosen: list[int], here: Path
) -> None:
    one = swept(here, all_fail)
    records = one.records()
    change = ("--set", "training.batch_size=16")
    ended(ckconv_sweep("retry", "small", *options, *change, cwd=here))
    asked = waiting(one.folder)
    assert [r.retry_of for r in asked if isinstance(r, Request)] == chosen
    assert asked == [
        Request(
            kind="add",
            params=dict(records[number].params),
            changes={"training.batch_size": 16},
            retry_of=number,
        )
        for number in chosen
    ]
    rest = [number for number in (0, 1, 2) if number not in chosen]
    if rest:  # what waits is not asked for twice
        ended(ckconv_sweep("retry", "small", cwd=here))
        assert [r.retry_of for r in waiting(one.folder) if isinstance(r, Request)] == chosen + rest
    assert "no failed trial is left" in refused(ckconv_sweep("retry", "small", cwd=here))


def test_a_retry_that_sets_what_is_searched_is_another_point_of_the_space(here: Path) -> None:
    one = swept(here, all_fail)
    ended(ckconv_sweep("retry", "small", "--set", "model.dropout=0.1", cwd=here))
    for request in waiting(one.folder):
        assert isinstance(request, Request)
        assert request.params["model.dropout"] == 0.1
        assert request.changes == {}


def test_a_retry_has_the_variables_of_the_failed_trial(here: Path) -> None:
    path = here / "small.yaml"
    derived = "variables: {x: {low: 0.1, high: 0.9}}\nderived: {optimizer.beta_2: 1 - x / 10}\n"
    path.write_text(path.read_text() + derived)
    one = swept(here, all_fail)
    params = [dict(record.params) for record in one.records()]
    ended(ckconv_sweep("retry", "small", "--trial", 0, cwd=here))
    ended(ckconv_sweep("retry", "small", "--trial", 1, "--set", "model.blocks=2", cwd=here))
    assert waiting(one.folder) == [
        Request(kind="add", params=params[0], retry_of=0),
        Request(kind="add", params=params[1], changes={"model.blocks": 2}, retry_of=1),
    ]


COMPUTED = """
variables:
  x: {low: 0.0, high: 1.0}
derived:
  model.weight_dropout: x / 2
  model.kernel.hidden_channels: 40 * model.dropout + 4
"""


def with_variables(here: Path, fails: Callable[[int, int], str | None]) -> Machine:
    space = here / "small.yaml"
    space.write_text(space.read_text() + COMPUTED)
    return swept(here, fails)


def test_what_is_added_may_name_a_variable_and_what_is_derived_follows(here: Path) -> None:
    one = with_variables(here, none_fails)
    add = ("add", "small", "--set", "model.dropout=0.2")
    said = refused(ckconv_sweep(*add, cwd=here))
    assert "--set: this trial has no value for x; give one" in said
    said = refused(ckconv_sweep(*add, "--set", "x=2", cwd=here))
    assert "--set: x is 2, and what is searched is 0 to 1" in said
    both = ("--set", "x=0.5", "--set", "model.weight_dropout=0.25")
    said = refused(ckconv_sweep(*add, *both, cwd=here))
    assert "--set: model.weight_dropout is computed from x" in said
    ended(ckconv_sweep(*add, "--set", "x=0.5", cwd=here))
    (asked,) = waiting(one.folder)
    assert isinstance(asked, Request)
    trial = one.space.resolve(asked.params)
    assert (asked.params["x"], trial.model.weight_dropout) == (0.5, 0.25)  # type: ignore[union-attr]
    assert trial.model.kernel.hidden_channels == 12  # type: ignore[union-attr]


def test_a_retry_keeps_its_variables_and_what_is_derived_follows_from_what_is_set(
    here: Path,
) -> None:
    one = with_variables(here, all_fail)
    before = one.records()
    for arguments in ("0", "1 --set model.dropout=0.1", "2 --set x=0.5"):
        ended(ckconv_sweep("retry", "small", "--trial", *arguments.split(), cwd=here))
    again = waiting(one.folder)
    assert [r.params for r in again if isinstance(r, Request)] == [
        before[0].params,
        {**before[1].params, "model.dropout": 0.1},
        {**before[2].params, "x": 0.5},
    ]
    assert [r.changes for r in again if isinstance(r, Request)] == [{}, {}, {}]


def test_a_retry_that_is_no_point_of_the_space_is_refused_with_its_trial(here: Path) -> None:
    swept(here, all_fail)
    said = refused(ckconv_sweep("retry", "small", "--set", "model.dropout=0.15", cwd=here))
    assert "t000: model.dropout is 0.15, and what is searched" in said


def test_where_settings_are_repeated_the_budget_that_is_asked_for_counts_settings(
    here: Path,
) -> None:
    space = here / "small.yaml"
    space.write_text(space.read_text() + "repeats: {seeds: 2}\n")
    swept(here, none_fails)
    said = refused(ckconv_sweep("resume", "small", "--trials", 2, cwd=here))
    assert "the sweep has 3 settings already, so it cannot have 2" in said
    assert "ask for 3 or more" in said


def test_who_may_only_read_a_sweep_cannot_ask_anything_of_it(here: Path) -> None:
    one = swept(here, none_fails)
    folder = one.folder.root / "requests"
    folder.write_text("in its way")
    said = refused(ckconv_sweep("concurrency", "small", 1, cwd=here), 73)
    assert f"{folder}" in said


def test_a_pause_that_a_dying_driver_did_not_hear_waits_for_no_other_one(here: Path) -> None:
    one = swept(here, none_fails)
    with ThreadPoolExecutor() as pool:
        with one.folder.records.lock():
            asked = pool.submit(ckconv_sweep, "pause", "small", cwd=here)
            while not waiting(one.folder):
                time.sleep(0.02)
        assert ended(asked.result()) == "pause: the session has ended before that\n"
    assert waiting(one.folder) == []


def test_ctrl_c_ends_the_waiting_and_says_that_the_request_still_takes_effect(here: Path) -> None:
    one = swept(here, none_fails)
    with one.folder.records.lock():  # a driver that does not answer
        process = subprocess.Popen(
            [PROGRAM, "pause", "small"],
            cwd=here,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not waiting(one.folder):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, complaint = process.communicate(timeout=30)
    assert said == (
        "pause: not done yet; it still takes effect; to take it back: ckconv-sweep pause small "
        "--off\n"
    )
    assert (complaint, process.returncode) == ("", 130)
    assert [str(request) for request in waiting(one.folder)] == ["pause"]


# A driver that runs


def running(here: Path, *options: object, digits: bool = True, epochs: int = 400) -> Any:
    """`small` with long trials, once two of them are trained."""
    launched = command(
        [
            *("launch", here / "small.yaml", "--concurrency", 2, f"--set=training.epochs={epochs}"),
            *("--sweeps-dir", here / "sweeps", "--tracking-uri", NOBODY, *options),
        ],
        here / "said",
        Conditions(digits=digits),
    )
    until(lambda: "t001 epoch 1/" in launched.said(), launched)
    return launched


def until(holds: Callable[[], bool], launched: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert launched.runs, launched.said()
        assert time.monotonic() < deadline, launched.said()
        time.sleep(0.05)


def records_of(here: Path) -> list[TrialRecord]:
    with SweepFolder.existing(here / "sweeps", "small").records.open() as study:
        return study.trials()


def test_a_sweep_is_paused_added_to_slowed_and_stopped_from_another_terminal(here: Path) -> None:
    launched = running(here, digits=False, epochs=4_000)
    watched = command(["watch", "small", "--sweeps-dir", here / "sweeps"], here / "w", Conditions())
    until(lambda: "trials ended; a line for each follows" in watched.said(), watched)

    def asked(*arguments: object) -> str:
        return ended(ckconv_sweep(*arguments, cwd=here))

    paused = asked("pause", "small")
    assert re.search(r"^pause: paused after trial [01], epoch \d+ · \d+\.\d s$", paused, re.M)
    epochs = [len(record.history) for record in records_of(here)]
    assert "  paused; to go on: ckconv-sweep pause small --off\n" in asked("status", "small")
    added = asked("add", "small", "--set", "model.dropout=0.2")
    assert added.startswith("add learning_rate=0.005 dropout=0.2: it is t002, and comes next · ")
    stopped = asked("stop", "small", "t001")
    assert stopped.startswith(f"stop t001: it ended after {epochs[1]} epochs · ")
    assert [len(record.history) for record in records_of(here)] == [*epochs, 0]
    assert asked("concurrency", "small", 1).startswith(
        "concurrency 1: at most 1 at a time from now"
    )
    assert asked("pause", "small", "--off").startswith("pause --off: it goes on · ")
    until(lambda: f"t000 started again after epoch {epochs[0]}" in launched.said(), launched)
    assert re.search(r"stop: stopped after trial \d, epoch", asked("stop", "small"))
    assert launched.wait() == 0, launched.said()
    said = launched.said()
    assert "t001 stopped by hand after epoch" in said
    assert watched.wait() == 0
    assert "pause: paused after trial" in watched.said()
    assert "t001 stopped by hand after epoch" in watched.said()
    assert "stopped, as it was asked to; resume with: ckconv-sweep resume small" in said
    assert "pruned (stopped)" in said
    outcomes = [(record.outcome, record.reason) for record in records_of(here)]
    assert outcomes[:2] == [("running", ""), ("pruned", "stopped")]


# launch --restart


def other_space(here: Path) -> Path:
    file = here / "small.yaml"
    file.write_text(file.read_text().replace("high: 0.2", "high: 0.1"))
    return file


def test_a_sweep_of_which_no_trial_completed_begins_anew_and_the_old_one_is_kept(
    here: Path,
) -> None:
    one = swept(here, all_fail)
    space = other_space(here)
    said = refused(ckconv_sweep("launch", space, cwd=here))
    before = files_in(one.folder.root)
    assert "or begin anew, as no trial has completed: --restart" in said
    plan = ended(ckconv_sweep("launch", space, "--restart", "--dry-run", cwd=here))
    assert "nothing was started" in plan
    assert files_in(one.folder.root) == before
    options = ["--sweeps-dir", here / "sweeps", "--tracking-uri", NOBODY]
    launched = command(["launch", space, "--restart", *options], here / "said", Conditions())
    assert launched.wait() == 0, launched.said()
    aside = here / "sweeps" / "small.before-1"
    assert f"what there was is kept: {aside}" in launched.said()
    kept = files_in(aside)
    assert {name: kept[name] for name in before if name.startswith("trials")} == {
        name: content for name, content in before.items() if name.startswith("trials")
    }
    assert {record.outcome for record in records_of(here)} == {"completed"}
    with SweepFolder.existing(here / "sweeps", "small.before-1").records.open() as study:
        assert [record.reason for record in study.trials()] == list(REASONS.values())
    said = refused(ckconv_sweep("launch", space, "--restart", cwd=here))
    assert "--restart: 3 trials of small completed, so it is not begun anew" in said
    assert "take another --name" in said


def test_a_sweep_that_runs_is_not_put_aside(here: Path) -> None:
    one = swept(here, all_fail)
    with one.folder.records.lock():
        said = refused(ckconv_sweep("launch", other_space(here), "--restart", cwd=here), 75)
    assert "runs this sweep" in said
    assert not (here / "sweeps" / "small.before-1").exists()


def test_without_a_sweep_restart_is_a_launch_and_names_are_counted_on(here: Path) -> None:
    (here / "sweeps" / "small.before-1").mkdir(parents=True)
    folder = SweepFolder.of(here / "sweeps", "small")
    folder.make()
    assert folder.put_aside() == here / "sweeps" / "small.before-2"
    plan = ended(ckconv_sweep("launch", "small.yaml", "--restart", "--dry-run", cwd=here))
    assert "nothing was started" in plan


# With Ray


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_with_ray_a_sweep_is_added_to_paused_slowed_stopped_and_resumed(here: Path) -> None:
    said = here / "said"
    options = ("--tracking-uri", NOBODY, "--trials", 2, "--set=training.epochs=120")
    with said.open("w") as out:
        launched = subprocess.Popen(
            [PROGRAM, "launch", "small.yaml", *map(str, options), "--concurrency", "2"],
            cwd=here,
            env=environment(),
            stdout=out,
            stderr=out,
        )
        while "t001 epoch 1/" not in said.read_text():
            assert launched.poll() is None, said.read_text()
            time.sleep(0.2)

        def asked(*arguments: object) -> str:
            return ended(ckconv_sweep(*arguments, cwd=here))

        assert "it is t002" in asked("add", "small", "--set", "model.dropout=0.2")
        assert "paused after trial" in asked("pause", "small")
        assert "it goes on" in asked("pause", "small", "--off")
        assert "at most 1 at a time" in asked("concurrency", "small", 1)
        assert "it ended after" in asked("stop", "small", "t001")
        assert asked("stop", "small").rpartition("stop: ")[2].startswith("stopped")
        assert launched.wait(60) == 0, said.read_text()
    assert records_of(here)[1].reason == "stopped"
    resumed = ckconv_sweep("resume", "small", *options[:2], cwd=here, timeout=200)
    assert "as in the last session: --concurrency 1" in ended(resumed)
    outcomes = [record.outcome for record in records_of(here)]
    assert outcomes == ["completed", "pruned", "completed"]


def test_modes_of_a_shared_sweep_let_its_group_read_what_is_asked(here: Path) -> None:
    one = swept(here, none_fails)
    one.folder.root.parent.chmod(0o750)
    one.folder.share()
    Requests(one.folder).put(Request(kind="concurrency", number=1))
    folder = one.folder.root / "requests"
    assert oct(os.stat(folder).st_mode & 0o7777) == "0o2750"
    assert [oct(path.stat().st_mode & 0o777) for path in folder.iterdir()] == ["0o640"]
