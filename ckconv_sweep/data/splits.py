"""Classes of all sequences in, two sets of positions out: which to keep, which to hold out.

The positions are those of scikit-learn's `train_test_split` (1.9; the algorithm of its
`StratifiedShuffleSplit`), with which the splits were first drawn. They are drawn here because they
may never change, whatever a later version does: a sequence that trials have seen would be a test.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ckconv_sweep.config.data import HeldOut
from ckconv_sweep.errors import ConfigError


def held_out_by(
    data: HeldOut, targets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What stays and what is held out for validation, by the settings of a dataset: `hold_out`, or
    one of its folds.

    Raises:
        ConfigError: as `hold_out`, or there are fewer sequences than folds.
    """
    if data.folds is None:
        return hold_out(targets, data.validation_fraction, data.split_seed)
    if len(targets) < data.folds:
        raise ConfigError(
            f"{len(targets)} sequences cannot be dealt into {data.folds} folds", where="data.folds"
        )
    of_N = folds(targets, data.folds, data.split_seed)
    return np.flatnonzero(of_N != data.fold), np.flatnonzero(of_N == data.fold)


def folds(targets: NDArray[np.int64], number: int, seed: int) -> NDArray[np.int64]:
    """The fold of each sequence, `(N,)`, from 0: all folds have the same number of sequences, also
    of every class, but for one."""
    random_state = _random_state(seed)
    by_class = [
        random_state.permutation(np.flatnonzero(targets == label)) for label in np.unique(targets)
    ]
    of_N = np.empty(len(targets), dtype=np.int64)
    # Dealt like cards, on from class to class.
    of_N[np.concatenate(by_class)] = np.arange(len(targets)) % number
    return of_N


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
    random_state = _random_state(seed)
    held_out_count = math.ceil(fraction * len(targets))
    sides = None
    if counts.min() > 1 and len(classes) <= held_out_count <= len(targets) - len(classes):
        sides = stratified(targets, len(targets) - held_out_count, random_state)
    if sides is None or any(len(np.unique(targets[side])) < len(classes) for side in sides):
        sides = _class_by_class(targets, fraction, random_state)
    kept, held_out = sides
    return np.sort(kept), np.sort(held_out)


def _random_state(seed: int) -> np.random.RandomState:
    """Of our own, as scikit-learn takes no number above 2**32 - 1 and a seed may be one."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))


def stratified(
    targets: NDArray[np.int64], kept_count: int, random_state: np.random.RandomState
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions that stay, `kept_count` of them, and all others, each in a drawn order: of every
    class the same share.

    Raises:
        ValueError: a class has one sequence, or a side has fewer sequences than there are classes.
    """
    classes, counts = np.unique(targets, return_counts=True)
    if counts.min() < 2:
        raise ValueError(f"class {classes[counts.argmin()]} has one sequence")
    if min(kept_count, len(targets) - kept_count) < len(classes):
        raise ValueError(f"{len(targets)} sequences are too few for {len(classes)} classes")
    kept_counts = _shares(counts, kept_count, random_state)
    left_counts = _shares(counts - kept_counts, len(targets) - kept_count, random_state)
    kept, left = list[int](), list[int]()
    for label, n_kept, n_left in zip(classes, kept_counts, left_counts, strict=True):
        positions = random_state.permutation(np.flatnonzero(targets == label)).tolist()
        kept += positions[:n_kept]
        left += positions[n_kept : n_kept + n_left]
    return random_state.permutation(kept), random_state.permutation(left)


def _shares(
    counts: NDArray[np.int64], total: int, random_state: np.random.RandomState
) -> NDArray[np.int64]:
    """`total` dealt out in proportion to `counts`: each is rounded down, then the largest
    remainders get one more; equal ones by chance."""
    exact = counts / counts.sum() * total
    shares: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    remainders = exact - shares
    for remainder in np.unique(remainders)[::-1]:
        missing = total - shares.sum()
        if missing == 0:
            break
        equal = np.flatnonzero(remainders == remainder)
        shares[random_state.choice(equal, min(len(equal), missing), replace=False)] += 1
    return shares


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
