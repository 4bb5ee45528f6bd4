"""`description:` and `$schema:`, which a trial and a space may have and which change nothing."""

from __future__ import annotations

import pytest

from ckconv_sweep.config import documents
from ckconv_sweep.config.read import parse_space, read_file, read_space, read_trial
from ckconv_sweep.errors import ConfigError

from .conftest import SMALL, Write, space_text

NOTES = '$schema: ../schema.json\ndescription: "What I tried: this"\n'
TRIAL = documents.write(SMALL)
SPACE = space_text("model.dropout: {choices: [0.0, 0.1]}")


def test_a_trial_and_a_space_are_the_same_with_and_without_them(write: Write) -> None:
    for name, text in (("trial", TRIAL), ("space", SPACE)):
        without = read_file(str(write(f"{name}.yaml", text)))
        assert read_file(str(write(f"{name}.yaml", NOTES + text))) == without


def test_a_base_trial_may_have_them_in_its_file_and_inside_a_space(write: Write) -> None:
    write("mine.yaml", NOTES + TRIAL)
    beside = SPACE.replace(SPACE[: SPACE.index("search:")], "trial: mine.yaml\n")
    assert read_space(str(write("space.yaml", beside))).trial == read_trial(
        str(write("trial.yaml", TRIAL))
    )
    inside = SPACE.replace("trial:\n", "trial:\n  description: Mine.\n", 1)
    assert parse_space(inside, "space.yaml") == parse_space(SPACE, "space.yaml")


@pytest.mark.parametrize("name", ["$schema", "description"])
@pytest.mark.parametrize("text", [TRIAL, SPACE], ids=["trial", "space"])
def test_they_are_text(name: str, text: str, write: Write) -> None:
    path = write("file.yaml", f"{text}{name}: 3\n")
    with pytest.raises(ConfigError) as refusal:
        read_file(str(path))
    line = text.count("\n") + 1
    assert str(refusal.value) == f"{path}:{line}: {name}: expected a text, got 3"


@pytest.mark.parametrize("change", ["description=new", "$schema=new"])
def test_they_are_no_settings(change: str, write: Write) -> None:
    for text in (NOTES + TRIAL, NOTES + SPACE):
        with pytest.raises(ConfigError, match="no setting is called"):
            read_file(str(write("file.yaml", text)), [change])


def test_inside_a_block_they_are_unknown(write: Write) -> None:
    tree = SMALL | {"model": {"description": "wide"}}
    with pytest.raises(ConfigError, match="no setting is called 'description' in model"):
        read_file(str(write("trial.yaml", documents.write(tree))))
