"""The architectures, by the name that `model.name` gives. A new one is a subclass of
`SequenceModel` in a file of its own, its settings in `config/model.py`, and a line here."""

from __future__ import annotations

from torch import Generator

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import AnyModel
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.lru import LRU
from ckconv_sweep.models.recurrent import GRU, LSTM
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.models.tcn import TCN

ARCHITECTURES: dict[str, type[SequenceModel]] = {
    "ckcnn": CKCNN,
    "tcn": TCN,
    "gru": GRU,
    "lstm": LSTM,
    "lru": LRU,
}


def make_model(
    config: AnyModel, description: Description, generator: Generator | None
) -> SequenceModel:
    """The model of these settings for such sequences; see `SequenceModel` for the arguments."""
    return ARCHITECTURES[config.name](config, description, generator)
