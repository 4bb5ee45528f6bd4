"""Which share of the trials that a space can draw will be rejected."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckconv_sweep.config.space import Space
    from ckconv_sweep.config.trial import Trial


class _NotCounted(Exception):
    """The data are not here, so nobody knows how large a model is."""


def rejected_share(
    space: Space,
    count_parameters: Callable[[Trial], int],
    where: str,
    *,
    until_one_passes: bool = False,
) -> str:
    """A line for the user; empty where no trial is rejected.

    Args:
        count_parameters: the number of trainable numbers of a trial's model.
        where: the space's file.

    Raises:
        ConfigError: none of many random draws can be trained.
    """
    from ckconv_sweep.errors import CkconvSweepError
    from ckconv_sweep.search.feasible import DRAWS, in_words, survey

    def counted(trial: Trial) -> int:
        try:
            return count_parameters(trial)
        except CkconvSweepError as error:
            raise _NotCounted(error.message) from None

    try:
        rejected = survey(space, counted, where=where, until_one_passes=until_one_passes)
    except _NotCounted as why:
        return f"the number of parameters was not checked: {why}"
    if not rejected or until_one_passes:
        return ""
    return (
        f"{rejected.total()} of {DRAWS} trials drawn at random cannot be trained, and would be "
        f"drawn again: {in_words(rejected)}"
    )
