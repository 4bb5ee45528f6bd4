"""Which trials of earlier sweeps a new one learns from: those that fit its space, its data and its
metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ckconv_sweep.config.data import Data
from ckconv_sweep.config.first import params_of
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.seeds import as_seen
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import TrialRecord, trial_of
from ckconv_sweep.record.warm_start import Earlier, EarlierTrial, WarmStart, noted
from ckconv_sweep.search.feasible import Infeasible, resolved
from ckconv_sweep.search.view import Learnt, learnt_from

_MOST_REASONS = 3
_SECONDS = "time/epoch_seconds"


def known_before(
    space: Space,
    folder: SweepFolder,
    *,
    count_parameters: Callable[[Trial], int],
    digest_of: Callable[[Data], str] | None = None,
) -> WarmStart:
    """What the earlier sweeps that a space names have to tell, and what they know of still earlier
    ones. Of more trials than a sampler sees the others are left out.

    Args:
        folder: of the new sweep; the earlier ones lie beside it.
        digest_of: that of the data with these settings, as the new sweep reads them. None: the
            data are not compared.

    Raises:
        ConfigError: one is no sweep, or the new one itself; or no trial fits.
        DamagedData: one cannot be read.
    """
    fit: dict[tuple[str, int], EarlierTrial] = {}
    tallies: dict[str, _Tally] = {}
    for name in space.warm_start:
        with _existing(folder, name).records.open() as study:
            tallies.setdefault(study.uid, _Tally(study.uid, name)).named = True
            for one in _ended(study):
                tally = tallies.setdefault(one.sweep[0], _Tally(*one.sweep))
                if one.record.number in tally.numbers:
                    continue
                tally.numbers.add(one.record.number)
                found = _fitted(one, space, digest_of, count_parameters)
                if isinstance(found, Infeasible):
                    tally.leave_out(found)
                else:
                    fit[one.sweep[0], one.record.number] = found
                    tally.fit += 1
    known = WarmStart.of([tally.told() for tally in tallies.values()], fit.values())
    if space.warm_start and not fit:
        raise ConfigError(
            f"none of the earlier trials of {' and '.join(space.warm_start)} fits",
            where="warm_start",
            hint="\n  ".join([*known.in_words(), "widen what is searched, or remove warm_start"]),
        )
    kept = {t.number for t in learnt_from((Learnt.of(r, space) for r in known.records), space)}
    return WarmStart.of(
        known.sweeps, [t for i, t in enumerate(known.trials, start=1) if -i in kept]
    )


@dataclass
class _Tally:
    """What is counted of one earlier sweep."""

    uid: str
    name: str
    named: bool = False
    numbers: set[int] = field(default_factory=set)
    fit: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def leave_out(self, why: Infeasible) -> None:
        self.kinds[why.kind] += 1
        self.examples.setdefault(why.kind, why.why)

    def told(self) -> Earlier:
        common = self.kinds.most_common(_MOST_REASONS)
        why = {self.examples[kind]: count for kind, count in common}
        if others := self.kinds.total() - sum(why.values()):
            why["other reasons"] = others
        ended = len(self.numbers)
        return Earlier(
            uid=self.uid, name=self.name, named=self.named, ended=ended, fit=self.fit, why=why
        )


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """A completed, pruned or continued trial, and by what its sweep judged it."""

    sweep: tuple[str, str]
    record: TrialRecord
    trial: Trial
    metrics: Sequence[Metric]
    seconds: float


def _existing(folder: SweepFolder, name: str) -> SweepFolder:
    if name == folder.name:
        raise ConfigError("a sweep cannot learn from itself", where=f"warm_start: {name}")
    there = folder.root.parent
    if not there.is_dir():
        what = f"warm_start: there is no sweep {name!r}"
        raise ConfigError(what, where=str(there), hint="no sweep was launched here yet")
    try:
        return SweepFolder.existing(there, name)
    except ConfigError as error:
        error.message = f"warm_start: {error.message}"
        raise


def _ended(study: Study) -> Iterator[_Ended]:
    """Those of a sweep, then those that it knows of earlier ones."""
    space = study.space
    own = (study.uid, study.folder.name)
    found = [
        (own, record, sum(epoch.metrics.get(_SECONDS, 0.0) for epoch in record.history))
        for record in as_seen(study.trials(), space)
        if record.outcome in ("completed", "pruned", "continued") and record.history
        if record.replaces is None
    ]
    found += [((one.uid, one.name), one.record, one.seconds) for one in noted(study).trials]
    for sweep, record, seconds in found:
        yield _Ended(
            sweep=sweep,
            record=record,
            trial=trial_of(record, space),
            metrics=space.metrics,
            seconds=seconds,
        )


def _fitted(
    one: _Ended,
    space: Space,
    digest_of: Callable[[Data], str] | None,
    count_parameters: Callable[[Trial], int],
) -> EarlierTrial | Infeasible:
    """A trial as one of this space, or why it is none."""
    if one.metrics != space.metrics:
        here, there = (
            ", ".join(map(_in_words, metrics)) for metrics in (space.metrics, one.metrics)
        )
        return Infeasible("metric", f"they are judged by {there}, this sweep by {here}")
    try:
        params = params_of(space, one.trial, known=one.record.params)
    except ConfigError as error:
        return Infeasible(error.message.partition(" is ")[0], error.message)
    found = resolved(space, params, one.record.number, count_parameters)
    if isinstance(found, Infeasible):
        return found
    if digest_of is not None and set(one.record.data) != {digest_of(one.trial.data)}:
        return Infeasible("data", "they were trained on other data")
    return EarlierTrial.of(one.sweep, one.record, params, space.metrics, one.seconds)


def _in_words(metric: Metric) -> str:
    return f"the {metric.at} {metric.name} ({metric.better_is} is better)"
