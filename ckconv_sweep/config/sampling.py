"""How the settings of the next trial are drawn. `config/table.py` says how to add a sampler."""

from __future__ import annotations

from typing import ClassVar, Literal

from ckconv_sweep.config.settings import Seed
from ckconv_sweep.config.table import Row, Table


class Sampler(Row):
    """What all samplers share."""

    ends: ClassVar[bool] = False
    """Whether it draws each point of a space once, and then no more."""
    learns: ClassVar[bool] = True
    """Whether what it draws depends on the trials that it is shown."""
    name: str
    seed: Seed = 0
    """What the sampler draws follows from it."""


SAMPLERS: Table[Sampler] = Table("sampler", unnamed="tpe")
"""Makers: a function each, of a space and of how many trials were drawn before, that gives the
Optuna sampler that draws the next one. What it draws must follow from these two and from the trials
that it is shown."""


@SAMPLERS.row("ckconv_sweep.search.samplers:tpe")
class Tpe(Sampler):
    """Tree-structured Parzen estimator, of Optuna."""

    name: Literal["tpe"] = "tpe"


@SAMPLERS.row("ckconv_sweep.search.samplers:uniform")
class Random(Sampler):
    """Each setting by itself, at random."""

    learns: ClassVar[bool] = False
    name: Literal["random"] = "random"


@SAMPLERS.row("ckconv_sweep.search.samplers:points_in_order")
class Grid(Sampler):
    """Every point of a space that can be counted, in the order of the file."""

    ends: ClassVar[bool] = True
    learns: ClassVar[bool] = False
    name: Literal["grid"] = "grid"


@SAMPLERS.row("ckconv_sweep.search.samplers:sobol")
class QuasiMonteCarlo(Sampler):
    """A scrambled Sobol sequence."""

    learns: ClassVar[bool] = False
    name: Literal["qmc"] = "qmc"
