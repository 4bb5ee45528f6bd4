"""Recorded curves that ran to their end, for `search/simulator.py`: those of a sweep, or the table
that comes with the package."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep.config.domains import is_value
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.metrics import METRICS, PARAMETERS, SECONDS
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData, UnknownNameError
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.trials import TrialRecord

_NOT_WHOLE: tuple[Outcome, ...] = ("pruned", "continued", "failed", "running")
FOLDER = Path(__file__).with_name("tables")
_END = ".json.gz"


@dataclass(frozen=True, kw_only=True)
class CurveTable:
    """Trials that ran to their own end, in the order in which they were recorded."""

    name: str
    space: Space
    records: tuple[TrialRecord, ...]
    """Completed, with every epoch; a repeat comes after the first trial of its setting."""
    left_out: tuple[str, ...] = ()
    """What is not replayed, and why: a sentence each."""
    recorded: str = ""
    """How a table that comes with the package was recorded."""

    @property
    def epochs(self) -> int:
        """Of all its trials together."""
        return sum(len(record.history) for record in self.records)


def of_sweep(name: str, records: Sequence[TrialRecord], space: Space) -> CurveTable:
    """The trials of a sweep that ran to their end.

    Raises:
        ConfigError: there are none.
    """
    counted = [record for record in records if record.counts]
    own = [record for record in counted if record.replaces is None]
    whole = {r.number for r in own if r.outcome == "completed" and r.repeat_of is None}
    of_best = space.repeats is not None and space.repeats.top is not None
    kept = [
        r
        for r in counted
        if r.number in whole or (r.repeat_of in whole and r.outcome == "completed" and not of_best)
    ]
    if not kept:
        raise ConfigError(
            f"none of its {len(counted)} trials ran to its end, and only such a trial can be "
            "replayed",
            where=name,
            hint="launch a sweep with `scheduler: {name: none}`, or replay the curves that come "
            "with the package: ckconv-sweep simulate --table digits",
        )
    return CurveTable(
        name=name,
        space=space,
        records=tuple(kept),
        left_out=tuple(_left_out(counted, len(kept), space)),
    )


def _left_out(counted: Sequence[TrialRecord], kept: int, space: Space) -> list[str]:
    numbers = {o: sum(r.outcome == o for r in counted) for o in _NOT_WHOLE}
    numbers["pruned"] += numbers["continued"]
    said = []
    if continuations := sum(r.replaces is not None for r in counted):
        begun = "1 trial" if continuations == 1 else f"{continuations} trials"
        said.append(f"{begun} began with another trial's checkpoint: not replayed")
    if numbers["pruned"]:
        said.append(
            f"{numbers['pruned']} of {len(counted)} trials were stopped: what they would have "
            f"reached is not known; only the {kept} that ran to their end are replayed. A rule "
            "saves less among these, which are the better ones"
        )
    if others := numbers["failed"] + numbers["running"]:
        said.append(
            f"{others} of {len(counted)} trials failed or have not ended: they are not replayed"
        )
    if space.repeats is not None and space.repeats.top is not None:
        said.append(
            f"the repeats of the best {space.repeats.top} settings are not replayed: which these "
            "are depends on the rule"
        )
    return said


def bundled_names() -> list[str]:
    """The tables that come with the package."""
    return sorted(path.name.removesuffix(_END) for path in FOLDER.glob(f"*{_END}"))


def bundled(name: str = "digits") -> CurveTable:
    """A table that comes with the package.

    Raises:
        UnknownNameError: there is none of that name.
        DamagedData: its file does not hold what it must.
    """
    if name not in bundled_names():
        raise UnknownNameError("table of curves", name, bundled_names(), where="--table")
    return read_table(FOLDER / f"{name}{_END}")


def read_table(path: Path) -> CurveTable:
    """A table from its file: compressed JSON with `recorded`, the `space` as YAML, and `trials`, of
    each its `params`, the number of parameters and a list for each metric with a value an epoch.

    Raises:
        DamagedData: it is not that.
    """
    name = path.name.removesuffix(_END)
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
        space = parse_space(content["space"], f"{name}: space")
        records = tuple(_record(space, n, told) for n, told in enumerate(content["trials"]))
        table = CurveTable(
            name=name, space=space, records=records, recorded=str(content["recorded"])
        )
    except (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError) as error:
        raise DamagedData(f"this is no table of curves: {error!r}", where=path.name) from None
    except CkconvSweepError as error:
        raise DamagedData(f"this is no table of curves: {error.message}", where=path.name) from None
    if not records:
        raise DamagedData("this table of curves has no trials", where=path.name)
    return table


def packed(space: Space, recorded: str, trials: Sequence[Mapping[str, Any]]) -> bytes:
    """The content of a file that `read_table` reads; the same for the same table."""
    content = {"recorded": recorded, "space": space.to_yaml(), "trials": list(trials)}
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0)


def _record(space: Space, number: int, told: Mapping[str, Any]) -> TrialRecord:
    """A trial of a table. Raises ValueError where it is none of the space that ran to its end."""
    domains, params = space.parameters(), dict(told["params"])
    if space.draw(lambda name, _: params[name]) != params:
        raise ValueError(f"trial {number} has parameters that the space has not")
    for name, value in params.items():
        if not is_value(domains[name], value):
            raise ValueError(f"trial {number}: {name} cannot be {value!r}")
    curves = {name: values for name, values in told.items() if name in METRICS}
    size = float(curves.pop(PARAMETERS))
    epochs = space.resolve(params, number).training.epochs
    for name in {space.metric.name, SECONDS} | curves.keys():
        low, high = METRICS[name].bounds
        values = curves[name]
        if len(values) != epochs:
            raise ValueError(f"trial {number}: {len(values)} values of {name} in {epochs} epochs")
        if not all(math.isfinite(value) and low <= value <= high for value in values):
            raise ValueError(f"trial {number}: {name} is out of its bounds")
    history, ended = [], 0.0
    for epoch in range(epochs):
        metrics = {name: float(values[epoch]) for name, values in curves.items()}
        ended += metrics[SECONDS]
        history.append(
            Epoch(
                number=epoch + 1,
                metrics=metrics | {PARAMETERS: size},
                timestamp_ms=round(1000 * ended),
            )
        )
    return TrialRecord(
        number=number,
        outcome="completed",
        params=params,
        history=tuple(history),
        reason="epochs",
        position=number,
        ended_ms=round(1000 * ended),
    )
