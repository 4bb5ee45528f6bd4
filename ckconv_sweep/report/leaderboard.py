"""The trials of a sweep as a table: what it says. How it looks is `report.render`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import pandas as pd

from ckconv_sweep.config.domains import Choices, Interval
from ckconv_sweep.config.history import best
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.study import TrialRecord

_ORDER = {"completed": 0, "running": 1, "pruned": 2, "failed": 3}


def leaderboard(records: Iterable[TrialRecord], space: Space) -> pd.DataFrame:
    """One row a trial: rank, trial, outcome, the metric, its epoch, epochs run, seconds, and what
    was searched. Only completed trials have a rank; the others follow, each kind by its metric.
    A trial that violated a constraint was never trained and is left out."""
    metric = space.metric
    searched = list(space.parameters())
    rows = []
    for record in records:
        if not record.counts:
            continue
        chosen = best(record.history, metric) if record.history else None
        outcome = record.outcome + (f" ({record.reason})" if record.outcome == "failed" else "")
        rows.append(
            {
                "trial": record.number,
                "outcome": outcome,
                metric.name: chosen.metrics[metric.name] if chosen else None,
                "at epoch": chosen.number if chosen else None,
                "epochs": len(record.history),
                "seconds": sum(e.metrics.get("time/epoch_seconds", 0.0) for e in record.history),
                **{name: record.params.get(name) for name in searched},
                "_order": _ORDER[record.outcome],
            }
        )
    columns = ["trial", "outcome", metric.name, "at epoch", "epochs", "seconds", *searched]
    # As objects first: pandas makes real numbers of whole ones beside a gap, and rounds large ones.
    table = pd.DataFrame(rows, columns=[*columns, "_order"], dtype=object)
    table = table.sort_values(
        ["_order", metric.name, "trial"],
        ascending=[True, metric.mode == "min", True],
        na_position="last",
    )
    ranks = [i + 1 if order == 0 else None for i, order in enumerate(table["_order"])]
    table.insert(0, "rank", ranks)
    settings = space.parameters().items()
    counted = [name for name, domain in settings if _is_whole(domain)]
    for whole in ("rank", "trial", "at epoch", "epochs", *counted):
        with contextlib.suppress(OverflowError):  # more than 64 bits stay Python's whole numbers
            table[whole] = table[whole].astype("Int64")
    real = [name for name, d in settings if isinstance(d, Interval) and not d.whole]
    for name in (metric.name, "seconds", *real):
        table[name] = table[name].astype(float)
    return table.drop(columns="_order").reset_index(drop=True)


def _is_whole(domain: Interval | Choices) -> bool:
    if isinstance(domain, Interval):
        return domain.whole
    return all(type(option) is int for option in domain.options)
