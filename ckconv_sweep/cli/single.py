"""`train`, `evaluate` and `validate`: the commands about one file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ckconv_sweep.cli.options import Changes, DataDir, TrackingUri, absolute

TrialFile = Annotated[
    str, typer.Argument(help="A trial: a file, or the name of a bundled one.", metavar="TRIAL")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")]


class SplitName(StrEnum):
    """Which sequences a model is scored on."""

    validation = "validation"
    test = "test"


def train(
    trial: TrialFile,
    set_: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Where it is kept.", show_default="runs/<trial's name>")
    ] = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    device: Device = "auto",
) -> None:
    """Train one trial; the same command goes on after an interruption.

    ckconv-sweep train digits --set training.epochs=5
    """
    from rich.console import Console

    from ckconv_sweep.cli.progress import LiveView, PlainLines
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.config.read import read_trial
    from ckconv_sweep.errors import NoResult

    settings = read_trial(trial, set_ or ())
    name = Path(trial).stem
    folder = (out or Path("runs") / name).expanduser().resolve()

    from ckconv_sweep.sweep.mlflow_store import default_uri
    from ckconv_sweep.sweep.single import run_single

    uri = tracking_uri or default_uri(folder.parent)
    console = Console()
    again = f"ckconv-sweep train {trial}" + "".join(f" --set {c}" for c in set_ or ())
    if console.is_terminal and not console.is_dumb_terminal:
        view = LiveView(name, settings.metric, None, console)
        with view.shown():
            run = run_single(
                settings,
                name,
                folder,
                tracking_uri=uri,
                listeners=(view,),
                data_dir=absolute(data_dir),
                device=_device(device),
            )
    else:
        run = run_single(
            settings,
            name,
            folder,
            tracking_uri=uri,
            listeners=(PlainLines(settings.metric, alone=True),),
            data_dir=absolute(data_dir),
            device=_device(device),
        )
    if run.signal_exit_code is not None:
        typer.echo(
            f"stopped: every ended epoch is kept in {folder}; go on with the same command: "
            f"{again}" + (f" --out {out}" if out else "")
        )
        raise typer.Exit(run.signal_exit_code)
    if run.best is None:
        raise NoResult("no epoch ended", where=name)
    metrics = run.best.metrics
    typer.echo(
        f"best epoch {run.best.number}: val/accuracy {metrics['val/accuracy']:.4f}, "
        f"val/loss {metrics['val/loss']:.4f} (validation split; the test split was not touched)"
    )
    typer.echo(f"weights: {run.weights}")
    typer.echo(
        f"test it, once: ckconv-sweep evaluate {folder / 'trial.yaml'} --weights {run.weights}"
    )
    if run.undelivered:
        typer.echo(
            f"{count(run.undelivered, 'record')} not delivered to MLflow; the same command "
            "delivers them when it answers again"
        )


def evaluate(
    trial: TrialFile,
    weights: Annotated[
        Path, typer.Option(help="Weights: ours (best-*.pt), or the authors' published ones.")
    ],
    split: Annotated[SplitName, typer.Option(help="Which sequences.")] = SplitName.test,
    set_: Changes = None,
    data_dir: DataDir = None,
    device: Device = "auto",
) -> None:
    """Score weights on the test split. No other command opens it."""
    from ckconv_sweep.config.read import read_trial

    settings = read_trial(trial, set_ or ())

    import torch

    from ckconv_sweep.data.datasets import load
    from ckconv_sweep.training.evaluation import evaluate as score
    from ckconv_sweep.training.weights import model_with

    torch.set_num_threads(settings.training.threads)
    task = load(settings.data, absolute(data_dir))
    model = model_with(weights, settings, task.description).to(_device(device))
    sequences = task.read_test() if split is SplitName.test else task.validation
    scores = score(model, sequences.to(_device(device)))
    right = round(scores["accuracy"] * len(sequences))
    typer.echo(
        f"{split.value}/accuracy {scores['accuracy']:.4f} "
        f"({right:,} of {len(sequences):,} right), {split.value}/loss {scores['loss']:.6f}"
    )


def validate(
    file: Annotated[
        str, typer.Argument(help="A space or a trial: a file, or a bundled one's name.")
    ],
    set_: Changes = None,
) -> None:
    """Check a file without running anything."""
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.config.read import is_space, read_space, read_trial

    if is_space(file):
        space = read_space(file, set_ or ())
        typer.echo(
            f"{file}: a space of {count(len(space.parameters()), 'searched setting')}, "
            f"{count(space.budget.trials, 'trial')}, sampler {space.sampler.name}, "
            f"scheduler {space.scheduler.name}: valid"
        )
    else:
        trial = read_trial(file, set_ or ())
        typer.echo(
            f"{file}: a trial on {trial.data.name}, {count(trial.training.epochs, 'epoch')}: valid"
        )


def _device(asked: str) -> str:
    from ckconv_sweep.errors import ConfigError, ResourcesMissing

    if asked not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"must be auto, cpu or cuda, got {asked!r}", where="--device")
    import torch

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise ResourcesMissing(
            "PyTorch sees no GPU here", where="--device", hint="take --device cpu, or auto"
        )
    return "cuda" if there and asked != "cpu" else "cpu"
