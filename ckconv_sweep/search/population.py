"""Population based training (Jaderberg et al. 2017, arXiv:1711.09846): which trial is replaced by a
continuation of which other one (exploit), and with which settings that begins (explore).

The population is all trials of a sweep: each is compared with those that have reached its epoch,
whenever they did. What is drawn at random follows from the sampler's seed and the number of the
trial that is replaced, so the same records give the same continuation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from ckconv_sweep.config.domains import Choices, Interval, Scalar, from_unit, nearest
from ckconv_sweep.config.history import Continue, Go, Verdict
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import Pbt
from ckconv_sweep.keys import trial_name
from ckconv_sweep.search.curves import Curves

FACTORS = (0.8, 1.2)
"""By which a number is multiplied (Jaderberg et al. 2017, sec. 4.1)."""
ATTEMPTS = 20
"""Draws of settings that no trial may have, before the source's own are taken."""


def exploit(rule: Pbt, curves: Curves, number: int, mode: str) -> Verdict:
    """Truncation selection (Jaderberg et al. 2017, sec. 4.1): a trial among the worst is replaced
    by a continuation of one that is drawn from the best. Both are at least one trial, as soon as
    two have reached the epoch. Judged is every interval, and once more an epoch later: whoever is
    there first has nobody to be compared with before the others have come."""
    curve = curves[number]
    late = curve.epoch % rule.interval_epochs
    epoch = curve.epoch - late
    value = curve.at(epoch)
    if value is None or late > 1:
        return Go()
    sign = -1.0 if mode == "max" else 1.0
    there = sorted(
        (sign * reached, other)
        for other, one in curves.items()
        if (reached := one.at(epoch)) is not None
    )
    share = max(1, int(rule.fraction * len(there)))
    best = [n for loss, n in there[:share] if loss < sign * value and not curves[n].given_up]
    if not best or sign * value < there[-share][0]:
        return Go()
    source = random.Random(f"{curves.seed}/{number}/source").choice(best)
    worst = "the worst one" if share == 1 else f"one of the worst {share}"
    return Continue(
        source,
        epoch,
        f"pbt, epoch {epoch}: {value:.4g}, {worst} of the {len(there)} trials that reached this "
        f"epoch; {trial_name(source)} had {curves[source].at(epoch):.4g}",
    )


def explored(
    space: Space,
    source: Mapping[str, Scalar],
    number: int,
    fits: Callable[[Mapping[str, Scalar]], bool],
) -> Mapping[str, Scalar]:
    """The settings of the trial that replaces trial `number`: those of its source, each changed at
    random. `fits` says whether a trial may have them."""
    rule = space.scheduler
    resample = rule.resample_probability if isinstance(rule, Pbt) else 0.0
    for attempt in range(ATTEMPTS):
        params = _changed(space, source, resample, f"{space.sampler.seed}/{number}/{attempt}")
        if fits(params):
            return params
    return dict(source)


def _changed(
    space: Space, source: Mapping[str, Scalar], resample: float, seed: str
) -> Mapping[str, Scalar]:
    """Each setting moved, or with a probability drawn anew."""

    def suggest(name: str, domain: Interval | Choices) -> Scalar:
        rng = random.Random(f"{seed}/{name}")
        if name not in source or rng.random() < resample:
            return from_unit(domain, rng.random())
        return _moved(domain, source[name], rng)

    return space.draw(suggest)


def _moved(domain: Interval | Choices, value: Scalar, rng: random.Random) -> Scalar:
    """A value near to another one of a domain."""
    up = rng.random() < 0.5
    if isinstance(domain, Choices):
        place = domain.place(value) + (1 if up else -1)
        return domain.options[min(max(place, 0), len(domain.options) - 1)]
    assert isinstance(value, (int, float))
    number = int if domain.whole else float
    step = domain.step or (1 if domain.whole else 0)
    moved = value * FACTORS[up]
    if not step and moved == value == domain.low:  # 0 times anything
        return from_unit(domain, rng.random())
    if abs(moved - value) < step:  # it would be rounded to where it was
        moved = value + (step if up else -step)
    if domain.or_zero and moved < domain.low:
        return number(domain.low if up else 0)
    moved = min(max(moved, domain.low), domain.high)
    return number(nearest(domain, round(moved) if domain.whole else moved))
