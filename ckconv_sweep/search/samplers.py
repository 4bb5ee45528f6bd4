"""The samplers of the table in `config/sampling.py`. What one draws is a function of the trials
that it is shown and of its position: how many trials it has drawn before. Never of this process's
past.

Random, grid and quasi Monte Carlo are functions of (seed, position, setting) alone. They are
written here because Optuna's own, when reloaded, repeat their first draws (random), lose their
order (quasi Monte Carlo) or hand out duplicates (grid). TPE is Optuna's, reseeded for every trial.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from ckconv_sweep.config.domains import Choices, Interval, Scalar, from_unit
from ckconv_sweep.config.grid import grid
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.sampling import SAMPLERS
from ckconv_sweep.config.space import Space
from ckconv_sweep.search.seen import as_seen, seen


def distribution(domain: Interval | Choices) -> BaseDistribution:
    """A domain in Optuna's words, which have none for a single value beside a range and for a
    normal distribution: then all numbers between the ends."""
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.options)
    if domain.or_zero:
        domain = Interval(low=0, high=domain.high, whole=domain.whole)
    if domain.whole:
        step = int(domain.step or 1)
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=step)
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


def seen_parameters(space: Space) -> dict[str, Interval | Choices]:
    """The domains in which a sampler searches a space."""
    return {name: seen(domain) for name, domain in space.parameters().items()}


class PlannedSampler(BaseSampler):
    """Draws each parameter of a trial as a function of its name, in the domain that it sees."""

    def __init__(self, plan: Callable[[str], Any]) -> None:
        self.plan = plan

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self.plan(param_name)


def uniform(space: Space, position: int) -> BaseSampler:
    """Each setting by itself, at random."""
    domains = seen_parameters(space)

    def plan(name: str) -> Any:
        seed = [space.sampler.seed, position, zlib.crc32(name.encode())]
        return from_unit(domains[name], np.random.default_rng(seed).random())

    return PlannedSampler(plan)


def sobol(space: Space, position: int) -> BaseSampler:
    """A scrambled Sobol sequence."""
    domains = seen_parameters(space)
    axes = {name: axis for axis, name in enumerate(domains)}
    from scipy.stats import qmc  # half a second, which the other samplers need not spend

    sequence = qmc.Sobol(len(axes), scramble=True, rng=np.random.default_rng(space.sampler.seed))
    point = (sequence.fast_forward(position) if position else sequence).random(1)[0]
    return PlannedSampler(lambda name: from_unit(domains[name], point[axes[name]]))


def points_in_order(space: Space, position: int) -> BaseSampler:
    """The points of a grid, one after the other."""
    point, domains = _points(space.to_yaml())[position], space.parameters()
    return PlannedSampler(lambda name: as_seen(domains[name], point[name]))


def tpe(space: Space, position: int) -> BaseSampler:
    """The tree-structured Parzen estimator, with a seed for each trial."""
    seed = zlib.crc32(f"{space.sampler.seed}/{position}".encode())
    return TPESampler(seed=seed)  # multivariate, with constant liar: Optuna 5's defaults


@functools.lru_cache(maxsize=4)
def _points(space_text: str) -> list[Mapping[str, Scalar]]:
    """All points of a grid, walked once for each space."""
    return list(grid(parse_space(space_text, "space")))


def sampler_for(space: Space, position: int) -> BaseSampler:
    """The sampler of the trial at this position."""
    sampler: BaseSampler = SAMPLERS.maker(space.sampler.name)(space, position)
    return sampler
