"""Some sequences of a split, as models want them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ckconv_sweep.data.task import Split
from ckconv_sweep.models.sequence_model import Sampling, present


def batch(split: Split, chosen_EB: Tensor) -> tuple[Tensor, Tensor, Sampling]:
    """Inputs and targets as in `Split`, and when the steps were, for each of E models its own.

    Args:
        chosen_EB: positions in the split, int64, on its device.
    """
    return _batch({name: part[chosen_EB] for name, part in split.tensors.items()}, split.rate)


def same_for_all(split: Split, chosen: slice, models: int) -> tuple[Tensor, Tensor, Sampling]:
    """As `batch`, the same sequences for all models; no copy is made."""
    some = split.some(chosen).tensors
    return _batch({n: part.expand(models, *part.shape) for n, part in some.items()}, split.rate)


def _batch(parts: Mapping[str, Tensor], rate: float) -> tuple[Tensor, Tensor, Sampling]:
    inputs, lengths = parts["inputs"], parts.get("lengths")
    present_B1T = None if lengths is None else present(lengths, inputs)
    return inputs, parts["targets"], Sampling(rate, parts.get("times"), present_B1T)
