"""Which nodes may train, and what is said of those that may not. Knows no Ray.

A node that differs from the driver is not used from the beginning. One whose fault it is that a
process cannot train (no disk, no data any more, a broken GPU) is left alone after three times
without an epoch in between; no trial fails by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep.data.identity import Identity, difference
from ckconv_sweep.record.versions import CODE

MOST_FAULTS = 3
"""After so many a node is left alone."""

CLOCK_SECONDS = 30.0
"""By how much a node's clock may differ: it gives an epoch its time in the study and MLflow."""

NO_GPU = "PyTorch sees no GPU here"


@dataclass
class Roster:
    """`unfit`: the nodes that may not train, by id, and why, with their names; `asked`: those that
    have not answered yet, by id, with their names."""

    unfit: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    _faults: Counter[str] = field(default_factory=Counter)

    @property
    def unused(self) -> list[str]:
        """The ids of the nodes on which nothing may be started now."""
        return [*self.unfit, *self.asked]

    def refuse(self, node: str, name: str, why: str) -> str:
        """A node differs from the driver; returns the line for the user, empty where it is known
        already."""
        known = node in self.unfit
        self.unfit[node] = f"{name}: {why}"
        return "" if known else f"this node is not used: {name}: {why}"

    def fault(self, node: str, name: str, why: str) -> str:
        """A node could not train; returns the line for the user."""
        if node in self.unfit:
            return ""
        self._faults[node] += 1
        if self._faults[node] < MOST_FAULTS:
            return f"{name} could not train, and its trials are handed out again: {why}"
        self.unfit[node] = f"{name}: {why}"
        return f"{name} is left alone after {MOST_FAULTS} faults, at last: {why}"

    def works(self, node: str) -> None:
        """A node has trained an epoch: its earlier faults are forgotten."""
        self._faults.pop(node, None)


def differences(needed: Mapping[str, str], there: Mapping[str, str]) -> str:
    """How the versions of a node differ from the driver's: `torch 2.9.0, code a1b2c3d4; here
    2.13.0, 0f3c...`; empty where they do not."""
    apart = [name for name, version in needed.items() if there.get(name, version) != version]
    if not apart:
        return ""
    their = ", ".join(f"{name} {_short(name, there[name])}" for name in apart)
    return f"{their}; here " + ", ".join(_short(name, needed[name]) for name in apart)


def _short(name: str, version: str) -> str:
    return version[:8] if name == CODE else version


def why_unfit(
    needed: Mapping[str, str],
    said: Mapping[str, Any],
    *,
    gpus: float,
    data: Identity | None,
    asked_at: float,
    heard_at: float,
) -> str:
    """Why a node may not train, from its answer (`probe.answer`); empty where it may.

    Args:
        needed: the driver's `record.versions.of_worker()`.
        gpus: how many GPUs a trial gets.
        data: the identity of the driver's data; None: a node may have others.
        asked_at, heard_at: the driver's clock before and after, in seconds since 1970.
    """
    versions = said["versions"]
    if "code" in versions and versions["ckconv-sweep"] == "none":
        return str(said["error"])
    if apart := differences(needed, versions):
        return apart
    if said["error"]:
        return str(said["error"])
    if gpus and not said["gpus"]:
        return f"a trial gets {gpus:g} GPUs, and {NO_GPU}"
    if data is not None and (apart := difference(data, said["data"] or {})):
        return f"it has other data: {apart}"
    early, late = said["clock"] - heard_at, asked_at - said["clock"]
    if max(early, late) > CLOCK_SECONDS:
        way = "fast" if early > 0 else "slow"
        return f"its clock is {max(early, late):.0f} seconds {way}"
    return ""
