"""Some sequences of a split, as a model wants them."""

from __future__ import annotations

from torch import Tensor

from ckconv_sweep.data.task import Split
from ckconv_sweep.models.sequence_model import Sampling


def batch(split: Split, chosen: Tensor | slice) -> tuple[Tensor, Tensor, Sampling]:
    """Inputs and targets as in `Split`, and when the steps were.

    Args:
        chosen: positions in the split, `(B,)`, int64, on its device; or a slice of them.
    """
    times = None if split.times is None else split.times[chosen]
    return split.inputs[chosen], split.targets[chosen], Sampling(split.rate, times)
