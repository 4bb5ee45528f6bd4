"""Drawn trials that cannot be trained: by their settings, or by a constraint."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sweep.in_process import machine, make_space

from ckconv_sweep.config.notes import notes
from ckconv_sweep.config.read import parse_space, read_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.doctor import examine
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import REASON_CONSTRAINT
from ckconv_sweep.record.study import Study
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.search.feasible import DRAWS, Infeasible, resolved, survey
from ckconv_sweep.sweep.coordinator import Coordinator

EVEN = "model.kernel: hidden_channels must be even (a cosine and a sine for each frequency)"


def space_of(tmp_path: Path, rest: str, *changes: str) -> Space:
    path = tmp_path / "space.yaml"
    path.write_text(f"trial: digits\nbudget: {{trials: 4}}\n{rest}\n")
    return read_space(str(path), changes)


@pytest.fixture
def odd_widths(tmp_path: Path) -> Space:
    """Both ends of the range are even, and each second width between them makes no trial."""
    return space_of(
        tmp_path,
        "search: {model.kernel.hidden_channels: {low: 4, high: 16}}\n"
        "sampler: {name: random, seed: 1}",
        "model.kernel.name=random_fourier",
    )


def width(trial: Trial) -> int:
    return trial.model.hidden_channels


@pytest.mark.fault("infeasible-draw")
def test_settings_that_make_no_trial_are_a_reason_and_no_error(odd_widths: Space) -> None:
    name = "model.kernel.hidden_channels"
    assert isinstance(resolved(odd_widths, {name: 6}, 0, width), Trial)
    found = resolved(odd_widths, {name: 5}, 0, width)
    assert found == Infeasible(EVEN, f"these settings make no trial: {EVEN}, got 5")


@pytest.mark.fault("infeasible-draw")
def test_the_survey_counts_what_random_draws_would_be_rejected_for(odd_widths: Space) -> None:
    (rejected,) = survey(odd_widths, width, where="x").items()
    assert rejected[0] == EVEN
    assert 0.3 * DRAWS < rejected[1] < 0.65 * DRAWS  # 6 of 13 widths are odd


@pytest.mark.fault("infeasible-draw")
def test_constraints_that_no_draw_meets_are_refused_with_the_space(tmp_path: Path) -> None:
    space = space_of(
        tmp_path,
        "search: {model.hidden_channels: {low: 4, high: 16}}\nconstraints: [model.parameters < 4]",
    )
    with pytest.raises(ConfigError, match=r"^space.yaml: none of 200 .*: model.parameters < 4"):
        survey(space, width, where="space.yaml")
    counted = list[int]()
    survey(
        space,
        lambda trial: counted.append(1) or (9 if len(counted) < 3 else 1),  # type: ignore[func-returns-value]
        where="x",
        until_one_passes=True,
    )
    assert len(counted) == 3


@pytest.mark.fault("infeasible-draw")
def test_a_sweep_draws_on_past_trials_that_cannot_be_and_its_budget_is_not_spent(
    odd_widths: Space, tmp_path: Path
) -> None:
    folder = machine(tmp_path / "sweeps", odd_widths).folder
    with folder.records.create(odd_widths) as study:
        coordinator = Coordinator(study, count_parameters=width)
        given = [coordinator.next() for _ in range(4)]
        assert coordinator.next() is None
        widths = [a.trial.model.kernel.hidden_channels % 2 for a in given if a is not None]  # type: ignore[attr-defined]
        assert widths == [0] * 4
        assert_rejected(study, 4)
        assert len(leaderboard(study.trials(), odd_widths)) == 4
    found = {f.level for f in examine(folder) if f.check == "study"}
    assert found == {"ok", "warning"}  # that four trials are not done
    with folder.records.create(odd_widths) as study:  # and it is resumed
        assert Coordinator(study, count_parameters=width).next() is not None


def assert_rejected(study: Study, counted: int) -> None:
    rejected = [r for r in study.trials() if r.outcome == "failed"]
    assert rejected
    assert {r.reason for r in rejected} == {REASON_CONSTRAINT}
    assert all("these settings make no trial" in r.error for r in rejected)
    assert sum(r.outcome == "running" for r in study.trials()) == counted


@pytest.mark.fault("infeasible-draw")
def test_a_signal_ends_a_long_run_of_rejected_draws(tmp_path: Path) -> None:
    space = make_space(trials=3)
    folder = machine(tmp_path / "sweeps", space).folder
    with folder.records.create(space) as study:
        coordinator = Coordinator(study, count_parameters=width, is_interrupted=lambda: True)
        assert coordinator.next() is None
        assert study.trials() == []


@pytest.mark.parametrize(
    ("rest", "note"),
    [
        (
            "search: {model.hidden_channels: {low: 8, high: 33, step: 4}}",
            "model.hidden_channels: its steps do not reach 33; the largest value is 32",
        ),
        (
            "search: {model.dropout: {low: 0.0, high: 0.2, step: 0.3}}",
            "model.dropout: its steps do not reach 0.2; the largest value is 0",
        ),
        (
            "search: {model.dropout: {low: 0.0, high: 0.2}}\n"
            "scheduler: {name: asha, grace_epochs: 24}",
            "scheduler asha can prune no trial: it judges from epoch 24 on "
            "(scheduler.grace_epochs), and a trial has 24",
        ),
        (
            "search: {model.dropout: {low: 0.0, high: 0.2}}\n"
            "scheduler: {name: pbt, interval_epochs: 24}",
            "scheduler pbt can replace no trial: it judges from epoch 24 on "
            "(scheduler.interval_epochs), and a trial has 24",
        ),
        (
            "search: {training.epochs: {low: 2, high: 9}}\n"
            "scheduler: {name: median, warmup_epochs: 8}",
            "scheduler median can prune no trial: it judges from epoch 9 on "
            "(scheduler.warmup_epochs), and a trial has 9",
        ),
        (
            "search: {model.dropout: {low: 0.0, high: 0.2}}\n"
            "scheduler: {name: hyperband, grace_epochs: 2, reduction_factor: 4}",
            "scheduler hyperband prunes no trial of bracket 2: it judges them from epoch 32 on "
            "(scheduler.brackets), and a trial has 24",
        ),
        (
            "search: {training.epochs: {low: 2, high: 9}}\n"
            "scheduler: {name: patient, epochs: 3, rule: {name: asha, grace_epochs: 12}}",
            "scheduler patient can prune no trial: it judges from epoch 12 on "
            "(scheduler.rule.grace_epochs), and a trial has 9",
        ),
        (
            "search: {training.epochs: {low: 2, high: 9}}\n"
            "scheduler: {name: patient, epochs: 3, rule: {name: asha}}",
            "scheduler patient can prune no trial: it judges from epoch 9 on "
            "(scheduler.epochs), and a trial has 9",
        ),
        (
            "search: {model.dropout: {low: 0.0, high: 0.2}}\n"
            "scheduler: {name: patient, rule: {name: hyperband, grace_epochs: 3}}",
            "scheduler patient prunes no trial of bracket 2: it judges them from epoch 27 on "
            "(scheduler.rule.brackets), and a trial has 24",
        ),
        (
            "search: {training.epochs: {low: 2, high: 10}}\n"
            "scheduler: {name: median, warmup_epochs: 8}",
            "",
        ),
        ("search: {model.hidden_channels: {low: 8, high: 32, step: 4}}", ""),
    ],
)
def test_what_is_allowed_and_probably_not_meant_is_a_line(
    rest: str, note: str, tmp_path: Path
) -> None:
    space = space_of(tmp_path, f"{rest}\nfirst: []")
    assert notes(space) == [note] * bool(note)
    assert parse_space(space.to_yaml(), "x") == space


def test_a_trial_to_be_tried_first_that_is_too_large_is_refused_and_the_base_trial_is_left_out(
    tmp_path: Path,
) -> None:
    rest = (
        "search: {model.hidden_channels: {low: 4, high: 32}}\nconstraints: [model.parameters < 9]"
    )
    with pytest.raises(ConfigError, match=r"^x: first: model.parameters < 9 does not hold: 16"):
        survey(space_of(tmp_path, f"{rest}\nfirst: [base]"), width, where="x")
    assert survey(space_of(tmp_path, rest), width, where="x")


def test_no_reason_is_counted_where_all_draws_are_trials(tmp_path: Path) -> None:
    space = space_of(tmp_path, "search: {model.dropout: {low: 0.0, high: 0.2}}")
    assert survey(space, width, where="x") == Counter()
