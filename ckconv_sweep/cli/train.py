"""`train` and `validate`: the commands about one trial."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from shlex import join, quote
from typing import Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.device import Device, device_of
from ckconv_sweep.cli.help import CHANGES
from ckconv_sweep.cli.options import (
    Changes,
    DataDir,
    RequireTracking,
    TrackingUri,
    absolute,
    folder_here,
    name_of,
)
from ckconv_sweep.config.names import expanded

TrialFile = Annotated[
    str,
    typer.Argument(
        metavar="TRIAL",
        help="A trial: a file, the name of a bundled one, or - for standard input.",
        autocompletion=completion.trials,
    ),
]


def train(
    trial: TrialFile,
    set_: Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the run.",
            show_default="runs/ and the trial's name",
            callback=folder_here,
        ),
    ] = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    require_tracking: RequireTracking = False,
    device: Device = "auto",
    allow_data_change: Annotated[
        bool,
        typer.Option(
            "--allow-data-change",
            help="Continue on other data than it was trained on.",
            rich_help_panel=CHANGES,
        ),
    ] = False,
) -> None:
    """Train one trial; the same command again continues it.

    Example: ckconv-sweep train digits --set training.epochs=5
    """
    from ckconv_sweep.cli.events_log import Log
    from ckconv_sweep.cli.progress import view_of
    from ckconv_sweep.cli.words import count, score
    from ckconv_sweep.config.metrics import scored_by
    from ckconv_sweep.config.read import read_segments
    from ckconv_sweep.errors import NoResult

    settings, segments = read_segments(trial, set_ or ())
    name = name_of(
        trial, out.name if out else None, "--out", "name a folder, as in --out runs/mine"
    )
    folder = expanded(out or Path("runs") / name).resolve()

    from ckconv_sweep.sweep.single import run_single
    from ckconv_sweep.tracking.answers import check_takes_runs
    from ckconv_sweep.tracking.store import default_uri, without_password
    from ckconv_sweep.training.allocator import keep_pages

    keep_pages()
    uri = tracking_uri or default_uri(folder.parent)
    if require_tracking:
        check_takes_runs(uri)
    with view_of(name, (settings.metric,)) as view:
        run = run_single(
            settings,
            name,
            folder,
            tracking_uri=uri,
            listeners=(view, Log()),
            data_dir=absolute(data_dir),
            device=device_of(device),
            allow_data_change=allow_data_change,
            segments=segments,
        )
    if run.signal_exit_code is not None:
        again = ["ckconv-sweep", "train", trial]
        for change in set_ or ():
            again += ["--set", change]
        hidden = without_password(uri) != uri
        given = {
            "--out": out,
            "--data-dir": data_dir,
            "--tracking-uri": None if hidden else tracking_uri,
            "--device": None if device == "auto" else device,
        }
        for option, value in given.items():
            again += [] if value is None else [option, str(value)]
        typer.echo(
            f"stopped: every finished epoch is kept in {folder}; to continue, run again: "
            f"{join(again)}"
        )
        raise typer.Exit(run.signal_exit_code)
    if run.best is None:
        raise NoResult("no epoch ended", where=name)
    scores = ", ".join(
        f"val/{name} {score(run.best.metrics[f'val/{name}'])}"
        for name in scored_by(settings.data.kind)
    )
    typer.echo(
        f"best epoch {run.best.number}: {scores} (validation split; the test split was not touched)"
    )
    typer.echo(f"weights: {run.weights}")
    typer.echo(f"score it on the test split, once: ckconv-sweep evaluate {quote(str(folder))}")
    if run.undelivered:
        typer.echo(
            f"{count(run.undelivered, 'record')} not delivered to MLflow; the same command "
            "delivers them when it answers again"
        )


def validate(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A space or a trial: a file, the name of a bundled one, or - for standard input.",
            autocompletion=completion.spaces_and_trials,
        ),
    ],
    set_: Changes = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run",
            help="Train the trial, or the smallest and the largest of the space, for a few steps.",
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Check a space or trial file.

    With --run it also tells what memory and time are needed. Nothing is written, and no data are
    downloaded.

    Example: ckconv-sweep validate quickstart --run
    """
    from ckconv_sweep.cli.feasible import rejected_share
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.config.bundled import shown
    from ckconv_sweep.config.grid import most_trials
    from ckconv_sweep.config.notes import notes
    from ckconv_sweep.config.read import read_file
    from ckconv_sweep.config.trial import Trial
    from ckconv_sweep.execution.surveyor import Surveyor

    read = read_file(file, set_ or ())
    name = shown(file)
    if isinstance(read, Trial):
        epochs = count(read.training.epochs, "epoch")
        typer.echo(f"{name}: a trial on {read.data.name}, {epochs}: valid")
        if run:
            from ckconv_sweep.cli.tryout import try_trial

            try_trial(read, name, absolute(data_dir))
        return
    with contextlib.closing(Surveyor()) as surveyor:
        counted = partial(surveyor.parameters_of, data_dir=absolute(data_dir))
        share = rejected_share(read, counted, name)
    typer.echo(
        f"{name}: a space of {count(len(read.parameters()), 'searched setting')}, "
        f"{count(most_trials(read), 'trial')}, sampler {read.sampler.name}, "
        f"scheduler {read.scheduler.name}: valid"
        + "".join(f"\n  {note}" for note in (*notes(read), share) if note)
    )
    if run:
        from ckconv_sweep.cli.run_options import RunOptions
        from ckconv_sweep.cli.tryout import try_space

        try_space(read, name, absolute(data_dir), RunOptions().placement(read))
