"""How much of the differences among trials each setting makes, and whether that can be told.

A forest of extremely randomised trees (Geurts et al. 2006) learns the rank of a trial from its
settings. The importance of a setting is by how much the forest errs more when the setting's values
are dealt anew among the trials (Breiman 2001), in units of twice the ranks' variance. Where
settings are drawn independently that is the share of the variance in which the setting has a part,
alone or together with others: the total Sobol index (Jansen 1999). Ranks, because one trial that
diverged must not be all that is explained.

The trials are drawn anew with replacement many times; each time a column of random numbers stands
among the settings. Where it cannot be told from that column, the report says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesRegressor

from ckconv_sweep.config.domains import Blocks
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.sample import ENOUGH, Sample, comparable
from ckconv_sweep.report.scale import Scale

Array = NDArray[np.float64]

RESAMPLES = 50
_TREES = 20
_MOST_ROWS = 300
"""Of so many trials the errors are taken; more make them no better, only slower."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Of one setting: a share of the variance of the trials' ranks."""

    setting: str
    trials: int
    """Over how many trials, which are those that have the setting."""
    where: str = ""
    """For a setting of a block: where it exists, as in `schedule = plateau`."""
    low: float = 0.0
    median: float = 0.0
    high: float = 0.0
    """The middle 95 % of the resamples."""
    noise: float = 0.0
    """What 97.5 % of the random columns stayed below."""
    explained: float = 0.0
    """How much of the variance of trials that it did not see the forest explains; below 0 where it
    errs more than the mean does."""
    enough: bool = True
    """Whether there were enough trials to try, in which the setting differs."""

    @property
    def told(self) -> bool:
        """Whether it stands out from a column of random numbers."""
        return self.enough and self.low > self.noise


@dataclass(frozen=True, kw_only=True)
class Importances:
    """Of all settings, the most important first; those that were not tried last."""

    settings: tuple[Importance, ...]
    words: str
    """Over which trials."""

    @property
    def top(self) -> list[str]:
        """The settings' names in this order."""
        return [importance.setting for importance in self.settings]


def importances(
    records: Sequence[TrialRecord], space: Space, *, seed: int = 0, resamples: int = RESAMPLES
) -> Importances:
    """The importance of each searched setting.

    A setting of a block is compared among the trials that chose the block, with the settings that
    all trials have.

    Args:
        records: of one sweep.
        seed: of resamples, random columns and forests; the same seed gives the same numbers.
        resamples: how often the trials are drawn anew.
    """
    sample = comparable(records, space)
    conditions = {
        f"{path}.{label}.{key}": (path, label)
        for path, domain in space.search.items()
        if isinstance(domain, Blocks)
        for label, block in domain.options.items()
        for key in block.search
    }
    shared = [name for name in space.parameters() if name not in conditions]
    found = list(_group(sample, space, shared, shared, "", seed, resamples))
    for condition in dict.fromkeys(conditions.values()):
        inner = [name for name, other in conditions.items() if other == condition]
        where = " = ".join(condition)
        found += _group(sample, space, shared + inner, inner, where, seed, resamples)
    found.sort(key=lambda i: (not i.enough, -i.median))
    return Importances(settings=tuple(found), words=sample.words)


def _group(
    sample: Sample,
    space: Space,
    columns: Sequence[str],
    wanted: Sequence[str],
    where: str,
    seed: int,
    resamples: int,
) -> Iterator[Importance]:
    """The importances of `wanted`, over the trials that have all of `columns`."""
    rows = [i for i, r in enumerate(sample.records) if all(name in r.params for name in columns)]
    values = sample.values[rows]
    if len(rows) < ENOUGH or values.min() == values.max():
        for name in wanted:
            yield Importance(setting=name, trials=len(rows), where=where, enough=False)
        return
    scales = {name: Scale(space.parameters()[name]) for name in columns}
    settings = np.array(
        [
            [scales[name].fraction(sample.records[row].params[name]) for name in columns]
            for row in rows
        ]
    )
    drawn, explained = _resampled(settings, values, np.random.default_rng(seed), resamples)
    low, median, high = np.percentile(drawn, [2.5, 50.0, 97.5], axis=0)
    for name in wanted:
        place = list(columns).index(name)
        if settings[:, place].min() == settings[:, place].max():
            yield Importance(setting=name, trials=len(rows), where=where, enough=False)
            continue
        yield Importance(
            setting=name,
            trials=len(rows),
            where=where,
            low=float(low[place]),
            median=float(median[place]),
            high=float(high[place]),
            noise=float(high[-1]),
            explained=float(np.median(explained)),
        )


def _resampled(
    settings: Array, values: Array, rng: np.random.Generator, resamples: int
) -> tuple[Array, Array]:
    """Importances of the columns of `settings`, then of a random one.

    Args:
        settings: (trials, settings).
        values: (trials,).

    Returns:
        (resamples, settings + 1) and, the explained share of the variance, (resamples,)
    """
    ranks = rankdata(values)
    trials, variance = len(ranks), ranks.var()
    drawn, explained = [], []
    for _ in range(resamples):
        table = np.column_stack([settings, rng.random(trials)])
        chosen = rng.integers(trials, size=trials)
        forest = ExtraTreesRegressor(
            max(_TREES // 2, min(_TREES, 6_000 // trials)),  # of many trials few trees say as much
            min_samples_leaf=max(2, trials // 100),
            random_state=int(rng.integers(2**31)),
        ).fit(table[chosen], ranks[chosen])
        rows = rng.permutation(trials)[:_MOST_ROWS]
        dealt = np.repeat(table[rows][None], table.shape[1], axis=0)
        for column, copy in enumerate(dealt):
            copy[:, column] = rng.permutation(copy[:, column])
        plain = _squared_errors(forest, table[rows], ranks[rows])
        worse = _squared_errors(
            forest, dealt.reshape(-1, table.shape[1]), np.tile(ranks[rows], len(dealt))
        )
        drawn.append((worse.reshape(len(dealt), -1).mean(axis=1) - plain.mean()) / (2 * variance))
        unseen = ~np.isin(rows, chosen)
        explained.append(1.0 - plain[unseen].mean() / variance)
    return np.array(drawn), np.array(explained)


def _squared_errors(forest: ExtraTreesRegressor, table: Array, ranks: Array) -> Array:
    errors: Array = (forest.predict(table) - ranks) ** 2
    return errors
