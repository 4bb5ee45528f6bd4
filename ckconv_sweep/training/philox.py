"""Philox 4x64-10 (Salmon et al. 2011) in operations on tensors: the bits of `numpy.random.Philox`,
made on any device. The host would be too slow for an accelerator: 1.7 ms for a mask of 64 x 30 x
784 values, of which a step needs four, where the rest of the step takes less than one.

Shapes: E streams, N blocks of four numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
INCREMENTS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
ROUNDS = 10
LOW = 0xFFFFFFFF


def _signed(word: int) -> int:
    """The 64 bits as a whole number of PyTorch, whose unsigned ones cannot be multiplied."""
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


def _high(a: Tensor) -> Tensor:
    return (a >> 32) & LOW


def _product(a: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower 64 bits of an unsigned product, by halves."""
    low, high = factor & LOW, factor >> 32
    a_low, a_high = a & LOW, _high(a)
    crossed, other = a_low * high, a_high * low
    carried = _high(a_low * low) + (crossed & LOW) + (other & LOW)
    upper = a_high * high + _high(crossed) + _high(other) + (carried >> 32)
    return upper, a * _signed(factor)


def keys(seeds: Sequence[int], place: int) -> Tensor:
    """The keys of each round, `(10, 2, E, 1)`, int64, made on the host."""
    words = [
        [[[_signed(word + number * step)] for word in row] for row, step in rows]
        for number in range(ROUNDS)
        for rows in [((seeds, INCREMENTS[0]), ([place] * len(seeds), INCREMENTS[1]))]
    ]
    return torch.tensor(words)


def lanes(keys: Tensor, steps_E1: Tensor, blocks_N: Tensor) -> Tensor:
    """The 16-bit numbers of `Philox(key=[seed, place], counter=[0, 0, step, 0])`.

    Args:
        keys: as of `keys`.
        steps_E1: `(E, 1)`, int64.
        blocks_N: which blocks, int64; numpy begins with number 1.

    Returns:
        `(E, 16 N)`, int16: the bits of unsigned numbers.
    """
    a, c = blocks_N.expand(len(steps_E1), -1), steps_E1.expand(-1, len(blocks_N))
    b = d = torch.zeros_like(a)
    for key, other in keys:
        (first, first_low), (second, second_low) = (
            _product(word, factor) for word, factor in zip((a, c), MULTIPLIERS, strict=True)
        )
        a, b, c, d = second ^ b ^ key, second_low, first ^ d ^ other, first_low
    return torch.stack([a, b, c, d], dim=-1).flatten(1).view(torch.int16)


def factors(
    keys: Tensor, steps_E1: Tensor, blocks_N: Tensor, thresholds_E1: Tensor, scales_E1: Tensor
) -> Tensor:
    """What `dropout_masks` gives, flat and filled up to whole blocks: `(E, 16 N)`, float32.
    The first arguments are those of `lanes`."""
    unsigned = lanes(keys, steps_E1, blocks_N).to(torch.int32) & 0xFFFF
    return torch.where(unsigned >= thresholds_E1, scales_E1, 0.0)


@cache
def fast_factors(device: torch.device) -> Callable[..., Tensor]:
    """`factors` as one kernel instead of some 400; as it stands, for the same numbers in more time,
    where it cannot be compiled."""
    compiled = torch.compile(factors, dynamic=True)
    ones = torch.ones(2, 1, dtype=torch.int64, device=device)
    try:
        compiled(keys([1, 2], 0).to(device), ones, ones[:, 0], ones, ones.float())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # without a compiler, or with a broken one, it raises anything
        first = str(error).partition("\n")[0]
        warnings.warn(f"dropout masks cannot be compiled, and take longer: {first}", stacklevel=2)
        return factors
    return compiled
