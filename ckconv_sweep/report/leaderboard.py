"""The trials of a sweep as a table: what it says. How it looks is `report.render`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from ckconv_sweep.config.domains import Choices, Interval
from ckconv_sweep.config.history import best
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric
from ckconv_sweep.keys import REASON_STOPPED, Outcome
from ckconv_sweep.record.lineage import in_words
from ckconv_sweep.record.seeds import Repeated, by_setting, training_seconds, trials_of
from ckconv_sweep.record.trained_data import on_other_data
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.summary import State, best_first
from ckconv_sweep.search.intervals import interval_of_mean

_ORDER = {"completed": 0, "running": 1, "pruned": 2, "continued": 3, "failed": 4}
_OUTCOMES: dict[State, dict[Outcome, str]] = {
    "running": {},
    "interrupted": {"running": "unfinished"},
    "finished": {"running": "unfinished"},
}


def leaderboard(
    records: Iterable[TrialRecord], space: Space, *, state: State = "running"
) -> pd.DataFrame:
    """One row a trial, or where a space has repeats one a setting: rank, trial, outcome, each
    metric, their epoch, epochs run, seconds, and what was searched. Only completed trials have a
    rank: by the primary metric, among several front by front; the others follow, each kind by
    the primary metric. Where there are several, `pareto` tells which of the completed trials are
    on the first front. A rejected trial was never trained and is left out. The outcome of a trial
    that has not ended is `running` in a sweep that runs, and else `unfinished`.
    """
    table = all_columns(records, space, state=state)
    return shown(table, default_columns(space, table))


def default_columns(space: Space, table: pd.DataFrame) -> list[str]:
    """What `leaderboard` shows of the columns of `all_columns`."""
    return [
        *table.columns.intersection(["rank", SWEEP, *_GENERAL[1:], *_judged(space)], sort=False),
        *table.columns.intersection([*SEEDS, REPEAT_OF, FROM, "at epoch"], sort=False),
        *("epochs", "seconds"),
        *table.columns.intersection([DATA]),
        *space.parameters(),
    ]


DATA = "data"
"""The column that tells on which data a trial was trained, where that is not the same for all."""


SEEDS = ("95 % low", "95 % high", "repeats")
"""Columns of a setting that is repeated: the interval of its mean, and how many have completed."""
REPEAT_OF = "repeat of"
FROM = "from"
"""The column that tells with which trial's checkpoint a continuation begins, where there are
some."""

SWEEP = "sweep"
"""The column that names the sweep of a trial, where they are of several."""


PARETO = "pareto"
"""The column that tells which completed trials are on the front of several metrics."""


def captions(space: Space) -> list[str]:
    """What must be said below a table that has such a column; nothing below another one."""
    out = []
    if space.repeats is not None:
        out.append(
            f"{space.metric.name}: mean over the completed repeats, with its 95 % interval "
            "(Student t); what lacks some ranks after what has all"
        )
    if not space.further:
        return out
    front = " and ".join(f"{m.name} ({m.better_is} is better)" for m in space.metrics)
    return [
        *out,
        f"ranked front by front, on each by {space.metric.name}; {PARETO}, the first front: no "
        f"other completed trial is as good in {front} and better in one",
    ]


def _judged(space: Space) -> list[str]:
    """The columns that tell how good a trial is."""
    return [*(metric.name for metric in space.metrics), *[PARETO] * bool(space.further)]


_GENERAL = ["rank", "trial", "outcome"]
_HIDDEN = ["_order", "_rank"]
"""By what rows are sorted beside the metric."""


def all_columns(
    records: Iterable[TrialRecord],
    space: Space,
    counts: Mapping[int, int] | None = None,
    *,
    state: State = "running",
    each: bool = False,
) -> pd.DataFrame:
    """The rows of `leaderboard` with all that is known: the reason beside the outcome, every other
    metric at the epoch by which the trial is judged, and `model.parameters` where `counts` holds it
    by the trial's number. `data`, the beginning of the digest of what a trial was trained on, is
    there if some were trained on other data than others with the same settings. `each`: one row a
    trial, also where there are repeats."""
    metric, counted = space.metric, [record for record in records if record.counts]
    repeated = space.repeats is not None
    if not each:
        counted = by_setting(counted, space)
    searched = list(space.parameters())
    mixed = bool(on_other_data(counted))
    names = [m.name for m in space.metrics]
    order = best_first(counted, space)
    ranks = {record.number: rank for rank, (record, _) in enumerate(order, start=1)}
    front = {record.number: number == 1 for record, number in order}
    columns = [*_GENERAL[1:], "reason", *_judged(space)]
    columns += ([REPEAT_OF] if each else SEEDS) if repeated else []
    columns += [FROM] * any(record.replaces is not None for record in counted)
    columns += ["at epoch", "epochs", "seconds", *searched]
    counts = None if PARAMETERS in names else counts  # then they stand beside each epoch
    columns += [PARAMETERS] * (counts is not None)
    columns += [DATA] * mixed
    others = {name for r in counted for epoch in r.history for name in epoch.metrics}
    columns += sorted(others.difference(names))
    rows = []
    for record in counted:
        judged = best(record.history, metric) if record.history else None
        rows.append(
            {
                **(judged.metrics if judged else {}),
                **record.values(space.metrics),
                **(_of_seeds(record, metric) if isinstance(record, Repeated) else {}),
                REPEAT_OF: record.repeat_of,
                FROM: in_words(record) or None,
                "trial": record.number,
                "outcome": _OUTCOMES[state].get(record.outcome, record.outcome),
                "reason": record.reason or None,
                PARETO: front.get(record.number),
                "at epoch": judged.number if judged else None,
                "epochs": sum(len(one.history) for one in trials_of(record)),
                "seconds": training_seconds(record),
                **{name: record.params.get(name) for name in searched},
                DATA: "+".join(d[:8] or "unknown" for d in dict.fromkeys(record.data)) or None,
                **({} if counts is None else {PARAMETERS: counts.get(record.number)}),
                "_order": _ORDER[record.outcome],
                "_rank": ranks.get(record.number),
            }
        )
    # As objects first: pandas makes real numbers of whole ones beside a gap, and rounds large ones.
    table = pd.DataFrame(rows, columns=[*columns, *_HIDDEN], dtype=object)
    table = table.sort_values(
        ["_order", "_rank", metric.name, "trial"],
        ascending=[True, True, metric.mode == "min", True],
        na_position="last",
    )
    table.insert(0, "rank", table["_rank"])
    settings = space.parameters().items()
    whole = ["rank", "trial", "at epoch", "epochs", *(n for n, d in settings if _is_whole(d))]
    for name in (*whole, *table.columns.intersection([PARAMETERS, REPEAT_OF])):
        with contextlib.suppress(OverflowError):  # more than 64 bits stay Python's whole numbers
            table[name] = table[name].astype("Int64")
    real = [name for name, d in settings if isinstance(d, Interval) and not d.whole]
    numbers = SEEDS[:2] if repeated and not each else ()
    for name in {*names, *numbers, "seconds", *real, *others} - {PARAMETERS}:
        table[name] = table[name].astype(float)
    return table.drop(columns=_HIDDEN).reset_index(drop=True)


def shown(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns, in this order. Where the outcome stands alone, it says the reason of a
    failure, and that a person stopped a trial."""
    out = table[list(columns)]
    if "outcome" not in columns or "reason" in columns:
        return out
    said = [
        f"{outcome} ({reason})" if outcome == "failed" or reason == REASON_STOPPED else outcome
        for outcome, reason in zip(table["outcome"], table["reason"], strict=True)
    ]
    return out.assign(outcome=pd.Series(said, index=out.index, dtype=object))


def unvaried(table: pd.DataFrame, settings: Iterable[str]) -> dict[str, Any]:
    """The settings that had one value in all trials that have them, with that value. Of less than
    two trials nothing can be said."""
    if len(table) < 2:
        return {}
    values = {name: list(table[name].dropna()) for name in settings}
    return {
        name: several[0]
        for name, several in values.items()
        if several and all(value == several[0] for value in several)
    }


def _of_seeds(setting: Repeated, metric: Metric) -> dict[str, Any]:
    low, high = interval_of_mean([r.value(metric) for r in setting.completed], metric)
    told = f"{len(setting.completed)} of {setting.asked}"
    return dict(zip(SEEDS, (low, high, told), strict=True))


def _is_whole(domain: Interval | Choices) -> bool:
    if isinstance(domain, Interval):
        return domain.whole
    return all(type(option) is int for option in domain.options)
