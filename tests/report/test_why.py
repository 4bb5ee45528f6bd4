"""Why a trial ended, with what belongs to the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ckconv_sweep.config.history import Stop
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.advice import advise
from ckconv_sweep.report.importance import Importances
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.why import Why, explained

from .records import LEARNING_RATE, record, space

SPACE = space()


def results(*records: TrialRecord, of: Any = SPACE, **more: Any) -> Results:
    given = {"name": "small", "uid": "0" * 32, "state": "finished", "source": "somewhere"}
    return Results(**{**given, "space": of, "records": records, **more})


def told(number: int, *records: TrialRecord, log: str = "", **more: Any) -> Why:
    command = lambda verb: f"ckconv-sweep {verb} small"  # noqa: E731
    return explained(results(*records, **more), number, command, log)


def failed(number: int, reason: str, error: str = "", **more: Any) -> TrialRecord:
    return replace(record(number, [], "failed", reason=reason), error=error, **more)


def test_of_a_failed_trial_it_tells_the_error_where_it_is_and_what_to_do() -> None:
    error = "Traceback:\n  File\nKeyError: 'x'\n"
    assert str(told(0, failed(0, "error", error), log="sweeps/small/ray.log")).splitlines() == [
        "t000: failed after 0 of 9 epochs (error): KeyError: 'x'",
        "  its whole error: ckconv-sweep why small t000 --error",
        "  what the processes of the last session wrote: sweeps/small/ray.log",
        "  what to do: mend what the error names: the code, the data or the machine",
        "  retry it: ckconv-sweep retry small --trial t000",
    ]


def test_a_trial_that_was_stopped_by_hand_has_no_error_to_read() -> None:
    assert str(told(0, failed(0, "stopped"), log="sweeps/small/ray.log")).splitlines() == [
        "t000: stopped by hand before its first epoch",
        "  what to do: retry what was stopped by mistake",
        "  retry it: ckconv-sweep retry small --trial t000",
    ]


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("nonfinite", " --set training.clip_norm=1.0"),
        ("out_of_memory", " --set training.batch_size=32"),
        ("worker_died", ""),
        ("stopped", ""),
        ("never heard of", ""),
    ],
)
def test_the_retry_has_the_change_that_may_help(reason: str, change: str) -> None:
    last = told(0, failed(0, reason, "a line")).notes[-1]
    assert last == f"retry it: ckconv-sweep retry small --trial t000{change}"


def test_the_retry_of_a_continuation_says_what_it_begins_with() -> None:
    """With the change that may help it is not a continuation any more."""
    source, old = record(0, [0.5] * 9), record(1, [0.4] * 3, "continued")
    origin = {"replaces": 1, "from_trial": 0, "from_epoch": 2}
    *_, retry, last = told(2, source, old, failed(2, "nonfinite", "a line", **origin)).notes
    assert retry == "retry it: ckconv-sweep retry small --trial t002 --set training.clip_norm=1.0"
    assert last == "with --set it begins with new weights, without it again with t000 epoch 2"
    assert told(2, source, old, failed(2, "error", "a line", **origin)).notes[-1] == (
        "retry it: ckconv-sweep retry small --trial t002"
    )


def test_programs_are_told_which_trial_a_continuation_begins_with_and_which_one_it_replaces() -> (
    None
):
    source, old = record(0, [0.5] * 9), record(1, [0.4] * 3, "continued")
    new = replace(record(2, [0.6] * 9), replaces=1, from_trial=0, from_epoch=2)
    first, second = told(1, source, old, new), told(2, source, old, new)
    assert (first.continued_as, first.replaces) == (2, None)
    assert (second.continued_as, second.replaces) == (None, 1)
    assert (second.from_trial, second.from_epoch) == (0, 2)


def test_a_searched_setting_is_not_changed_beside_its_range() -> None:
    of = space(search=f"{LEARNING_RATE}\n  training.batch_size: {{choices: [16, 64]}}")
    params = {"optimizer.learning_rate": 1e-3, "training.batch_size": 64}
    one = replace(failed(0, "out_of_memory", "a line"), params=params)
    assert told(0, one, of=of).notes[-1] == "retry it: ckconv-sweep retry small --trial t000"


def test_a_retried_trial_and_its_retry_tell_of_each_other() -> None:
    one = failed(0, "out_of_memory", "no room")
    changes = {"training.batch_size": 16}
    two = record(1, [0.5] * 9)
    two = replace(two, retry_of=0, changes=changes, request="x")
    first, second = told(0, one, two), told(1, one, two)
    assert first.retried_as == 1
    assert first.notes == (
        "was retried as t001: completed all its 9 epochs; best val/accuracy 0.5 at epoch 1",
        "what to do: bound the model's size by a constraint, or take smaller batches",
    )
    assert second.retry_of == 0
    assert second.notes == (
        "retries, with batch_size=16, t000: failed after 0 of 9 epochs (out_of_memory): no room",
    )


def test_a_repeat_tells_what_became_of_the_first_trial_of_its_setting() -> None:
    asha = Stop("asha, epoch 1: 0.1; of the 4 trials that reached this epoch the best one had 0.5")
    first = replace(record(0, [0.1], "pruned"), verdict=asha)
    because = Stop("t000, whose setting it repeats, was pruned")
    second = replace(record(1, [0.1], "pruned"), verdict=because, repeat_of=0)
    assert str(told(1, first, second)).splitlines() == [
        "t001: stopped at epoch 1 of 9: t000, whose setting it repeats, was pruned",
        "  repeats the setting of t000: stopped at epoch 1 of 9 by asha on val/accuracy: 0.1; of "
        "the 4 trials that reached this epoch the best one had 0.5",
    ]


def test_an_unfinished_trial_is_resumed_with_its_sweep() -> None:
    one = record(0, [0.5], "running")
    interrupted = told(0, one, state="interrupted")
    assert interrupted.outcome == "unfinished"
    assert interrupted.notes == ("the sweep is interrupted; resume it: ckconv-sweep resume small",)
    running = told(0, one, state="running")
    assert (running.outcome, running.notes) == ("running", ())


def test_a_rejected_trial_whose_settings_make_no_trial_is_told_all_the_same() -> None:
    one = replace(failed(0, "constraint", "the kernel needs two layers"), params={})
    rejected = told(0, one)
    assert rejected.outcome == "rejected"
    assert str(rejected) == (
        "t000: rejected before training, outside the budget: the kernel needs two layers"
    )


def test_trials_are_found_by_number_where_some_are_missing_as_in_mlflow() -> None:
    here = results(record(0, [0.5] * 9), record(7, [0.25], "running"))
    assert explained(here, 7).epochs == 1
    with pytest.raises(ConfigError, match="small: there is no trial 3\n  there are 0 to 7"):
        explained(here, 3)


def test_without_the_folder_no_command_is_named() -> None:
    why = explained(results(failed(0, "error", "a\nb")), 0)
    assert "ckconv-sweep" not in str(why)


def test_the_report_advises_the_same_for_many_such_failures() -> None:
    many = [failed(n, "out_of_memory", "no room") for n in range(5)]
    nothing = Importances(settings=(), words="")
    (advice,) = [one for one in advise(many, SPACE, nothing) if one.rule == "many_failures"]
    assert told(0, *many).notes[0] == f"what to do: {advice.do}"
