"""`fit-kernel`: which functions a kernel net can be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from ckconv_sweep.cli.options import picture_here
from ckconv_sweep.config.names import expanded


def fit_kernel(
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The picture: a .png or .svg file.", callback=picture_here
        ),
    ] = Path("kernels.png"),
    length: Annotated[
        int, typer.Option(metavar="N", min=16, max=100_000, help="Positions on [-1, 1].")
    ] = 200,
    steps: Annotated[int, typer.Option(metavar="N", min=0, help="Steps of Adam.")] = 1000,
    learning_rate: Annotated[
        float, typer.Option(metavar="RATE", help="Learning rate of the first step.")
    ] = 0.01,
    omega_0: Annotated[
        list[float] | None,
        typer.Option(
            metavar="OMEGA_0",
            help="Frequency of the sine nets; may be repeated.",
            show_default="1, 10, 30",
        ),
    ] = None,
    hidden_channels: Annotated[
        int, typer.Option(metavar="N", min=2, max=4_096, help="Width of each net.")
    ] = 32,
    seed: Annotated[
        int,
        typer.Option(
            metavar="SEED", min=0, max=2**63 - 1, help="Seed of initial weights and noise."
        ),
    ] = 0,
) -> None:
    """Fit each kind of kernel net to a few functions.

    It prints the errors and draws what comes out.

    Example: ckconv-sweep fit-kernel --omega-0 5 --omega-0 50 --out kernels.svg
    """
    from ckconv_sweep.errors import CannotWrite, ConfigError

    omega_0s = omega_0 or [1.0, 10.0, 30.0]
    for value, where in [(learning_rate, "--learning-rate"), *((o, "--omega-0") for o in omega_0s)]:
        if not 0.0 < value < math.inf:
            raise ConfigError(f"must be above 0 and finite, got {value}", where=where)
    if hidden_channels % 2:
        raise ConfigError(
            f"must be even (random_fourier has a cosine and a sine for each frequency), got "
            f"{hidden_channels}",
            where="--hidden-channels",
        )
    out = expanded(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot be made: {error.strerror}", where=str(out.parent)) from None

    import torch
    from rich.table import Table

    from ckconv_sweep.cli import words
    from ckconv_sweep.cli.output import write_out
    from ckconv_sweep.report.plots.fitted_kernels import Column, draw
    from ckconv_sweep.report.plots.style import rendered
    from ckconv_sweep.training import kernel_fitting
    from ckconv_sweep.training.seeding import generator

    torch.set_num_threads(1)  # the tensors are too small to share among threads
    targets_KP = kernel_fitting.sampled_targets(length, generator(seed, "init", 1))
    table = Table(title="mean squared error, in variances of the target", title_justify="left")
    table.add_column("kernel net")
    for name in kernel_fitting.TARGETS:
        table.add_column(name, justify="right")
    columns = {}
    for name, config in kernel_fitting.compared(hidden_channels, omega_0s).items():
        fit = kernel_fitting.fit(
            config,
            targets_KP,
            steps=steps,
            learning_rate=learning_rate,
            generator=generator(seed, "init", 0),
        )
        columns[name] = Column(fit.values_KP.numpy(), fit.errors_K.numpy())
        table.add_row(name, *(f"{error:.2g}" for error in fit.errors_K.tolist()))
    positions_P = kernel_fitting.positions(length).numpy()
    figure = draw(positions_P, list(kernel_fitting.TARGETS), targets_KP.numpy(), columns)
    write_out(out, rendered(figure, out.suffix[1:]))
    words.console().print(table)
    typer.echo(f"picture: {out}")
