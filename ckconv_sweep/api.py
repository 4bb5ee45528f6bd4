"""Sweeps from Python: what came out of them, from their folders or from MLflow alone.

A notebook takes `Sweep`; the command line takes the functions below it.
"""

from __future__ import annotations

import gc
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.history import best, objectives
from ckconv_sweep.config.space import PARAMETERS, Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CkconvSweepError, ConfigError, NoResult, TrackingError
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report import from_mlflow
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.summary import State, Summary, winner
from ckconv_sweep.tracking.answers import check_address, problem
from ckconv_sweep.tracking.store import (
    experiment_name,
    local_database,
    quiet_client,
    without_password,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Best:
    """The completed trial with the best primary metric: all its settings, and when it was best.
    `value` is that metric, `values` has each one by name, at that epoch. They are of the validation
    split, unless the metric says train/."""

    number: int
    trial: Trial
    value: float
    values: Mapping[str, float]
    epoch: int


class Sweep:
    """A sweep as it was when it was opened; open it again for what came since.

    >>> from ckconv_sweep import Sweep
    >>> sweep = Sweep.open("quickstart")
    >>> sweep
    <Sweep quickstart: finished, 16 of 16 trials ended>
    >>> best = sweep.best()
    >>> best.epoch <= best.trial.training.epochs
    True
    >>> good = sweep.table(where=["outcome == completed", "dropout < 0.2"], sort="seconds")
    >>> list(good.columns)[:4]
    ['rank', 'trial', 'outcome', 'val/accuracy']
    >>> figure = sweep.plot("curves")
    """

    def __init__(self, results: Results) -> None:
        self.results = results

    @classmethod
    def open(
        cls, name: str, *, sweeps_dir: str | Path = "sweeps", tracking_uri: str | None = None
    ) -> Sweep:
        """A sweep from its folder, also while it runs; or, where an address is given, from MLflow
        alone.

        Raises:
            ConfigError: there is no such sweep.
            TrackingError: MLflow does not answer.
            DamagedData: what is there cannot be read.
        """
        return cls(results_of(name, Path(sweeps_dir), tracking_uri))

    @property
    def name(self) -> str:
        """As it was launched."""
        return self.results.name

    @property
    def space(self) -> Space:
        """What was searched, with the base trial and the metric."""
        return self.results.space

    @property
    def state(self) -> State:
        """running, interrupted or finished."""
        return self.results.state

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """Every trial with all its epochs, by number; also those that were rejected."""
        return self.results.records

    def trial(self, number: int) -> TrialRecord:
        """The trial of this number.

        Raises:
            ConfigError: there is none.
        """
        for record in self.trials:
            if record.number == number:
                return record
        raise ConfigError(f"there is no trial {number}", where=self.name)

    def summary(self) -> Summary:
        """The sweep in a few numbers."""
        return self.results.summary()

    def table(
        self,
        *,
        where: str | Sequence[str] = (),
        pareto: str | Sequence[str] = (),
        sort: str | None = None,
        top: int | None = None,
        columns: Sequence[str] = (),
    ) -> pd.DataFrame:
        """One row a trial, best first; the options are those of `ckconv-sweep table`.

        Args:
            where: conditions that must all hold, as in `"omega_0 < 40"`.
            pareto: keep completed trials that no other one beats in the metrics and in these.
            sort: a column, as in `"seconds"` or `"val/loss:desc"`.
            top: only the first rows.
            columns: only these, as in `["trial", "val/loss", "model.parameters"]`.

        Raises:
            ConfigError: a name or a condition is wrong.
        """
        from ckconv_sweep.report.columns import names_of
        from ckconv_sweep.report.leaderboard import all_columns, default_columns
        from ckconv_sweep.report.selection import Selection

        selection = Selection(
            where=[where] if isinstance(where, str) else where,
            pareto=[pareto] if isinstance(pareto, str) else pareto,
            sort=sort,
            top=top,
            columns=columns,
        )
        space, state = self.space, self.state
        rows = all_columns(self.trials, space, state=state)
        if PARAMETERS in selection.names([*names_of(rows), PARAMETERS]):
            counts = parameter_counts(self.results)
            rows = all_columns(self.trials, space, counts, state=state)
        return selection.apply(rows, space.metrics, default_columns(space, rows))

    def best(self) -> Best:
        """The best completed trial, the earlier one of equals.

        Raises:
            NoResult: none has completed.
        """
        record = winner(self.trials, self.space)
        if record is None:
            raise NoResult("no trial has completed yet", where=self.name)
        values = objectives(record.history, self.space.metrics)
        return Best(
            number=record.number,
            trial=self.space.resolve(record.params, record.number),
            value=values[self.space.metric.name],
            values=values,
            epoch=best(record.history, self.space.metric).number,
        )

    def plot(self, kind: str, **options: Any) -> Figure:
        """A picture, as `ckconv-sweep plot` draws it; `curves`, `history`, `importance`, ...

        Raises:
            ConfigError: there is no such picture, or it cannot be drawn of these trials.
        """
        from ckconv_sweep.report.plots import draw

        if kind == "pareto" and not self.space.further and "parameters" not in options:
            options["parameters"] = parameter_counts(self.results)
        return draw(kind, self.trials, self.space, **options)

    def __repr__(self) -> str:
        s = self.summary()
        ended = s.completed + s.pruned + s.failed
        return f"<Sweep {self.name}: {s.state}, {ended} of {s.asked} trials ended>"

    def _repr_html_(self) -> str:
        from ckconv_sweep.report.leaderboard import leaderboard
        from ckconv_sweep.report.render import shortened

        rows = leaderboard(self.trials, self.space, state=self.state)
        settings = list(self.space.parameters())
        shown = rows.head(_SHOWN).rename(columns=shortened(rows, settings))
        table = shown.to_html(index=False, na_rep="", float_format=lambda x: f"{x:.4g}")
        rest = f"<p>and {len(rows) - _SHOWN} more</p>" if len(rows) > _SHOWN else ""
        return f"<p><b>{html.escape(repr(self)[1:-1])}</b></p>{table}{rest}"


def results_of(name: str, sweeps_dir: Path, tracking_uri: str | None = None) -> Results:
    """A sweep from MLflow alone where an address is given; otherwise from its folder, and only
    where there is none from the MLflow that `MLFLOW_TRACKING_URI` names.

    Raises:
        ConfigError: there is no such sweep, or no such database.
        TrackingError: MLflow does not answer.
        DamagedData: what is there was not written by ckconv-sweep.
    """
    folder = SweepFolder.of(sweeps_dir, name)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if tracking_uri or (uri and not folder.records.exists()):
        assert uri
        return _from_mlflow(name, uri)
    try:
        folder = SweepFolder.existing(sweeps_dir, name)
    except ConfigError as error:
        error.hint = f"{error.hint}; a sweep of somebody else is read with --tracking-uri URI"
        raise
    collecting = gc.isenabled()
    # Python would look for cycles among the objects of a large study for longer than it reads.
    gc.disable()
    try:
        with folder.records.open() as study:
            return Results.of_study(study)
    finally:
        if collecting:
            gc.enable()


def parameter_counts(results: Results, data_dir: Path | None = None) -> Mapping[int, int]:
    """The number of trainable numbers of each trial's model, by the trial's number; counted
    without making it. A trial that was being drawn when its driver died has none. Imports PyTorch.

    Raises:
        ConfigError: the size of the dataset stands in files that are not there.
    """
    from ckconv_sweep.models.parameters import parameters_of

    counts: dict[int, int] = {}
    known: dict[str, int] = {}
    for record in results.records:
        if record.counts:
            try:
                trial = results.space.resolve(record.params, record.number)
            except ConfigError:  # some of its settings were not drawn
                continue
            key = f"{trial.model.model_dump_json()} {trial.data.model_dump_json()}"
            if key not in known:
                known[key] = parameters_of(trial, data_dir)
            counts[record.number] = known[key]
    return counts


def all_results(
    names: Iterable[str], sweeps_dir: Path, tracking_uri: str | None = None
) -> list[Results]:
    """Several sweeps. Raises as `results_of`, and ConfigError for a name that is given twice."""
    out: dict[str, Results] = {}
    for name in names:
        if name in out:
            raise ConfigError(f"the sweep {name} is named twice", where="NAME")
        out[name] = results_of(name, sweeps_dir, tracking_uri)
    return list(out.values())


def _from_mlflow(name: str, uri: str) -> Results:
    check_address(uri, "tracking_uri")
    where, database = without_password(uri), local_database(uri)
    if database is not None and not _is_database(database):
        raise ConfigError(
            "there is no MLflow database",
            where=where,
            hint="name a file, as in sqlite:///sweeps/mlflow.db, or a server",
        )
    try:
        return from_mlflow.read_results(quiet_client(uri), experiment_name(), name, where)
    except CkconvSweepError:
        raise
    except Exception as error:
        found = problem(error, uri)
        named = "its address is --tracking-uri or MLFLOW_TRACKING_URI"
        raise TrackingError(
            f"MLflow {found.what}",
            where=where,
            hint=f"{found.todo}; {named}" if found.todo else named,
        ) from error


def _is_database(path: Path) -> bool:
    """MLflow would make one of a file that is empty or missing; a look must make nothing."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False
