"""Classes of all sequences in, two sets of positions out: which to keep, which to hold out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ckconv_sweep.errors import ConfigError


def hold_out(
    targets: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a share of the sequences, of every class alike.

    Args:
        targets: class of each sequence, `(N,)`.
        fraction: share to hold out, rounded up to whole sequences.
        seed: the same seed gives the same split.

    Returns:
        Positions that stay and positions that are held out: disjoint, sorted, together all N.

    Raises:
        ConfigError: one side would be left without any sequence of a class.
    """
    positions = np.arange(len(targets), dtype=np.int64)
    classes, counts = np.unique(targets, return_counts=True)
    held_out_count = math.ceil(fraction * len(targets))
    # scikit-learn itself refuses these three, in words that say nothing of our settings.
    if counts.min() < 2 or not len(classes) <= held_out_count <= len(targets) - len(classes):
        raise _leaves_a_class_empty(fraction, targets)

    # A generator of our own, as scikit-learn takes no number above 2**32 - 1 and a seed may be one.
    random_state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    kept, held_out = train_test_split(
        positions, test_size=held_out_count, stratify=targets, random_state=random_state
    )
    for side in (kept, held_out):
        if len(np.unique(targets[side])) < len(classes):
            raise _leaves_a_class_empty(fraction, targets)
    return np.sort(kept), np.sort(held_out)


def _leaves_a_class_empty(fraction: float, targets: NDArray[np.int64]) -> ConfigError:
    counts = np.bincount(targets)
    rarest = int(np.argmin(np.where(counts > 0, counts, len(targets) + 1)))
    return ConfigError(
        f"holding out {fraction} of {len(targets)} sequences leaves a class without a sequence on "
        f"one side (class {rarest} has {counts[rarest]})",
        where="data.validation_fraction",
        hint="both sides need at least one sequence of every class; choose a fraction nearer to "
        "one half",
    )
