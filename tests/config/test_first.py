"""What a sweep tries before its sampler draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.config.bundled import names
from ckconv_sweep.config.domains import Interval, is_value, nearest
from ckconv_sweep.config.notes import notes
from ckconv_sweep.config.read import parse_space, read_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError

SPACE = """\
trial:
  data: {name: digits}
  model: {hidden_channels: 8, kernel: {omega_0: 20.0}}
  schedule: {name: plateau, patience: 3}
  training: {epochs: 3}
search:
  model.hidden_channels: {low: 4, high: 16, step: 4}
  model.kernel.omega_0: {low: 1.0, high: 70.0, log: true}
  model.norm: {choices: [layer, none]}
  schedule:
    choices:
      constant: {}
      plateau: {patience: {low: 1, high: 5}}
      slow: {name: plateau, factor: 0.9, patience: {low: 5, high: 9}}
budget: {trials: 5}
"""
BASE = {
    "model.hidden_channels": 8,
    "model.kernel.omega_0": 20.0,
    "model.norm": "layer",
    "schedule": "plateau",
    "schedule.plateau.patience": 3,
}


def written(first: str, text: str = SPACE) -> Space:
    return parse_space(f"{text}first: {first}\n", "mine.yaml")


def test_the_base_trial_s_own_settings_are_tried_first_where_nothing_is_said() -> None:
    space = parse_space(SPACE, "mine.yaml")
    assert space.first == (BASE,)
    assert space.resolve(space.first[0]) == space.trial
    assert space.why_not_base == ""


@pytest.mark.parametrize(
    ("first", "changed"),
    [
        ("[base]", [{}]),
        ("[]", []),
        ("[{}]", [{}]),
        ("[{model.kernel.omega_0: 31.09}, base]", [{"model.kernel.omega_0": 31.09}, {}]),
        ("[{model.norm: none}]", [{"model.norm": "none"}]),
        ("[{schedule.patience: 5}]", [{"schedule.plateau.patience": 5}]),
    ],
)
def test_an_entry_is_the_base_trial_with_its_changes(first: str, changed: list[object]) -> None:
    assert written(first).first == tuple(BASE | change for change in changed)


def test_an_entry_may_choose_another_block_and_a_block_with_fixed_settings() -> None:
    space = written(
        "[{schedule.name: constant}, {schedule.patience: 6, schedule.factor: 0.9, "
        "schedule.name: plateau}]"
    )
    without = {k: v for k, v in BASE.items() if not k.startswith("schedule")}
    assert space.first == (
        without | {"schedule": "constant"},
        without | {"schedule": "slow", "schedule.slow.patience": 6},
    )
    assert space.resolve(space.first[1]).schedule.factor == 0.9


def test_an_entry_may_be_a_file_beside_the_space(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "data: {name: digits}\nmodel: {hidden_channels: 12, kernel: {omega_0: 7.5}}\n"
        "schedule: {name: plateau, patience: 1}\ntraining: {epochs: 3}\n"
        "metric: {name: val/loss, mode: min}\n"
    )
    (tmp_path / "space.yaml").write_text(f"{SPACE}first: [mine.yaml]\n")
    (found,) = read_space(str(tmp_path / "space.yaml")).first
    changes = {"model.hidden_channels": 12, "model.kernel.omega_0": 7.5}
    assert found == BASE | changes | {"schedule.plateau.patience": 1}


@pytest.mark.parametrize(
    ("first", "line"),
    [
        ("[{model.hidden_channels: 6}]", "model.hidden_channels is 6, and what is searched is "
         "4 to 16, steps of 4"),
        ("[{model.hidden_channels: 20}]", "model.hidden_channels is 20, and"),
        ("[{model.kernel.omega_0: 0.5}]", "model.kernel.omega_0 is 0.5, and what is searched is "
         "1 to 70, log"),
        ("[{model.norm: channel}]", "model.norm is 'channel', and what is searched is "
         "layer | none"),
        ("[{schedule.patience: 12}]", "its schedule, plateau, is a point of none of the blocks"),
        ("[{schedule.name: cosine}]", "its schedule, cosine, is a point of none of the blocks"),
        ("[{model.dropout: 0.25}]", "model.dropout is 0.25, and the space, in which it is 0.0, "
         "does not search it"),
        ("[{model.kernel.omega_0: 3.0}, {model.kernel.omega_0: 3.0}]", "this trial is there twice"),
        ("[mine.yaml]", "the settings must stand here"),
        ("[{model.hiden_channels: 4}]", "no setting is called 'model.hiden_channels'"),
        ("[{model.hidden_channels: 1.5}]", "model.hidden_channels"),
        ("[7]", "first"),
        ("base", "first"),
    ],
)  # fmt: skip
def test_what_is_no_point_of_the_space_is_refused_with_its_place(first: str, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        written(first)
    assert line in refused.value.message
    assert refused.value.where.startswith("mine.yaml:")


def test_what_violates_a_constraint_is_refused() -> None:
    text = f"{SPACE}constraints: ['model.hidden_channels <= 10']\n"
    with pytest.raises(ConfigError, match=r"model\.hidden_channels <= 10 does not hold: 12"):
        written("[{model.hidden_channels: 12}]", text)
    assert len(written("[{model.hidden_channels: 8}]", text).first) == 1


def test_a_base_trial_outside_of_the_space_is_not_tried_and_that_is_noted() -> None:
    space = parse_space(SPACE.replace("high: 70.0", "high: 10.0"), "mine.yaml")
    assert space.first == ()
    why = "model.kernel.omega_0 is 20.0, and what is searched is 1 to 10, log"
    assert f"the base trial's own settings are not tried first: {why}" in notes(space)


def test_a_grid_tries_its_own_points_alone_unless_it_is_told_more() -> None:
    text = SPACE.replace("{low: 1.0, high: 70.0, log: true}", "{choices: [5.0, 20.0]}")
    text += "sampler: {name: grid}\n"
    assert parse_space(text, "mine.yaml").first == ()
    assert len(written("[base]", text).first) == 1


@pytest.mark.parametrize("name", names("search_spaces"))
def test_a_bundled_space_s_first_trials_are_written_and_read_back_equal(name: str) -> None:
    space = read_space(name)
    again = parse_space(space.to_yaml(), name)
    assert again == space
    assert [space.resolve(params) for params in space.first] == [space.trial] * len(space.first)


def test_a_value_that_optuna_has_drawn_is_the_step_that_it_stands_for() -> None:
    three, most = 0.1 * 3, Interval(low=0.0, high=0.3, whole=False, step=0.1)
    assert three != 0.3
    assert is_value(most, three)
    assert nearest(most, three) == 0.3
    assert not is_value(most, 0.300001)
    assert not is_value(most, 0.4)
    assert not is_value(most, float("nan"))
    assert nearest(Interval(low=1, high=9, whole=True, step=4), 5) == 5
