"""What of a trial that was trained again is not as it was recorded, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.metrics import PARAMETERS


def metrics_differ(recorded: Sequence[Epoch], now: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is not as it was recorded, a sentence each. Not compared are times, and the number of
    parameters, which the driver adds."""
    by_number = {epoch["number"]: epoch["metrics"] for epoch in now}
    missing = [epoch.number for epoch in recorded if epoch.number not in by_number]
    found = [f"epoch {missing[0]} is recorded, and it ends before"] if missing else []
    gaps: dict[str, list[tuple[int, float, float]]] = {}
    gone: dict[str, list[int]] = {}
    for epoch in recorded:
        for name, was in epoch.metrics.items():
            if epoch.number in missing or name.startswith("time/") or name == PARAMETERS:
                continue
            value = by_number[epoch.number].get(name)
            if value is None:
                gone.setdefault(name, []).append(epoch.number)
            elif was != value:
                gaps.setdefault(name, []).append((epoch.number, was, value))
    for name, numbers in gone.items():
        found.append(
            f"{name}: is recorded, and now missing, in epoch {numbers[0]}; in {len(numbers)} of "
            f"{len(recorded)} epochs"
        )
    for name, several in gaps.items():
        number, was, value = several[0]
        largest = max(abs(value - was) for _, was, value in several)
        found.append(
            f"{name}: epoch {number} is recorded with {was!r}, and has {value!r}; "
            f"{len(several)} of {len(recorded)} epochs differ, by {largest:.3g} at most"
        )
    return found


def weights_differ(kept: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How weights differ, to the last bit, in a sentence; empty where they do not."""
    if kept.keys() != now.keys():
        return "weights: other tensors than the kept ones"
    differing = [name for name in kept if not torch.equal(kept[name], now[name])]
    if not differing:
        return ""
    if any(kept[name].shape != now[name].shape for name in differing):
        return f"weights: {differing[0]} has another shape"
    gaps = [float((kept[name].double() - now[name].double()).abs().max()) for name in differing]
    return (
        f"weights: {len(differing)} of {len(kept)} tensors are not the kept ones, by "
        f"{max(gaps):.3g} at most"
    )
