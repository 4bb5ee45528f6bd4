"""A sampler searches quantiles and places; the study holds values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from drawing import new_trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sweep.in_process import formula, machine, make_space
from thinned import each_second

from ckconv_sweep.config.domains import is_value
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.sampling import SAMPLERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.search.view import View
from search.test_samplers import draw_some

SEARCH = """
  training.kernel_penalty: {low: 1.0e-6, high: 1.0e-2, log: true, or_zero: true}
  training.early_stopping_epochs: {low: 1, high: 3, or_zero: true}
  model.dropout: {mean: 0.2, std: 0.1, low: 0.0, high: 0.5}
  model.kernel.omega_0: {mean: 20.0, std: 0.5, low: 1.0, high: 70.0, log: true}
  model.hidden_channels: {mean: 6, std: 2, low: 2, high: 12}
  training.batch_size: {choices: [32, 64, 128], ordered: true}
"""
GRID = """
  training.early_stopping_epochs: {low: 1, high: 3, or_zero: true}
  training.batch_size: {choices: [32, 64, 128], ordered: true}
"""
COMPUTED = """
variables:
  width: {low: 1, high: 3}
derived:
  model.kernel.hidden_channels: 2 ** width
constraints: [model.kernel.hidden_channels * training.batch_size <= 512]
"""


def space_for(name: str, trials: int = 14) -> Space:
    search = GRID if name == "grid" else SEARCH
    text = make_space(sampler=name, trials=trials, search=search).to_yaml()
    return parse_space(text.replace("constraints: []\n", COMPUTED), "space.yaml")


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_every_form_and_the_study_holds_the_values(
    name: str, disk: Path
) -> None:
    one = machine(disk, space_for(name))
    parameters = one.space.parameters()
    for params in draw_some(one, range(14)):
        assert params.keys() == parameters.keys()
        assert all(is_value(parameters[key], value) for key, value in params.items())
        assert one.space.resolve(params).model.kernel.hidden_channels == 2 ** params["width"]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", each_second(SAMPLERS))
def test_a_view_that_goes_on_draws_what_a_new_one_draws(name: str, disk: Path) -> None:
    """Of a rounded value a sampler must not know the quantile from which it came."""
    one = machine(disk, space_for(name))
    draw_some(one, range(12))
    with one.folder.records.create(one.space) as study:
        view = View(one.space, study.trials())
        for position in range(12, 16):
            number = study.next_number()
            drawn = view.draw(position, number)
            anew = View(one.space, study.trials()).draw(position)
            assert drawn == anew
            study.create(drawn.params, drawn.distributions, position=position)


def test_optuna_reads_the_values_and_between_which_ends_they_lie(disk: Path) -> None:
    one = machine(disk, space_for("tpe"))
    params = draw_some(one, range(2))
    storage = f"sqlite:///{one.folder.records.path}"
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    assert [trial.params for trial in trials] == params
    expected: dict[str, Any] = {
        "training.kernel_penalty": FloatDistribution(0.0, 1e-2),
        "training.early_stopping_epochs": IntDistribution(0, 3),
        "model.dropout": FloatDistribution(0.0, 0.5),
        "model.kernel.omega_0": FloatDistribution(1.0, 70.0, log=True),
        "model.hidden_channels": IntDistribution(2, 12),
        "training.batch_size": CategoricalDistribution((32, 64, 128)),
        "width": IntDistribution(1, 3),
    }
    assert trials[0].distributions == expected


def test_tpe_finds_a_zero_that_is_best(disk: Path) -> None:
    one = machine(disk, space_for("tpe"))
    drawn = []
    with one.folder.records.create(one.space) as study:
        for number in range(30):
            params = new_trial(study).params
            drawn.append(params["training.kernel_penalty"])
            accuracy = 0.9 if drawn[-1] == 0.0 else 0.5 - drawn[-1]
            known = formula(one.space.resolve(params, number), 1)
            epoch = replace(known, metrics={**known.metrics, "val/accuracy": accuracy})
            study.add_epoch(number, epoch, accuracy)
            study.end(number, "completed")
    assert drawn[:10].count(0.0) < 6
    assert drawn[20:].count(0.0) >= 6
