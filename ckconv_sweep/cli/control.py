"""`add`, `retry`, `pause`, `stop`, `concurrency`: what is asked of a sweep while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import SWEEPS_DIR, Changes, Name, SweepsDir, trial_number

if TYPE_CHECKING:
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.requests import Request


def add(
    name: Name,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="TRIAL",
            help="A trial: a file or the name of a bundled one.",
            show_default="the base trial",
            autocompletion=completion.trials,
        ),
    ] = None,
    set_: Changes = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Let a sweep try settings of your own next.

    They must be a point of the space; --set may name its variables, too. Also while the sweep runs;
    the trial comes on top of the budget.

    Example: ckconv-sweep add quickstart --set model.kernel.omega_0=31.09
    """
    from ckconv_sweep.sweep.requested import added

    folder = _existing(name, sweeps_dir)
    _ask(folder, [added(folder, set_ or (), file)])


def retry(
    name: Name,
    reason: Annotated[
        str | None,
        typer.Option(
            metavar="REASON", help="Only those that failed for this reason, as out_of_memory."
        ),
    ] = None,
    numbers: Annotated[
        list[int] | None,
        typer.Option(
            "--trial", metavar="TRIAL", parser=trial_number, help="Only this one; may be repeated."
        ),
    ] = None,
    set_: Changes = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Try the failed trials of a sweep again.

    Each gets a new number; the failed ones stay as they are. A trial with a changed setting that
    is not searched is ranked like any other, and no sampler learns from it.

    Example: ckconv-sweep retry quickstart --reason out_of_memory --set training.batch_size=16
    """
    from ckconv_sweep.sweep.requested import retried

    folder = _existing(name, sweeps_dir)
    _ask(folder, retried(folder, set_ or (), reason, numbers or ()))


def pause(
    name: Name,
    off: Annotated[bool, typer.Option("--off", help="Go on.")] = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Let a running sweep give back its CPUs and GPUs.

    Each trial rests after the epoch that it is in, and is continued later. A pause takes nothing
    of the budget's hours, and ends with the session.

    Example: ckconv-sweep pause quickstart
    """
    from ckconv_sweep.sweep.requested import paused

    folder = _existing(name, sweeps_dir)
    _ask(folder, [paused(folder, off=off)])


def stop(
    name: Name,
    trial: Annotated[
        int | None,
        typer.Argument(
            metavar="TRIAL",
            parser=trial_number,
            help="Only this trial, as t017: it ends as it is, for good.",
            show_default="the whole sweep",
        ),
    ] = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Stop a running sweep, or one of its trials.

    A sweep stops when each trial has ended the epoch that it is in; it can be resumed.

    Example: ckconv-sweep stop quickstart t017
    """
    from ckconv_sweep.sweep.requested import stopped

    folder = _existing(name, sweeps_dir)
    _ask(folder, [stopped(folder, trial)])


def concurrency(
    name: Name,
    trials: Annotated[int, typer.Argument(metavar="N", min=1, help="Number of concurrent trials.")],
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Let fewer trials run at a time, or more again.

    Where too many run, as many leave after the epoch that they are in, and are continued later. It
    cannot become more than the session began with; the next one has as many as this says.

    Example: ckconv-sweep concurrency quickstart 2
    """
    from ckconv_sweep.sweep.requested import slowed

    _ask(_existing(name, sweeps_dir), [slowed(trials)])


def _existing(name: str, sweeps_dir: Path) -> SweepFolder:
    from ckconv_sweep.record.folder import SweepFolder

    return SweepFolder.existing(sweeps_dir, name)


def _ask(folder: SweepFolder, requests: Sequence[Request]) -> None:
    """Ask, and print the answers. Raises ConfigError if a request is refused."""
    from ckconv_sweep.sweep.asking import ask
    from ckconv_sweep.sweep.interruption import Interrupted, Interruption

    try:
        # Not from within SQLAlchemy's callbacks, where Python would swallow it.
        with Interruption().caught() as interruption, interruption.shielded():
            ask(folder, requests, typer.echo, interruption.check)
    except Interrupted as interrupted:
        raise typer.Exit(interrupted.exit_code) from None
