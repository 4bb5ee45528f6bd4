"""The description of a sweep's run in MLflow's pages, as Markdown: what is searched, and the best
trials so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep.config.domains import Choices, Interval
from ckconv_sweep.config.grid import grid_note, most_settings
from ckconv_sweep.config.history import objectives
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome, trial_name
from ckconv_sweep.record.events import Ended, Event, Rejected, Started
from ckconv_sweep.record.fronts import fronts
from ckconv_sweep.record.seeds import Seeds
from ckconv_sweep.record.trials import TrialRecord

TAG = "mlflow.note.content"
MOST_ROWS = 20
MOST_CHARACTERS = 7_900
"""MLflow cuts a tag off after 8,000."""
_BEGINNING = "A sweep on **"


@dataclass
class _Row:
    params: Mapping[str, Any]
    added: bool = False
    outcome: Outcome = "running"
    values: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    ended_ms: int = 0
    repeat_of: int | None = None
    retry_of: int | None = None
    replaces: int | None = None


@dataclass
class Standings:
    """What became of each trial of a sweep, without those that confirm it."""

    space: Space
    rows: dict[int, _Row] = field(default_factory=dict)
    rejected: int = 0
    """How many draws were rejected; of a grid they are used up."""

    def add(self, record: TrialRecord) -> None:
        """A trial of an earlier session."""
        if not record.counts:
            self.rejected += 1
            return
        history = record.history
        values = objectives(history, self.space.metrics)
        self.rows[record.number] = _Row(
            params=record.params,
            added=bool(record.request),
            outcome=record.outcome,
            values=values,
            epochs=len(history),
            ended_ms=record.ended_ms or 0,
            repeat_of=record.repeat_of,
            retry_of=record.retry_of,
            replaces=record.replaces,
        )

    def hear(self, event: Event) -> None:
        """Something happened to a trial of this session."""
        if isinstance(event, Started) and "confirms" in event.origin:
            return
        if isinstance(event, Started):
            origin = event.origin
            self.rows[event.number] = _Row(
                event.params,
                "request" in origin,
                repeat_of=origin.get("repeat_of"),
                retry_of=origin.get("retry_of"),
                replaces=origin.get("replaces"),
            )
        elif isinstance(event, Rejected):
            self.rejected += 1
        elif isinstance(event, Ended) and event.number in self.rows:
            row = self.rows[event.number]
            row.outcome, row.values, row.epochs = event.outcome, event.values, event.epochs
            row.ended_ms = event.ended_ms

    def best_so_far(self) -> list[tuple[int, float, int]]:
        """How many trials had ended, what the best completed one had reached, and when (in ms):
        a point for each trial that ended, from the first that completed on. A trial and what
        continues it are one. Where all settings are repeated, the best mean over all seeds of
        one."""
        goes_on = ("running", "continued")
        ended = [item for item in list(self.rows.items()) if item[1].outcome not in goes_on]
        ended.sort(key=lambda item: (item[1].ended_ms, item[0]))
        points, best = list[tuple[int, float, int]](), None
        seeds = self.space.repeats.times if self.space.repeats and self.space.all_repeated else 1
        reached: defaultdict[int, list[float]] = defaultdict(list)
        for i, (number, row) in enumerate(ended, start=1):
            of_setting = reached[_setting(number, row)]
            if row.outcome == "completed" and row.values:
                of_setting.append(row.values[self.space.metric.name])
            if len(of_setting) == seeds:
                value = sum(of_setting) / seeds
                better = best is None or self.space.metric.better(value, best)
                best = value if better else best
            if best is not None:
                points.append((i, best, row.ended_ms))
        return points

    def _completed(self) -> list[tuple[int, list[_Row]]]:
        """The completed trials, best first: those of a setting together, by their mean; those that
        lack seeds after the others."""
        settings: dict[int, list[_Row]] = {}
        for number, row in sorted(self.rows.items()):
            if row.outcome == "completed" and row.values:
                settings.setdefault(_setting(number, row), []).append(row)
        metrics, most = self.space.metrics, max(map(len, settings.values()), default=0)
        sign = -1 if metrics[0].mode == "max" else 1
        means = [[_mean(rows, metric.name) for metric in metrics] for rows in settings.values()]
        order = sorted(
            zip(settings.items(), fronts(means, metrics), means, strict=True),
            key=lambda one: (len(one[0][1]) < most, one[1], sign * one[2][0]),
        )
        return [item for item, _, _ in order]

    def note(self, *, charts: str = "") -> str:
        """The text; as many of the best trials as there is room for.

        Args:
            charts: the address of the saved charts.
        """
        parts = [self._asked(), self._searched()]
        if charts:
            parts.append(f"[All trials as charts]({charts})")
        text = "\n\n".join(parts)
        heading, *rows = self._ranking()
        for row in (f"\n\n{heading}", *(f"\n{row}" for row in rows)):
            if len(text) + len(row) > MOST_CHARACTERS:
                break
            text += row
        return text

    def _asked(self) -> str:
        space, outcomes = self.space, [row.outcome for row in list(self.rows.values())]
        how_many = ", ".join(
            f"{outcomes.count(outcome)} {word}"
            for outcome, word in (
                ("completed", "completed"),
                ("pruned", "pruned"),
                ("continued", "continued"),
                ("failed", "failed"),
                ("running", "unfinished"),
            )
            if outcome in outcomes
        )
        metric = space.metric
        why = grid_note(space, self.rejected)
        return (
            f"{_BEGINNING}{space.trial.data.name}**: {self._most()} trials "
            f"requested{f' ({how_many})' if how_many else ''}{f' ({why})' if why else ''}, "
            f"sampler {space.sampler.name}, scheduler {space.scheduler.name}. Judged by "
            f"**{metric.name}** at its {metric.at} epoch; {metric.better_is} is better"
            f"{space.beside}."
        )

    def _most(self) -> int:
        """How many trials there can be in all."""
        seeds, new = Seeds(self.space), most_settings(self.space, self.rejected)
        for number, row in sorted(self.rows.items()):
            new -= {row.repeat_of, row.replaces} == {None} and not row.added
            seeds.begin(number, row.repeat_of, row.retry_of, row.replaces)
            if row.values if row.outcome == "completed" else row.outcome != "running":
                seeds.end(number, row.outcome, row.values)
        return seeds.asked(new)

    def _searched(self) -> str:
        lines = ["| searched setting | values |", "|---|---|"]
        lines += [
            f"| `{_cell(name)}` | {_cell(_values(domain))} |"
            for name, domain in self.space.parameters().items()
        ]
        lines += [f"| `{path}` | {_cell(str(e))} |" for path, e in self.space.derived.items()]
        lines += [f"| constraint | {_cell(str(c))} |" for c in self.space.constraints]
        return "\n".join(lines)

    def _ranking(self) -> list[str]:
        """The heading with the frame's line, then a line for each of the best completed trials."""
        metrics, searched = [m.name for m in self.space.metrics], self.space.parameters()
        completed = self._completed()
        seeds = ["repeats"] * (self.space.repeats is not None)
        columns = ["rank", "trial", *metrics, *seeds, "epochs", *short_names(searched).values()]
        lines = [f"{_line(columns)}\n{_line(['---'] * len(columns))}"] if completed else [""]
        for rank, (number, rows) in enumerate(completed[:MOST_ROWS], start=1):
            values, params = [f"{_mean(rows, name):.4g}" for name in metrics], rows[0].params
            cells = [str(rank), trial_name(number), *values, *[str(len(rows))] * len(seeds)]
            cells += [str(sum(row.epochs for row in rows))]
            cells += [_number(params[name]) if name in params else "" for name in searched]
            lines.append(_line(cells))
        return lines


def _setting(number: int, row: _Row) -> int:
    return number if row.repeat_of is None else row.repeat_of


def _mean(rows: list[_Row], name: str) -> float:
    return sum(row.values[name] for row in rows) / len(rows)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _values(domain: Interval | Choices) -> str:
    if isinstance(domain, Choices):
        return ", ".join(map(_number, domain.options)) + (", in order" if domain.ordered else "")
    low, high = (int(end) if domain.whole else end for end in (domain.low, domain.high))
    how = ", on a logarithmic scale" if domain.log else ""
    how += f", in steps of {_number(domain.step)}" if domain.step is not None else ""
    if domain.mean is not None:
        how += f", normal around {_number(domain.mean)} ± {_number(domain.std)}"
    return f"{'0 or ' if domain.or_zero else ''}{_number(low)} to {_number(high)}{how}"


def is_ours(text: str) -> bool:
    """Whether a note is one of these, and not one that a person wrote in its place."""
    return text.startswith(_BEGINNING)
