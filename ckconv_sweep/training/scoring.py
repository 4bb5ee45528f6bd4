"""A trained model on one split: what `evaluate` and `confirm` open the test split with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

import torch

from ckconv_sweep.config.data import Data, Description
from ckconv_sweep.data.datasets import read_split
from ckconv_sweep.data.identity import digest_of_split
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import NoResult
from ckconv_sweep.models.precision import products_in
from ckconv_sweep.training.evaluation import evaluate
from ckconv_sweep.training.room import out_of_memory_named
from ckconv_sweep.training.weights import Trained

SplitName = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """By each score's name, `accuracy`, on a split of so many sequences with this digest."""

    scores: Mapping[str, float]
    sequences: int
    data: str


class Scorer:
    """Scores models on one split; one that several have in common is read once.

    Args:
        sampling_rate: keep every n-th step; None: as the settings say.
        look: is shown the whole task, once it is read; models with the same settings of the data
            share it.
    """

    def __init__(
        self,
        split: SplitName,
        *,
        device: str = "cpu",
        sampling_rate: int | None = None,
        data_dir: Path | None = None,
        look: Callable[[SequenceTask], object] = lambda task: None,
    ) -> None:
        self._split, self._device, self._rate = split, device, sampling_rate
        self._data_dir, self._look = data_dir, look
        self._read: tuple[Data, Description, Split, str] | None = None

    def score(self, trained: Trained) -> Scored:
        """The scores of a model's best weights.

        Raises:
            ConfigError: the weights are of a model for other data; these sequences cannot be
                sampled so; the data are not there.
            DamagedData: the weights are no finite numbers.
            NoResult: the model's answers are not finite.
            OutOfMemory: there is no room for the model.
        """
        data, training = trained.trial.data, trained.trial.training
        torch.set_num_threads(training.threads)
        description, split, digest = self._sequences(data)
        with out_of_memory_named(), products_in(training.precision):
            model = trained.model(description).to(self._device)
            scores = evaluate(model, split, data.kind)
        if not isfinite(scores["loss"]):  # its other scores would be those of an arbitrary answer
            raise NoResult(
                "the model answers these sequences with numbers that are not finite: loss "
                f"{scores['loss']}",
                where=str(trained.path),
                hint="are its weights whole, and are these the data that it is for?",
            )
        return Scored(scores=scores, sequences=len(split), data=digest)

    def _sequences(self, data: Data) -> tuple[Description, Split, str]:
        if self._read is None or self._read[0] != data:
            description, split = read_split(
                data, self._split, self._rate, self._data_dir, look=self._look
            )
            digest = digest_of_split(split)
            with out_of_memory_named():
                self._read = data, description, split.to(self._device), digest
        return self._read[1:]
