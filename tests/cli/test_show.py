from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ckconv_sweep.cli.show import SUBJECTS
from ckconv_sweep.config import bundled
from ckconv_sweep.config.data import DATASETS
from ckconv_sweep.config.model import ARCHITECTURES, KERNEL_NETS, MASKS, NORMS
from ckconv_sweep.config.read import read_file, read_space
from ckconv_sweep.config.reference import all_settings
from ckconv_sweep.config.schema import json_schema

from .commands import ckconv_sweep, ended, refused
from .test_help import said_and_loaded


def shown(*what: str, cwd: Path, columns: int = 200) -> str:
    return ended(ckconv_sweep("show", *what, cwd=cwd, COLUMNS=str(columns)))


def names_in(said: str) -> list[str]:
    """What stands before the colon of each entry."""
    return [line.partition(":")[0] for line in said.splitlines() if line[0] != " "]


def test_without_a_word_it_says_what_can_be_shown(tmp_path: Path) -> None:
    said = shown(cwd=tmp_path)
    assert [line.split()[0] for line in said.splitlines()] == list(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_list_loads_nothing_heavy_and_is_not_too_wide(subject: str, tmp_path: Path) -> None:
    said, loaded = said_and_loaded("show", subject, cwd=tmp_path)
    assert loaded == "0"
    assert said.count("\n") > 8
    assert subject == "schema" or max(map(len, said.splitlines())) <= 100
    assert list(tmp_path.iterdir()) == []


def test_every_row_file_and_setting_is_listed(tmp_path: Path) -> None:
    assert names_in(shown("data", cwd=tmp_path)) == list(DATASETS)
    assert names_in(shown("spaces", cwd=tmp_path)) == bundled.names("search_spaces")
    assert names_in(shown("trials", cwd=tmp_path)) == bundled.names("trials")
    settings = [setting.path for setting in all_settings()]
    assert names_in(shown("settings", cwd=tmp_path)) == settings
    models = names_in(shown("models", cwd=tmp_path))
    assert {*ARCHITECTURES, *KERNEL_NETS, *MASKS, ", ".join(NORMS)} <= set(models)


def test_a_setting_comes_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    said = shown("model.kernel.omega_0", cwd=tmp_path)
    assert said == shown("omega_0", cwd=tmp_path) == shown("settings", "omega_0", cwd=tmp_path)
    lines = said.splitlines()
    assert lines[0] == "model.kernel.omega_0: of ckcnn; a number, > 0; default 30.0"
    assert lines[1].startswith("    Frequency of the kernel net: ")
    assert "    change it   --set model.kernel.omega_0=30.0" in lines
    assert "    search it   model.kernel.omega_0: {low: 1.0, high: 70.0, log: true}  (" in said


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("mask", ["name", "width", "learning_rate_factor", "crop_below"]),
        ("model.mask", ["name", "width", "learning_rate_factor", "crop_below"]),
        ("gaussian", ["width", "learning_rate_factor", "crop_below"]),
    ],
)
def test_a_block_and_a_row_of_it_show_their_settings(
    what: str, names: list[str], tmp_path: Path
) -> None:
    assert names_in(shown(what, cwd=tmp_path)) == [f"model.mask.{name}" for name in names]


def test_a_name_of_several_settings_shows_each(tmp_path: Path) -> None:
    assert names_in(shown("hidden_channels", cwd=tmp_path)) == [
        "model.hidden_channels",
        "model.kernel.hidden_channels",
    ]


def test_a_choice_of_blocks_says_what_each_is(tmp_path: Path) -> None:
    said = shown("mask", cwd=tmp_path)
    assert "    none        The kernel reaches back over the whole sequence.\n" in said
    assert "    search it   model.mask: {choices: {none: {}, gaussian: {}}}\n" in said


def test_a_dataset_and_a_model_show_their_settings(tmp_path: Path) -> None:
    assert names_in(shown("data", "uea", cwd=tmp_path))[0] == "uea"
    assert "data.problem: of uea; a word; required" in shown("data", "uea", cwd=tmp_path)
    assert names_in(shown("models", "gru", cwd=tmp_path))[-1] == "model.layers"


@pytest.mark.parametrize(("kind", "name"), [("spaces", "quickstart"), ("trials", "smnist_98k")])
def test_a_bundled_file_is_a_start_for_ones_own(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(shown(kind, name, cwd=tmp_path))
    assert read_file(str(tmp_path / "mine.yaml")) == read_file(name)
    assert read_space("quickstart").trial  # its base trial is named, not a path beside it


def test_the_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(shown("schema", cwd=tmp_path)) == json_schema()


def test_markdown_is_a_table_with_a_row_for_each(tmp_path: Path) -> None:
    lines = shown("settings", "model", "--markdown", cwd=tmp_path).splitlines()
    assert lines[0] == "| name | of | type | default | meaning |"
    cells = [re.split(r"(?<!\\)\|", line) for line in lines]
    assert {len(row) for row in cells} == {7}
    of_model = [s.path for s in all_settings() if s.path.startswith("model.")]
    assert [row[1].strip() for row in cells[2:]] == [f"`{path}`" for path in of_model]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("show omga_0", "error: no setting is called 'omga_0'\n  did you mean 'omega_0'?"),
        ("show xyz", "error: no setting is called 'xyz'\n  list them: ckconv-sweep show settings"),
        ("show data mnist", "error: no data is called 'mnist'\n  did you mean 'smnist'?"),
        ("show spaces nosuch", "error: no bundled file is called 'nosuch'\n  there are: adding"),
        ("show nosuch smnist", "error: WHAT: nothing is called 'nosuch'\n  there are: data, "),
        ("show exit-codes 2", "error: exit-codes: takes no name, got '2'"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(
    command: str, message: str, tmp_path: Path
) -> None:
    assert message in refused(ckconv_sweep(*command.split(), cwd=tmp_path))
