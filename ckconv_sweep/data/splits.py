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
    """Hold out a share of the sequences, of every class alike, and at least one of every class that
    has two; a class of one sequence stays whole.

    Args:
        targets: class of each sequence, `(N,)`.
        fraction: share to hold out, rounded up to whole sequences. Where that leaves a class
            without a sequence on one side, the share of each class is rounded by itself.
        seed: the same seed gives the same split.

    Returns:
        Positions that stay and positions that are held out: disjoint, sorted, together all N.

    Raises:
        ConfigError: no class has two sequences.
    """
    classes, counts = np.unique(targets, return_counts=True)
    if counts.max() < 2:
        raise ConfigError(
            f"no sequence can be held out for validation: each of the {len(classes)} classes has "
            "one",
            where="data.validation_fraction",
            hint="training needs two sequences of at least one class, in the training file",
        )
    # A generator of our own, as scikit-learn takes no number above 2**32 - 1 and a seed may be one.
    random_state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    held_out_count = math.ceil(fraction * len(targets))
    sides = None
    if counts.min() > 1 and len(classes) <= held_out_count <= len(targets) - len(classes):
        sides = train_test_split(
            np.arange(len(targets)),
            test_size=held_out_count,
            stratify=targets,
            random_state=random_state,
        )
    if sides is None or any(len(np.unique(targets[side])) < len(classes) for side in sides):
        sides = _class_by_class(targets, fraction, random_state)
    kept, held_out = sides
    return np.sort(kept), np.sort(held_out)


def _class_by_class(
    targets: NDArray[np.int64], fraction: float, random_state: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    held_out: list[int] = []
    for label in np.unique(targets):
        positions = np.flatnonzero(targets == label)
        if len(positions) > 1:
            share = min(max(round(fraction * len(positions)), 1), len(positions) - 1)
            held_out += random_state.permutation(positions)[:share].tolist()
    kept = np.setdiff1d(np.arange(len(targets)), held_out)
    return kept, np.array(held_out, dtype=np.int64)
