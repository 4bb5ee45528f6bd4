"""Sweeps from Python: what came out of them, from their folders or from MLflow alone.

A notebook takes `Sweep`, and starts one with `start.launch`.
"""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ckconv_sweep.config.history import best
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.read import read_rule, read_sampler
from ckconv_sweep.config.sampling import Sampler
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import StoppingRule
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.controlled import Controlled
from ckconv_sweep.errors import ConfigError, NoResult
from ckconv_sweep.notebook import Shown, progress_bar
from ckconv_sweep.own_process import OwnProcess
from ckconv_sweep.python_words import errors_in_python, in_python
from ckconv_sweep.record.lineage import lineage
from ckconv_sweep.record.seeds import trained_one
from ckconv_sweep.record.trials import TrialRecord, numbered, trial_of
from ckconv_sweep.report.found import results_of, sweeps_folder, why_of
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.summary import State, Summary, winner
from ckconv_sweep.report.why import Why
from ckconv_sweep.search.confirmed import Confirmed, confirmed_in

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN = 10
_PAUSE_SECONDS = 1.0
"""Between two looks at a sweep that runs."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The completed trial with the best primary metric: all its settings, and when it was best.
    `value` is that metric, `values` has each one by name, at that epoch. They are of the validation
    split, unless the metric says train/. Of a continuation `trial` has what it was trained with
    last, and `segments` all of it: the settings of each part and the number of its last epoch, the
    oldest first; empty of any other trial."""

    number: int
    trial: Trial
    value: float
    values: Mapping[str, float]
    epoch: int
    segments: tuple[tuple[Trial, int], ...] = ()


class Sweep(Controlled):
    """A sweep as it was when it was opened; `refresh` reads what came since. `launch` and `resume`
    return one that runs.

    >>> from ckconv_sweep import Sweep
    >>> sweep = Sweep.open("quickstart")
    >>> sweep
    <Sweep quickstart: finished, 24 of 24 trials ended>
    >>> best = sweep.best()
    >>> best.epoch <= best.trial.training.epochs
    True
    >>> good = sweep.table(where=["outcome == completed", "learning_rate < 0.005"], sort="seconds")
    >>> list(good.columns)[:4]
    ['rank', 'trial', 'outcome', 'val/accuracy']
    >>> figure = sweep.plot("curves")
    """

    def __init__(self, name: str, sweeps_dir: Path, tracking_uri: str | None = None) -> None:
        self._place = (name, sweeps_dir, tracking_uri)
        self._process: OwnProcess | None = None
        self.results = results_of(*self._place)

    @classmethod
    @errors_in_python()
    def open(
        cls, name: str, *, sweeps_dir: str | Path | None = None, tracking_uri: str | None = None
    ) -> Self:
        """A sweep from its folder, also while it runs; or, where an address is given, from MLflow
        alone.

        Args:
            sweeps_dir: the folder that holds the sweeps: `CKCONV_SWEEPS`, or `sweeps`, by default.

        Raises:
            ConfigError: there is no such sweep.
            TrackingError: MLflow does not answer.
            DamagedData: what is there cannot be read.
        """
        return cls(name, sweeps_folder(sweeps_dir), tracking_uri)

    def run_by(self, process: OwnProcess) -> Self:
        """The same, run by a process that this Python has started."""
        self._process = process
        return self

    @errors_in_python()
    def refresh(self) -> Self:
        """Read it again. Raises as `open`."""
        self.results = results_of(*self._place)
        return self

    @errors_in_python()
    def wait(self) -> Self:
        """Until it runs no more; shows how far it is meanwhile. An interrupt (Ctrl-C, or the stop
        button of a notebook) ends the waiting, not the sweep.

        Raises:
            NoResult: the sweep is finished and no trial completed.
            CkconvSweepError: its session ended for another reason than a signal; only of a sweep
                that this Python has launched.
        """
        shown, pause_seconds = Shown(), _PAUSE_SECONDS
        try:
            while self._runs(pause_seconds):
                began = time.monotonic()
                self.refresh()
                self._show(shown)
                pause_seconds = max(_PAUSE_SECONDS, 10 * (time.monotonic() - began))
        except KeyboardInterrupt:
            shown.say(f"{self.name} is still running; its stop() stops it")
            raise
        self.refresh()
        self._show(shown)
        if self._process is not None:
            self._process.check()
        return self

    def _runs(self, pause_seconds: float) -> bool:
        """After a pause, which ends early with a process of ours."""
        if self._process is not None:
            return not self._process.ended_within(pause_seconds)
        if self.refresh().state != "running":
            return False
        time.sleep(pause_seconds)
        return True

    def _show(self, shown: Shown) -> None:
        for news in self._process.news() if self._process is not None else ():
            if "said" in news:
                shown.say(in_python(news["said"]))
        s = self.summary()
        best = "" if s.best_value is None else f", best {s.metric} {s.best_value:.4g}"
        shown.show(f"{self._line()}{best}", self._repr_html_())

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
        try:
            return numbered(self.trials, number)
        except ConfigError as error:
            error.where = self.name
            raise

    @errors_in_python()
    def why(self, number: int) -> Why:
        """Why a trial ended as it did, as `ckconv-sweep why` tells it: `print` it, or take its
        parts. Raises as `trial`."""
        return why_of(self.results, number, self._place[1])

    def summary(self) -> Summary:
        """The sweep in a few numbers."""
        return self.results.summary()

    @errors_in_python()
    def table(
        self,
        *,
        where: str | Sequence[str] = (),
        pareto: str | Sequence[str] = (),
        sort: str | None = None,
        top: int | None = None,
        columns: Sequence[str] = (),
        trials: bool = False,
    ) -> pd.DataFrame:
        """One row a trial, or where a space has repeats one a setting, best first; the options are
        those of `ckconv-sweep table`.

        Args:
            where: conditions that must all hold, as in `"omega_0 < 40"`.
            pareto: keep completed trials that no other one beats in the metrics and in these.
            sort: a column, as in `"seconds"` or `"val/loss:desc"`.
            top: only the first rows.
            columns: only these, as in `["trial", "val/loss", "model.parameters"]`.
            trials: one row a trial, also where settings are repeated.

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
        rows = all_columns(self.trials, space, state=state, each=trials)
        if PARAMETERS in selection.names([*names_of(rows), PARAMETERS]):
            counts = parameter_counts(self.results)
            rows = all_columns(self.trials, space, counts, state=state, each=trials)
        return selection.apply(rows, space.metrics, default_columns(space, rows))

    @errors_in_python()
    def simulate(
        self,
        scheduler: str | Mapping[str, Any] | StoppingRule | Sequence[Any] = (),
        *,
        places: int = 1,
        orders: int = 0,
        sampler: str | Mapping[str, Any] | Sampler | None = None,
        trials: int | None = None,
    ) -> pd.DataFrame:
        """What stopping rules would have saved, and lost: a row a rule, as `ckconv-sweep simulate`
        shows them; on the trials that ran to their end. What is printed below the table there is
        in its `attrs["notes"]`: what was left out, and why a rule would have stopped the best.

        Args:
            scheduler: rules, as in `"asha"`, `{"name": "asha", "grace_epochs": 3}` or
                `Asha(grace_epochs=3)`; every one by default.
            places: how many trials run at a time.
            orders: replay so many random orders of the trials, or seeds of the sampler, and give
                means.
            sampler: choose the trials among the recorded settings, as in `"tpe"`.
            trials: how many the sampler draws.

        Raises:
            ConfigError: a rule or the sampler is wrong, or no trial ran to its end.
        """
        from ckconv_sweep.report.simulated import Setup, compared
        from ckconv_sweep.search.curve_table import of_sweep

        if isinstance(scheduler, str) or not isinstance(scheduler, Sequence):
            scheduler = [scheduler]
        setup = Setup(
            places=places,
            orders=orders,
            sampler=None if sampler is None else read_sampler(sampler, "sampler"),
            trials=trials,
        )
        table = of_sweep(self.name, self.trials, self.space)
        return compared(table, [read_rule(rule, "scheduler") for rule in scheduler], setup).rows

    def best(self) -> Best:
        """The best completed trial, the earlier one of equals.

        Raises:
            NoResult: none has completed.
        """
        record = winner(self.trials, self.space)
        if record is None:
            raise NoResult("no trial has completed yet", where=self.name)
        values, one = record.values(self.space.metrics), trained_one(record)
        links = lineage(one, self.trials) if one.replaces is not None else []
        return Best(
            number=one.number,
            trial=trial_of(one, self.space),
            value=values[self.space.metric.name],
            values=values,
            epoch=best(record.history, self.space.metric).number,
            segments=tuple((trial_of(link.record, self.space), link.until) for link in links),
        )

    @errors_in_python()
    def confirmed(self) -> Confirmed | None:
        """What its confirmation says, also while it runs; None where none was begun. It is read
        from the sweep's folder. Its `openings` are the test numbers.

        Raises:
            ConfigError: the folder is not here.
        """
        with self._folder().records.open() as study:
            return confirmed_in(study)

    @errors_in_python()
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
        return f"<Sweep {self._line()}>"

    def _line(self) -> str:
        s = self.summary()
        return f"{self.name}: {s.state}, {_ended(s)} of {s.asked} trials ended"

    def _repr_html_(self) -> str:
        from ckconv_sweep.report.leaderboard import leaderboard
        from ckconv_sweep.report.render import shortened

        rows = leaderboard(self.trials, self.space, state=self.state)
        settings = list(self.space.parameters())
        shown = rows.head(_SHOWN).rename(columns=shortened(rows, settings))
        table = shown.astype(object).where(shown.notna(), "")  # `na_rep` forgets whole numbers
        page = table.to_html(index=False, float_format=lambda x: f"{x:.4g}")
        rest = f"<p>and {len(rows) - _SHOWN} more</p>" if len(rows) > _SHOWN else ""
        s = self.summary()
        if s.state == "running":
            return progress_bar(_ended(s), s.asked, self._line()) + page + rest
        return f"<p><b>{html.escape(self._line())}</b></p>{page}{rest}"


def _ended(summary: Summary) -> int:
    return summary.completed + summary.pruned + summary.failed


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
                trial = trial_of(record, results.space)
            except ConfigError:  # some of its settings were not drawn
                continue
            key = f"{trial.model.model_dump_json()} {trial.data.model_dump_json()}"
            if key not in known:
                known[key] = parameters_of(trial, data_dir)
            counts[record.number] = known[key]
    return counts
