"""An editor with a language server for YAML completes our settings and underlines mistakes."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckconv_sweep.config.model import NORMS
from ckconv_sweep.config.sampling import SAMPLERS

from . import language_server
from .language_server import LanguageServer

ROOT = Path(__file__).parents[2]
PROGRAM = shutil.which("yaml-language-server")
LINE = "# yaml-language-server: $schema=../schema.json\n"
TRIAL = "data: {name: digits}\ntraining: {epochs: 3}\n"
SPACE = "trial: digits\nsearch: {model.dropout: {low: 0.0, high: 0.2}}\nbudget: {trials: 3}\n"

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no yaml-language-server here: npm install --global yaml-language-server",
)


@pytest.fixture(scope="module")
def editor() -> Iterator[LanguageServer]:
    assert PROGRAM is not None
    with language_server.started(PROGRAM) as server:
        yield server


@pytest.fixture
def file() -> Path:
    """A file that is not on the disk, beside the bundled spaces."""
    return ROOT / "search_spaces" / f"{uuid.uuid4()}.yaml"


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("", {"trial", "search", "budget", "data", "model", "training"}),
        ("trial: digits\n", {"search", "budget", "sampler", "constraints"}),
        ("data: {name: digits}\nmodel:\n  ker", {"kernel", "hidden_channels", "norm"}),
        ("data: {name: digits}\nmodel:\n  kernel:\n    om", {"omega_0", "layers"}),
        ("data: {name: digits}\nmodel:\n  norm: ", set(NORMS)),
        ("data: {name: digits}\noptimizer:\n  name: sgd\n  ", {"momentum", "learning_rate"}),
        ("trial: digits\nsearch:\n  model.ker", {"model.kernel.omega_0", "model.dropout"}),
        ("trial: digits\nsearch:\n  model.dropout:\n    ", {"low", "high", "choices"}),
        ("trial: digits\nsearch:\n  schedule:\n    choices:\n      ", {"plateau", "cosine"}),
        (
            "trial: digits\nsearch:\n  schedule:\n    choices:\n      plateau:\n        ",
            {"factor", "patience"},
        ),
        ("trial: digits\nsampler:\n  name: ", set(SAMPLERS)),
    ],
)
def test_a_setting_is_completed(
    text: str, some: set[str], editor: LanguageServer, file: Path
) -> None:
    assert some <= set(editor.offered(file, LINE + text))


def test_settings_of_another_row_are_not_offered(editor: LanguageServer, file: Path) -> None:
    offered = editor.offered(file, f"{LINE}data: {{name: digits}}\noptimizer:\n  name: sgd\n  ")
    assert "beta_1" not in offered


@pytest.mark.parametrize("text", [TRIAL, SPACE], ids=["trial", "space"])
def test_what_is_right_is_not_underlined(text: str, editor: LanguageServer, file: Path) -> None:
    assert editor.underlined(file, LINE + text) == []


@pytest.mark.parametrize("path", ["search_spaces/digits.yaml", "trials/smnist_98k.yaml"])
def test_a_bundled_file_is_not_underlined(path: str, editor: LanguageServer) -> None:
    assert editor.underlined(ROOT / path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (TRIAL + "model: {kernel: {omga_0: 3}}\n", 4, "Property omga_0 is not allowed."),
        (TRIAL + "model: {dropout: 1.5}\n", 4, "Value is above the exclusive maximum of 1."),
        (SPACE.replace("model.dropout", "model.dropuot"), 3, "Property model.dropuot is not"),
        (SPACE + "sampler: {name: tep}\n", 5, 'Value must be "tpe" | "random" | "grid" | "qmc".'),
    ],
)
def test_a_mistake_is_underlined(
    text: str, line: int, message: str, editor: LanguageServer, file: Path
) -> None:
    ((where, said),) = editor.underlined(file, LINE + text)
    assert (where, said[: len(message)]) == (line, message)


def test_a_setting_is_explained(editor: LanguageServer, file: Path) -> None:
    said = editor.explained(file, f"{LINE}{TRIAL}model:\n  dropout: 0.1\n", line=4, column=4)
    assert said.startswith("Share of the hidden values that are dropped in training.")
