"""What a sampler sees of a domain. Numbers that are not evenly distributed are quantiles to it, and
ordered choices are their places; the study holds the values themselves."""

from __future__ import annotations

from typing import Any

from ckconv_sweep.config.domains import Choices, Interval, Scalar, from_unit, to_unit

_QUANTILES = Interval(low=0.0, high=1.0, whole=False)


def seen(domain: Interval | Choices) -> Interval | Choices:
    """The domain in which a sampler searches."""
    if isinstance(domain, Choices):
        places = Interval(low=0, high=len(domain.options) - 1, whole=True)
        return places if domain.ordered else domain
    return _QUANTILES if domain.or_zero or domain.mean is not None else domain


def as_seen(domain: Interval | Choices, value: Any) -> Any:
    """A value of the domain as a sampler sees it."""
    if isinstance(domain, Choices):
        return domain.place(value) if domain.ordered else value
    return to_unit(domain, value) if seen(domain) is _QUANTILES else value


def value_of(domain: Interval | Choices, drawn: Any) -> Scalar:
    """What a sampler's draw stands for."""
    if isinstance(domain, Choices):
        chosen: Scalar = domain.options[drawn] if domain.ordered else drawn
        return chosen
    number: Scalar = from_unit(domain, drawn) if seen(domain) is _QUANTILES else drawn
    return number
