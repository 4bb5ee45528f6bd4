"""Which rows and columns of a table are meant, in which order: the options of `table`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ckconv_sweep.config.trial import Metric
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.report import filters
from ckconv_sweep.report.columns import better_is, find, names_of, sorted_by, split_order
from ckconv_sweep.report.leaderboard import shown
from ckconv_sweep.report.pareto import pareto_optimal


@dataclass(frozen=True, kw_only=True)
class Selection:
    """As the user wrote it. `pareto` names what the metrics are weighed against."""

    where: Sequence[str] = ()
    pareto: Sequence[str] = ()
    sort: str | None = None
    top: int | None = None
    columns: Sequence[str] = ()

    def names(self, known: Sequence[str]) -> Iterator[str]:
        """Every column that is named.

        Raises:
            ConfigError: a name or a condition is wrong.
        """
        for condition in map(filters.parse, self.where):
            yield find(condition.name, known, f"--where {condition}")
        for name in self.pareto:
            yield find(name, known, f"--pareto {name}")
        if self.sort is not None:
            yield find(split_order(self.sort)[0], known, f"--sort {self.sort}")
        for name in self.columns:
            yield find(name, known, f"--columns {','.join(self.columns)}")

    def apply(
        self, table: pd.DataFrame, metrics: Sequence[Metric], default: Sequence[str]
    ) -> pd.DataFrame:
        """The rows in their order, with all columns but those that nobody asked for.

        Args:
            metrics: those by which trials are judged.
            default: the columns to show where the user names none.

        Raises:
            ConfigError: a name, a condition or an order is wrong.
        """
        known = names_of(table)
        out = filters.matching(table, self._conditions(known))
        costs = [find(name, known, f"--pareto {name}") for name in self.pareto]
        judged = [metric.name for metric in metrics]
        if costs:
            out = out[_optimal(out, list(dict.fromkeys([*judged, *costs])))]
        if self.sort is not None:
            name, descending = split_order(self.sort)
            out = sorted_by(out, find(name, known, f"--sort {self.sort}"), descending)
        if self.top is not None:
            out = out.head(self.top)
        where = f"--columns {','.join(self.columns)}"
        columns = [find(name, known, where) for name in self.columns]
        if not columns:
            after = [*default].index(judged[-1]) + 1 if costs else 0
            columns = [*default[:after], *(c for c in costs if c not in default), *default[after:]]
        return shown(out, list(dict.fromkeys(columns))).reset_index(drop=True)

    def _conditions(self, known: Sequence[str]) -> list[filters.Condition]:
        return [
            replace(condition, name=find(condition.name, known, f"--where {condition}"))
            for condition in map(filters.parse, self.where)
        ]


def _optimal(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series[bool]:
    """Which completed trials are Pareto optimal in these columns."""
    for name in columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise ConfigError(
                f"{name} holds no numbers",
                where=f"--pareto {name}",
                hint="take one that does, as model.parameters or seconds",
            )
    values_NM = table[list(columns)].astype(float).to_numpy()
    values_NM[table["outcome"] != "completed"] = np.nan
    optimal = pareto_optimal(values_NM, [better_is(name) for name in columns])
    return pd.Series(optimal, index=table.index)
