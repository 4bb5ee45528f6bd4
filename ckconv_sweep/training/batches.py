"""Some sequences of a split, as models want them."""

from __future__ import annotations

from torch import Tensor

from ckconv_sweep.data.task import Split


def batch(split: Split, chosen_EB: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, targets and times as in `Split`, for each of E models its own.

    Args:
        chosen_EB: positions in the split, int64, on its device.
    """
    times = None if split.times is None else split.times[chosen_EB]
    return split.inputs[chosen_EB], split.targets[chosen_EB], times


def same_for_all(split: Split, chosen: slice, models: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `batch`, the same sequences for all models; no copy is made."""
    parts = split.inputs, split.targets, split.times
    inputs, targets, times = (
        None if part is None else part[chosen].expand(models, *part[chosen].shape) for part in parts
    )
    assert inputs is not None
    assert targets is not None
    return inputs, targets, times
