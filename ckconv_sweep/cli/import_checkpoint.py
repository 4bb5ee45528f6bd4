"""`import-checkpoint`: the authors' published weights become a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckconv_sweep.cli.options import Changes, DataDir, absolute, folder_here


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A checkpoint file of the published code.")],
    omega_0: Annotated[
        float,
        typer.Option(
            "--omega-0", help="Its omega_0, with all digits; the file does not contain it."
        ),
    ],
    dataset: Annotated[str, typer.Option(help="The dataset that it was trained on.")],
    out: Annotated[
        Path, typer.Option(help="A folder for the checkpoint and its trial.", callback=folder_here)
    ],
    set_: Changes = None,
    data_dir: DataDir = None,
) -> None:
    """Turn weights of github.com/dwromero/ckconv into a checkpoint of ours.

    ckconv-sweep import-checkpoint FILE --omega-0 31.09195739463897 --dataset smnist --out theirs
    """
    from ckconv_sweep.data.datasets import describe
    from ckconv_sweep.models.parameters import count_parameters
    from ckconv_sweep.training.published import import_published

    trained = import_published(
        file,
        out.expanduser().resolve(),
        omega_0=omega_0,
        dataset=dataset,
        changes=set_ or (),
        data_dir=absolute(data_dir),
    )
    model = trained.trial.model
    number = count_parameters(model, describe(trained.trial.data, absolute(data_dir)))
    typer.echo(f"{number:,} parameters, {model.hidden_channels} hidden channels: {trained.path}")
    typer.echo(f"score it: ckconv-sweep evaluate {out}")
