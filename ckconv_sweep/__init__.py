"""Hyper-parameter sweeps for continuous kernel convolutional networks.

Config asks, data and models are, training does, record remembers, search proposes, tracking
publishes, execution places, sweep repeats, report tells, cli speaks. Each of those words is a
folder that knows only the ones before it; doctor looks at what a sweep left.

For a notebook: `from ckconv_sweep import Sweep`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Sweep"]


def __getattr__(name: str) -> Any:
    """`Sweep` is imported when it is asked for, so that the command line starts at once."""
    if name == "Sweep":
        return importlib.import_module("ckconv_sweep.api").Sweep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
