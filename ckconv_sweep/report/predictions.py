"""A model's answers as a table: a row for each sequence, or for each step that is answered.

Shapes: R rows, K classes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.data.answers import Answers

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet")


def table(answers: Answers) -> pd.DataFrame:
    """`sequence`, `step` where every step is answered, `target` where it is known, `prediction`,
    and the probability of each class, `p_CLASS`. Of a text, which has many classes, the
    probabilities of the predicted and of the true character only."""
    import pandas as pd

    p, names = answers, np.array(answers.classes, dtype=object)
    columns: dict[str, Any] = {"sequence": p.sequences}
    if p.steps is not None:
        columns["step"] = p.steps
    if p.kind == "regression":
        if p.targets is not None:
            columns["target"] = p.targets
        return pd.DataFrame(columns | {"prediction": p.values})
    if p.targets is not None:
        columns["target"] = names[p.targets.astype(np.int64)]
    columns["prediction"] = names[p.chosen]
    every_row = np.arange(len(p.sequences))
    if p.kind != "text":
        columns |= {f"p_{name}": p.values[:, k] for k, name in enumerate(answers.classes)}
    else:
        columns["p_prediction"] = p.values[every_row, p.chosen]
        if p.targets is not None:
            columns["p_target"] = p.values[every_row, p.targets.astype(np.int64)]
    return pd.DataFrame(columns)


def written(rows: pd.DataFrame, suffix: str) -> bytes:
    """The content of a file of such a table. `suffix`: one of `SUFFIXES`."""
    if suffix == ".csv":
        return bytes(rows.to_csv(index=False).encode())
    content = io.BytesIO()
    rows.to_parquet(content, index=False)
    return content.getvalue()


def confusion(answers: Answers) -> NDArray[np.int64]:
    """`(K, K)`: how many sequences of a class (row) were taken for another (column)."""
    assert answers.targets is not None
    k = len(answers.classes)
    cells = answers.targets.astype(np.int64) * k + answers.chosen
    counts: NDArray[np.int64] = np.bincount(cells, minlength=k * k).reshape(k, k)
    return counts


def most_confused(answers: Answers, most: int = 3) -> list[tuple[str, str, int]]:
    """The commonest mistakes: the true class, what it was taken for, how often."""
    counts = confusion(answers)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    places = [divmod(int(cell), len(counts)) for cell in order]
    names = answers.classes
    return [(names[i], names[j], int(counts[i, j])) for i, j in places if counts[i, j]]


def worst(answers: Answers, most: int = 12) -> NDArray[np.int64]:
    """The rows of the mistakes, the most certain first: those whose target was thought least
    probable."""
    assert answers.targets is not None
    wrong = np.flatnonzero(~answers.right)
    of_target = answers.values[wrong, answers.targets[wrong].astype(np.int64)]
    found: NDArray[np.int64] = wrong[np.argsort(of_target, kind="stable")][:most]
    return found
