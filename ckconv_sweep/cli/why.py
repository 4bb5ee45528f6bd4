"""`why`: what became of a trial, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from ckconv_sweep.cli.look import Json
from ckconv_sweep.cli.options import SWEEPS_DIR, FromMlflow, Name, SweepsDir, trial_number


def why(
    name: Name,
    trial: Annotated[
        int, typer.Argument(metavar="TRIAL", parser=trial_number, help="A trial, as t017 or 17.")
    ],
    error: Annotated[
        bool, typer.Option("--error", help="Print the whole error of a trial that failed.")
    ] = False,
    json: Json = False,
    tracking_uri: FromMlflow = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Tell why a trial ended as it did, and what to do next.

    With --json an object: sweep, number, outcome (completed, pruned, continued, failed, rejected,
    running, unfinished), reason, why (the sentence), epochs, epochs_requested, error (all of it),
    repeat_of, retry_of and retried_as (numbers of trials, or null), of a continuation replaces,
    from_trial and from_epoch, continued_as, and notes.

    Example: ckconv-sweep why quickstart t017
    """
    from dataclasses import asdict
    from json import dumps

    from ckconv_sweep.cli.words import say_notes
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.report.found import results_of, why_of

    results = results_of(name, sweeps_dir, tracking_uri)
    say_notes([results])
    found = why_of(results, trial, sweeps_dir)
    if json:
        typer.echo(dumps(asdict(found), indent=2))
    elif not error:
        typer.echo(str(found))
    elif found.error:
        typer.echo(found.error.rstrip())
    else:
        raise ConfigError(f"trial {trial} has no error: {found.outcome}", where=f"--error: {name}")
