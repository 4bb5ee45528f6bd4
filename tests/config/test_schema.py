"""The JSON Schema takes what is read, and refuses what it can see to be wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ckconv_sweep.config import documents
from ckconv_sweep.config.domains import Blocks
from ckconv_sweep.config.read import parse_space, read_file
from ckconv_sweep.config.reference import all_settings
from ckconv_sweep.config.schema import json_schema
from ckconv_sweep.config.table import Table
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

from .conftest import Write
from .test_reference import NEEDED

ROOT = Path(__file__).parents[2]
BUNDLED = sorted([*ROOT.glob("search_spaces/*.yaml"), *ROOT.glob("trials/*.yaml")])
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
TRIAL = {"data": {"name": "digits"}, "training": {"epochs": 3}}
SPACE = {
    "trial": TRIAL,
    "search": {"model.dropout": {"low": 0.0, "high": 0.2, "step": 0.1}},
    "budget": {"trials": 3},
}


def changed(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(tree)
    block = tree
    *above, last = path.split("/")
    for word in above:
        block = block.setdefault(word, {})
    block[last] = value
    return tree


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_bundled_file_fits_it_and_names_it(path: Path) -> None:
    assert list(VALIDATOR.iter_errors(documents.read(path).value)) == []
    line, *_ = path.read_text().splitlines()
    assert line == "# yaml-language-server: $schema=../schema.json"
    assert (path.parent / "../schema.json").resolve() == ROOT / "schema.json"


FINE: dict[str, dict[str, Any]] = {
    "a short trial": TRIAL,
    "a short space": SPACE,
    "a name of a base trial": changed(SPACE, "trial", "digits"),
    "notes": TRIAL | {"$schema": "x.json", "description": "Mine."},
    "a real number written as a whole one": changed(TRIAL, "model/dropout", 0),
    "one metric": changed(SPACE, "metric", {"name": "val/loss"}),
    "metrics": changed(SPACE, "metrics", [{"name": "val/loss"}, {"name": "val/accuracy"}]),
    "the row that is meant without a name": changed(TRIAL, "model/kernel", {"omega_0": 3.0}),
    "a block with its name": changed(SPACE, "scheduler", {"name": "asha", "grace_epochs": 2}),
    "whole blocks": changed(
        SPACE,
        "search/schedule",
        {"choices": {"cosine": {}, "slow": {"name": "plateau", "patience": {"low": 5, "high": 9}}}},
    ),
    "whole blocks without settings": changed(
        SPACE, "search/schedule", {"choices": {"constant": None, "cosine": {}}}
    ),
    "a setting inside a block inside a whole block": changed(
        SPACE, "search/model", {"choices": {"ckcnn": {"kernel.omega_0": {"choices": [1.0, 9.0]}}}}
    ),
    "0 or a range": changed(
        SPACE,
        "search/training.kernel_penalty",
        {"low": 1e-6, "high": 1e-3, "log": True, "or_zero": True},
    ),
    "a normal number": changed(
        SPACE, "search/model.dropout", {"mean": 0.2, "std": 0.1, "low": 0.0, "high": 0.5}
    ),
    "ordered choices": changed(
        SPACE, "search/training.batch_size", {"choices": [32, 64], "ordered": True}
    ),
    "a derived setting": SPACE
    | {
        "variables": {"x": {"low": 4, "high": 7}},
        "derived": {"training.batch_size": "2 ** x"},
        "constraints": ["training.batch_size * x <= 896"],
    },
    "true or false": changed(SPACE, "search/model.causal", {"choices": [True, False]}),
    "no value": changed(
        changed(SPACE, "trial/data", {"name": "character_trajectories"}),
        "search/data.test_sampling_rate",
        {"choices": [None, 2]},
    ),
}
WRONG: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no data": {"training": {"epochs": 3}},
    "no budget": {key: value for key, value in SPACE.items() if key != "budget"},
    "an unknown setting": changed(TRIAL, "model/droput", 0.1),
    "an unknown block": changed(TRIAL, "modle", {}),
    "an unknown row": changed(TRIAL, "optimizer", {"name": "adamm"}),
    "no row": changed(TRIAL, "data", {"split_seed": 1}),
    "a setting of another row": changed(TRIAL, "optimizer", {"name": "sgd", "beta_1": 0.5}),
    "a word for a number": changed(TRIAL, "training/epochs", "few"),
    "half an epoch": changed(TRIAL, "training/epochs", 2.5),
    "no epoch": changed(TRIAL, "training/epochs", 0),
    "all dropped": changed(TRIAL, "model/dropout", 1.0),
    "an unknown word": changed(TRIAL, "training/precision", "float16"),
    "a test metric": changed(TRIAL, "metric", {"name": "test/accuracy"}),
    "a number as a note": TRIAL | {"description": 3},
    "an unknown searched setting": changed(SPACE, "search/model.droput", {"choices": [0.1]}),
    "a searched metric": changed(SPACE, "search/metric.at", {"choices": ["best", "last"]}),
    "a searched list": changed(SPACE, "search/data.words", {"choices": ["yes"]}),
    "a searched name of a block": changed(
        SPACE, "search/optimizer.name", {"choices": ["adam", "sgd"]}
    ),
    "a range without an end": changed(SPACE, "search/model.dropout", {"low": 0.0}),
    "a range beyond the bounds": changed(SPACE, "search/model.dropout", {"low": 0.0, "high": 1.5}),
    "a range of a word": changed(SPACE, "search/model.norm", {"low": 0, "high": 1}),
    "a value without a range": changed(SPACE, "search/model.dropout", 0.1),
    "a misspelt range": changed(SPACE, "search/model.dropout", {"lo": 0.0, "high": 0.5}),
    "a normal number with steps": changed(
        SPACE, "search/model.dropout", {"mean": 0.2, "std": 0.1, "low": 0, "high": 0.5, "step": 0.1}
    ),
    "half a normal number": changed(
        SPACE, "search/model.dropout", {"mean": 0.2, "low": 0.0, "high": 0.5}
    ),
    "an order of a range": changed(
        SPACE, "search/model.dropout", {"low": 0.0, "high": 0.5, "ordered": True}
    ),
    "an unknown derived setting": SPACE | {"derived": {"training.batch_sise": "2 * 2"}},
    "a derived word": SPACE | {"derived": {"model.norm": "2 * 2"}},
    "no expression": SPACE | {"derived": {"training.batch_size": 64}},
    "a variable without a range": SPACE
    | {"variables": {"x": 3}, "derived": {"training.batch_size": "2 ** x"}},
    "no choice": changed(SPACE, "search/model.dropout", {"choices": []}),
    "an unknown choice": changed(SPACE, "search/model.norm", {"choices": ["batch"]}),
    "an unknown block to choose": changed(SPACE, "search/schedule", {"choices": {"plato": {}}}),
    "an unknown setting of a block to choose": changed(
        SPACE, "search/schedule", {"choices": {"plateau": {"patiense": 3}}}
    ),
    "no trial": changed(SPACE, "budget/trials", 0),
    "an unknown sampler": changed(SPACE, "sampler", {"name": "tep"}),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_right_fits_and_is_read(name: str, write: Write) -> None:
    assert list(VALIDATOR.iter_errors(FINE[name])) == []
    read_file(str(write("file.yaml", documents.write(FINE[name]))))


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_does_not_fit_and_is_not_read(name: str, write: Write) -> None:
    assert list(VALIDATOR.iter_errors(WRONG[name])) != []
    with pytest.raises(ConfigError):
        read_file(str(write("file.yaml", documents.write(WRONG[name]))))


SEARCHES = SCHEMA["$defs"]["Space"]["properties"]["search"]["properties"]


def test_every_setting_of_a_trial_but_lists_and_the_metric_can_be_searched() -> None:
    listed = {s.path.removesuffix(".name") for s in all_settings() if s.type != "a list"}
    of_trials = {path for path in listed if path.split(".")[0] in Trial.model_fields}
    assert SEARCHES.keys() == {path for path in of_trials if not path.startswith("metric")}


@pytest.mark.parametrize(
    "setting",
    [s for s in all_settings() if s.path in SEARCHES and s.default not in ("required", "null")],
    ids=lambda setting: f"{setting.path} {'-'.join(setting.of)}".strip(),
)
def test_the_default_of_every_setting_can_be_searched(setting: Any) -> None:
    """In a base trial that has the rows that have it."""
    tree = copy.deepcopy(TRIAL)
    for place, table in (("data", 0), ("model", 0), ("optimizer", 0), ("schedule", 0)):
        if setting.path.startswith(f"{place}."):
            tree[place] = {"name": setting.rows[0][table]}
    if len(setting.rows[0]) > 1:
        inner = setting.path.split(".")[1]
        tree["model"][inner] = {"name": setting.rows[0][1]}
    if setting.path.startswith("data."):
        kind = {"adding": "regression", "copy_memory": "per_step", "ptb_characters": "text"}.get(
            tree["data"]["name"]
        )
        if kind in ("per_step", "text"):
            tree["model"] = {"readout": "every_step", "norm": "channel"}
        if kind == "regression":
            tree["metric"] = {"name": "val/mean_squared_error"}
        tree["data"] |= NEEDED.get(tree["data"]["name"], {})
    value = documents.parse(setting.default, "default").value
    space = SPACE | {"trial": tree, "search": {setting.path: {"choices": [value]}}}
    assert list(VALIDATOR.iter_errors(space)) == []
    assert parse_space(documents.write(space), "space.yaml").search


def test_every_row_of_every_table_can_be_a_choice() -> None:
    for setting in all_settings():
        if not isinstance(setting.kind, Table) or setting.path.split(".")[0] not in SEARCHES:
            continue
        path = setting.path.removesuffix(".name")
        block = {row: NEEDED.get(row, {}) for row in setting.kind}
        space = SPACE | {"search": {path: {"choices": block}}}
        assert list(VALIDATOR.iter_errors(space)) == [], path
        if path == "data":  # its rows do not go with one readout
            continue
        domain = parse_space(documents.write(space), "space.yaml").search[path]
        assert isinstance(domain, Blocks)
        assert domain.options.keys() == setting.kind.keys()
