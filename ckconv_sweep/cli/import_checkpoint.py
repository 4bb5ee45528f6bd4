"""`import-checkpoint`: the authors' published weights become a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.options import Changes, DataDir, absolute, folder_here
from ckconv_sweep.config.names import expanded

if TYPE_CHECKING:
    from ckconv_sweep.training.published import Known


def import_checkpoint(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A checkpoint file of the published code.", callback=folder_here
        ),
    ],
    omega_0: Annotated[
        float | None,
        typer.Option(
            "--omega-0",
            metavar="OMEGA_0",
            help="Its omega_0, with all digits; the file does not contain it.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="The dataset that it was trained on.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder for the checkpoint and its trial.",
            callback=folder_here,
        ),
    ] = None,
    set_: Changes = None,
    data_dir: DataDir = None,
) -> None:
    """Import weights of the published code as a checkpoint.

    That code is github.com/dwromero/ckconv. With FILE alone it only shows which published network
    the file is, and the command with its dataset, exact omega_0 and other settings.

    Example: ckconv-sweep import-checkpoint FILE
    """
    from ckconv_sweep.data.datasets import describe
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.models.parameters import count_parameters
    from ckconv_sweep.training.published import import_published, recognized

    if omega_0 is None or dataset is None or out is None:
        proposed = _proposed(file, out)
        if (omega_0, dataset, out, set_) == (None, None, None, None):
            typer.echo(proposed)
            return
        raise ConfigError("needs --dataset, --omega-0 and --out", where=str(file), hint=proposed)
    trained = import_published(
        file,
        expanded(out).resolve(),
        omega_0=omega_0,
        dataset=dataset,
        changes=set_ or (),
        data_dir=absolute(data_dir),
    )
    model = trained.trial.model
    number = count_parameters(model, describe(trained.trial.data, absolute(data_dir)))
    typer.echo(f"{number:,} parameters, {model.hidden_channels} hidden channels: {trained.path}")
    if omega_0 == round(omega_0, 2):  # as the name of the file tells it
        for known in recognized(file)[1]:
            rounded = omega_0 == round(known.omega_0, 2) != known.omega_0
            if rounded and dataset == known.dataset:
                typer.echo(f"note: the omega_0 of {known.name} is {known.omega_0}", err=True)
    typer.echo(f"score it: ckconv-sweep evaluate {quote(str(out))}")


def _proposed(file: Path, out: Path | None) -> str:
    """What the file is, and the command that imports it. Raises ConfigError if nobody knows it."""
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.training.published import recognized

    there, found = recognized(file)
    sizes = ", ".join(
        [
            f"{count(there.blocks, 'block')} of {count(there.hidden_channels, 'channel')}",
            count(there.in_channels, "input channel"),
            *([count(there.length, "step")] if there.length else []),
            count(there.outputs, "output"),
        ]
    )
    if not found:
        raise ConfigError(
            f"no published network is known that has its sizes and name: {sizes}",
            where=str(file),
            hint="to import it give --omega-0 with all digits, --dataset, --out, and how the data "
            "were prepared, with --set",
        )
    commands = "".join(f"\n  {_command(file, known, out)}" for known in found)
    if len(found) > 1:
        return f"published networks of these sizes ({sizes}); import it as one of them:{commands}"
    return f"the published network {found[0].name} ({sizes}); import it with:{commands}"


def _command(file: Path, known: Known, out: Path | None) -> str:
    changes = "".join(f" --set {quote(change)}" for change in known.changes)
    return (
        f"ckconv-sweep import-checkpoint {quote(str(file))} --dataset {known.dataset} --omega-0 "
        f"{known.omega_0}{changes} --out {quote(str(out or known.name))}"
    )
