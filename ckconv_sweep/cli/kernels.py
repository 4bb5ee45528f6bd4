"""`kernels`: what the convolutions of a trained model have learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli.models import Model, read_model
from ckconv_sweep.cli.options import DataDir, absolute, folder_here, picture_here
from ckconv_sweep.config.names import expanded

if TYPE_CHECKING:
    from ckconv_sweep.config.data import Data
    from ckconv_sweep.data.task import Split
    from ckconv_sweep.training.learnt_kernels import LearntKernel
    from ckconv_sweep.training.omega_0 import Advice
    from ckconv_sweep.training.spectra import Spectrum
    from ckconv_sweep.training.weights import Trained


def kernels(
    checkpoint: Model,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The picture: a .png or .svg file.", callback=picture_here
        ),
    ] = Path("learnt-kernels.png"),
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write every kernel: layer, out, in, lag, position, value.",
            callback=folder_here,
        ),
    ] = None,
    shown: Annotated[
        int, typer.Option(metavar="N", min=1, max=12, help="Kernels of each layer in the picture.")
    ] = 4,
    no_data: Annotated[
        bool,
        typer.Option("--no-data", help="Read no data, and compare the kernels with none."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, in full precision.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show what a model's kernels have learnt.

    They are drawn. For each layer a table tells how far its kernels reach, of which frequencies
    they are made, and how much of them the sampling rate cannot carry; and of a SIREN whether its
    omega_0 is too low to show what the validation data have, or too high for their rate. Data are
    not downloaded for it, and the test split stays shut.

    Example: ckconv-sweep kernels runs/digits --csv kernels.csv
    """

    import torch

    from ckconv_sweep.cli.output import write_out
    from ckconv_sweep.data.datasets import describe
    from ckconv_sweep.report.learnt import as_csv, as_tree, picture
    from ckconv_sweep.report.plots.style import rendered
    from ckconv_sweep.training.learnt_kernels import learnt_kernels
    from ckconv_sweep.training.omega_0 import advice

    torch.set_num_threads(1)
    trained, where = read_model(checkpoint), absolute(data_dir)
    model = trained.model(trained.description or describe(trained.trial.data, where))
    found = learnt_kernels(model)
    data, why_none = (None, "--no-data") if no_data else _spectrum_of(trained, where)
    said = advice(model, trained.trial.model, found, data)
    write_out(expanded(out), rendered(picture(found, shown, str(checkpoint), data), out.suffix[1:]))
    if csv is not None:
        write_out(expanded(csv), as_csv(found))
    if json:
        from json import dumps

        tree = as_tree(found, data, why_none, said)
        typer.echo(dumps({"checkpoint": str(trained.path), **tree}, indent=2))
        return
    _print(found, data, why_none, said)
    typer.echo(f"picture: {out}" + (f"; all kernels: {csv}" if csv else ""))


def _spectrum_of(trained: Trained, data_dir: Path | None) -> tuple[Spectrum | None, str]:
    """That of the validation inputs, or why there is none."""
    from ckconv_sweep.data import fetch
    from ckconv_sweep.data.datasets import read_split
    from ckconv_sweep.errors import CkconvSweepError

    try:
        with fetch.offline():
            _, split = read_split(trained.trial.data, "validation", None, data_dir)
    except CkconvSweepError as error:
        return None, error.message
    return spectrum_of(trained.trial.data, split)


def spectrum_of(data: Data, split: Split) -> tuple[Spectrum | None, str]:
    """That of a split's inputs, the channel left out that tells where a step is there; or why there
    is none."""
    from ckconv_sweep.config.data import Resampled
    from ckconv_sweep.training.spectra import spectrum

    if split.inputs.ndim < 3:
        return None, "a text has no frequencies"
    if split.times is not None:
        return None, "its steps are not equally far apart (dropped_as: times)"
    if split.lengths is not None:
        return None, "its sequences have different lengths"
    has_mask = isinstance(data, Resampled) and data.dropped_fraction > 0.0
    return spectrum([split.inputs[:, : -1 if has_mask else None].numpy()]), ""


def _print(
    found: list[LearntKernel], data: Spectrum | None, why_none: str, said: Advice | None
) -> None:
    from rich.table import Table

    from ckconv_sweep.cli import words

    table = Table(title="kernels, layer by layer", title_justify="left")
    table.add_column("layer", no_wrap=True)
    for column in ("kernels", "reach 95, 99 %", "frequency 95, 99 %", "beyond"):
        table.add_column(column, justify="right")
    for kernel in found:
        near, far = kernel.reach(0.95), kernel.reach(0.99)
        low, high = (kernel.spectrum.frequency_below(share) for share in (0.95, 0.99))
        table.add_row(
            kernel.layer,
            f"{kernel.pairs:,}",
            f"{near:.0f}, {far:.0f} ({kernel.share_within(far):.0%})",
            f"{low:.3f}, {high:.3f}",
            "-" if kernel.beyond is None else f"{kernel.beyond:.1%}",
        )
    words.console().print(table)
    typer.echo(
        "reach: the distance from the present within which so much of the squared kernel\n"
        "lies, in steps (and the share of the kernel that is within the longer one);\n"
        "frequency: below which so much of its energy lies, in cycles per step; beyond:\n"
        "energy above 0.5 cycles per step, which the sampling rate cannot carry"
    )
    if data is None:
        typer.echo(f"not compared with the data: {why_none}")
    else:
        ninety = ", ".join(
            f"{s:.0%} below {data.frequency_below(s):.3f}" for s in (0.5, 0.95, 0.99)
        )
        typer.echo(f"energy of the validation data: {ninety}\ncycles per step")
    if said is not None:
        typer.echo(in_words(said))


def in_words(said: Advice) -> str:
    """What is told of an omega_0: what it makes of the kernels, and where to search."""
    from textwrap import fill

    from ckconv_sweep.cli.words import number

    verdict = f"omega_0 = {number(said.omega_0)} {_verdict(said)}"
    return f"{fill(verdict, 80)}\n{fill(_worth(said), 80)}"


def _verdict(said: Advice) -> str:
    if said.verdict == "too low":
        return (
            f"is too low: {said.data_above:.0%} of the data's energy is above {said.band:.3f} "
            "cycles per step, where 99 % of the kernels' energy ends"
        )
    if said.verdict == "too high":
        return (
            f"is too high: {said.beyond:.0%} of the kernels' energy is above 0.5 cycles per "
            "step, which the sampling rate cannot carry: it looks like lower frequencies (aliasing)"
        )
    if said.verdict == "fits":
        return (
            f"fits: {said.data_above:.0%} of the data's energy is above {said.band:.3f} cycles "
            f"per step, where 99 % of the kernels' energy ends; {said.beyond:.0%} of it is above "
            "0.5"
        )
    return (
        f"is not too high: {said.beyond:.0%} of the kernels' energy is above 0.5 cycles per step; "
        "whether it is too low, the data would tell"
    )


def _worth(said: Advice) -> str:
    """Where to search, and why."""
    from ckconv_sweep.cli.words import number

    high = number(said.high)
    if said.low is None:
        where, why = f"search below {high}", "with more, new kernels are too high"
    elif said.low < said.high:
        where = f"search {{low: {number(said.low)}, high: {high}, log: true}}"
        why = "in this range new kernels are neither too low nor too high"
    else:
        where, why = f"search around {high}", "at this rate no omega_0 shows all that the data have"
    return f"{where}: {why} (a heuristic, see the guide)"
