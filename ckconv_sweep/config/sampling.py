"""How the settings of the next trial are drawn. `config/table.py` says how to add a sampler."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ckconv_sweep.config.settings import UNOFFERED, NotNegative, Seed
from ckconv_sweep.config.table import Row, Table


class Sampler(Row):
    """What all samplers share."""

    ends: ClassVar[bool] = False
    """Whether it draws each point of a space once, and then no more."""
    newest: ClassVar[int] = 1_000
    """It sees at most N of the newest trials that completed or were pruned; the more it sees, the
    longer a draw takes."""
    best: ClassVar[int] = 100
    """It also sees the best N of the older completed ones."""
    fills: ClassVar[bool] = False
    """Whether every trial that it sees has all parameters. Those of a block that a trial did not
    choose then have the middle of their range."""
    values_pruned: ClassVar[bool] = False
    """Whether it sees a pruned trial as one that completed with the value of its best epoch, where
    there is one metric."""
    ranges_alone: ClassVar[bool] = False
    """Whether it searches ranges, but neither choices nor blocks."""
    one_metric: ClassVar[bool] = False
    """Whether it cannot learn from several metrics."""
    learns: ClassVar[bool] = True
    """Whether what it draws depends on the trials that it is shown."""
    name: str
    seed: Seed = 0
    """What the sampler draws follows from it."""
    taken_by_auto: Annotated[str, UNOFFERED] = ""
    """Why `auto` took it, as written by ckconv-sweep; empty where a person did."""

    def written(self) -> dict[str, Any]:
        """As a file has it."""
        unsaid = () if self.taken_by_auto else ("taken_by_auto",)
        return self.model_dump(mode="json", exclude={*unsaid})


SAMPLERS: Table[Sampler] = Table("sampler", unnamed="tpe")
"""Makers: a function each, of a space and of how many trials were drawn before, that gives the
Optuna sampler that draws the next one. What it draws must follow from these two and from the trials
that it is shown. It searches what `search.seen` makes of the domains."""


@SAMPLERS.row("ckconv_sweep.search.samplers:tpe")
class Tpe(Sampler):
    """Tree-structured Parzen estimator, of Optuna."""

    name: Literal["tpe"] = "tpe"
    startup_trials: NotNegative = 10
    """Completed and pruned trials before it begins; until then it draws at random."""


@SAMPLERS.row("ckconv_sweep.search.samplers:gaussian_process")
class GaussianProcess(Sampler):
    """Gaussian process with the expected improvement, of Optuna; several metrics: of the
    hypervolume."""

    newest: ClassVar[int] = 100
    fills: ClassVar[bool] = True
    values_pruned: ClassVar[bool] = True
    name: Literal["gp"] = "gp"
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Completed trials before it begins; until then it draws at random."""


@SAMPLERS.row("ckconv_sweep.search.samplers:nsgaii")
class Nsgaii(Sampler):
    """Genetic algorithm NSGA-II, of Optuna's parts: a child of two good trials, steady-state."""

    fills: ClassVar[bool] = True
    name: Literal["nsgaii"] = "nsgaii"
    population: Annotated[int, Field(ge=2, le=1_000)] = 20
    """Parents: the best N completed trials, by their front and the room around them. Until N have
    completed it draws at random."""


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


@SAMPLERS.row("ckconv_sweep.search.samplers:cmaes")
class CmaEs(Sampler):
    """Evolution strategy with an adapted covariance matrix (CMA-ES), of the package cmaes. It
    searches ranges alone, and for one metric."""

    ranges_alone: ClassVar[bool] = True
    one_metric: ClassVar[bool] = True
    name: Literal["cmaes"] = "cmaes"
    population: Annotated[int, Field(ge=4, le=1_000)] | None = None
    """Ended trials that it learns from at a time. null: 4 + 3 ln n, rounded down, of n settings."""
    sigma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """Standard deviation of the first draws around the middle, as a share of each range."""


@SAMPLERS.row("ckconv_sweep.config.suitable:taken")
class Auto(Sampler):
    """The first sampler of a short table that fits the space, its metrics and its budget."""

    name: Literal["auto"] = "auto"
