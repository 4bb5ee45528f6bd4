"""Trials read with one query a table are those that Optuna reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from ckconv_sweep.record import frozen
from ckconv_sweep.record.frozen import FrozenTrials

DISTRIBUTIONS: dict[str, Any] = {
    "z": FloatDistribution(1e-4, 1.0, log=True),
    "a": IntDistribution(4, 20, step=4),
    "c": CategoricalDistribution(["adam", None, True, 0.5]),
}


def studied(disk: Path) -> tuple[optuna.Study, FrozenTrials]:
    """Trials of every state, with values that are no numbers, beside another study's."""
    disk.mkdir(exist_ok=True)
    storage = RDBStorage(f"sqlite:///{disk}/study.db")
    optuna.create_study(storage=storage, study_name="other").add_trial(create_trial(value=1.0))
    study = optuna.create_study(
        storage=storage, study_name="this", directions=["minimize", "maximize"]
    )
    for values in ([0.25, math.inf], [-math.inf, 1e-300]):
        study.add_trial(
            create_trial(
                values=values,
                params={"z": 0.125, "a": 8, "c": None},
                distributions=DISTRIBUTIONS,
                user_attrs={"epoch:1": {"metrics": {"val/loss": 0.1}}, "text": "é"},
                system_attrs={"fixed": [1, 2]},
                intermediate_values={3: math.nan, 1: math.inf, 2: 0.1},
            )
        )
    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
        study.add_trial(create_trial(state=state, intermediate_values={1: 0.5}))
    return study, FrozenTrials(storage, study._study_id)


def same(one: list[Any], other: list[Any]) -> bool:
    """Equal, with the settings in the same order; NaN is not equal to itself."""

    def written(trial: Any) -> str:
        held = dict(vars(trial))
        params = held.pop("_params")
        ordered = {k: sorted(v.items()) if isinstance(v, dict) else v for k, v in held.items()}
        return repr((params, sorted(ordered.items())))

    return [written(trial) for trial in one] == [written(trial) for trial in other]


def test_every_trial_is_what_optuna_reads(disk: Path) -> None:
    study, trials = studied(disk)
    assert len(study.get_trials()) == 5
    assert same(trials.all(), study.get_trials())
    assert same([trials.one(t._trial_id) for t in study.get_trials()], study.get_trials())
    _, others = studied(disk / "others")
    last = others.all()[-1]
    _, others = studied(disk / "again")
    assert others.one(last._trial_id).number == 4
    assert len(others.all()) == 5  # the earlier ones are read, too


@pytest.mark.parametrize("most", [frozen.MOST_NAMED, 0])
def test_what_happens_to_a_running_trial_and_new_trials_are_seen(
    most: int, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "MOST_NAMED", most)
    study, trials = studied(disk)
    trials.all()
    running = study.get_trials()[-1]
    study._storage.set_trial_intermediate_value(running._trial_id, 2, 0.75)
    assert trials.one(running._trial_id).intermediate_values == {1: 0.5, 2: 0.75}
    study._storage.set_trial_state_values(running._trial_id, TrialState.COMPLETE, [1.0, 2.0])
    study.ask()
    assert same(trials.all(), study.get_trials())
    assert [t.state for t in trials.all()][-2:] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_trial_that_has_ended_is_not_read_again(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, trials = studied(disk)
    before = trials.all()
    asked: list[list[int]] = []
    read = FrozenTrials._read

    def counting(
        self: FrozenTrials, *, after: int | None, and_these: list[int]
    ) -> dict[int, FrozenTrial]:
        asked.append(and_these)
        return read(self, after=after, and_these=and_these)

    monkeypatch.setattr(FrozenTrials, "_read", counting)
    again = trials.all()
    assert asked == [[before[-1]._trial_id]]
    assert [one is other for one, other in zip(before, again, strict=True)] == [True] * 4 + [False]
    trials.one(before[0]._trial_id)
    assert len(asked) == 1
