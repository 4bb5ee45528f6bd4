"""The files of trials that were trained in segments."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.config import documents
from ckconv_sweep.config.read import read_file, read_segments, read_space, read_trial
from ckconv_sweep.config.segments import written
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

LAST = """
data: {name: digits}
model: {hidden_channels: 4, dropout: 0.2}
optimizer: {name: adam, learning_rate: 0.01}
schedule: {name: plateau, patience: 3}
training: {epochs: 9, seed: 7}
"""


def trial(**changes: object) -> Trial:
    tree = documents.parse(LAST, "trial.yaml").value
    for path, value in changes.items():
        block, name = path.split("__")
        tree[block] = tree[block] | {name: value}
    return Trial.model_validate(tree)


def test_segments_come_back_as_they_were_written(tmp_path: Path) -> None:
    first = trial(training__seed=3, model__dropout=0.0)
    second = Trial.model_validate(
        trial(optimizer__learning_rate=0.5).model_dump() | {"schedule": {"name": "constant"}}
    )
    file = tmp_path / "trial.yaml"
    file.write_text(documents.write(written([(first, 2), (second, 5), (trial(), 9)])))
    assert read_segments(str(file)) == (trial(), [(first, 2), (second, 5)])


def test_a_trial_without_segments_has_none(tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text(LAST)
    assert read_segments(str(file)) == (trial(), ())
    changed, _ = read_segments(str(file), ["training.epochs=3"])
    assert changed.training.epochs == 3


@pytest.mark.parametrize(
    ("segments", "line", "says"),
    [
        ("- until: 9", 8, "until must be > 0 and < 9 (training.epochs), got 9"),
        ("- until: 3\n- until: 3", 9, "until must be > 3 and < 9 (training.epochs), got 3"),
        ("- until: 0", 8, "segments.0.until"),
        ("- until: 3\n  settings: {model.hidden_channels: 8}", 9, "model.hidden_channels cannot"),
        ("- until: 3\n  settings: {optimizer.name: sgd}", 9, "optimizer.name cannot"),
        ("- until: 3\n  settings: {optimizer.learning_rate: -1.0}", 8, "optimizer.learning_rate"),
        ("- until: 3\n  more: 1", 9, "more"),
    ],
)
def test_segments_that_cannot_be_are_refused_with_their_line(
    tmp_path: Path, segments: str, line: int, says: str
) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text(f"{LAST}segments:\n{segments}\n")
    with pytest.raises(ConfigError) as refused:
        read_segments(str(file))
    assert says in str(refused.value)
    assert str(refused.value.where) == f"{file}:{line}"


def test_a_change_of_a_trial_in_segments_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text(f"{LAST}segments:\n- until: 3\n")
    for change in ("training.epochs=12", "training.epochs=2"):  # also where no segment would fit
        with pytest.raises(ConfigError, match="only as it is"):
            read_segments(str(file), [change])


def test_a_file_with_segments_is_a_valid_one_where_nothing_is_made_of_it(tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text(f"{LAST}segments:\n- until: 3\n")
    assert read_file(str(file)) == trial()
    file.write_text(f"{LAST}segments:\n- until: 9\n")
    with pytest.raises(ConfigError, match="until must be"):
        read_file(str(file))


def test_a_trial_in_segments_is_no_base_trial(tmp_path: Path) -> None:
    file = tmp_path / "trial.yaml"
    file.write_text(f"{LAST}segments:\n- until: 3\n")
    (tmp_path / "space.yaml").write_text(
        "trial: trial.yaml\nsearch: {model.dropout: {low: 0.0, high: 0.5}}\nbudget: {trials: 2}\n"
    )
    for read in (lambda: read_trial(str(file)), lambda: read_space(str(tmp_path / "space.yaml"))):
        with pytest.raises(ConfigError, match="segments: the settings of this trial changed"):
            read()
