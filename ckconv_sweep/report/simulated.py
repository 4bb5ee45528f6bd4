"""What stopping rules would have done of a table of recorded curves, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import pandas as pd
from pydantic import ValidationError

from ckconv_sweep.config.sampling import Sampler
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import RULES, StoppingRule
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.comparison import measure
from ckconv_sweep.report.summary import winner
from ckconv_sweep.search.curve_table import CurveTable
from ckconv_sweep.search.from_table import simulate_sampler
from ckconv_sweep.search.simulator import (
    Replayed,
    Simulated,
    in_random_order,
    in_recorded_order,
    simulate,
)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How trials come in a simulated sweep. Raises ConfigError for what cannot be."""

    places: int = 1
    """How many run at a time."""
    orders: int = 0
    """In how many random orders, each with its seed from 0 on; 0: in the recorded order."""
    sampler: Sampler | None = None
    """What draws them; with `orders` once for each seed."""
    trials: int | None = None
    """How many a sampler draws; all of the table by default."""

    def __post_init__(self) -> None:
        for option, number, least in (
            ("--places", self.places, 1),
            ("--orders", self.orders, 0),
            ("--trials", 1 if self.trials is None else self.trials, 1),
        ):
            if number < least:
                raise ConfigError(f"expected {least} or more, got {number}", where=option)
        if self.trials is not None and self.sampler is None:
            raise ConfigError("needs --sampler", where="--trials")


@dataclass(frozen=True)
class Compared:
    """The rules with what they would have done, and what a reader should know of it."""

    rows: pd.DataFrame
    notes: list[str]


def default_rules(space: Space) -> tuple[list[StoppingRule], list[str]]:
    """Every rule with its default settings, none first, and the space's own as it is; a note for
    each that has no default."""
    rules, notes = list[StoppingRule](), []
    for name in sorted(RULES, key=lambda name: name != "none"):
        try:
            rules.append(RULES[name].model_validate({"name": name}))
        except ValidationError:
            if space.scheduler.name != name:
                notes.append(f"{name} is left out: it has no default settings; see --scheduler")
        if space.scheduler.name == name and space.scheduler not in rules:
            rules.append(space.scheduler)
    return rules, notes


def in_words(rule: StoppingRule) -> str:
    """`asha grace_epochs=3`: its name, and the settings that are not the default ones."""
    default = RULES[rule.name].model_construct(name=rule.name)
    told = [rule.name]
    for key in type(rule).model_fields:
        value = getattr(rule, key)
        if value != getattr(default, key, None):
            inner = f"({in_words(value)})" if isinstance(value, StoppingRule) else value
            told.append(f"{key}={inner}")
    return " ".join(told)


def compared(
    table: CurveTable, rules: Sequence[StoppingRule] = (), setup: Setup = Setup()
) -> Compared:
    """A row a rule. With several orders the numbers are means over these.

    Args:
        rules: `default_rules` if there are none.

    Raises:
        ConfigError: a rule that was asked for, or the sampler, cannot be simulated.
    """
    chosen, notes = (list(rules), list[str]()) if rules else default_rules(table.space)
    rows = []
    for rule in chosen:
        try:
            runs = _runs(table, rule, setup)
        except ConfigError as error:
            if rules or error.where != rule.name:
                raise
            note = f"{rule.name} is left out: it {error.message}"
            notes += [] if note in notes else [note]
            continue
        rows.append(_row(table, rule, runs))
        if len(runs) == 1 and (stopped := _best(table, runs[0])).stop is not None:
            notes.append(
                f"{in_words(rule)} would have stopped {trial_name(stopped.begun.record.number)}, "
                f"the best: {stopped.stop.reason}"
            )
    beside = sum(not record.teaches for record in table.records)
    if beside and setup.sampler is not None:
        notes.append(
            f"{beside} of {len(table.records)} trials have settings beside the space: no sampler "
            "chooses them"
        )
    best = winner(table.records, table.space)
    assert best is not None
    told = f"the best of all is {trial_name(best.number)}: {table.space.metric.name} "
    notes = [told + f"{best.value(table.space.metric):.4g}", *notes, *table.left_out]
    frame = pd.DataFrame(rows, dtype=object)
    frame.attrs["notes"] = notes
    return Compared(frame, notes)


def _runs(table: CurveTable, rule: StoppingRule, setup: Setup) -> list[Simulated]:
    if setup.sampler is not None:
        seeds = range(setup.orders) if setup.orders else [setup.sampler.seed]
        return [
            simulate_sampler(
                table,
                setup.sampler.model_copy(update={"seed": seed}),
                rule,
                trials=setup.trials,
                places=setup.places,
            )
            for seed in seeds
        ]
    space = replace(table.space, scheduler=rule)
    sources = [in_random_order(table.records, seed) for seed in range(setup.orders)]
    return [
        simulate(space, source, places=setup.places)
        for source in sources or [in_recorded_order(table.records)]
    ]


def _row(table: CurveTable, rule: StoppingRule, runs: Sequence[Simulated]) -> dict[str, Any]:
    metric = table.space.metric
    best = [_best(table, run) for run in runs]
    whole = [sum(len(r.history) for r in _chosen(table, run)) for run in runs]
    kept = [winner([t.record for t in run.trials], table.space) for run in runs]
    values = [record.value(metric) for record in kept if record is not None]
    return {
        "rule": in_words(rule),
        "epochs": _mean([run.epochs for run in runs]),
        "%": 100 * mean(r.epochs / most for r, most in zip(runs, whole, strict=True)),
        "hours": mean(run.seconds for run in runs) / 3600,
        "stopped": _mean([sum(t.stop is not None for t in run.trials) for run in runs]),
        measure(metric): mean(values) if values else None,
        "best trial": _fate(best),
    }


def _chosen(table: CurveTable, run: Simulated) -> list[TrialRecord]:
    """The trials of a simulated sweep as they were recorded, also repeats that did not begin
    because their setting was stopped."""
    begun = {trial.begun.record.number for trial in run.trials}
    return [r for r in table.records if r.number in begun or r.repeat_of in begun]


def _best(table: CurveTable, run: Simulated) -> Replayed:
    """The trial that would be the best, had all run to their end."""
    found = winner(_chosen(table, run), table.space)
    assert found is not None
    return next(trial for trial in run.trials if trial.begun.record.number == found.number)


def _fate(best: Sequence[Replayed]) -> str:
    """What became of the best trial."""
    if len(best) > 1:
        return f"kept {sum(trial.stop is None for trial in best)} of {len(best)}"
    (trial,) = best
    return "kept" if trial.stop is None else f"lost, epoch {trial.epochs}"


def _mean(numbers: Sequence[int]) -> float | int:
    return mean(numbers) if len(numbers) > 1 else numbers[0]
