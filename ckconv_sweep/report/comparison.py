"""Several sweeps beside each other. Those judged by different metrics are not ranked together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.seeds import by_setting, training_seconds
from ckconv_sweep.record.trials import trial_of
from ckconv_sweep.report.columns import sorted_by, typed
from ckconv_sweep.report.leaderboard import all_columns, unvaried
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.sampling_error import interval_of
from ckconv_sweep.report.summary import winner


def measure(metric: Metric) -> str:
    """A metric as the name of a column, which says so where it is not that of the best epoch."""
    return metric.name if metric.at == "best" else f"{metric.name} (last epoch)"


def reservations(results: Sequence[Results]) -> list[str]:
    """Why these sweeps' numbers cannot be ranked together, a sentence each; none where they can."""
    measures = list(dict.fromkeys(measure(r.space.metric) for r in results))
    data: list[dict[str, Any]] = []
    for result in results:
        settings = result.space.trial.data.model_dump(mode="json")
        data += [settings] if settings not in data else []
    out = []
    if len(measures) > 1:
        out.append(
            f"judged by different metrics ({', '.join(measures)}): each has its own column, and "
            "nothing is ranked across them"
        )
    if len(data) > 1:
        keys = dict.fromkeys(key for settings in data for key in settings)
        differ = [key for key in keys if len({repr(settings.get(key)) for settings in data}) > 1]
        out.append(
            f"scored on different data (another {', another '.join(differ)}): nothing is ranked "
            "across them"
        )
    searched = any(name.startswith("data") for r in results for name in r.space.parameters())
    digests = [{d for r in result.records for d in r.data if d} for result in results]
    if (
        len(data) == 1
        and not searched
        and any(a and b and not a & b for a in digests for b in digests)
    ):
        out.append(
            "trained on different data (the same settings, other sequences): nothing is ranked "
            "across them"
        )
    return out


def of_sweeps(results: Sequence[Results]) -> pd.DataFrame:
    """A row a sweep; best first where they can be ranked, otherwise as they come."""
    names = list(dict.fromkeys(measure(r.space.metric) for r in results))
    columns = [
        *("sweep", "state", "trials", "completed", "pruned"),
        *(["continued"] if any(map(_has_continued, results)) else ()),
        *("failed", "unfinished"),
        *(f"{name} best" for name in names),
        *(INTERVAL if any(result.sequences for result in results) else ()),
        *("trial", "at epoch"),
        *(f"{name} median" for name in names),
        *("epochs", "hours"),
    ]
    table = typed(pd.DataFrame(map(_row, results), columns=columns, dtype=object))
    if reservations(results):
        return table
    best_first = results[0].space.metric.mode == "max"
    return sorted_by(table, f"{names[0]} best", best_first).reset_index(drop=True)


INTERVAL = ("95 % low", "95 % high")
"""Of a sweep's best, for its number of validation sequences; see `report.sampling_error`."""


def _row(result: Results) -> dict[str, Any]:
    s, metric = result.summary(), result.space.metric
    counted = [record for record in result.records if record.counts]
    settings = by_setting(counted, result.space)
    scores = [r.value(metric) for r in settings if r.outcome == "completed"]
    interval = interval_of(winner(counted, result.space), result.space, result.sequences)
    return {
        "sweep": result.name,
        "state": s.state,
        "trials": len(counted),
        "completed": s.completed,
        "pruned": s.pruned,
        "continued": s.continued,
        "failed": s.failed,
        "unfinished": s.unfinished,
        f"{measure(metric)} best": s.best_value,
        **dict(zip(INTERVAL, interval or (None, None), strict=True)),
        "trial": s.best_trial,
        "at epoch": s.best_epoch,
        f"{measure(metric)} median": median(scores) if scores else None,
        "epochs": sum(len(record.history) for record in counted),
        "hours": sum(map(training_seconds, counted)) / 3600,
    }


def _has_continued(result: Results) -> bool:
    return any(record.outcome == "continued" for record in result.records)


def of_trials(
    results: Sequence[Results], counts: Mapping[str, Mapping[int, int]] | None = None
) -> pd.DataFrame:
    """The trials of all sweeps. Settings are those of the trials in full, so that one that a sweep
    searched stands in the same column as where another one fixed it; those that are equal in all
    trials are left out. A rank is one among all trials, and is left out where they cannot be ranked
    together.

    Args:
        counts: the number of parameters, by sweep and trial.
    """
    rows, settings = [], dict[str, None]()
    for result in results:
        parameters = counts[result.name] if counts else {}
        for row in _rows(result, parameters):
            rows.append(row)
            settings |= dict.fromkeys(row["_settings"])
    general = ["sweep", "trial", "outcome", "reason"]
    general += list(dict.fromkeys(measure(r.space.metric) for r in results))
    general += ["at epoch", "epochs", "seconds", *([PARAMETERS] if counts else [])]
    table = pd.DataFrame(
        [row | row["_settings"] for row in rows], columns=[*general, *settings], dtype=object
    )
    same = [*unvaried(table, settings), *(n for n in settings if table[n].isna().all())]
    table = typed(table.drop(columns=same))
    if reservations(results):
        return table
    ended = (table["outcome"] == "completed").to_numpy(dtype=bool)
    best_first, name = results[0].space.metric.mode == "max", measure(results[0].space.metric)
    lacks = np.array([row["_lacks"] for row in rows], dtype=bool)
    parts = (ended & ~lacks, ended & lacks, ~ended)
    table = pd.concat(
        [sorted_by(table[which], name, best_first) for which in parts], ignore_index=True
    )
    ranks = [i + 1 if i < ended.sum() else None for i in range(len(table))]
    table.insert(0, "rank", pd.Series(ranks, dtype="Int64"))
    return table


def _rows(result: Results, counts: Mapping[int, int]) -> Iterator[dict[str, Any]]:
    """Of one sweep's trials, the best first, then those that did not complete."""
    table = all_columns(result.records, result.space, state=result.state)
    records = {record.number: record for record in by_setting(result.records, result.space)}
    for row in table.to_dict(orient="records"):
        number = int(row["trial"])
        try:
            trial = trial_of(records[number], result.space)
        except ConfigError:  # the driver died while it was drawing
            settings = {}
        else:
            settings = {
                path.removesuffix(".name"): value  # as in a table of one sweep: schedule = cosine
                for path, value in flat(trial.model_dump(mode="json")).items()
                # What a trial is judged by is a column; its seed is another one in every trial.
                if path != "training.seed" and not path.startswith("metric.")
            }
        yield {
            **{name: row[name] for name in ("trial", "outcome", "reason", *_TIMES)},
            "sweep": result.name,
            measure(result.space.metric): row[result.space.metric.name],
            PARAMETERS: counts.get(number),
            "_settings": settings,
            "_lacks": records[number].lacks > 0,
        }


_TIMES = ("at epoch", "epochs", "seconds")
