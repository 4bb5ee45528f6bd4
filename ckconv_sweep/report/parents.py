"""The trials of earlier sweeps beside those of the sweep that learnt from them."""

from __future__ import annotations

import pandas as pd

from ckconv_sweep.config.space import Space
from ckconv_sweep.record.warm_start import WarmStart
from ckconv_sweep.report.leaderboard import PARETO, SEEDS, SWEEP, all_columns


def with_parents(table: pd.DataFrame, name: str, space: Space, known: WarmStart) -> pd.DataFrame:
    """The rows of `all_columns`, then those of earlier sweeps, which have no rank. The column
    `sweep` names the sweep of each, and `trial` is its number there. Of metrics they have those by
    which the sweep is judged."""
    rows = all_columns(known.records, space, state="finished", each=True)
    trials = [known.trials[-number - 1] for number in rows["trial"]]
    rows = rows.assign(
        trial=[trial.record.number for trial in trials],
        epochs=pd.array([trial.record.history[-1].number for trial in trials], dtype="Int64"),
        seconds=[trial.seconds for trial in trials],
        rank=pd.array([None] * len(rows), dtype="Int64"),
    )
    rows = rows.assign(**dict.fromkeys(rows.columns.intersection([PARETO, *SEEDS])))
    rows.insert(1, SWEEP, [trial.name for trial in trials])
    own = table.copy()
    own.insert(1, SWEEP, name)
    return pd.concat([own, rows.reindex(columns=own.columns)], ignore_index=True)
