"""A preparation as values that JSON has, and back: nothing that is none is let through.

Shapes: C channels, T time steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ckconv_sweep.data.preparation import Missing, Preparation

_TYPES = {"float32": torch.float32, "float64": torch.float64}
_MOST = 2**31
"""More channels or steps than any sequence has."""


def as_plain(preparation: Preparation) -> dict[str, Any]:
    """As values that JSON has, without loss."""
    p = preparation
    return {
        "channels": p.channels,
        "length": p.length,
        "measured_on": p.measured_on,
        "scale": p.scale,
        "type": str(p.mean.dtype).removeprefix("torch."),
        "shape": list(p.mean.shape),
        "mean": p.mean.flatten().tolist(),
        "std": p.std.flatten().tolist(),
        "order": None if p.order is None else p.order.tolist(),
        "rate": p.rate,
        "missing": p.missing,
        "continued": p.continued,
        "image": None if p.image is None else list(p.image),
    }


def from_plain(plain: Mapping[str, Any]) -> Preparation:
    """What `as_plain` gave. Raises ValueError if it is none of that."""
    try:
        kept = dict(plain)
        dtype, shape = _TYPES[kept.pop("type")], kept.pop("shape")
        for name in ("mean", "std"):
            kept[name] = torch.tensor(kept[name], dtype=dtype).reshape(shape)
        if kept["order"] is not None:
            kept["order"] = np.array(kept["order"], dtype=np.int64)
        if kept["image"] is not None:
            kept["image"] = tuple(kept["image"])
        if missing := {one.name for one in fields(Preparation)} - kept.keys():
            raise KeyError(*missing)
        found = Preparation(**kept)
        wrong = [name for name, right in _checks(found) if not right]
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"no preparation: {error!r}") from None
    if wrong:
        raise ValueError(f"no preparation: {wrong[0]} cannot be what it says")
    return found


def _checks(p: Preparation) -> list[tuple[str, bool]]:
    """Each value's name, and whether it can be one."""
    sizes = [("channels", p.channels), ("length", p.length), ("rate", p.rate)]
    return [
        *((name, _is_size(value)) for name, value in sizes),
        ("scale", isinstance(p.scale, (int, float)) and 0.0 < p.scale < math.inf),
        ("measured_on", isinstance(p.measured_on, str)),
        ("missing", p.missing in get_args(Missing)),
        ("continued", isinstance(p.continued, bool)),
        ("image", p.image is None or (len(p.image) == 2 and all(map(_is_size, p.image)))),
        ("shape", _is_shape(p.mean, p)),
        ("mean", bool(p.mean.isfinite().all())),
        ("std", bool((p.std.isfinite() & (p.std > 0.0)).all())),
        ("order", p.order is None or np.array_equal(np.sort(p.order), np.arange(p.length))),
    ]


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value < _MOST


def _is_shape(mean_1CT: Tensor, p: Preparation) -> bool:
    """One value, one a channel, or one a prepared step."""
    steps = -(-p.length // p.rate)
    return tuple(mean_1CT.shape) in {(1, 1, 1), (1, p.channels, 1), (1, 1, steps)}
