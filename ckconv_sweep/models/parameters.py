"""How many parameters a model has, before there is one."""

from __future__ import annotations

from pathlib import Path

import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import ModelConfig
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel


def without_memory(config: ModelConfig, description: Description) -> SequenceModel:
    """`make_model` on the meta device, where tensors have shapes but no memory."""
    with torch.device("meta"):
        return make_model(config, description, generator=None)


def count_parameters(config: ModelConfig, description: Description) -> int:
    """The number of trained values of `make_model(config, description, ...)`; weights that stand at
    two places count once."""
    return sum(p.numel() for p in without_memory(config, description).parameters())


def parameters_of(trial: Trial, data_dir: Path | None = None) -> int:
    """`count_parameters` of a trial's model on its data.

    Raises:
        ConfigError: the size of the dataset stands in files that are not there.
    """
    return count_parameters(trial.model, describe(trial.data, data_dir))
