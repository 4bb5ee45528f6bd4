"""What the trials with each value of a setting have reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.report.columns import in_order, is_number, plain
from ckconv_sweep.search.intervals import interval_of_mean

MOST_VALUES = 8
"""Numbers with more different values than these are put in bins."""
BINS = 4


@dataclass(frozen=True)
class Groups:
    """A row a group, and how many trials are in none: those that did not complete, and the
    completed ones that have no value of the setting."""

    table: pd.DataFrame
    not_completed: int
    without_value: int


def grouped(table: pd.DataFrame, setting: str, space: Space, bins: int = BINS) -> Groups:
    """Over completed trials with each value: how many, the mean of the metric with its 95 %
    interval (Student's t, which one trial alone has not; no further than the metric goes), and the
    best.

    A real number without steps, and any number of more than MOST_VALUES values, is put in `bins`
    quantile bins, fewer where one would have less than two trials.

    Args:
        table: of `leaderboard.all_columns`.
        setting: one of its columns.
    """
    metric = space.metric
    completed = table[table["outcome"] == "completed"]
    there = completed[completed[setting].notna()]
    scores = there[metric.name].to_numpy(dtype=float)
    values = plain(there[setting])
    rows: list[dict[str, Any]] = []
    if _is_continuous(values, setting, space):
        numbers = np.array(values, dtype=float)
        for index in quantile_bins(numbers, bins):
            inside = {
                f"{setting} from": numbers[index].min(),
                f"{setting} to": numbers[index].max(),
            }
            rows.append({**inside, **_statistics(scores[index], metric)})
    else:
        for value in in_order(values):
            same = np.array([type(v) is type(value) and v == value for v in values])
            rows.append({setting: value, **_statistics(scores[same], metric)})
    columns = None if rows else [setting, *_statistics(np.ones(1), metric)]
    return Groups(
        table=pd.DataFrame(rows, columns=columns),
        not_completed=len(table) - len(completed),
        without_value=len(completed) - len(there),
    )


def quantile_bins(numbers: np.ndarray[Any, Any], bins: int) -> list[np.ndarray[Any, Any]]:
    """Where the numbers of each bin stand, smallest first. A number belongs to the first bin whose
    upper quantile it does not exceed, so that equal ones are together; no bin is empty."""
    bins = max(1, min(bins, len(numbers) // 2))
    upper = np.quantile(numbers, np.arange(1, bins) / bins)
    number_of = np.searchsorted(upper, numbers, side="left")
    return [np.flatnonzero(number_of == i) for i in np.unique(number_of)]


def _is_continuous(values: list[Any], setting: str, space: Space) -> bool:
    if not values or not all(map(is_number, values)):
        return False
    domain = space.parameters().get(setting)
    real = isinstance(domain, Interval) and not domain.whole and domain.step is None
    return real or len(set(values)) > MOST_VALUES


def _statistics(scores: np.ndarray[Any, Any], metric: Metric) -> dict[str, Any]:
    interval = interval_of_mean(scores.tolist(), metric)
    return {
        "trials": len(scores),
        f"{metric.name} mean": float(scores.mean()),
        "95 % low": interval[0],
        "95 % high": interval[1],
        f"{metric.name} best": float(scores.max() if metric.mode == "max" else scores.min()),
    }
