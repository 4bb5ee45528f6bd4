"""`status`, `list` and `best`: the commands that only read."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import SWEEPS_DIR, Force, Name, SweepsDir, folder_here
from ckconv_sweep.cli.output import write_new

if TYPE_CHECKING:
    from ckconv_sweep.errors import CkconvSweepError
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.report.summary import Summary

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A sweep's name; all sweeps if left out.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    json: Json = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Show a sweep's progress, even while it is running.

    With --json an object, or a list of them: name, state (running, interrupted, finished), asked
    (trials, no more than its grid allows), completed, pruned, continued, failed, unfinished, metric
    (the primary one), best_trial, best_value, best_values (each metric's, by name), best_epoch,
    best_repeats (of how many they are the mean), best_params, started_at and last_epoch_at (ISO
    8601, UTC). Unknown values are null. In a list a sweep that cannot be read has name, state
    (damaged, unreadable) and error alone.
    """
    from dataclasses import asdict
    from json import dumps

    from ckconv_sweep.cli.words import continued, count, score, scores
    from ckconv_sweep.record.folder import SweepFolder, all_sweeps

    if name is None and not json:
        list_sweeps(sweeps_dir)
        return
    folders = [SweepFolder.existing(sweeps_dir, name)] if name else all_sweeps(sweeps_dir)
    if json:
        if name:
            typer.echo(dumps(asdict(_summary(folders[0])[0]), indent=2))
        else:
            typer.echo(dumps([_as_json(folder) for folder in folders], indent=2))
        return
    for folder in folders:
        s, notes, _ = _summary(folder, thoroughly=True)
        typer.echo(f"{s.name}: {s.state}, {count(s.asked, 'trial')} requested")
        for note in notes:
            typer.echo(f"  {note}")
        typer.echo(
            f"  {s.completed} completed, {s.pruned} pruned, {continued(s)}{s.failed} failed, "
            f"{s.unfinished} {'running' if s.state == 'running' else 'unfinished'}"
        )
        if s.best_values is not None:
            (metric, value), *others = s.best_values.items()
            beside = "".join(f", {words}" for words in [scores(dict(others))] if words)
            typer.echo(
                f"  best {metric}: {score(value)}{beside} (trial {s.best_trial}, "
                f"epoch {s.best_epoch}{_mean(s.best_repeats)})"
            )
        if s.state == "interrupted":
            typer.echo(f"  resume with: {folder.command('resume')}")


def _as_json(folder: SweepFolder) -> dict[str, Any]:
    """One of several: a sweep that cannot be read does not hide the others."""
    from dataclasses import asdict

    from ckconv_sweep.errors import CkconvSweepError

    try:
        return asdict(_summary(folder)[0])
    except CkconvSweepError as error:
        return {"name": folder.name, "state": _unread(error), "error": str(error)}


def _unread(error: CkconvSweepError) -> str:
    """The state of a sweep that cannot be read now, or ever."""
    from ckconv_sweep.errors import DamagedData

    return "damaged" if isinstance(error, DamagedData) else "unreadable"


def list_sweeps(sweeps_dir: SweepsDir = SWEEPS_DIR) -> None:
    """List the sweeps of a folder."""
    from rich.table import Table

    from ckconv_sweep.cli import words
    from ckconv_sweep.errors import CkconvSweepError
    from ckconv_sweep.record.folder import all_sweeps

    folders = all_sweeps(sweeps_dir)
    if not folders:
        typer.echo(f"no sweeps in {sweeps_dir}")
        return
    table, rows, further = Table(), list[list[str]](), dict[int, dict[str, str]]()
    for heading in ("sweep", "state", "ended", "asked", "metric", "best", "trial"):
        table.add_column(
            heading, justify="left" if heading in ("sweep", "state", "metric") else "right"
        )
    for folder in folders:
        try:
            s, _, beside = _summary(folder)
        except CkconvSweepError as error:
            rows.append([folder.name, f"{_unread(error)}: see doctor"])
            continue
        best = "" if s.best_value is None else words.score(s.best_value)
        trial = "" if s.best_trial is None else str(s.best_trial)
        ended = str(s.completed + s.pruned + s.failed)
        rows.append([s.name, s.state, ended, str(s.asked), s.metric, best, trial])
        further[len(rows) - 1] = beside
    for heading in ("learnt from", "confirmed"):
        if any(beside[heading] for beside in further.values()):
            table.add_column(heading)
            for place, row in enumerate(rows):
                row += [""] * (len(table.columns) - 1 - len(row))
                row.append(further.get(place, {}).get(heading, ""))
    for row in rows:
        table.add_row(*row)
    words.console().print(table)


def best(
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the trial to this file.", callback=folder_here),
    ] = None,
    force: Force = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Print the best completed trial as a trial file.

    Training it again on the same CPU gives the same curve.
    """
    from ckconv_sweep.config.history import best as best_epoch
    from ckconv_sweep.errors import NoResult
    from ckconv_sweep.keys import trial_name
    from ckconv_sweep.record.blobs import blobs_at
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.lineage import in_words, trial_file
    from ckconv_sweep.record.seeds import mean_of, trained_one
    from ckconv_sweep.report.confirmable import confirmation_in_words
    from ckconv_sweep.report.summary import winner

    folder = SweepFolder.existing(sweeps_dir, name)
    with folder.records.open() as study:
        records, space = study.trials(), study.space
        confirmed = confirmation_in_words(study, folder.records.holder())
    record = winner(records, space)
    if record is None:
        raise NoResult(
            "no trial has completed yet",
            where=name,
            hint=f"see what became of them: {folder.command('table')}",
        )
    one = trained_one(record)
    which = trial_name(one.number)
    if one.number != record.number:
        which += f", a repeat of {trial_name(record.number)}, which did not complete"
    epoch = best_epoch(record.history, space.metric).number
    values = record.values(space.metrics)
    told = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    place = folder.trial(one.number)
    weights = next((place / name for name in blobs_at(place).list("best-*.pt")), None)
    text = trial_file(one, records, space)
    comment = (
        f"# The best trial ({which}) of the sweep {name}: "
        f"{told} at epoch {epoch} of {record.last_epoch}{_mean(mean_of(record))}.\n"
    )
    if begins := in_words(record):
        comment += f"# It began with the checkpoint of {begins}; segments: settings until then.\n"
    if out is None:
        typer.echo(comment + text, nl=False)
        return
    write_new(out, comment + text, force=force)
    typer.echo(f"{told} ({which}, epoch {epoch})")
    typer.echo(
        f"train it again (the same numbers on the same CPU): ckconv-sweep train {quote(str(out))}"
    )
    if weights is not None:
        typer.echo(f"its weights: {weights}")
    if not space.scheduler.kept_epochs:  # a trial that continues others is not trained again as one
        typer.echo(
            confirmed
            or "tell with fresh seeds whether it is the best, then score the winner on the test "
            f"split, once: {folder.command('confirm')}"
        )


def _mean(trials: int | None) -> str:
    """What must be said of a value that is a mean."""
    return f"; the mean of {trials} trials" if trials and trials > 1 else ""


def _summary(
    folder: SweepFolder, *, thoroughly: bool = False
) -> tuple[Summary, list[str], dict[str, str]]:
    """With lines on why fewer trials are asked, or were begun, than the budget allows, if so, on
    what people asked of it and on its confirmation; and two cells of `list`. `thoroughly`: also
    lines about the sweeps that it was warm-started from, and about those that learnt from it, for
    which all others are looked at."""
    from ckconv_sweep.config.grid import grid_note
    from ckconv_sweep.record.requests import in_words
    from ckconv_sweep.record.trials import rejected
    from ckconv_sweep.record.warm_start import relatives, sweeps_of
    from ckconv_sweep.report.confirmable import confirmation_in_words, how_far
    from ckconv_sweep.report.summary import goal_in_words, summarize
    from ckconv_sweep.tracking.lag import lag_of

    folder.records.check_not_lost()
    holder = folder.records.holder()
    held = holder is not None
    with folder.records.open() as study:
        records, space = study.trials(), study.space
        notes = [grid_note(space, rejected(records)), *goal_in_words(records, space)]
        notes += in_words(folder, study.notes(), held=held)
        notes += relatives(study) if thoroughly else []
        notes += [confirmation_in_words(study, holder)]
        if thoroughly and (
            lag := lag_of(study.notes(), study.every_trial(), folder.root.parent, held=held)
        ):
            later = "the study has them" if held else f"deliver them: {folder.command('sync')}"
            notes.append(f"MLflow is {lag.in_words}; {later}")
        parents = [sweep.name for sweep in sweeps_of(study) if sweep.named]
        beside = {"learnt from": ", ".join(parents), "confirmed": how_far(study)}
    summary = summarize(folder.name, records, space, held=held)
    return summary, [note for note in notes if note], beside
