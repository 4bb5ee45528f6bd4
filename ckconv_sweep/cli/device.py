"""On which device one model is trained or scored."""

from __future__ import annotations

from typing import Annotated

import typer

from ckconv_sweep.cli import completion

Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="cpu, cuda, or auto: a GPU if there is one.",
        autocompletion=completion.one_of("auto", "cpu", "cuda"),
    ),
]


def device_of(asked: str) -> str:
    """`cpu` or `cuda`. Raises ConfigError for another word, ResourcesMissing without a GPU."""
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
