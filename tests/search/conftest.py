from __future__ import annotations

from sweep.conftest import disk

__all__ = ["disk"]
