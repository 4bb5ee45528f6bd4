"""What is printed when a session has ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from ckconv_sweep.cli import words
from ckconv_sweep.cli.words import count
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import NoResult
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record import confirmation
from ckconv_sweep.record.budget import gpu_hours_are_up, is_finished
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trained_data import in_words, noted, on_other_data
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report import sampling_error
from ckconv_sweep.report.hypervolume import hypervolume_in_words
from ckconv_sweep.report.leaderboard import captions, leaderboard
from ckconv_sweep.report.render import to_terminal
from ckconv_sweep.report.sampling_error import scored_sequences
from ckconv_sweep.report.summary import SAID, summarize, winner

if TYPE_CHECKING:
    from ckconv_sweep.report.advice import Advice
    from ckconv_sweep.sweep.delivery import Session

SHOWN = 10
_MOST_ADVISED = 1000
"""Trials of which the settings' importance is found in a moment."""


def show_result(
    folder: SweepFolder,
    records: Sequence[TrialRecord],
    space: Space,
    tracking_uri: str | None,
    session: Session | None = None,
) -> None:
    """The best trials, what became of the others, and the commands that come next.

    Raises:
        typer.Exit: with a signal's exit code, if one ended the session.
        NoResult: the sweep is over, or its time is, and no trial completed.
    """
    console = words.console()
    again = folder.command("resume")
    over = is_finished(records, space)  # then a signal came too late to stop anything
    if session is not None and session.signal_exit_code is not None and not over:
        if not session.trained:
            typer.echo("stopped before the first trial; nothing was started")
            raise typer.Exit(session.signal_exit_code)
        summary = summarize(folder.name, records, space, held=False)
        ended = summary.completed + summary.pruned + summary.failed
        # One line: what is kept, and how to go on.
        typer.echo(
            f"stopped: {count(ended, 'ended trial')} and every recorded epoch are kept; "
            f"{summary.unfinished} unfinished; resume with: {again}"
        )
        raise typer.Exit(session.signal_exit_code)

    summary = summarize(folder.name, records, space, held=False)
    table = leaderboard(records, space, state=summary.state)
    names = [metric.name for metric in space.metrics]
    title = (
        f"{folder.name}: {count(summary.completed, 'trial')} completed, "
        f"{summary.pruned} pruned, {words.continued(summary)}{summary.failed} failed"
        + (f", {summary.unfinished} unfinished" if summary.unfinished else "")
        + f" (every number is a validation number: {', '.join(names)})"
        * all(name.startswith("val/") for name in names)
    )
    console.print(
        to_terminal(
            table.head(SHOWN), title=title, settings=list(space.parameters()), width=console.width
        )
    )
    if len(table) > SHOWN:
        left = count(len(table) - SHOWN, "more trial")
        console.print(f"{left}: {folder.command('table')}", soft_wrap=True)
    with folder.records.open() as study:
        sequences = scored_sequences(space, noted(study.notes()))
        is_confirmed = confirmation.noted(study.notes()) is not None
    interval = sampling_error.in_words(records, space, sequences)
    lines = [say for of in (hypervolume_in_words, *SAID) for say in of(records, space)]
    for line in [*captions(space), *interval, *lines, *in_words(on_other_data(records))]:
        console.print(line, soft_wrap=True)
    best, time_is_up = winner(records, space), ""
    if session is not None and session.asked_to_end:
        console.print(f"stopped, as it was asked to; resume with: {again}", soft_wrap=True)
    if session is not None and session.time_is_up:
        budget = space.budget
        time_is_up = (
            f"the {budget.gpu_hours:g} GPU-hours are up; resume with: {again} --gpu-hours MORE"
            if gpu_hours_are_up(records, space)
            else f"the {budget.hours:g} hours are up; resume with: {again} --hours MORE"
        )
        if best is not None:
            console.print(time_is_up, soft_wrap=True)
    if session is not None and session.undelivered:
        lacking = (
            f"{count(session.undelivered, 'record')} not delivered to MLflow; when it answers again"
            if session.trained
            else "MLflow did not confirm that it has every record; when it answers"
        )
        console.print(f"{lacking}: {folder.command('sync')}", soft_wrap=True)
    if best is not None:
        console.print(
            f"best settings ({trial_name(best.number)}) as a trial file: "
            f"{folder.command('best')} --out {folder.name}_best.yaml",
            soft_wrap=True,
        )
    for line in _in_mlflow(folder, tracking_uri):
        console.print(line, soft_wrap=True)
    if any(record.history for record in records):
        advice = _advice(records, space, folder, confirmed=is_confirmed)
        first = [f" (first: {_begun(advice[0])})"] if advice else []
        told = "".join(first)
        console.print(f"pictures and advice: {folder.command('report')}{told}", soft_wrap=True)
        for one in advice:
            if one.rule == "mostly_noise" and one.command and over:
                console.print(
                    f"which of the best is best is chance so far; to find out: {one.command}",
                    soft_wrap=True,
                )
    if best is None and (summary.state == "finished" or time_is_up):
        outcomes = [r.reason or r.outcome for r in records if r.counts and r.outcome != "running"]
        reasons = Counter(outcomes + ["unfinished"] * summary.unfinished)
        told = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
        told = told or "every point of the grid was rejected"
        shown = [r for r in records if r.error and (r.counts or not reasons)]
        errors = [r.error.strip().splitlines()[-1] for r in shown]
        hints = [f"the last error: {errors[-1]}"] if errors else []
        hints += [time_is_up] if time_is_up else []
        raise NoResult(
            f"no trial completed ({told})", where=folder.name, hint="\n  ".join(hints) or None
        )


def _advice(
    records: Sequence[TrialRecord], space: Space, folder: SweepFolder, *, confirmed: bool
) -> Sequence[Advice]:
    """What the report advises, the most important first; nothing where it would take seconds."""
    if len(records) > _MOST_ADVISED:
        return ()
    from ckconv_sweep.report.advice import advise
    from ckconv_sweep.report.importance import importances

    counted = [record for record in records if record.counts]
    confirm = None if confirmed else folder.command("confirm")
    return advise(records, space, importances(counted, space), confirm=confirm)


def _begun(advice: Advice) -> str:
    return advice.what[0].lower() + advice.what[1:].rstrip(".")


def _in_mlflow(folder: SweepFolder, tracking_uri: str | None) -> Iterator[str]:
    """Where all trials are compared: the pages on a server, or the command that starts one."""
    from ckconv_sweep.cli.pages import tracked
    from ckconv_sweep.tracking.store import without_password

    kept = tracked(folder)
    if not tracking_uri or not tracking_uri.startswith("http"):
        yield f"compare all trials in MLflow:  {folder.command('ui')}"
    elif kept.uri == without_password(tracking_uri) and (found := kept.addresses(kept.server)):
        yield f"compare all trials in MLflow:  {found.charts}"
        yield f"                     as table:  {found.table}"
    else:  # it has never answered
        yield f"compare all trials in MLflow:  {without_password(tracking_uri)}"
