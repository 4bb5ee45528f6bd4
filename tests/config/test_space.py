from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckconv_sweep.config import bundled, documents
from ckconv_sweep.config.domains import Block, Blocks, Choices, Interval, Scalar, from_unit, points
from ckconv_sweep.config.grid import grid, grid_note, grid_size, most_trials
from ckconv_sweep.config.read import parse_space, read_file, read_space, read_trial
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import Asha, Median, NoScheduler
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError

from .conftest import SMALL, Write, examples, outcome, space_of, space_text

DROPOUT = "model.dropout: {choices: [0.0, 0.1]}"
SCHEDULES = """\
schedule:
  choices:
    plateau: {factor: 0.5, patience: {low: 2, high: 3}}
    long: {name: cosine, warmup_epochs: {choices: [0, 1, 2]}}
    constant:"""


def refusal_of(search: str, *, base: str = "", rest: str = "budget: {trials: 3}") -> str:
    with pytest.raises(ConfigError) as refusal:
        space_of(search, base=base, rest=rest)
    return str(refusal.value)


def settings_of(trial: Trial) -> dict[str, Any]:
    return flat(trial.model_dump())


# What may be searched


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "model.kernel.omega_0: {low: 1, high: 70}",
            Interval(low=1.0, high=70.0, whole=False),
        ),
        (
            "model.kernel.omega_0: {low: 1.0, high: 70.0, log: true}",
            Interval(low=1.0, high=70.0, whole=False, log=True),
        ),
        (
            "model.hidden_channels: {low: 4, high: 64, log: true}",
            Interval(low=4, high=64, whole=True, log=True),
        ),
        (
            "model.hidden_channels: {low: 4, high: 64, step: 2, log: false}",
            Interval(low=4, high=64, whole=True, step=2),
        ),
        ("model.hidden_channels: {low: 4.0, high: 1e1}", Interval(low=4, high=10, whole=True)),
        ("model.dropout: {choices: [0, 0.5]}", Choices(options=(0.0, 0.5))),
        ("model.bias: {choices: [true, false]}", Choices(options=(True, False))),
        ("model.norm: {choices: [layer, 'none']}", Choices(options=("layer", "none"))),
        ("model.blocks: {choices: [2]}", Choices(options=(2,))),
    ],
)
def test_the_base_trial_tells_whether_a_setting_is_whole_or_real(
    written: str, expected: Interval | Choices
) -> None:
    (domain,) = space_of(written).search.values()
    assert domain == expected
    assert repr(domain).replace(".0,", ",") == repr(expected).replace(".0,", ",")


@pytest.mark.parametrize(
    ("range_", "high"),
    [
        ("{low: 0, high: 0.35, step: 0.1}", 0.3),
        ("{low: 0, high: 0.3, step: 0.1}", 0.3),
        ("{low: 0.1, high: 0.7, step: 0.2}", 0.7),
        ("{low: 0.05, high: 0.9, step: 0.3}", 0.65),
        ("{low: 0.2, high: 0.3, step: 0.5}", 0.2),
    ],
)
def test_a_range_ends_at_the_last_point_that_its_steps_reach(range_: str, high: float) -> None:
    domain = space_of(f"model.dropout: {range_}").search["model.dropout"]
    assert isinstance(domain, Interval)
    assert domain.high == high


def test_steps_of_a_tenth_are_tenths() -> None:
    domain = Interval(low=0.0, high=0.9, whole=False, step=0.1)
    assert tuple(points(domain) or ()) == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "model.dropot: {choices: [0.1]}",
            "search: no setting is called 'model.dropot'\n  did you mean 'model.dropout'?",
        ),
        (
            "model.hidden_channels: {low: 0.5, high: 9}",
            "search: model.hidden_channels: low must be a whole number, got 0.5",
        ),
        (
            "model.blocks: {low: 1, high: 9, step: 1.5}",
            "step must be a whole number, got 1.5",
        ),
        (
            "model.blocks: {low: '1', high: 9}",
            "search: model.blocks: low must be a number, got '1'",
        ),
        ("model.blocks: {low: true, high: 9}", "low must be a number, got True"),
        (
            "model.blocks: {low: 1, high: .inf}",
            "search: model.blocks: high must be finite, got inf",
        ),
        ("model.blocks: {low: .nan, high: 2}", "search: model.blocks: low must be finite, got nan"),
        ("model.dropout: {low: 0, high: 0.5, step: .inf}", "step must be finite, got inf"),
        (
            "model.dropout: {low: 0.5, high: 0.1}",
            "search: model.dropout: low <= high must hold, got low=0.5 and high=0.1",
        ),
        (
            "model.dropout: {low: 0, high: 0.1, log: true}",
            "search: model.dropout: low > 0 must hold where log is true, got low=0",
        ),
        (
            "model.dropout: {low: 0.1, high: 0.2, log: true, step: 0.1}",
            "search: model.dropout: give log or step, not both",
        ),
        (
            "training.kernel_penalty: {low: 1e-06, high: 2.0, step: 0.3937447423972531}",
            "search: training.kernel_penalty: low=1e-06 and step=0.3937447423972531 have too many",
        ),
        ("model.dropout: {low: 0, high: 0.1, log: 1}", "log must be true or false, got 1"),
        ("model.dropout: {low: 0, high: 0.1, step: 0}", "step > 0 must hold, got step=0"),
        ("model.dropout: {low: 0, high: 0.1, step: -1}", "step > 0 must hold, got step=-1"),
        (
            "model.dropout: {low: 0, high: 1}",
            "search: model.dropout: dropout < 1.0 must hold, got 1",
        ),
        (
            "model.hidden_channels: {low: 0, high: 9}",
            "search: model.hidden_channels: hidden_channels >= 1 must hold, got 0",
        ),
        (
            "model.dropout: 0.1",
            "search: model.dropout: cannot read 0.1 as a range\n  write {low: 1, high: 9}",
        ),
        ("model.dropout: {low: 0}", "search: model.dropout: cannot read {'low': 0} as a range"),
        ("model.dropout: {low: 0, high: 0.1, lgo: true}", "search: model.dropout: cannot read"),
        ("model.dropout: {choices: []}", "search: model.dropout: cannot read {'choices': []}"),
        ("model.dropout: {choices: 0.1}", "search: model.dropout: cannot read {'choices': 0.1}"),
        ("model.dropout: {choices: [0.1], log: true}", "search: model.dropout: cannot read"),
        ("model.dropout:", "search: model.dropout: cannot read None as a range"),
        (
            "model.dropout: {choices: [0.1, [0.2]]}",
            "search: model.dropout: a choice must be one value, got [0.2]",
        ),
        (
            "model.dropout: {choices: [0, 0.5, 0.0]}",
            "search: model.dropout: a choice is listed twice in [0.0, 0.5, 0.0]",
        ),
        (
            "model.dropout: {choices: [a]}",
            "search: model.dropout: a choice must be a number, got 'a'",
        ),
        (
            "model.blocks: {choices: [1, 2.0]}",
            "search: model.blocks: expected a whole number, got 2.0",
        ),
        (
            "model.kernel.activation: {choices: [sine, sin]}",
            "search: model.kernel.activation: must be one of sine, relu, leaky_relu, swish, "
            "got 'sin'\n  did you mean 'sine'?",
        ),
        (
            "model.kernel.activation: {low: 1, high: 2}",
            "search: model.kernel.activation: cannot read {'low': 1, 'high': 2} as a range\n"
            "  write {choices: [a, b]}; one of sine, relu, leaky_relu, swish must come out",
        ),
        ("model.bias: {choices: [true, 1]}", "search: model.bias: expected true or false"),
        (
            "training: {choices: [1]}",
            "search: training is a block of settings\n  search one",
        ),
        ("schedule: {choices: [cosine]}", "search: schedule is a block of settings, got"),
        (
            "schedule: {choices: {}}",
            "search: schedule is a block of settings, got {'choices': {}}\n  write schedule: "
            "{choices: {constant: {}, plateau: {}, multistep: {}, cosine: {}}}",
        ),
        (
            "optimizer.name: {choices: [adam, sgd]}",
            "search: optimizer.name selects a block with settings of its own, so search whole "
            "blocks\n"
            "  write optimizer: {choices: {adam: {}",
        ),
        ("metric.name: {choices: [val/accuracy]}", "search: metric.name cannot be searched"),
        (
            "schedule.patience: {low: 1, high: 2}",
            "search: no setting is called 'schedule.patience'",
        ),
    ],
)
def test_a_wrong_range_is_refused_on_its_line(search: str, message: str) -> None:
    refusal = refusal_of(f"{DROPOUT.replace('dropout', 'input_dropout')}\n{search}")
    assert refusal.startswith("space.yaml:8: search: ")
    assert message in refusal


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cosin:", "search: no schedule is called 'cosin'\n  did you mean 'cosine'?"),
        ("a: {name: cosin}", "search: no schedule is called 'cosin'\n  did you mean 'cosine'?"),
        ("a: {name: [cosine]}", "search: no schedule is called ['cosine']\n"),
        ("cosine: 5", "search: schedule: cosine: expected a block of settings, got 5"),
        (
            "cosine: {warmup: 5}",
            "search: no setting of cosine is called 'warmup'\n  did you mean 'warmup_epochs'?",
        ),
        (
            "cosine: {warmup_epochs: x}",
            "search: schedule.warmup_epochs: expected a whole number, got 'x'",
        ),
        (
            "cosine: {warmup_epochs: {low: 0.5, high: 1}}",
            "search: schedule.cosine.warmup_epochs: low must be a whole number, got 0.5",
        ),
        (
            "cosine: {warmup_epochs: {low: 0, high: 4}}",
            "search: schedule.warmup_epochs must be < training.epochs, got 4 and 4",
        ),
        (
            "multistep: {milestones: {choices: [1, 2]}}",
            "search: schedule.multistep.milestones is a list and cannot be searched\n"
            "  choose among whole blocks, each with its own list",
        ),
        (
            "multistep: {milestones: [2, 1]}",
            "search: schedule: milestones must increase, got [2, 1]",
        ),
    ],
)
def test_a_wrong_block_is_refused_on_its_line(line: str, message: str) -> None:
    refusal = refusal_of(f"schedule:\n  choices:\n    constant:\n    {line}")
    assert refusal.startswith(f"space.yaml:10: {message}")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "rule"),
    [
        (
            "model.kernel.activation: {choices: [sine, relu]}",
            "model.kernel.norm: {choices: [none, layer]}",
            "norm must be none when activation is sine",
        ),
        (
            "model.kernel.activation: {choices: [relu, sine]}",
            "model.kernel.norm: {choices: [none, layer]}",
            "norm must be none when activation is sine",
        ),
        (
            "training.epochs: {choices: [9, 3, 5]}",
            "schedule: {choices: {constant: , cosine: {warmup_epochs: {low: 0, high: 3}}}}",
            "schedule.warmup_epochs must be < training.epochs, got 3 and 3",
        ),
    ],
)
def test_two_settings_that_do_not_go_together_are_refused_before_the_sweep(
    one: str, other: str, rule: str, reverse: bool
) -> None:
    lines = [one, other]
    assert rule in refusal_of("\n".join(reversed(lines) if reverse else lines))


def test_thousands_of_choices_are_checked_in_bounded_time() -> None:
    channels = ", ".join(str(i) for i in range(1, 3_001))
    space = space_of(
        f"model.hidden_channels: {{choices: [{channels}]}}\nmodel.bias: {{choices: [true, false]}}"
    )
    assert len(space.parameters()["model.hidden_channels"].written()["choices"]) == 3_000


# Blocks


def test_blocks_have_labels_fixed_values_and_searched_ones() -> None:
    blocks = space_of(SCHEDULES).search["schedule"]
    assert blocks == Blocks(
        options={
            "plateau": Block(
                name="plateau",
                fixed={"factor": 0.5},
                search={"patience": Interval(low=2, high=3, whole=True)},
            ),
            "long": Block(
                name="cosine", fixed={}, search={"warmup_epochs": Choices(options=(0, 1, 2))}
            ),
            "constant": Block(name="constant", fixed={}, search={}),
        }
    )


def test_draw_asks_only_for_what_the_answers_make_exist() -> None:
    space = space_of(f"{DROPOUT}\n{SCHEDULES}")
    answers: dict[str, Scalar] = {"schedule": "long", "model.dropout": 0.1}
    asked: list[str] = []

    def suggest(name: str, domain: Interval | Choices) -> Scalar:
        asked.append(name)
        return answers.get(name, 2)

    params = space.draw(suggest)
    assert asked == ["schedule", "schedule.long.warmup_epochs", "model.dropout"]
    assert params == {"schedule": "long", "schedule.long.warmup_epochs": 2, "model.dropout": 0.1}


def test_parameters_are_all_that_any_draw_can_ask_for() -> None:
    assert list(space_of(f"{DROPOUT}\n{SCHEDULES}").parameters()) == [
        "schedule",
        "schedule.plateau.patience",
        "schedule.long.warmup_epochs",
        "model.dropout",
    ]


# From parameters to a trial


def test_what_is_not_searched_keeps_the_value_of_the_base() -> None:
    space = space_of(DROPOUT, base="optimizer: {name: sgd, momentum: 0.3}")
    before, after = settings_of(space.trial), settings_of(space.resolve({"model.dropout": 0.1}))
    assert after == before | {"model.dropout": 0.1}
    assert after["optimizer.momentum"] == 0.3


@pytest.mark.parametrize(("number", "seed"), [(0, 10), (1, 11), (250, 260)])
def test_the_seed_is_that_of_the_base_plus_the_number(number: int, seed: int) -> None:
    text = space_text(DROPOUT).replace("epochs: 4", "epochs: 4, seed: 10")
    trial = parse_space(text, "space.yaml").resolve({"model.dropout": 0.1}, number)
    assert trial.training.seed == seed


def test_a_searched_seed_is_not_shifted() -> None:
    space = space_of("training.seed: {choices: [5, 6]}")
    assert space.resolve({"training.seed": 6}, 100).training.seed == 6


@pytest.mark.parametrize(
    ("params", "schedule"),
    [
        (
            {"schedule": "plateau", "schedule.plateau.patience": 3},
            {"schedule.name": "plateau", "schedule.factor": 0.5, "schedule.patience": 3},
        ),
        (
            {"schedule": "long", "schedule.long.warmup_epochs": 1},
            {"schedule.name": "cosine", "schedule.warmup_epochs": 1},
        ),
        ({"schedule": "constant"}, {"schedule.name": "constant"}),
    ],
)
def test_a_chosen_block_takes_the_place_of_the_old_one(
    params: dict[str, Scalar], schedule: dict[str, Any]
) -> None:
    space = space_of(SCHEDULES, base="schedule: {name: plateau, patience: 9, factor: 0.9}")
    rest = {k: v for k, v in settings_of(space.trial).items() if not k.startswith("schedule.")}
    assert settings_of(space.resolve(params)) == rest | schedule


def test_a_block_keeps_what_the_base_has_under_the_same_name() -> None:
    space = space_of(
        "optimizer: {choices: {sgd: , adamw: {weight_decay: 0.5}}}",
        base="optimizer: {name: adam, learning_rate: 0.7, beta_1: 0.1}",
    )
    sgd = space.resolve({"optimizer": "sgd"}).optimizer.model_dump()
    assert sgd == {"name": "sgd", "learning_rate": 0.7, "momentum": 0.9, "weight_decay": 0.0}
    adamw = space.resolve({"optimizer": "adamw"}).optimizer.model_dump()
    assert (adamw["learning_rate"], adamw["beta_1"], adamw["weight_decay"]) == (0.7, 0.1, 0.5)


def test_a_setting_that_all_blocks_share_is_searched_beside_them() -> None:
    space = space_of(
        "optimizer.learning_rate: {low: 1e-4, high: 1, log: true}\n"
        "optimizer: {choices: {adam: , sgd: }}"
    )
    optimizer = space.resolve({"optimizer": "sgd", "optimizer.learning_rate": 0.25}).optimizer
    assert (type(optimizer).__name__, optimizer.learning_rate) == ("SGD", 0.25)


def test_a_setting_that_one_block_lacks_cannot_be_searched_beside_them() -> None:
    search = "schedule.patience: {low: 1, high: 3}\nschedule: {choices: {plateau: , cosine: }}"
    assert "no setting is called 'patience' in schedule" in refusal_of(search)


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({}, "schedule"),
        ({"schedule": "linear"}, "linear"),
        ({"schedule": "plateau"}, "schedule.plateau.patience"),
        ({"schedule": "constant"}, "model.dropout"),
    ],
)
def test_parameters_of_another_space_are_refused(params: dict[str, Scalar], missing: str) -> None:
    with pytest.raises(ConfigError, match=f"not parameters of this space: '{missing}' is missing"):
        space_of(f"{SCHEDULES}\n{DROPOUT}").resolve(params)


# Grid

GRID = "budget: {trials: 3}\nsampler: {name: grid}"


def test_a_grid_is_the_product_written_out() -> None:
    space = space_of(
        "model.blocks: {low: 1, high: 2}\n"
        "model.hidden_channels: {low: 2, high: 6, step: 2}\n"
        "model.dropout: {low: 0, high: 0.2, step: 0.1}\n"
        "model.bias: {choices: [true, false]}",
        rest=GRID,
    )
    names = ("model.blocks", "model.hidden_channels", "model.dropout", "model.bias")
    product = itertools.product((1, 2), (2, 4, 6), (0.0, 0.1, 0.2), (True, False))
    assert list(grid(space)) == [dict(zip(names, point, strict=True)) for point in product]


def test_a_grid_walks_the_settings_of_a_block_where_it_is_chosen() -> None:
    inside: list[dict[str, Scalar]] = [
        {"schedule": "plateau", "schedule.plateau.patience": 2},
        {"schedule": "plateau", "schedule.plateau.patience": 3},
        {"schedule": "long", "schedule.long.warmup_epochs": 0},
        {"schedule": "long", "schedule.long.warmup_epochs": 1},
        {"schedule": "long", "schedule.long.warmup_epochs": 2},
        {"schedule": "constant"},
    ]
    expected = [a | {"model.dropout": b} for a in inside for b in (0.0, 0.1)]
    assert list(grid(space_of(f"{DROPOUT}\n{SCHEDULES}", rest=GRID))) == expected


@pytest.mark.fault("grid-smaller-than-budget")
def test_no_more_trials_can_come_than_a_grid_has_points_and_the_note_says_why() -> None:
    small = space_of(f"{DROPOUT}\n{SCHEDULES}", rest=GRID.replace("trials: 3", "trials: 100"))
    size = len(list(grid(small)))
    assert (grid_size(small), most_trials(small), most_trials(small, 2)) == (size, size, size - 2)
    budget = "the budget allows 100 trials"
    assert grid_note(small) == f"the grid has only {size} points; {budget}"
    assert grid_note(small, 2) == (
        f"the grid has only {size} points, 2 of them were rejected; {budget}"
    )
    enough = space_of(f"{DROPOUT}\n{SCHEDULES}", rest=GRID)
    assert (most_trials(enough, size - 3), grid_note(enough, size - 3)) == (3, "")
    assert most_trials(enough, size - 2) == 2
    assert (grid_size(space_of(DROPOUT)), grid_note(space_of(DROPOUT), 50)) == (None, "")


@pytest.mark.parametrize(
    ("search", "line", "name"),
    [
        ("model.dropout: {low: 0, high: 0.5}", 8, "model.dropout"),
        ("model.kernel.omega_0: {low: 1, high: 5, log: true}", 8, "model.kernel.omega_0"),
        (
            "optimizer.learning_rate: {low: 1e-3, high: 1}\noptimizer: {choices: {adam: }}",
            8,
            "optimizer.learning_rate",
        ),
        (
            "optimizer:\n  choices:\n    adam:\n    sgd: {momentum: {low: 0, high: 0.5}}",
            11,
            "optimizer.sgd.momentum",
        ),
    ],
)
def test_a_grid_is_refused_over_what_cannot_be_counted(search: str, line: int, name: str) -> None:
    refusal = refusal_of(f"model.bias: {{choices: [true]}}\n{search}", rest=GRID)
    assert refusal.startswith(f"space.yaml:{line}: search: {name}: a grid needs steps here\n")


def test_a_grid_that_no_memory_holds_is_refused_at_once() -> None:
    refusal = refusal_of(
        "training.seed: {low: 0, high: 1_000}\nmodel.hidden_channels: {low: 1, high: 1_000}",
        rest=GRID,
    )
    assert "a grid of more than 1,000,000 points is refused" in refusal


# Constraints


@pytest.mark.parametrize(
    ("text", "holds", "breaks"),
    [
        ("model.parameters <= 100_000", 100_000, 100_001),
        ("model.parameters<100000", 99_999, 100_000),
        ("  model.hidden_channels   >=   4  ", 4, 3),
        ("model.dropout > 1e-3", 0.0011, 0.001),
    ],
)
def test_a_constraint_is_a_bound(text: str, holds: float, breaks: float) -> None:
    (constraint,) = space_of(DROPOUT, rest=f"{GRID}\nconstraints: ['{text}']").constraints
    (name,) = constraint.names
    assert constraint.broken_by({name: holds}) == ""
    assert constraint.broken_by({name: breaks}) == f"{constraint} does not hold: {breaks:_}"


@pytest.mark.parametrize(
    "bound", [100_000, -5, 0.5, 1000.0, 1234567.5, 1e22, 1e-7, 10**24, 123456789.123]
)
def test_a_constraint_is_read_as_it_is_written(bound: float) -> None:
    (constraint,) = space_of(
        DROPOUT, rest=f"{GRID}\nconstraints: ['model.parameters <= {bound!r}']"
    ).constraints
    assert str(constraint) == f"model.parameters <= {bound:_}" or isinstance(bound, float)
    again = space_of(DROPOUT, rest=f"{GRID}\nconstraints: ['{constraint}']")
    assert again.constraints == (constraint,)
    assert constraint.right.of({}) == bound


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model.parameters",
            "cannot read 'model.parameters' as a bound\n"
            "  write it as in 'model.parameters <= 100_000'; on both sides there may be numbers, ",
        ),
        ("model.parameters == 5", "cannot read"),
        ("5 <= model.parameters <= 9", "cannot read"),
        ('model.parameters <= "many"', "cannot read"),
        ("model.parameters <= many", "no numeric setting is called 'many'"),
        ("model.parameters <= true", "no numeric setting is called 'true'"),
        ("5 <= 9", "'5 <= 9' is about no setting"),
        ("model.parameters <= .inf", "cannot read"),
        ("model.parameters <= .nan", "cannot read"),
        (
            "model.parametrs <= 5",
            "no numeric setting is called 'model.parametrs'\n  did you mean 'model.p",
        ),
        ("model.bias <= 5", "no numeric setting is called 'model.bias'"),
        ("data.name <= 5", "no numeric setting is called 'data.name'"),
    ],
)
def test_a_constraint_that_says_nothing_is_refused(text: str, message: str) -> None:
    rest = f"budget: {{trials: 3}}\nconstraints:\n  - model.parameters <= 5\n  - '{text}'"
    assert refusal_of(DROPOUT, rest=rest).startswith(f"space.yaml:11: {message}")


# The rest of the file


def test_what_is_not_written_has_its_default() -> None:
    space = space_of(DROPOUT)
    assert (space.sampler.name, space.sampler.seed) == ("tpe", 0)
    assert space.scheduler == NoScheduler()
    assert (space.budget.trials, space.budget.hours) == (3, None)
    assert space.constraints == ()


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("budget: {trials: 0}", "budget.trials: trials >= 1 must hold, got 0"),
        ("budget: {trials: 1.0}", "budget.trials: expected a whole number, got 1.0"),
        ("budget: {}", "budget.trials is missing: expected a whole number"),
        ("budget: 5", "budget: expected a block of settings, got 5"),
        ("budget: {trials: 1, hours: 0}", "budget.hours: hours > 0.0 must hold, got 0"),
        ("budget: {trials: 1, hours: x}", "budget.hours: expected a number, got 'x'"),
        ("budget: {trial: 1}", "no setting is called 'trial' in budget\n  did you mean 'trials'?"),
        (
            "bugdet: {trials: 1}",
            "no setting is called 'bugdet'\n  did you mean 'budget'?",
        ),
        (
            "sampler: {name: tp}",
            "sampler: no sampler is called 'tp'\n  did you mean 'tpe'?",
        ),
        ("sampler: random", "sampler: expected a block of settings, got 'random'"),
        ("sampler: {seed: -1}", "sampler.seed: seed >= 0 must hold, got -1"),
        (
            "scheduler: {name: ahsa}",
            "scheduler: no scheduler is called 'ahsa'\n  did you mean 'asha'?",
        ),
        (
            "scheduler: {grace_epochs: 1}",
            "scheduler.name is missing\n  there are: asha, hyperband, ",
        ),
        ("scheduler: {name: none, grace_epochs: 1}", "no setting is called 'grace_epochs' in sch"),
        (
            "scheduler: {name: threshold, bound: 1.5}",
            "scheduler: bound 1.5: no trial goes on, as val/accuracy is between 0 and 1",
        ),
        (
            "scheduler: {name: threshold, bound: 1.0}",
            "scheduler: bound 1: only a trial with 1 goes on, as val/accuracy is between 0 and 1",
        ),
        (
            "scheduler: {name: patient, rule: {name: threshold, bound: 0}}",
            "scheduler: bound 0: no trial is stopped, as val/accuracy is between 0 and 1",
        ),
        (
            "scheduler: {name: patient, rule: {name: none}}",
            "scheduler.rule: it must be another rule than patient and none, got 'none'",
        ),
        (
            "scheduler: {name: patient, rule: {name: pbt}}",
            "scheduler.rule: it must be a rule that stops trials, and pbt replaces them",
        ),
        (
            "scheduler: {name: patient, rule: {name: asha, grace_epoch: 2}}",
            "no setting is called 'grace_epoch' in scheduler.rule\n  did you mean 'grace_epochs'?",
        ),
        (
            "scheduler: {name: asha, reduction_factor: 1}",
            "scheduler.reduction_factor: reduction_factor >= 2 must hold, got 1",
        ),
        ("scheduler: asha", "scheduler: expected a block of settings, got 'asha'"),
        ("constraints: model.parameters <= 5", "constraints: expected a list, got 'model"),
        ("constraints: [5]", "constraints.0: expected a word, got 5"),
        ("runtime_env: {pip: [x]}", "no setting is called 'runtime_env'\n"),
        ("metric: {name: val/loss, mode: max}", "metric: mode must be min for val/loss"),
        ("metric: val/loss", "metric: expected a block of settings, got 'val/loss'"),
    ],
)
def test_a_mistake_beside_the_search_is_told_on_its_line(rest: str, message: str) -> None:
    before = "" if rest.startswith(("budget", "bugdet")) else "budget: {trials: 3}\n"
    refusal = refusal_of(DROPOUT, rest=before + rest)
    assert refusal.startswith(f"space.yaml:{9 if before else 8}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space.yaml: a space must be a block of settings"),
        ("- a\n", "space.yaml:1: a space must be a block of settings"),
        ("search: {}\n", "space.yaml:1: trial is missing: expected a word or a block of settings"),
        (
            "budget: {trials: 3}\ntrial: 5\nsearch: {}\n",
            "space.yaml:2: trial: expected a word or a block of settings, got 5",
        ),
        (
            "trial: smnist\nbudget: {trials: 3}\nsearch: {}\n",
            "space.yaml:1: trial: the base trial must stand here in full",
        ),
        (
            space_text("").replace("search:", "search: {}"),
            "space.yaml:6: search: at least one setting must be searched",
        ),
        (
            space_text(DROPOUT).replace("epochs", "epoch"),
            "space.yaml:4: no setting is called 'epoch' in training\n  did you mean 'epochs'?",
        ),
    ],
)
def test_a_space_without_its_parts_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_space(text, "space.yaml")
    assert str(refusal.value).startswith(message)


def test_the_metric_of_a_space_comes_before_that_of_its_trial() -> None:
    space = space_of(
        DROPOUT,
        base="metric: {name: train/loss, mode: min, at: last}",
        rest="budget: {trials: 3}\nmetric: {name: val/loss, mode: min}",
    )
    assert space.metric == space.trial.metric == Metric(name="val/loss", mode="min", at="best")
    assert space.resolve({"model.dropout": 0.1}).metric == space.metric


LOSS = "{name: val/loss, mode: min}"


def metrics_of(written: str, *, changes: Sequence[str] = (), write: Write) -> tuple[Metric, ...]:
    text = space_text(DROPOUT, rest=f"budget: {{trials: 3}}\nmetrics: {written}")
    return read_space(str(write("space.yaml", text)), changes).metrics


def test_of_several_metrics_the_first_judges_the_trials(write: Write) -> None:
    accuracy = Metric(name="val/accuracy", mode="max", at="last")
    loss = Metric(name="val/loss", mode="min")
    text = space_text(
        DROPOUT,
        rest=f"budget: {{trials: 3}}\nmetrics: [{{name: val/accuracy, at: last}}, {LOSS}]",
    )
    space = read_space(str(write("space.yaml", text)))
    assert (space.metric, space.metrics) == (accuracy, (accuracy, loss))
    assert space.trial.metric == accuracy
    # The text that is kept, and that a person may launch again, says the same.
    assert parse_space(space.to_yaml(), "stored") == space
    assert read_space(str(write("again.yaml", space.to_yaml()))) == space


def test_one_metric_is_stored_as_before_there_could_be_several(write: Write) -> None:
    """Its digest stands in the studies of existing sweeps."""
    (one,) = metrics_of(f"[{LOSS}]", write=write)
    text = space_text(DROPOUT, rest=f"budget: {{trials: 3}}\nmetric: {LOSS}")
    short = read_space(str(write("short.yaml", text)))
    assert (one,) == short.metrics
    assert "metrics" not in short.written()
    assert short.written()["trial"]["metric"] == {"name": "val/loss", "mode": "min", "at": "best"}


def test_a_change_of_the_metric_is_one_of_the_first(write: Write) -> None:
    metrics = metrics_of(
        f"[{{name: val/accuracy}}, {LOSS}]", changes=["metric.at=last"], write=write
    )
    assert [(m.name, m.at) for m in metrics] == [("val/accuracy", "last"), ("val/loss", "best")]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[]", "metrics: at least one metric must stand here"),
        ("3", "metrics: expected a list, got 3"),
        ("[val/loss]", "metrics.0: expected a block of settings, got 'val/loss'"),
        ("[{nam: val/loss}]", "no setting is called 'nam' in metrics.0\n  did you mean 'name'?"),
        (f"[{{}}, {LOSS}, {LOSS}]", "metrics: val/loss is named twice\n  remove one of the two"),
        (
            "[{}, {name: val/loss, mode: min, at: best}]",
            "metrics: only the first metric has `at`: it chooses the epoch at which all are read",
        ),
        (
            "[{}, {name: val/perplexity, mode: min}]",
            "metrics: smnist is not scored by val/perplexity; there are: val/loss, val/accuracy",
        ),
        (f"[{{}}]\nmetric: {LOSS}", "metric is set in two places, here and at"),
    ],
)
def test_metrics_that_cannot_be_read_or_do_not_fit_are_refused(
    written: str, message: str, write: Write
) -> None:
    with pytest.raises(ConfigError) as refusal:
        metrics_of(written, write=write)
    assert f": {message}" in str(refusal.value)


def test_a_change_may_not_take_the_metric_that_is_a_further_one(write: Write) -> None:
    with pytest.raises(ConfigError, match="val/loss is named twice"):
        metrics_of(f"[{{}}, {LOSS}]", changes=[f"metric={LOSS}"], write=write)


def test_every_data_set_that_is_searched_must_be_scored_by_every_metric(write: Write) -> None:
    text = """
trial: {data: {name: digits}, model: {hidden_channels: 4}, training: {epochs: 3}}
search: {data: {choices: {digits: {}, adding: {}}}}
budget: {trials: 3}
metrics: [{name: val/loss, mode: min}, {name: val/accuracy}]
"""
    with pytest.raises(ConfigError, match="metrics: adding is not scored by val/accuracy"):
        read_space(str(write("space.yaml", text)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("sampler.name=random", ("random", 3, NoScheduler(), 8)),
        ("budget.trials=7", ("tpe", 7, NoScheduler(), 8)),
        ("scheduler.name=asha", ("tpe", 3, Asha(), 8)),
        ("scheduler={name: median, startup_trials: 2}", ("tpe", 3, Median(startup_trials=2), 8)),
        ("model.hidden_channels=9", ("tpe", 3, NoScheduler(), 9)),
    ],
)
def test_a_change_is_one_of_the_space_or_of_its_trial(
    write: Write, change: str, expected: tuple[Any, ...]
) -> None:
    space = read_space(str(write("space.yaml", space_text(DROPOUT))), [change])
    hidden = space.trial.model.hidden_channels
    assert (space.sampler.name, space.budget.trials, space.scheduler, hidden) == expected


@pytest.mark.parametrize(
    "change", ["sampler.nam=tpe", "budget.trials=0", "scheduler.name=x", "model.x=1", "search=1"]
)
def test_a_wrong_change_of_a_space_is_told_as_it_was_given(write: Write, change: str) -> None:
    path = write("space.yaml", space_text(DROPOUT))
    with pytest.raises(ConfigError, match=f"^--set {change}: "):
        read_space(str(path), [change])


# Files


@pytest.fixture
def shipped(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("shipped/trials/small.yaml", documents.write(SMALL))
    write("shipped/search_spaces/quick.yaml", space_text(DROPOUT))
    monkeypatch.setattr(bundled, "folder", lambda kind: tmp_path / "shipped" / kind)


def space_over(trial: str) -> str:
    return f"trial: {trial}\nsearch: {{{DROPOUT}}}\nbudget: {{trials: 3}}\n"


def test_a_base_trial_is_found_from_the_folder_of_the_space(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("trials/mine.yaml", documents.write(SMALL | {"data": {"name": "digits"}}))
    space = write("spaces/space.yaml", space_over("../trials/mine.yaml"))
    monkeypatch.chdir("/")
    assert read_space(str(space)).trial.data.name == "digits"


@pytest.mark.usefixtures("shipped")
def test_a_base_trial_and_a_space_are_found_by_bundled_name(write: Write) -> None:
    by_name = read_space(str(write("space.yaml", space_over("small"))))
    assert by_name == read_space("quick")


@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("trial", ["smal", "../x.yaml", "x" * 300, "."])
def test_a_missing_base_trial_is_told_with_where_it_was_looked_for(
    write: Write, trial: str
) -> None:
    path = write("space.yaml", space_over(trial))
    with pytest.raises(ConfigError) as refusal:
        read_space(str(path))
    assert str(refusal.value).startswith(f"{path}:1: trial: there is no base trial ")
    assert f"looked at {path.parent}" in str(refusal.value)
    assert "bundled trials: small" in str(refusal.value)


def test_a_mistake_in_the_base_trial_is_told_in_its_own_file(write: Write) -> None:
    trial = write("trial.yaml", documents.write(SMALL).replace("epochs", "epoch"))
    with pytest.raises(ConfigError) as refusal:
        read_space(str(write("space.yaml", space_over("trial.yaml"))))
    assert str(refusal.value).startswith(f"{trial}:6: no setting is called 'epoch' in training")


def test_a_trial_is_no_space_and_a_space_no_trial(write: Write) -> None:
    trial = write("trial.yaml", documents.write(SMALL))
    space = write("space.yaml", space_text(DROPOUT))
    with pytest.raises(ConfigError) as refusal:
        read_space(str(trial))
    assert str(refusal.value) == (
        f"{trial}: this is a trial, not a search space\n  train it: ckconv-sweep train {trial}"
    )
    with pytest.raises(ConfigError) as refusal:
        read_trial(str(space))
    assert str(refusal.value) == (
        f"{space}: this is a search space, not a trial\n  launch it: ckconv-sweep launch {space}"
    )


def test_a_space_is_no_base_trial(write: Write) -> None:
    write("other.yaml", space_text(DROPOUT))
    with pytest.raises(ConfigError, match="this is a search space, not a trial"):
        read_space(str(write("space.yaml", space_over("other.yaml"))))


@pytest.mark.usefixtures("shipped")
def test_a_file_is_read_as_what_it_is(write: Write) -> None:
    for file in (str(write("space.yaml", space_text(DROPOUT))), "quick"):
        assert read_file(file) == read_space(file)
    for file in (str(write("trial.yaml", documents.write(SMALL))), "small"):
        assert read_file(file) == read_trial(file)
    with pytest.raises(ConfigError, match="a trial must be a block of settings"):
        read_file(str(write("empty.yaml", "")))
    for file in ("nothing", "x" * 300):
        with pytest.raises(ConfigError, match="neither a file nor a bundled space or trial"):
            read_file(file)


# Properties

REAL = {
    "model.dropout": (0.0, 0.9),
    "model.kernel.omega_0": (0.5, 90.0),
    "optimizer.learning_rate": (1e-6, 2.0),
    "training.kernel_penalty": (0.0, 10.0),
}
WHOLE = {
    "model.hidden_channels": (1, 100),
    "model.blocks": (1, 8),
    "training.batch_size": (1, 2**40),
    "training.seed": (0, 2**62),
}
WORDS: dict[str, st.SearchStrategy[Scalar]] = {
    "model.activation": st.sampled_from(["relu", "gelu"]),
    "model.bias": st.booleans(),
    "model.kernel.initialization": st.sampled_from(["authors_effective", "siren"]),
}


THOUSANDTHS = st.decimals("0.0", "1.0", places=3).map(float)


@st.composite
def ranges(draw: st.DrawFn, low: float, high: float) -> dict[str, Any]:
    value = (
        st.integers(low, int(high))
        if isinstance(low, int)
        else st.floats(low, high)
        | st.decimals(str(low), str(high), places=2).map(float)
        | st.sampled_from([low, high])
    )
    if draw(st.booleans()):
        chosen = draw(st.lists(value, min_size=1, max_size=4, unique=True))
        return {"choices": chosen, "ordered": draw(st.booleans())}
    first, last = sorted((draw(value), draw(value)))
    form = draw(st.sampled_from(["plain", "log", "step", "normal"]))
    log = first > 0 and form != "step" and (form == "log" or draw(st.booleans()))
    if form == "normal" and first + 1e-6 < last < 2**50:  # whole numbers that are floats too
        mean = draw(st.floats(first, last))
        width = math.log(last) - math.log(first) if log else last - first
        std = draw(st.floats(0.1, 10.0)) * width
        return {"low": first, "high": last, "mean": mean, "std": std, "log": log}
    if form == "log" and log:
        # 0 may be no value of the setting
        return {
            "low": first,
            "high": last,
            "log": True,
            "or_zero": low == 0 and draw(st.booleans()),
        }
    if form == "step":
        step = draw(st.integers(1, 9) if isinstance(low, int) else THOUSANDTHS.filter(bool))
        if not isinstance(low, int):
            first, last = max(round(first, 3), 0.001), max(round(last, 3), 0.001)
        return {"low": first, "high": last, "step": step}
    return {"low": first, "high": last}


@st.composite
def optimizers(draw: st.DrawFn) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for label in draw(st.lists(st.text("ab. 1é", max_size=3), max_size=2, unique=True)):
        options[label] = {"name": "adam"}
    for name in draw(st.lists(st.sampled_from(["adam", "sgd"]), min_size=1, unique=True)):
        options[name] = {}
    for block in options.values():
        if draw(st.booleans()):
            block["learning_rate"] = draw(ranges(1e-6, 2.0) | st.just(0.5) | st.just(1))
    return {"choices": options}


@st.composite
def spaces(draw: st.DrawFn) -> str:
    search: dict[str, Any] = {}
    for path, (low, high) in [*REAL.items(), *WHOLE.items()]:
        if draw(st.booleans()):
            search[path] = draw(ranges(low, high))
    for path, word in WORDS.items():
        if draw(st.booleans()):
            search[path] = {"choices": draw(st.lists(word, min_size=1, max_size=3, unique=True))}
    if draw(st.booleans()) or not search:
        search["optimizer"] = draw(optimizers())
        search.pop("optimizer.learning_rate", None)  # it may be set inside
    order = draw(st.permutations(list(search)))
    computed = {
        "variables": {"extra.x": draw(ranges(1, 9)), "y": draw(ranges(0.5, 2.0))},
        "derived": {"training.clip_norm": "extra.x + y / 2 ** 3"},
    }
    bounds = st.integers(0, 10**20) | st.floats(0, 1e20)
    constraints = draw(st.lists(bounds, max_size=2))
    return documents.write(
        {
            "trial": SMALL,
            "search": {path: search[path] for path in order},
            "budget": {"trials": 5, "hours": draw(st.none() | st.floats(0.1, 1e6))},
            "constraints": [f"model.parameters <= {bound!r}" for bound in constraints]
            + ["model.hidden_channels * model.blocks < 900"] * draw(st.booleans()),
            **(computed if draw(st.booleans()) else {}),
            "sampler": {"name": draw(st.sampled_from(["tpe", "random", "qmc"]))},
        }
    )


@examples
@given(spaces())
def test_a_space_is_read_back_equal(text: str) -> None:
    space = parse_space(text, "space.yaml")
    written = space.to_yaml()
    again = parse_space(written, "space.yaml")
    assert again == space
    assert again.to_yaml() == written
    assert list(again.parameters()) == list(space.parameters())


def contains(domain: Interval | Choices, value: Scalar) -> bool:
    if isinstance(domain, Choices):
        return value in domain.options
    assert isinstance(value, (int, float))
    if domain.or_zero and value == 0:
        return True
    return domain.low <= value <= domain.high and (not domain.whole or isinstance(value, int))


def sample(data: st.DataObject, domain: Interval | Choices) -> Scalar:
    if isinstance(domain, Choices):
        return data.draw(st.sampled_from(domain.options))
    if domain.or_zero or domain.mean is not None:
        return from_unit(domain, data.draw(st.floats(0.0, 1.0)))
    if domain.step is not None:
        return data.draw(st.sampled_from(list(itertools.islice(points(domain) or (), 20))))
    if domain.whole:
        return data.draw(st.integers(int(domain.low), int(domain.high)))
    return data.draw(st.floats(domain.low, domain.high))


@examples
@given(spaces(), st.data())
def test_every_draw_lies_in_its_domain_and_is_a_trial(text: str, data: st.DataObject) -> None:
    space = parse_space(text, "space.yaml")
    params = space.draw(lambda _, domain: sample(data, domain))
    domains = space.parameters()
    assert all(contains(domains[name], value) for name, value in params.items())
    trial = settings_of(space.resolve(params, 3))
    base = settings_of(space.trial) | {"training.seed": 3}
    for path, value in params.items():
        if path in trial and path not in ("optimizer",):
            assert trial.pop(path) == value
    searched = {path for path in params if "." in path}
    if space.derived:
        assert trial["training.clip_norm"] == params["extra.x"] + params["y"] / 8  # type: ignore[operator]
    searched |= space.derived.keys()
    rest = {k: v for k, v in trial.items() if not k.startswith("optimizer.") and k not in searched}
    assert rest == {
        k: v for k, v in base.items() if not k.startswith("optimizer.") and k not in searched
    }


@examples
@given(st.data())
def test_a_grid_has_each_point_once_and_only_points_that_exist(data: st.DataObject) -> None:
    few = st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True)
    search: dict[str, Any] = {"model.blocks": {"choices": data.draw(few)}}
    inner = {label: data.draw(st.none() | few) for label in ("plateau", "a", "b")}
    search["schedule"] = {
        "choices": {
            label: {"name": "plateau"} | ({"patience": {"choices": found}} if found else {})
            for label, found in inner.items()
        }
    }
    text = {"trial": SMALL, "search": search, "budget": {"trials": 1}, "sampler": {"name": "grid"}}
    space = parse_space(documents.write(text), "space.yaml")
    expected: list[Mapping[str, Scalar]] = []
    for label, found in inner.items():
        for patience in found or (None,):
            for blocks in search["model.blocks"]["choices"]:
                point: dict[str, Scalar] = {"schedule": label}
                if patience is not None:
                    point[f"schedule.{label}.patience"] = patience
                expected.append(point | {"model.blocks": blocks})
    assert list(grid(space)) == expected
    assert grid_size(space) == len(expected)


VALID = """\
trial:
  data:
    name: smnist
  model:
    hidden_channels: 8
    kernel:
      omega_0: 20.0
  optimizer:
    name: sgd
    momentum: 0.9
  training:
    epochs: 4
search:
  model.dropout: {low: 0.0, high: 0.3, step: 0.1}
  model.blocks: {choices: [1, 2]}
  schedule:
    choices:
      plateau:
        patience: {low: 5, high: 20}
        factor: 0.2
      cosine:
        warmup_epochs: {low: 0, high: 2}
metric:
  name: val/loss
  mode: min
constraints:
  - model.parameters <= 100_000
sampler:
  name: tpe
  seed: 3
scheduler:
  name: asha
  grace_epochs: 2
budget:
  trials: 10
  hours: 1.5
"""
LINES = VALID.splitlines()
VALUES = [i for i, line in enumerate(LINES) if not line.endswith(":")]
KEYS = [i for i, line in enumerate(LINES) if ":" in line]


def refused_line(mutated: list[str]) -> int:
    refusal = outcome(lambda: parse_space("\n".join(mutated) + "\n", "space.yaml"))
    assert isinstance(refusal, ConfigError)
    return int((refusal.where or "").removeprefix("space.yaml:"))


def test_the_space_that_is_mutated_is_valid() -> None:
    assert isinstance(parse_space(VALID, "space.yaml"), Space)


@pytest.mark.fault("damaged-yaml")
@pytest.mark.parametrize("junk", ["[[1]]", "{x: 1}", "!x", "*x", '"\\ud800"', "@"])
@pytest.mark.parametrize("index", VALUES, ids=lambda i: LINES[i].strip().split(":")[0])
def test_junk_in_place_of_a_value_is_refused_on_its_line(index: int, junk: str) -> None:
    line = LINES[index]
    mutated = re.sub(r"(: |- ).*", lambda found: found[1] + junk, line, count=1)
    assert refused_line([*LINES[:index], mutated, *LINES[index + 1 :]]) == index + 1


@pytest.mark.parametrize("index", KEYS, ids=lambda i: LINES[i].strip().split(":")[0])
def test_a_misspelled_key_is_refused_on_its_line(index: int) -> None:
    above = LINES[index].strip() == "choices:"  # without it, the block above is what is wrong
    mutated = LINES[index].replace(":", "_:", 1)
    assert refused_line([*LINES[:index], mutated, *LINES[index + 1 :]]) == index + (not above)


@pytest.mark.parametrize("index", KEYS, ids=lambda i: LINES[i].strip().split(":")[0])
def test_a_key_that_stands_twice_is_refused_where_it_stands_again(index: int) -> None:
    indent = len(LINES[index]) - len(LINES[index].lstrip())
    end = next(
        (
            i
            for i in range(index + 1, len(LINES))
            if len(LINES[i]) - len(LINES[i].lstrip()) <= indent
        ),
        len(LINES),
    )
    again = LINES[index].split(":")[0] + ": 1"
    assert refused_line([*LINES[:end], again, *LINES[end:]]) == end + 1


@pytest.mark.fault("damaged-yaml")
@examples
@given(
    st.integers(0, len(LINES) - 1),
    st.sampled_from(["", "-1", "0", "1", "1e9", ".nan", "x", "[]", "{}", "true", "''", "[1, 1]"])
    | st.text(max_size=5),
)
def test_any_mutation_gives_a_space_or_a_refusal_with_a_line(index: int, junk: str) -> None:
    mutated = re.sub(r"(: |- |:$).*", lambda found: found[1] + " " + junk, LINES[index], count=1)
    text = "\n".join([*LINES[:index], mutated, *LINES[index + 1 :]])
    result = outcome(lambda: parse_space(text, "space.yaml"))
    if isinstance(result, ConfigError):
        assert re.fullmatch(r"space\.yaml:\d+", result.where or "")
    else:
        assert parse_space(result.to_yaml(), "again.yaml") == result


JUNK = (
    st.sampled_from(
        ["", "\n", "\t", " ", "#", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!"]
    )
    | st.sampled_from(
        ["---", "'", '"', "|", ">", "%", "\ufeff", "\ud800", "\0", "9" * 400, "1e999"]
    )
    | st.sampled_from([*(line + "\n" for line in LINES), *(word for word in VALID.split())])
    | st.text(max_size=5)
)


@pytest.mark.fault("damaged-yaml")
@examples
@given(st.integers(0, len(VALID)), st.integers(0, 30), JUNK)
@example(0, len(VALID), "")
def test_a_change_anywhere_gives_a_space_or_a_refusal_with_its_file(
    start: int, cut: int, junk: str
) -> None:
    result = outcome(lambda: parse_space(VALID[:start] + junk + VALID[start + cut :], "space.yaml"))
    if isinstance(result, ConfigError):
        assert re.match(r"space\.yaml(:\d+)?$", result.where or "")
    else:
        assert parse_space(result.to_yaml(), "again.yaml") == result


@st.composite
def disordered(draw: st.DrawFn, value: Any) -> Any:
    """The same values, the keys of every block in another order."""
    if isinstance(value, dict):
        return {key: draw(disordered(value[key])) for key in draw(st.permutations(list(value)))}
    return value


@st.composite
def commented(draw: st.DrawFn, text: str) -> str:
    """The same text with comments at the ends of lines and between them."""
    comments = st.sampled_from(["", "  # {low: 1", "\n# a: 1", "\n\n    # - *x", " #"])
    return "".join(line + draw(comments) + "\n" for line in text.splitlines())


@examples
@given(spaces(), st.data())
def test_the_order_of_keys_and_comments_change_nothing(text: str, data: st.DataObject) -> None:
    space = parse_space(text, "space.yaml")
    tree = data.draw(disordered(documents.parse(text, "space.yaml").value))
    again = parse_space(data.draw(commented(documents.write(tree))), "again.yaml")
    assert again == space
    params = space.draw(lambda _, domain: sample(data, domain))
    assert again.resolve(params, 2) == space.resolve(params, 2)


def test_comments_and_the_order_of_blocks_change_nothing() -> None:
    head, tail = VALID.split("metric:\n")
    swapped = f"# first\nmetric:\n{tail}{head}"
    assert parse_space(swapped, "space.yaml") == parse_space(VALID, "space.yaml")


ARCHITECTURES = """\
model:
  choices:
    ckcnn:
      hidden_channels: {low: 8, high: 20}
      kernel.name: magnet
      kernel.omega_0: {low: 50.0, high: 500.0, log: true}
    small:
      name: gru
      hidden_channels: {low: 2, high: 4}
optimizer.learning_rate: {low: 1e-4, high: 1e-2, log: true}
"""


def test_a_block_may_search_and_fix_what_lies_deeper_in_it() -> None:
    space = space_of(ARCHITECTURES, base="schedule: {name: cosine}")
    assert list(space.parameters()) == [
        "model",
        "model.ckcnn.hidden_channels",
        "model.ckcnn.kernel.omega_0",
        "model.small.hidden_channels",
        "optimizer.learning_rate",
    ]
    params: dict[str, Scalar] = {
        "model": "ckcnn",
        "model.ckcnn.hidden_channels": 9,
        "model.ckcnn.kernel.omega_0": 99.0,
        "optimizer.learning_rate": 1e-3,
    }
    drawn = settings_of(space.resolve(params))
    assert drawn["model.name"] == "ckcnn"
    assert drawn["model.hidden_channels"] == 9
    assert drawn["model.kernel.name"] == "magnet"
    assert drawn["model.kernel.omega_0"] == 99.0
    assert drawn["model.kernel.layers"] == space.trial.model.model_dump()["kernel"]["layers"]
    other: dict[str, Scalar] = {
        "model": "small",
        "model.small.hidden_channels": 3,
        "optimizer.learning_rate": 1e-3,
    }
    drawn = settings_of(space.resolve(other))
    assert (drawn["model.name"], drawn["model.hidden_channels"]) == ("gru", 3)
    assert not any(name.startswith("model.kernel") for name in drawn)
    assert parse_space(space.to_yaml(), "again") == space


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "kernel.omga_0: {low: 1, high: 2}",
            "space.yaml:11: search: no setting of ckcnn is called 'kernel.omga_0'\n"
            "  did you mean 'kernel.omega_0'?",
        ),
        (
            "kernel: {low: 1, high: 2}",
            "space.yaml:11: search: model.ckcnn.kernel is a block of settings\n"
            "  write its settings one by one, as in kernel.hidden_channels",
        ),
        ("kernel.name: magnit", "search: model.kernel: no kernel net is called 'magnit'\n  did"),
        ("kernel.layers: 1", "space.yaml:11: search: model.kernel.layers: layers >= 2 must hold"),
        (
            "kernel.omega_0: {low: 0, high: 2}",
            "space.yaml:11: search: model.kernel.omega_0: omega_0 > 0.0 must hold, got 0",
        ),
    ],
)
def test_a_mistake_deeper_in_a_block_is_told_on_its_line(line: str, message: str) -> None:
    refusal = refusal_of(f"model:\n  choices:\n    gru: {{}}\n    ckcnn:\n      {line}")
    assert message in refusal


def test_a_setting_that_one_of_the_searched_blocks_has_not_is_refused_with_the_right_place() -> (
    None
):
    refusal = refusal_of(
        "model: {choices: {ckcnn: {}, gru: {}}}\nmodel.kernel.omega_0: {low: 1, high: 70}"
    )
    assert "no setting is called 'kernel' in model" in refusal
