"""A trained model with all that raw sequences need: they come in, answers go out.

Shapes: N sequences, C channels, T time steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ckconv_sweep.config.data import Description
from ckconv_sweep.data.answers import Answers
from ckconv_sweep.data.given import Given, of_file
from ckconv_sweep.data.preparation import Preparation
from ckconv_sweep.data.sequence_files import SequenceFile, read_sequences
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import ConfigError, NoResult
from ckconv_sweep.models.sequence_model import EVENLY, Sampling
from ckconv_sweep.training.prediction import all_answers, as_trained, rows, scores
from ckconv_sweep.training.weights import Trained


@dataclass(frozen=True, eq=False)
class Predicted:
    """Answers, and where targets are known the scores by name, as `evaluate` gives them."""

    answers: Answers
    scores: dict[str, float]


class Predictor(nn.Module):
    """A model, its trial, and how its data were prepared.

    Example: `predictor.predict(sequences).predicted`
    """

    def __init__(
        self,
        trained: Trained,
        description: Description,
        preparation: Preparation | None,
        classes: Sequence[str],
    ) -> None:
        """Raises as `Trained.model`."""
        super().__init__()
        self.trained, self.description = trained, description
        self._preparation = preparation
        self.model = trained.model(description).requires_grad_(False)
        self.classes = _names(description, classes)
        """The name of each class, by its number; empty where the answer is a number."""

    @property
    def image(self) -> tuple[int, int] | None:
        """Height and width, where a sequence is an image's pixels row by row."""
        return None if self._preparation is None else self._preparation.image

    @property
    def preparation(self) -> Preparation:
        """What raw sequences go through first. Raises ConfigError if only the dataset knows."""
        if self._preparation is None:
            raise ConfigError(
                f"files of {self.description.name} cannot be prepared one by one",
                where=str(self.trained.path),
                hint="take validation or test in place of a file",
            )
        return self._preparation

    def forward(self, inputs: Tensor, sampling: Sampling = EVENLY) -> Tensor:
        """The model's answers to prepared sequences, as `SequenceModel.forward` gives them."""
        answered: Tensor = self.model(inputs, None, sampling)
        return answered

    def predict(
        self, sequences: NDArray[Any] | Sequence[NDArray[Any]], targets: Any = None
    ) -> Answers:
        """Answers to raw sequences, `(N, C, T)`, or a list of `(C, T)`; NaN where a value is
        missing. Raises as `given`."""
        series = [np.asarray(one, dtype=np.float64) for one in sequences]
        for one in series:
            if one.ndim != 2:
                raise ConfigError(f"a sequence has the shape (channels, steps), got {one.shape}")
        return self.answered(self.given(SequenceFile(series, targets), "sequences")).answers

    def read(self, path: Path) -> Given:
        """The sequences of a file. Raises as `read_sequences` and `given`."""
        _ = self.preparation  # before a large file is read
        return self.given(read_sequences(path), str(path))

    def given(self, file: SequenceFile, where: str) -> Given:
        """Raises ConfigError if the model cannot take a sequence."""
        return of_file(file, where, self.preparation, self.description.kind, self.classes)

    def answered(
        self, given: Given, say: Callable[[str], None] = lambda message: None
    ) -> Predicted:
        """All answers, and the scores.

        Raises:
            NoResult: an answer is not finite.
            OutOfMemory: there is no room for one sequence.
        """
        kind = self.description.kind
        with as_trained(self.trained.trial):
            found = all_answers(self.model, given, say)
            if not all(some.isfinite().all() for some in found):
                raise NoResult(
                    "the model answers these sequences with numbers that are not finite",
                    where=str(self.trained.path),
                    hint="are its weights whole, and are these the data that it is for?",
                )
            scored = scores(given, found, kind) if given.labelled else {}
        return Predicted(rows(given, found, kind, self.classes), scored)


def _names(description: Description, classes: Sequence[str]) -> Sequence[str]:
    if description.kind == "regression":
        return ()
    return classes or [str(number) for number in range(max(2, description.outputs))]


def of_task(trained: Trained, task: SequenceTask) -> Predictor:
    """With what the dataset that it was trained on tells: it measures means and standard deviations
    on its training sequences when it is loaded."""
    return Predictor(trained, task.description, task.preparation, task.classes)


def by_itself(trained: Trained) -> Predictor | None:
    """Without the dataset, where the file brings all that is needed of it."""
    if trained.description is None or trained.preparation is None:
        return None
    return Predictor(trained, trained.description, trained.preparation, trained.classes)
