"""What a sweep's confirmation says, as a table and in sentences."""

from __future__ import annotations

from ckconv_sweep.search.confirmed import Confirmed, Setting, confirmed

__all__ = ["Confirmed", "Setting", "confirmed"]
