"""A sweep as one HTML file: pictures and style are inside, and nothing runs.

The template escapes every text that it is given, and the page's own policy forbids scripts and
requests, so that a text which somebody put into a setting or an error stays a text.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from ckconv_sweep.config.domains import in_words
from ckconv_sweep.config.grid import grid_note
from ckconv_sweep.config.history import best
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.confirmation import by_time
from ckconv_sweep.record.lineage import trial_file
from ckconv_sweep.record.seeds import trained_one
from ckconv_sweep.record.trials import BASE, TrialRecord
from ckconv_sweep.record.why import last_line
from ckconv_sweep.report import confirmed as of_confirmation
from ckconv_sweep.report import sampling_error
from ckconv_sweep.report.advice import advise, widened
from ckconv_sweep.report.columns import is_missing
from ckconv_sweep.report.hypervolume import hypervolume_in_words
from ckconv_sweep.report.importance import Importances, importances
from ckconv_sweep.report.leaderboard import captions, leaderboard
from ckconv_sweep.report.openings import in_words as in_words_of_opening
from ckconv_sweep.report.openings import times_in_words
from ckconv_sweep.report.plots import draw
from ckconv_sweep.report.plots.contour import pairs
from ckconv_sweep.report.plots.importance import picture as importance_picture
from ckconv_sweep.report.plots.style import for_a_phone, rendered
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.sample import ENOUGH, comparable
from ckconv_sweep.report.spent import Spent, spent
from ckconv_sweep.report.summary import SAID, winner
from ckconv_sweep.report.why import sentences
from ckconv_sweep.search.confirmed import Confirmed

ROWS = 50
"""Of the leaderboard, and of the trials that ended early; the others are counted."""
_PAIRS = 3
"""Contours."""
_FEWEST = 3
"""Trials to compare."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An SVG as the address that an `<img>` shows, the one for a phone, and what a reader who
    cannot see it is told."""

    address: str
    narrow: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The trials that failed for one reason."""

    reason: str
    trials: str
    amount: int
    lines: tuple[tuple[str, int], ...]
    """The last line of an error, and how many trials had it; the most frequent first."""


def page(
    results: Results,
    *,
    parameters: Mapping[int, int] | None = None,
    again: Callable[[str], str] | None = None,
    relatives: Sequence[str] = (),
    confirmed: Confirmed | None = None,
    seed: int = 0,
) -> str:
    """The report.

    Args:
        results: a sweep, also one that has not ended.
        parameters: the number of trained values of each trial's model, by the trial's number;
            without it there is no Pareto front where the sweep has one metric.
        again: what to type for a command on this sweep; None where its folder is not here.
        relatives: what is to be said of earlier and later sweeps.
        confirmed: what its confirmation says; None where none was begun.
        seed: of the importances' resamples.
    """
    space = results.space
    records = [r for r in results.records if r.counts]
    found = importances(records, space, seed=seed)
    wider = widened(records, space)
    sums = spent(records, space)
    early = [r for r in records if r.outcome not in ("running", "completed")]
    confirm = again("confirm") if again else f"ckconv-sweep confirm {results.name}"
    return template().render(
        name=results.name,
        summary=results.summary(),
        grid_note=grid_note(space, results.rejected),
        state=results.state,
        source=results.source,
        notes=[*results.notes, *relatives],
        again=again,
        metric=space.metric,
        space=space,
        searched=[(name, in_words(domain, number)) for name, domain in space.parameters().items()],
        space_yaml=space.to_yaml(),
        versions=_columns(results.versions),
        best=_best(records, space),
        advice=advise(
            results.records,
            space,
            found,
            resume=again("resume") if again else f"ckconv-sweep resume {results.name}",
            confirm=None if confirmed else confirm,
        ),
        confirmed=_confirmed(confirmed) if confirmed else None,
        openings=[(n, one.at, in_words_of_opening(one)) for n, one in by_time(results.openings)],
        opened=times_in_words(results.openings),
        settled=any(one.told for one in found.settings),
        wider_yaml=wider[0].to_yaml() if wider else None,
        wider_bounds=wider[1] if wider else (),
        pictures=dict(_pictures(records, space, found, parameters)),
        spent=sums,
        times=list(_times(sums)),
        failures=failures(records),
        whys=list(sentences(early[:ROWS], space)),
        more_whys=max(0, len(early) - ROWS),
        violations=results.rejected,
        table=_cells(leaderboard(records, space, state=results.state).head(ROWS), space),
        captions=[
            *captions(space),
            *sampling_error.in_words(records, space, results.sequences),
            *(line for of in (hypervolume_in_words, *SAID) for line in of(records, space)),
        ],
        more=max(0, len(records) - ROWS),
    )


@cache
def template() -> jinja2.Template:
    """The page, to be filled in. A value that it is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ckconv_sweep.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A text may hold codes that are no characters of HTML.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters["breakable"] = breakable
    environment.filters["number"] = number
    environment.filters["duration"] = duration
    environment.filters["trial_name"] = trial_name
    return environment.get_template("report.html.j2")


def _confirmed(found: Confirmed) -> dict[str, Any]:
    """Its table, without the columns that have no value, and what follows from it."""
    table = of_confirmation.rows(found)
    names = [name for name in table[0] if any(row[name] for row in table)]
    chosen = found.offered if found.finished else None
    return {
        "offered": chosen,
        "has_base": found.control is not None and found.control.number == BASE,
        "mean": of_confirmation.mean_of(chosen) if chosen else "",
        "columns": [(_OF_CONFIRMATION.get(name, name), name != "trial") for name in names],
        "rows": [[row[name] for name in names] for row in table],
        "sentences": list(of_confirmation.sentences(found)),
        "caption": of_confirmation.CAPTION,
    }


_OF_CONFIRMATION = {"mean": "mean ± 95 %", "to leader": "minus leader", "seconds": "seconds a seed"}


def _best(records: Sequence[TrialRecord], space: Space) -> dict[str, Any] | None:
    """The best trial: its settings, its number, and the whole of it as a file."""
    record = winner(records, space)
    if record is None:
        return None
    epoch = best(record.history, space.metric)
    names = short_names(space.parameters())
    return {
        "number": record.number,
        "value": record.value(space.metric),
        "values": [(name, number(value)) for name, value in record.values(space.metrics).items()],
        "epoch": epoch.number,
        "epochs": record.last_epoch,
        "params": [(names[path], number(value)) for path, value in record.params.items()],
        "metrics": sorted(
            (name, number(value))
            for name, value in epoch.metrics.items()
            if not name.startswith("time/")
        ),
        "yaml": trial_file(trained_one(record), records, space),
    }


def _pictures(
    records: Sequence[TrialRecord],
    space: Space,
    found: Importances,
    parameters: Mapping[int, int] | None,
) -> Iterator[tuple[str, list[Picture]]]:
    """Those of each kind that has something to show: comparisons need trials to compare."""
    name, trained = space.metric.name, [r for r in records if r.history]
    drawn = partial(draw, records=records, space=space)
    alone = {
        "history": f"The best {name} so far, over the trials and over time.",
        "curves": f"{name} of every trial, epoch by epoch.",
        "timeline": "When each trial was trained.",
    }
    if any(record.replaces is not None for record in trained):
        alone["lineage"] = "Which trial went on from which."
    for kind, alt in alone.items() if trained else ():
        yield kind, [_picture(partial(drawn, kind), alt)]
    if any(one.enough for one in found.settings):
        told = ", ".join(
            f"{one.setting} {one.median:.0%} ({one.low:.0%} to {one.high:.0%})"
            for one in found.settings
            if one.told
        )
        alt = f"Importance of the settings: {told or 'not told'}."
        yield "importance", [_picture(partial(importance_picture, found), alt)]
    if len(trained) >= _FEWEST:
        top = found.top[:6]
        alt = f"{name} against {_list(top)}."
        yield "slice", [_picture(partial(drawn, "slice", settings=top), alt)]
        alt = f"Every trial as a line over all searched settings to its {name}."
        yield "parallel", [_picture(partial(drawn, "parallel"), alt)]
    sample = comparable(records, space)
    if len(sample) >= ENOUGH:
        some = itertools.islice(pairs(sample.records, found.top), _PAIRS)
        yield (
            "contour",
            [
                _picture(partial(drawn, "contour", settings=pair), f"{name} over {_list(pair)}.")
                for pair in some
            ],
        )
    completed = [r for r in records if r.outcome == "completed"]
    if (space.further or parameters is not None) and len(completed) >= _FEWEST:
        others = _list([metric.name for metric in space.further])
        others = others or "the number of the model's parameters"
        drawing = partial(drawn, "pareto", parameters=parameters)
        yield "pareto", [_picture(drawing, f"{name} against {others}.")]


def _picture(drawing: Callable[[], Figure], alt: str) -> Picture:
    with for_a_phone():
        narrow = _address(drawing())
    return Picture(address=_address(drawing()), narrow=narrow, alt=alt)


def _address(figure: Figure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(rendered(figure)).decode()}"


def _times(sums: Spent) -> Iterator[tuple[str, float, int | None]]:
    """Where the time went: what, seconds, epochs."""
    said = {
        "completed": "trained, of trials that completed",
        "pruned": "trained, of trials that were pruned",
        "continued": "trained, of trials that others continued",
        "failed": "trained, of trials that failed",
        "running": "trained, of trials that have not ended",
    }
    for outcome, words in said.items():
        for known, seconds in sums.training_seconds.items():
            if known == outcome and sums.epochs[known]:
                yield words, seconds, sums.epochs[known]
    yield "waited between their epochs", sums.waiting_seconds, None
    if sums.gpu_seconds:
        yield "of one GPU, as trained", sums.gpu_seconds, None


def failures(records: Sequence[TrialRecord]) -> list[Failure]:
    """The failed trials by reason, the most frequent first."""
    reasons = Counter(r.reason for r in records if r.outcome == "failed")
    out = []
    for reason, amount in reasons.most_common():
        some = [r for r in records if r.outcome == "failed" and r.reason == reason]
        lines = Counter(last_line(record.error) for record in some)
        names = [trial_name(r.number) for r in some]
        out.append(
            Failure(
                reason=reason or "unknown",
                trials=", ".join(names[:8]) + (", …" if len(names) > 8 else ""),
                amount=amount,
                lines=tuple(lines.most_common(3)),
            )
        )
    return out


def _cells(table: pd.DataFrame, space: Space) -> dict[str, Any]:
    """A table as texts; which columns are numbers stands on the right."""
    shown = table.rename(columns=short_names(space.parameters()))
    return {
        "columns": [(str(name), name != "outcome") for name in shown],
        "rows": [
            ["" if is_missing(cell) else number(cell) for cell in row]
            for row in shown.itertuples(index=False)
        ],
    }


def _columns(versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Of each package its version in each session that changed some."""
    names = dict.fromkeys(name for entry in versions for name in entry)
    return [(name, [str(entry.get(name, "")) for entry in versions]) for name in names]


def breakable(text: str) -> Markup:
    """A name as HTML that may be broken after `_`, `.` and `/`, and in no other place; a part that
    no paper has room for, anywhere."""
    parts = [part for part in re.split(r"(?<=[_./])", visible(text)) if part]
    whole = [
        Markup("<span>{}</span>").format(part) if len(part) <= _LONGEST_PART else escape(part)
        for part in parts
    ]
    return Markup("<wbr>").join(whole)


_LONGEST_PART = 16


def number(value: Any) -> str:
    """Four digits of a real number, all of a whole one; what else there is as it is."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """`12 s`, `7 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def visible(text: str) -> str:
    """Without codes that are no text; a line break and a tab are."""
    return _CODES.sub("\N{REPLACEMENT CHARACTER}", text)


# Control codes, halves of characters, and what turns the reading direction.
_CODES = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
