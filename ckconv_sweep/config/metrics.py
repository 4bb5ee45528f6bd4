"""The scores of a model on a split, and the metrics that a trial can be judged by: a score of its
training or its validation split, and beside one, what the trial costs. `config/table.py` says how
to add a score."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ckconv_sweep.config.data import Kind
from ckconv_sweep.config.table import Word, Words


@dataclass(frozen=True)
class Score(Word):
    """Its maker is a function of what `given` says that gives a number."""

    mode: Literal["max", "min"]
    """Which direction is better."""
    kinds: tuple[Kind, ...]
    """The kinds of task that are scored by it."""
    given: Literal["loss", "right", "answers"] = "loss"
    """The mean loss, the share of right answers, or all answers and all targets, on the CPU."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Between which values it lies."""
    in_training: bool = False
    """Whether the training split is scored too, by the sums over the steps of an epoch. Not where
    all answers are given."""
    chooses: bool = True
    """Whether the epoch that counts can be chosen by it; if not, it is read at one that another
    metric chooses."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.\- ]+", self.name):  # MLflow refuses other names
            raise ValueError(f"{self.name!r}: a name is of letters, digits, _, -, . and spaces")
        if self.in_training and self.given == "answers":
            raise ValueError(f"{self.name}: an epoch of training keeps no answers")


METRICS: Words[Score] = Words("metric")
"""What a trial can be judged by: each score of the validation split, some of the training split,
and costs."""
PARAMETERS = "model.parameters"
"""The number of trainable numbers of a trial's model: no setting, but a constraint may name it."""
SECONDS = "time/epoch_seconds"
"""How long an epoch took, without its scoring."""


class _Scores(Words[Score]):
    def add(self, row: Score) -> Score:
        for split in ("val", "train")[: 1 + row.in_training]:
            METRICS.register(f"{split}/{row.name}", row)
        return super().add(row)


_CHOICES: tuple[Kind, ...] = ("classification", "binary", "per_step", "text")
_HERE = "ckconv_sweep.training.objectives"
SCORES = _Scores(
    "score",
    Score(
        "loss", f"{_HERE}:itself", "min", get_args(Kind), bounds=(0.0, math.inf), in_training=True
    ),
    Score("accuracy", f"{_HERE}:itself", "max", _CHOICES, "right", (0.0, 1.0), in_training=True),
    Score("auc", f"{_HERE}:auc", "max", ("binary",), "answers", (0.0, 1.0)),
    Score("mean_squared_error", f"{_HERE}:itself", "min", ("regression",), bounds=(0.0, math.inf)),
    Score("bits_per_character", f"{_HERE}:in_bits", "min", ("text",), bounds=(0.0, math.inf)),
    Score("perplexity", f"{_HERE}:perplexity", "min", ("text",), bounds=(1.0, math.inf)),
)
for _name, _maker in (
    (PARAMETERS, "ckconv_sweep.models.parameters:parameters_of"),
    (SECONDS, "ckconv_sweep.training.pack:Pack"),
):
    METRICS.register(
        _name,
        Score(
            _name.rpartition("/")[2],
            _maker,
            "min",
            get_args(Kind),
            bounds=(0.0, math.inf),
            chooses=False,
        ),
    )


def scored_by(kind: Kind, *, in_training: bool = False) -> dict[str, Score]:
    """What a split of such a task is scored by."""
    return {
        name: score
        for name, score in SCORES.items()
        if kind in score.kinds and (score.in_training or not in_training)
    }
