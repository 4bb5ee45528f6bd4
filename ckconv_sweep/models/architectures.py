"""The architectures of the table in `config/model.py`: settings in, a model out."""

from __future__ import annotations

from torch import Generator

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import ARCHITECTURES, ModelConfig
from ckconv_sweep.models.sequence_model import SequenceModel


def make_model(
    config: ModelConfig, description: Description, generator: Generator | None
) -> SequenceModel:
    """The model of these settings for such sequences; see `SequenceModel` for the arguments."""
    model: SequenceModel = ARCHITECTURES.maker(config.name)(config, description, generator)
    return model
