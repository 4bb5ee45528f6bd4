"""The list of all settings is complete, and says what the classes do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from ckconv_sweep.config.data import DATASETS
from ckconv_sweep.config.model import ARCHITECTURES, KERNEL_NETS, MASKS, KernelConfig
from ckconv_sweep.config.optimization import OPTIMIZERS, SCHEDULES
from ckconv_sweep.config.read import read_space, trial_from
from ckconv_sweep.config.reference import REQUIRED, Setting, all_settings, changeable, written
from ckconv_sweep.config.sampling import SAMPLERS
from ckconv_sweep.config.settings import OpenFraction, flat
from ckconv_sweep.config.stopping import RULES
from ckconv_sweep.errors import ConfigError

from .conftest import SMALL, Write, space_of, space_text

SETTINGS = all_settings()
TABLES = {
    "data": DATASETS,
    "model": ARCHITECTURES,
    "model.kernel": KERNEL_NETS,
    "model.mask": MASKS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
NEEDED = {"uea": {"problem": "Tiny"}, "arrays": {"path": "mine.npz"}, "ptb_characters": {}}
ROWS = [(path, name) for path, table in TABLES.items() for name in table]


def tree_with(path: str, name: str) -> dict[str, Any]:
    """A trial with one row at its place, and all that it leaves out at its default."""
    tree: dict[str, Any] = {"data": {"name": "digits"}, "training": {"epochs": 2}}
    block = tree
    for word in path.split("."):
        block = block.setdefault(word, {})
    block.clear()
    block |= {"name": name} | NEEDED.get(name, {})
    kind = DATASETS[tree["data"]["name"]](**tree["data"]).kind
    if kind in ("per_step", "text"):
        tree["model"] = {"readout": "every_step", "norm": "channel"}
    if kind == "regression":
        tree["metric"] = {"name": "val/mean_squared_error"}
    return tree


def settings_at(path: str, rows: set[str]) -> list[Setting]:
    return [s for s in SETTINGS if s.path == path and any(set(names) <= rows for names in s.rows)]


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_every_setting_of_a_trial_is_listed_with_its_default(path: str, name: str) -> None:
    tree = tree_with(path, name)
    given = flat(tree)
    dumped = flat(trial_from(tree, "t").model_dump(mode="json"))
    rows = {value for key, value in dumped.items() if key.endswith(".name")}
    for key, value in dumped.items():
        (setting,) = settings_at(key, rows)
        if key not in given and not key.startswith("metric."):
            assert setting.default == written(value), key


def test_every_setting_of_a_space_is_listed() -> None:
    space = space_of("model.dropout: {choices: [0.0, 0.1]}")
    listed = {setting.path for setting in SETTINGS}
    for part in ("sampler", "scheduler", "budget"):
        assert flat({part: space.written()[part]}).keys() <= listed
    assert {"trial", "search", "constraints", "metrics"} <= listed
    assert {"scheduler.rule.name"} <= listed  # and not the settings of each rule in another again
    of_rules = {f"scheduler.{name}" for rule in RULES.values() for name in rule.model_fields}
    assert of_rules - listed == {"scheduler.rule"}
    of_samplers = {f"sampler.{name}" for s in SAMPLERS.values() for name in s.model_fields}
    assert of_samplers - listed == {"sampler.taken_by_auto"}  # only ckconv-sweep writes it


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_every_setting_says_what_it_means(setting: Setting) -> None:
    assert setting.meaning.endswith(".")
    assert setting.meaning == " ".join(setting.meaning.split())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("model.dropout", ("", "a number", ">= 0, < 1", "0.0")),
        ("model.kernel.omega_0", ("ckcnn", "a number", "> 0", "30.0")),
        ("model.mask.width", ("gaussian", "a number", "> 0", "0.075")),
        ("optimizer.beta_1", ("adam, adamw", "a number", ">= 0, < 1", "0.9")),
        ("training.epochs", ("", "a whole number", ">= 1", REQUIRED)),
        ("training.seed", ("", "a whole number", ">= 0, < 2^63", "0")),
        ("training.threads", ("", "a whole number", ">= 1, <= 1024", "1")),
        ("training.precision", ("", "one of float32, tf32, bfloat16", "", "float32")),
        ("model.causal", ("ckcnn", "true or false", "", "true")),
        (
            "data.test_sampling_rate",
            ("character_trajectories, speech_commands", "a whole number", ">= 1", "null"),
        ),
        ("schedule.milestones", ("multistep", "a list", ">= 1", "[]")),
        ("budget.hours", ("", "a number", "> 0", "null")),
        ("data.name", ("", "one of " + ", ".join(DATASETS), "", REQUIRED)),
        ("sampler.name", ("", "one of tpe, gp, nsgaii, random, grid, qmc, cmaes, auto", "", "tpe")),
    ],
)
def test_a_setting_is_told_as_it_is(path: str, said: tuple[str, str, str, str]) -> None:
    (setting,) = (setting for setting in SETTINGS if setting.path == path)
    assert (", ".join(setting.of), setting.type, setting.bounds, setting.default) == said


def test_what_differs_between_rows_has_an_entry_for_each() -> None:
    blocks = [setting for setting in SETTINGS if setting.path == "model.blocks"]
    assert [(setting.of, setting.default) for setting in blocks] == [
        (("ckcnn",), "2"),
        (("tcn",), "8"),
        (("lru",), "2"),
    ]


def test_a_row_of_ones_own_is_listed_at_once() -> None:
    with KERNEL_NETS.restored():

        @KERNEL_NETS.row("nowhere:Wavelet")
        class WaveletConfig(KernelConfig):
            """Wavelets."""

            name: Literal["wavelet"] = "wavelet"
            width: OpenFraction = 0.5
            """Of the first one."""

        (width,) = (s for s in all_settings() if s.path == "model.kernel.width")
    assert (width.of, width.default, width.meaning) == (("wavelet",), "0.5", "Of the first one.")


def bounded() -> Iterator[Any]:
    for setting in SETTINGS:
        if setting.path.split(".")[0] not in ("data", "model", "optimizer", "schedule", "training"):
            continue
        for bound in filter(None, setting.bounds.split(", ")):
            yield pytest.param(setting, *bound.split(), id=f"{setting.path} {bound}")


@pytest.mark.parametrize(("setting", "sign", "limit"), list(bounded()))
def test_a_bound_is_the_one_that_is_kept(setting: Setting, sign: str, limit: str) -> None:
    """Just outside a bound a value is refused for this bound."""
    whole = setting.type != "a number"
    number = 2**63 if limit == "2^63" else int(limit) if whole else float(limit)
    outside = number if sign in ("<", ">") else number + {"<=": 1, ">=": -1}[sign]
    tree: dict[str, Any] = {"data": {"name": "digits"}, "training": {"epochs": 2}}
    for table, name in zip(setting.tables, setting.rows[0], strict=True):
        (place,) = (path for path, known in TABLES.items() if known is table)
        block = tree
        for word in place.split("."):
            block = block.setdefault(word, {})
        block |= {"name": name}
    block = tree
    *above, last = setting.path.split(".")
    for word in above:
        block = block.setdefault(word, {})
    block[last] = [outside] if setting.type == "a list" else outside
    with pytest.raises(ConfigError, match=f"{setting.path}.*{sign} .* must hold"):
        trial_from(tree, "t")


def test_what_can_be_changed_of_a_trial_are_its_settings_with_their_words_or_values() -> None:
    found = changeable("smnist_98k")
    assert found["model.dropout"] == ["0.1"]
    assert found["model.causal"] == ["true", "false"]
    assert found["model.norm"] == ["layer", "instance", "channel", "none"]
    assert found["model.name"] == list(ARCHITECTURES)
    assert "model.mask.width" not in found
    assert "sampler.seed" not in found
    trial = read_space("smnist").trial
    assert found.keys() == flat(trial.model_dump(mode="json")).keys()


def test_what_a_space_searches_cannot_be_changed(write: Write) -> None:
    path = write("space.yaml", space_text("model.dropout: {choices: [0.0, 0.1]}"))
    found = changeable(str(path))
    assert "model.dropout" not in found
    assert found["sampler.name"] == list(SAMPLERS)
    assert found["budget.trials"] == ["3"]
    assert found["model.hidden_channels"] == [str(SMALL["model"]["hidden_channels"])]


def test_of_a_file_that_cannot_be_read_the_defaults_can_be_changed() -> None:
    assert changeable("nowhere.yaml") == changeable(None)
    assert changeable(None)["training.batch_size"] == ["64"]
