"""Settings that are computed, variables that are searched, and constraints over several."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.config.grid import grid, grid_size
from ckconv_sweep.config.read import parse_space, read_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.search.feasible import Infeasible, resolved
from config.conftest import space_of, space_text

SEARCH = "model.hidden_channels: {low: 4, high: 64}\nmodel.blocks: {low: 1, high: 8}"
BATCH = """\
budget: {trials: 3}
variables:
  log_batch: {low: 4, high: 7}
derived:
  training.batch_size: 2 ** log_batch
"""
DRAWN = {"model.hidden_channels": 8, "model.blocks": 2, "log_batch": 5}


def uncounted(_: object) -> int:
    raise AssertionError("nobody asks for the number of parameters")


def refusal(rest: str, search: str = SEARCH, base: str = "") -> str:
    with pytest.raises(ConfigError) as refused:
        space_of(search, rest=rest, base=base)
    return str(refused.value)


def test_a_derived_setting_follows_from_a_variable() -> None:
    space = space_of(SEARCH, rest=BATCH)
    assert list(space.parameters()) == list(DRAWN)
    trial = space.resolve(DRAWN)
    assert trial.training.batch_size == 32
    assert type(trial.training.batch_size) is int


def test_a_derived_setting_may_follow_from_searched_ones_and_from_the_base_trial_s() -> None:
    space = space_of(
        SEARCH,
        rest="budget: {trials: 3}\nderived:\n"
        "  model.kernel.hidden_channels: 2 * model.hidden_channels / 2\n"
        "  optimizer.learning_rate: model.kernel.omega_0 / 1000\n",
    )
    trial = space.resolve({"model.hidden_channels": 8, "model.blocks": 2})
    assert trial.model.kernel.hidden_channels == 8  # type: ignore[union-attr]
    assert trial.optimizer.learning_rate == trial.model.kernel.omega_0 / 1000  # type: ignore[union-attr]


def test_a_variable_may_have_the_dots_of_a_setting() -> None:
    rest = BATCH.replace("log_batch", "model.log_batch")
    assert (
        space_of(SEARCH, rest=rest)
        .resolve({"model.hidden_channels": 8, "model.blocks": 2, "model.log_batch": 6})
        .training.batch_size
        == 64
    )


def test_a_space_with_derived_settings_is_read_back_equal() -> None:
    space = space_of(
        SEARCH,
        rest=BATCH + "constraints: ['model.hidden_channels*model.blocks<= 2_00-log_batch']\n"
        "first: [{log_batch: 4}]",
    )
    again = parse_space(space.to_yaml(), "space.yaml")
    assert again == space
    assert str(again.constraints[0]) == "model.hidden_channels * model.blocks <= 200 - log_batch"
    assert again.to_yaml() == space.to_yaml()


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (
            "derived:\n  training.batch_sise: 2 * model.blocks",
            "space.yaml:10: no numeric setting is called 'training.batch_sise'\n"
            "  did you mean 'training.batch_size'?",
        ),
        (
            "derived:\n  training.batch_size: 2 * model.block",
            "space.yaml:10: no numeric setting is called 'model.block'",
        ),
        ("derived:\n  training.batch_size: 2 * model.parameters", "'model.parameters'"),
        (
            "derived:\n  training.batch_size: open('x')",
            "space.yaml:10: derived: training.batch_size: cannot read \"open('x')\" as arithmetic",
        ),
        ("derived:\n  training.batch_size: 64", "cannot read 64 as arithmetic"),
        (
            "derived:\n  training.batch_size: model.blocks / 3",
            "space.yaml:10: search: training.batch_size: expected a whole number, got 0.33",
        ),
        (
            "derived:\n  training.batch_size: 64 // (model.blocks - 1)",
            "space.yaml:10: search: training.batch_size: 64 // (model.blocks - 1) has no value: "
            "division by zero (model.blocks = 1)",
        ),
        (
            "derived:\n  model.dropout: model.blocks / 8",
            "space.yaml:10: search: model.dropout: dropout < 1.0 must hold, got 1.0",
        ),
        (
            "derived:\n  model.blocks: 2 * model.hidden_channels",
            "space.yaml:8: search: model.blocks is set in two places, here and at space.yaml:10",
        ),
        (
            "derived:\n  model.dropout: 1 / 2\n  training.epochs: 2 * model.dropout",
            "derived: training.epochs: model.dropout is derived, too, and cannot be named",
        ),
        (
            "variables:\n  model.blocks: {low: 1, high: 2}",
            "space.yaml:10: variables: model.blocks is a setting",
        ),
        ("variables:\n  model: {low: 1, high: 2}", "variables: model is a setting"),
        ("variables:\n  2x: {low: 1, high: 2}", "variables: '2x' cannot be a name"),
        (
            "variables:\n  x: {low: 1, high: 2}",
            "space.yaml:10: variables: no derived setting depends on x",
        ),
        (
            "variables:\n  x: {low: 2, high: 1}",
            "space.yaml:10: variables: x: low <= high must hold",
        ),
        ("variables:\n  x: {choices: [a]}", "variables: x: a choice must be a number, got 'a'"),
        ("variables:\n  x: 3", "variables: x: cannot read 3 as a range"),
    ],
)
def test_what_cannot_be_derived_is_refused_on_its_line(rest: str, message: str) -> None:
    assert message in refusal(f"{rest}\nbudget: {{trials: 3}}")


def test_a_change_of_a_derived_setting_would_have_no_effect(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(space_text(SEARCH, rest=BATCH))
    with pytest.raises(ConfigError, match=r"training.batch_size is set by the search, at .*:13"):
        read_space(str(path), ["training.batch_size=3"])


def test_a_grid_walks_the_variables_too() -> None:
    space = space_of(
        "model.blocks: {choices: [1, 2]}",
        rest=f"{BATCH.replace('trials: 3', 'trials: 9')}sampler: {{name: grid}}",
    )
    assert grid_size(space) == 8
    sizes = [space.resolve(point).training.batch_size for point in grid(space)]
    assert sizes == [16, 32, 64, 128] * 2
    real = BATCH.replace("low: 4", "low: 4.0") + "sampler: {name: grid}"
    said = refusal(real, "model.blocks: {low: 1, high: 2}")
    assert said.startswith("space.yaml:10: search: log_batch: a grid needs steps here")


# Trials that are tried first


def firsts(first: str, base: str = "", rest: str = BATCH) -> Space:
    return space_of(SEARCH, base=base, rest=f"{rest}first: {first}\n")


def test_the_base_trial_s_variables_are_found_from_its_derived_settings() -> None:
    assert space_of(SEARCH, rest=BATCH).first == (DRAWN | {"log_batch": 6},)


def test_a_base_trial_that_no_variable_makes_is_not_tried_and_why_is_noted() -> None:
    space = space_of(SEARCH, rest=BATCH.replace("2 **", "3 **"))
    assert space.first == ()
    assert space.why_not_base == "no value of log_batch makes training.batch_size 64"


def test_what_a_base_trial_has_and_the_space_computes_otherwise_is_told() -> None:
    rest = f"{BATCH}  model.kernel.hidden_channels: model.hidden_channels\n"
    assert space_of(SEARCH, rest=rest).why_not_base == (
        "model.kernel.hidden_channels is 32, and the space, in which it is 8, computes it"
    )


@pytest.mark.parametrize(
    ("entry", "variable"),
    [
        ("{log_batch: 4}", 4),
        ("{model.blocks: 2}", 6),
        ("{training.batch_size: 32}", 5),
        ("base", 6),
    ],
)
def test_an_entry_gives_a_variable_or_what_follows_from_it(entry: str, variable: int) -> None:
    assert firsts(f"[{entry}]").first[0] in (
        DRAWN | {"log_batch": variable},
        DRAWN | {"model.blocks": 2, "log_batch": variable},
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{log_batch: 8}", "first: log_batch is 8, and what is searched is 4 to 7"),
        ("{log_batch: 4, training.batch_size: 16}", "first: training.batch_size is computed from"),
        ("{training.batch_size: 33}", "first: no value of log_batch makes training.batch_size 33"),
        ("{log_bach: 4}", "no setting is called 'log_bach'"),
    ],
)
def test_an_entry_that_no_point_is_like_is_refused(entry: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"space.yaml:14") as refused:
        firsts(f"[{entry}]")
    assert message in str(refused.value)


def test_what_follows_from_a_searched_setting_needs_not_be_repeated_in_an_entry() -> None:
    space = firsts(
        "[{model.hidden_channels: 16}]",
        rest="budget: {trials: 3}\n"
        "derived: {model.kernel.hidden_channels: model.hidden_channels}\n",
    )
    assert space.resolve(space.first[0]).model.kernel.hidden_channels == 16  # type: ignore[union-attr]


def test_a_real_variable_must_be_given() -> None:
    rest = """\
budget: {trials: 3}
variables:
  x: {low: 0.0, high: 1.0}
derived:
  model.dropout: x / 2
"""
    assert space_of(SEARCH, rest=rest).why_not_base == "this trial has no value for x; give one"
    space = firsts("[{x: 1}]", rest=rest)
    assert space.first[0]["x"] == 1.0
    assert space.resolve(space.first[0]).model.dropout == 0.5


# Constraints over several settings


def bounded(constraint: str, search: str = SEARCH) -> Space:
    return space_of(search, rest=f"{BATCH}constraints: ['{constraint}']\nfirst: []")


@pytest.mark.parametrize(
    ("constraint", "why"),
    [
        ("model.hidden_channels * model.blocks <= 16", ""),
        ("model.hidden_channels * model.blocks <= 15", "does not hold: 16"),
        ("model.hidden_channels < training.batch_size / 4", "does not hold: 8 and 8.0"),
        ("2 ** model.hidden_channels ** model.hidden_channels < 9", "a number is too large"),
        ("1 / (model.blocks - 2) < 9", "division by zero (model.blocks = 2)"),
        ("log_batch + model.blocks >= 8", "log_batch + model.blocks >= 8 does not hold: 7"),
    ],
)
def test_a_draw_that_breaks_a_constraint_over_several_settings_is_rejected_with_its_numbers(
    constraint: str, why: str
) -> None:
    found = resolved(bounded(constraint), DRAWN, 0, uncounted)
    assert why in (found.why if isinstance(found, Infeasible) else "")
    assert isinstance(found, Infeasible) == bool(why)


def test_the_number_of_parameters_may_stand_beside_settings() -> None:
    space = bounded("model.parameters / model.blocks < 1_000")
    assert not isinstance(resolved(space, DRAWN, 0, lambda _: 1_999), Infeasible)
    assert isinstance(resolved(space, DRAWN, 0, lambda _: 2_000), Infeasible)


def test_a_constraint_does_not_apply_where_one_of_its_settings_is_not_there() -> None:
    search = "schedule: {choices: {constant: {}, plateau: {patience: {low: 1, high: 9}}}}"
    space = bounded("schedule.patience * training.batch_size < 100", search)
    drawn = {"schedule": "constant", "log_batch": 5}
    assert not isinstance(resolved(space, drawn, 0, uncounted), Infeasible)
    drawn = {"schedule": "plateau", "schedule.plateau.patience": 5, "log_batch": 5}
    assert isinstance(resolved(space, drawn, 0, uncounted), Infeasible)


def test_a_first_trial_that_breaks_a_constraint_over_several_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.hidden_channels \* model.blocks <= 15 does not"):
        firsts("[base]", rest=BATCH + "constraints: ['model.hidden_channels*model.blocks <= 15']\n")
