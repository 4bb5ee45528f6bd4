from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ckconv_sweep.config.read import read_rule
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import REASON_CONSTRAINT
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.advice import RULES, Advice, advise
from ckconv_sweep.report.importance import Importance, Importances

from .made_up import ASHA, NOTHING, made_up
from .records import GRID, record, space

RATE = "optimizer.learning_rate"


def known(*settings: Importance) -> Importances:
    return Importances(settings=settings, words="")


TOLD = Importance(setting=RATE, trials=50, low=0.5, median=0.6, high=0.7, noise=0.05, explained=0.8)


def given(
    records: Sequence[TrialRecord], of: Space | None = None, *settings: Importance
) -> dict[str, Advice]:
    """The advice by rule; the importance of the learning rate can be told."""
    said = advise(records, of or space(), known(*(settings or (TOLD,))))
    return {advice.rule: advice for advice in said}


def spread(amount: int, **options: Any) -> list[TrialRecord]:
    """Completed trials in the middle of the range, each clearly better than the one before."""
    return [
        record(i, [0.01 * i] * 6, params={RATE: 1e-3 + 1e-6 * i}, **options) for i in range(amount)
    ]


def test_a_sweep_in_which_all_went_well_gets_no_advice() -> None:
    assert given(spread(40)) == {}


def test_an_empty_sweep_gets_no_advice() -> None:
    assert given([]) == {}


def failed(amount: int, reason: str = "nonfinite") -> list[TrialRecord]:
    return [record(100 + i, [], "failed", reason=reason) for i in range(amount)]


def test_failures_are_told_from_a_tenth_and_three_of_one_reason_on() -> None:
    advice = given(spread(27) + failed(3))["many_failures"]
    assert advice.what == "Many trials failed: nonfinite."
    assert advice.evidence == "3 of 30 trials failed this way (10%)"
    assert "learning rates" in advice.do
    assert "many_failures" not in given(spread(28) + failed(3))  # 3 of 31
    assert "many_failures" not in given(spread(10) + failed(2))
    apart = spread(20) + failed(2) + failed(2, "error")
    assert "many_failures" not in given(apart)


def test_draws_that_violate_a_constraint_are_told_where_they_are_the_most() -> None:
    def violations(amount: int) -> list[TrialRecord]:
        return failed(amount, REASON_CONSTRAINT)

    advice = given(spread(20) + violations(21))["many_violations"]
    assert advice.evidence == "21 draws were rejected for 20 trials"
    assert "many_violations" not in given(spread(20) + violations(20))


def test_a_bound_that_was_hit_is_told_with_the_way_out() -> None:
    records = [replace(r, params={RATE: 9.9e-3 if r.number >= 36 else 1e-3}) for r in spread(40)]
    advice = given(records)["a_bound_was_hit"]
    assert advice.what == f"{RATE} hit the high end of its range, 0.01."
    assert advice.evidence == (
        "4 of the best 4 trials lie within 10 % of it; if the setting made no difference, the 4 "
        "trials there would rank as high with a probability of 2e-05"
    )
    assert "wider space" in advice.do


def test_at_the_end_of_what_a_setting_can_be_the_advice_is_to_fix_it() -> None:
    name = "model.dropout"
    of = space(search=f"  {name}: {{low: 0.0, high: 0.5}}")
    records = [replace(r, params={name: 0.0 if r.number >= 36 else 0.3}) for r in spread(40)]
    assert given(records, of)["a_bound_was_hit"].do == (
        "no such setting lies beyond it; fix it at 0 and search the others"
    )


def test_where_each_setting_has_one_value_no_more_trials_are_advised() -> None:
    untold = replace(TOLD, enough=False, low=0.0)
    for choices, is_told in (("[0.001]", False), ("[0.001, 0.002]", True)):
        of = space(search=f"  {RATE}: {{choices: {choices}}}", trials=1)
        advice = given([record(0, [0.5], params={RATE: 0.001})], of, untold)
        assert ("too_few_trials" in advice) is is_told


def test_too_few_trials_are_told_where_no_setting_is() -> None:
    untold = replace(TOLD, low=0.04, explained=0.3)
    advice = given(spread(40), None, untold)["too_few_trials"]
    assert advice.evidence == (
        "40 comparable trials, 1 searched settings; a forest explains 30% of the differences "
        "among trials that were held out"
    )
    assert advice.command == "ckconv-sweep resume NAME --trials 80"
    assert "too_few_trials" not in given(spread(40), None, untold, TOLD)
    on_its_way = given(spread(40), space(trials=90), untold)["too_few_trials"]
    assert on_its_way.do == "resume it: 40 of its 90 trials have begun"
    assert on_its_way.command == ""
    not_tried = replace(TOLD, enough=False)
    assert "not even tried" in given(spread(5), None, not_tried)["too_few_trials"].evidence


@pytest.mark.fault("grid-smaller-than-budget")
def test_no_more_trials_are_advised_than_a_grid_has_points() -> None:
    untold = replace(TOLD, low=0.04, explained=0.3)
    of = space(search=GRID, trials=100, sampler="grid")
    begun = [replace(r, params={"model.dropout": 0.1, "model.norm": "none"}) for r in spread(6)]
    violating = failed(1, REASON_CONSTRAINT)
    advice = given([*begun[:4], *violating], of, untold)["too_few_trials"]
    assert advice.do == "resume it: 4 of its 5 trials have begun"
    for few in (begun, [*begun[:5], *violating]):
        advice = given(few, of, untold)["too_few_trials"]
        assert "this grid has no more points" in advice.do
        assert advice.command == ""
    small = space(search=GRID, trials=4, sampler="grid")
    advice = given(begun[:4], small, untold)["too_few_trials"]
    assert advice.command == "ckconv-sweep resume NAME --trials 6"


def test_a_setting_without_a_part_in_what_is_explained_does_nothing() -> None:
    nothing = Importance(setting="model.dropout", trials=50, high=0.02, noise=0.05, explained=0.8)
    advice = given(spread(40), None, TOLD, nothing)["does_nothing"]
    assert advice.what == "model.dropout makes no difference."
    assert "2.0%" in advice.evidence
    for other in (
        replace(nothing, high=0.04),  # it may have a part
        replace(nothing, explained=0.4),  # too little is known of any setting
        replace(nothing, enough=False),
    ):
        assert "does_nothing" not in given(spread(40), None, TOLD, other)


def wobbling(step: float, apart: float) -> list[TrialRecord]:
    """Six trials that go up and down by `step`, and differ by `apart` each."""
    return [record(i, [0.5 + apart * i + step * (e % 2) for e in range(12)]) for i in range(6)]


def test_the_metric_is_noise_where_the_best_differ_by_less_than_an_epoch_does() -> None:
    advice = given(wobbling(step=0.05, apart=0.01))["mostly_noise"]
    assert advice.evidence == (
        "the best 5 differ by 0.04, and each goes up or down by 0.05 from one epoch to the next"
    )
    assert "t005, t004" in advice.do
    assert "mostly_noise" not in given(wobbling(step=0.03, apart=0.01))
    few = wobbling(step=0.05, apart=0.01)[:2]
    assert "mostly_noise" not in given(few)


def test_noise_among_the_best_is_answered_by_confirm_unless_that_was_given() -> None:
    noisy = wobbling(step=0.05, apart=0.01)

    def said(of: Space, confirm: str | None) -> dict[str, Advice]:
        return {one.rule: one for one in advise(noisy, of, known(TOLD), confirm=confirm)}

    advice = said(space(), "ckconv-sweep confirm mine")["mostly_noise"]
    assert advice.command == "ckconv-sweep confirm mine"
    assert advice.do.endswith("train them again with fresh seeds")
    assert "mostly_noise" not in said(space(), None)
    pbt = replace(space(), scheduler=read_rule("pbt", "scheduler"))
    assert said(pbt, "ckconv-sweep confirm mine")["mostly_noise"].command == ""


def asha(agreeing: bool, stopped: int, completed: int) -> tuple[list[TrialRecord], Space]:
    """Trials of 9 epochs, the first judged at 5; whether its order there is that at the end."""
    of = replace(space(), scheduler=made_up(1, stopping=True).space.scheduler)
    rng = np.random.default_rng(0)
    ends = [i / 100 if agreeing else float(rng.random()) / 10 for i in range(completed)]
    on = [
        record(i, [i / 100] * 5 + [0.5 + end] * 4, params={RATE: 1e-3})
        for i, end in enumerate(ends)
    ]
    return on + [record(500 + i, [0.001 * i] * 5, "pruned") for i in range(stopped)], of


def test_trials_that_were_stopped_at_once_are_told_unless_that_moment_tells_the_end() -> None:
    assert "grace_epochs: 5" in ASHA
    advice = given(*asha(agreeing=False, stopped=30, completed=10))["most_stopped_at_once"]
    assert advice.evidence.startswith("30 of 40 after 5 of 9 epochs; for the 10 that completed")
    assert "scheduler.grace_epochs" in advice.do
    few = given(*asha(agreeing=True, stopped=30, completed=5))["most_stopped_at_once"]
    assert "5 completed, too few to know" in few.evidence
    assert "most_stopped_at_once" not in given(*asha(agreeing=True, stopped=30, completed=10))
    assert "most_stopped_at_once" not in given(*asha(agreeing=False, stopped=10, completed=10))
    records, _ = asha(agreeing=False, stopped=30, completed=10)
    assert "most_stopped_at_once" not in given(records, space())  # nothing stops trials there


def test_a_made_up_sweep_gets_the_advice_that_was_planted() -> None:
    from ckconv_sweep.report.importance import importances

    sweep = made_up(300, epochs=12, failing=0.2)
    said = advise(sweep.records, sweep.space, importances(sweep.records, sweep.space, resamples=20))
    by_rule = {advice.what for advice in said}
    assert "Many trials failed: nonfinite." in by_rule
    assert f"{NOTHING} makes no difference." in by_rule
    assert "optimizer.learning_rate makes no difference." not in by_rule


def test_every_rule_says_when_it_holds() -> None:
    assert all(rule.__doc__ for rule in RULES)
