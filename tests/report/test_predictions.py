"""Answers as a table, and what they are most wrong about."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from ckconv_sweep.config.data import Kind
from ckconv_sweep.data.answers import Answers
from ckconv_sweep.report.plots.mistakes import Seen, confusion_picture, mistakes_picture
from ckconv_sweep.report.plots.style import rendered
from ckconv_sweep.report.predictions import confusion, most_confused, table, worst, written

CLASSES = ("cat", "dog", "eel")


def answers(kind: Kind = "classification", *, labelled: bool = True, rows: int = 60) -> Answers:
    rng = np.random.default_rng(0)
    per_step = kind in ("per_step", "text")
    values = rng.random((rows, 3)).astype(np.float32)
    values /= values.sum(1, keepdims=True)
    return Answers(
        kind=kind,
        classes=() if kind == "regression" else CLASSES,
        sequences=np.arange(rows) // (4 if per_step else 1),
        steps=np.arange(rows) % 4 if per_step else None,
        values=values[:, 0] if kind == "regression" else values,
        targets=rng.integers(0, 3, rows).astype(float) if labelled else None,
    )


PROBABILITIES = ["p_cat", "p_dog", "p_eel"]
COLUMNS: dict[Kind, list[str]] = {
    "classification": ["sequence", "target", "prediction", *PROBABILITIES],
    "per_step": ["sequence", "step", "target", "prediction", *PROBABILITIES],
    "text": ["sequence", "step", "target", "prediction", "p_prediction", "p_target"],
    "regression": ["sequence", "target", "prediction"],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_table_has_the_columns_of_its_task(kind: Kind) -> None:
    assert list(table(answers(kind)).columns) == COLUMNS[kind]
    without = [name for name in COLUMNS[kind] if "target" not in name]
    assert list(table(answers(kind, labelled=False)).columns) == without


def test_each_row_tells_its_own_answer() -> None:
    given = answers("text")
    rows = table(given)
    assert given.targets is not None
    for i, row in enumerate(rows.to_dict("records")):
        assert row["prediction"] == CLASSES[int(np.argmax(given.values[i]))]
        assert row["target"] == CLASSES[int(given.targets[i])]
        assert row["p_target"] == given.values[i, int(given.targets[i])]
        assert row["p_prediction"] == given.values[i].max()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_has_every_digit(suffix: str) -> None:
    rows = table(answers())
    content = io.BytesIO(written(rows, suffix))
    found = pd.read_csv(content) if suffix == ".csv" else pd.read_parquet(content)
    assert list(found.columns) == list(rows.columns)
    assert found["prediction"].tolist() == rows["prediction"].tolist()
    for name in PROBABILITIES:
        assert (found[name].astype(np.float32) == rows[name]).all()


def test_confusion_is_the_plain_count() -> None:
    given = answers()
    assert given.targets is not None
    expected = np.zeros((3, 3), dtype=int)
    for target, row in zip(given.targets, given.values, strict=True):
        expected[int(target), int(np.argmax(row))] += 1
    np.testing.assert_array_equal(confusion(given), expected)
    np.fill_diagonal(expected, 0)
    first = most_confused(given)[0]
    assert first[2] == expected.max()
    assert expected[CLASSES.index(first[0]), CLASSES.index(first[1])] == first[2]


def test_the_worst_mistakes_come_first_and_are_all_mistakes() -> None:
    given = answers()
    assert given.targets is not None
    found = worst(given)
    of_target = [given.values[row, int(given.targets[row])] for row in found]
    assert of_target == sorted(of_target)
    assert not given.right[found].any()
    others = np.setdiff1d(np.flatnonzero(~given.right), found)
    assert all(given.values[row, int(given.targets[row])] >= of_target[-1] for row in others)


def test_pictures_are_drawn_of_curves_images_many_classes_and_no_mistake() -> None:
    given = answers(rows=6)
    shapes = [((2, 30), None), ((1, 64), (8, 8)), ((3, 16), (4, 4)), ((1, 1), None)]
    rng = np.random.default_rng(1)
    seen = [Seen(rng.random(shape), image) for shape, image in shapes]
    assert 2 <= len(worst(given)) <= len(seen)
    assert rendered(mistakes_picture(given, seen, "a $ in it"), "png")
    right = Answers(**{**vars(given), "targets": given.chosen.astype(float)})
    assert len(worst(right)) == 0
    assert mistakes_picture(right, [], "none").texts[0].get_text() == "no mistake"
    names = [f"a very long name of the class {n}" for n in range(31)]
    values = rng.random((80, 31)).astype(np.float32)
    targets = rng.integers(0, 31, 80).astype(float)
    many = Answers(**{**vars(given), "classes": names, "values": values, "targets": targets})
    assert not confusion_picture(many, "many").axes[0].texts  # too many cells to write in
    assert confusion_picture(given, "few").axes[0].texts
