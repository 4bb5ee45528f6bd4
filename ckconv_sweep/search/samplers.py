"""The samplers of the table in `config/sampling.py`. What one draws is a function of the trials
that it is shown and of its position: how many trials it has drawn before. Never of this process's
past.

Random, grid and quasi Monte Carlo are functions of (seed, position, setting) alone. They are
written here because Optuna's own, when reloaded, repeat their first draws (random), lose their
order (quasi Monte Carlo) or hand out duplicates (grid). TPE and the Gaussian process are Optuna's,
reseeded for every trial. NSGA-II breeds from the best of all trials that it is shown: Optuna's own
keeps in a study which trials were complete when it drew. CMA-ES, of the package cmaes, is told all
trials that it is shown before every draw: Optuna's own keeps a pickle in a study.
"""

from __future__ import annotations

import functools
import importlib
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.samplers._lazy_random_state import LazyRandomState
from optuna.samplers.nsgaii import UniformCrossover
from optuna.samplers.nsgaii._child_generation_strategy import NSGAIIChildGenerationStrategy
from optuna.samplers.nsgaii._elite_population_selection_strategy import (
    NSGAIIElitePopulationSelectionStrategy,
)
from optuna.trial import FrozenTrial, TrialState

from ckconv_sweep.config.domains import Choices, Interval, Scalar, from_unit
from ckconv_sweep.config.grid import grid
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.sampling import SAMPLERS, CmaEs, GaussianProcess, Nsgaii, Tpe
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


ENDED = "ended"
"""The attribute of a trial in a view by which the trials are in the order in which they ended."""


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


class LearningSampler(PlannedSampler):
    """Makes its plan from the trials that it is shown.

    Args:
        learn: gives the plan of the next trial.
    """

    def __init__(self, learn: Callable[[optuna.Study], Callable[[str], Any]]) -> None:
        self.learn = learn

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.plan = self.learn(study)


def uniform(space: Space, position: int) -> PlannedSampler:
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
    from scipy.stats import qmc  # `warm_up`; the other samplers need not spend that

    sequence = qmc.Sobol(len(axes), scramble=True, rng=np.random.default_rng(space.sampler.seed))
    point = (sequence.fast_forward(position) if position else sequence).random(1)[0]
    return PlannedSampler(lambda name: from_unit(domains[name], point[axes[name]]))


def points_in_order(space: Space, position: int) -> BaseSampler:
    """The points of a grid, one after the other."""
    point, domains = _points(space.to_yaml())[position], space.parameters()
    return PlannedSampler(lambda name: as_seen(domains[name], point[name]))


def tpe(space: Space, position: int) -> BaseSampler:
    """The tree-structured Parzen estimator, with a seed for each trial."""
    row = cast(Tpe, space.sampler)
    # Multivariate, with constant liar: Optuna 5's defaults.
    return TPESampler(seed=_seed(space, position), n_startup_trials=row.startup_trials)


def gaussian_process(space: Space, position: int) -> BaseSampler:
    """A Gaussian process, fitted anew for each trial, with a seed of its own."""
    row = cast(GaussianProcess, space.sampler)
    return GPSampler(
        seed=_seed(space, position),
        independent_sampler=uniform(space, position),
        n_startup_trials=row.startup_trials,
        warn_independent_sampling=False,
    )


def nsgaii(space: Space, position: int) -> BaseSampler:
    """A child of the best trials, as NSGA-II selects, crosses and mutates."""
    size, at_random = cast(Nsgaii, space.sampler).population, uniform(space, position).plan
    domains = {name: distribution(domain) for name, domain in seen_parameters(space).items()}

    def learn(study: optuna.Study) -> Callable[[str], Any]:
        completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(completed) < size:
            return at_random
        parents = NSGAIIElitePopulationSelectionStrategy(population_size=size)(study, completed)
        breed = NSGAIIChildGenerationStrategy(
            mutation_prob=1 / (1 + len(domains)),
            crossover=UniformCrossover(),
            crossover_prob=0.9,
            swapping_prob=0.5,
            rng=LazyRandomState(_seed(space, position)),
        )
        child = breed(study, domains, parents)  # without what mutates
        return lambda name: child[name] if name in child else at_random(name)

    return LearningSampler(learn)


def cmaes(space: Space, position: int) -> BaseSampler:
    """A sample of the normal distribution that the ended trials, told in groups in the order in
    which they ended, have led to."""
    row = cast(CmaEs, space.sampler)
    domains = {name: distribution(domain) for name, domain in seen_parameters(space).items()}
    from cmaes import CMA
    from optuna._transform import _SearchSpaceTransform

    unit = _SearchSpaceTransform(domains, transform_0_1=True)

    def learn(study: optuna.Study) -> Callable[[str], Any]:
        strategy = CMA(
            mean=np.full(len(domains), 0.5),
            sigma=row.sigma,
            bounds=np.array([[0.0, 1.0]] * len(domains)),
            seed=_seed(space, position),
            population_size=row.population,
        )
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        ended.sort(key=lambda trial: trial.system_attrs[ENDED])
        size, sign = strategy.population_size, 3 - 2 * study.direction.value
        for start in range(0, len(ended) - size + 1, size):
            group = sorted(ended[start : start + size], key=lambda trial: _standing(trial, sign))
            # By the rank alone: a pruned trial has no value that could be compared.
            strategy.tell([(unit.transform(t.params), float(i)) for i, t in enumerate(group)])
        return unit.untransform(strategy.ask()).__getitem__

    return LearningSampler(learn)


def _standing(trial: FrozenTrial, sign: float) -> tuple[bool, int, float]:
    """The key by which ended trials are ranked, the best first: the pruned ones last, those that
    were pruned early behind the others."""
    if trial.state is TrialState.COMPLETE:
        return False, 0, sign * trial.value if trial.value is not None else 0.0
    step = trial.last_step or 0
    return True, -step, sign * trial.intermediate_values.get(step, 0.0)


def _seed(space: Space, position: int) -> int:
    return zlib.crc32(f"{space.sampler.seed}/{position}".encode())


@functools.lru_cache(maxsize=4)
def _points(space_text: str) -> list[Mapping[str, Scalar]]:
    """All points of a grid, walked once for each space."""
    return list(grid(parse_space(space_text, "space")))


def warm_up(space: Space) -> None:
    """Import, in a thread of its own, what takes half a second before the first draw."""
    if space.sampler.name == "qmc":
        threading.Thread(target=importlib.import_module, args=("scipy.stats",), daemon=True).start()


def sampler_for(space: Space, position: int) -> BaseSampler:
    """The sampler of the trial at this position."""
    sampler: BaseSampler = SAMPLERS.maker(space.sampler.name)(space, position)
    return sampler
