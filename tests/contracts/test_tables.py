"""The contract of every row of every table."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from training.tiny import make_trial

from ckconv_sweep import config
from ckconv_sweep.config import documents
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.metrics import METRICS, SCORES
from ckconv_sweep.config.optimization import SCHEDULES
from ckconv_sweep.config.read import parse_space, trial_from
from ckconv_sweep.config.table import Names, Row, Table, Word
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.training.schedules import learning_rate

NAMES = [f"{config.__name__}.{module.name}" for module in pkgutil.iter_modules(config.__path__)]
MODULES = [importlib.import_module(name) for name in NAMES]
TABLES = {t.word: t for m in MODULES for t in vars(m).values() if isinstance(t, Names)}
ROWS = [(table, name) for table in TABLES.values() for name in table]
PLACES = {
    "dataset": "data",
    "model": "model",
    "kernel net": "model.kernel",
    "kernel activation": "model.kernel.activation",
    "kernel norm": "model.kernel.norm",
    "initialization": "model.kernel.initialization",
    "mask": "model.mask",
    "block": "model.block",
    "norm": "model.norm",
    "activation": "model.activation",
    "dropout": "model.dropout_kind",
    "readout": "model.readout",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "metric": "metric.name",
    "sampler": "sampler",
    "scheduler": "scheduler",
}
"""Where a file names a row. A score is named as a metric."""
NEEDED = {"uea": {"problem": "Tiny"}, "arrays": {"path": "a.npz"}, "threshold": {"bound": 0.5}}
"""Settings without a default."""

every_row = pytest.mark.parametrize(
    ("table", "name"), ROWS, ids=[f"{table.word}-{name}" for table, name in ROWS]
)


def tree_with(place: str, value: Any) -> dict[str, Any]:
    """A space with one value at a place of it or of its trial."""
    trial = {"data": {"name": "digits"}, "training": {"epochs": 2}}
    tree: dict[str, Any] = {"trial": trial, "budget": {"trials": 1}}
    tree["search"] = {"model.dropout": {"choices": [0.0, 0.5]}}
    *outer, last = place.split(".")
    block = tree if place in ("sampler", "scheduler") else trial
    for word in outer:
        block = block.setdefault(word, {})
    block[last] = value
    return tree


def test_every_table_is_named_by_some_setting() -> None:
    assert PLACES.keys() == TABLES.keys() - {SCORES.word}


@every_row
def test_a_row_has_a_name_a_docstring_and_a_maker_that_is_there(
    table: Names[Any], name: str
) -> None:
    row, maker = table[name], table.maker(name)
    if isinstance(table, Table):
        assert issubclass(row, Row)
        assert row.model_fields["name"].default == name
        assert row.__doc__
    else:
        assert isinstance(row, Word)
        assert name.rpartition("/")[2] == row.name
        assert maker.__doc__
    assert callable(maker) or (callable(maker.describe) and callable(maker.load))


@every_row
def test_a_row_survives_being_written_and_read(table: Names[Any], name: str) -> None:
    value: Any = name
    if isinstance(table, Table):
        row = table[name](**NEEDED.get(name, {}))
        value = documents.parse(documents.write(row.model_dump(mode="json")), "row.yaml").value
        assert table.read(value, Row) == row
        assert table.read(row, Row) is row
    else:
        assert table.read(name, str) == name


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("name", ["zzz", 5])
def test_a_name_that_no_row_has_is_answered_with_all_names(kind: str, name: Any) -> None:
    table, place = TABLES[kind], PLACES[kind]
    of_block = isinstance(table, Table)
    text = documents.write(tree_with(place, {"name": name} if of_block else name))
    with pytest.raises(ConfigError) as refusal:
        parse_space(text, "space.yaml")
    expected = (
        f"{place}: no {kind} is called {str(name)!r}"
        if of_block
        else f"{place}: must be one of {', '.join(table)}, got {name!r}"
    )
    assert refusal.value.message == expected
    assert refusal.value.hint == "there are: " + ", ".join(sorted(table))


@pytest.mark.parametrize("kind", PLACES)
def test_a_name_that_is_nearly_a_rows_is_answered_with_it(kind: str) -> None:
    table, place = TABLES[kind], PLACES[kind]
    name = max(table, key=len)
    value = {"name": f"{name}s"} if isinstance(table, Table) else f"{name}s"
    with pytest.raises(ConfigError, match=f"did you mean '{name}'"):
        parse_space(documents.write(tree_with(place, value)), "space.yaml")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_name_is_given_to_one_row_only(table: Names[Any]) -> None:
    name = next(iter(table))
    with table.restored(), pytest.raises(ValueError, match=f"there is a {table.word} '{name}' al"):
        table.register(name, table[name])


@pytest.mark.parametrize("name", [name for name, row in METRICS.items() if row.chooses])
def test_a_metric_needs_no_mode_and_takes_no_wrong_one(name: str) -> None:
    mode = METRICS[name].mode
    wrong = {"max": "min", "min": "max"}[mode]
    tree = make_trial().model_dump(mode="json")
    data = {"auc": "physionet2019", "mean_squared_error": "adding"}.get(
        METRICS[name].name, "digits"
    )
    if METRICS[name].kinds == ("text",):
        data = "ptb_characters"
        tree["model"] |= {"readout": "tied", "norm": "channel"}
    tree["data"] = {"name": data}
    assert trial_from(tree | {"metric": {"name": name}}, "t").metric.mode == mode
    with pytest.raises(ConfigError, match=f"mode must be {mode} for {name}"):
        trial_from(tree | {"metric": {"name": name, "mode": wrong}}, "t")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("better", [True, False])
def test_a_schedule_follows_from_the_history_and_never_rises_after_its_warmup(
    name: str, better: bool
) -> None:
    trial = make_trial(schedule={"name": name}, training={"epochs": 60})
    history = [
        Epoch(number=n, metrics={"val/accuracy": n / 100 if better else 0.5}, timestamp_ms=n)
        for n in range(1, 60)
    ]
    rates = [learning_rate(trial, history[:end]) for end in range(60)]
    assert rates == [learning_rate(trial, history[:end]) for end in range(60)]
    assert all(0.0 < rate <= trial.optimizer.learning_rate for rate in rates)
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)
