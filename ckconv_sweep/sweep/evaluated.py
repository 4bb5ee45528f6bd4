"""A checkpoint that somebody scores on the test split by hand: what is recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ckconv_sweep.errors import CannotWrite
from ckconv_sweep.record.confirmation import Opening
from ckconv_sweep.record.openings import Ledger, OfSweep
from ckconv_sweep.record.versions import code
from ckconv_sweep.search.confirmed import confirmed_in
from ckconv_sweep.training.scoring import Scored
from ckconv_sweep.training.weights import Trained


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An opening, and what was known when it was made."""

    opening: Opening
    before: tuple[Opening, ...] = ()
    """The earlier ones of the same sweep or run."""
    of: str = ""
    """`sweep` or `run`; empty where it was not recorded."""
    why_not: str = ""
    """Why it was not recorded; empty if it was."""
    winner: int | None = None
    """The setting that the sweep's confirmation has fixed, if any."""


def record_opening(
    ledger: Ledger | str,
    trained: Trained,
    scored: Scored,
    *,
    by: Literal["evaluate", "predict"] = "evaluate",
    sampling_rate: int | None = None,
    elsewhere: bool = False,
    data_dir: Path | None = None,
) -> Recorded:
    """Record a score of the test split, to be called before it is shown. What cannot be written is
    returned with the reason.

    Args:
        ledger: of `record.openings.ledger_of`.
        elsewhere: whether it was scored on another dataset than that of its training.
    """
    opening = Opening(
        scores=_named(scored.scores),
        each={name: [value] for name, value in _named(scored.scores).items()},
        trials=() if isinstance(ledger, str) or ledger.trial is None else (ledger.trial,),
        by=by,
        dataset=trained.trial.data.name,
        elsewhere=elsewhere,
        sampling_rate=sampling_rate,
        sequences=scored.sequences,
        data=scored.data,
        code=code(),
    )
    if isinstance(ledger, str):
        return Recorded(opening=opening, why_not=ledger)
    winner = None
    if isinstance(ledger, OfSweep):
        opening, winner = _judged(ledger, opening, data_dir)
    before = tuple(ledger.known())
    try:
        ledger.add(opening)
    except (CannotWrite, OSError) as error:
        return Recorded(opening=opening, before=before, why_not=str(error), winner=winner)
    of = "sweep" if isinstance(ledger, OfSweep) else "run"
    return Recorded(opening=opening, before=before, of=of, winner=winner)


def _named(scores: Mapping[str, float]) -> dict[str, float]:
    return {f"test/{name}": value for name, value in scores.items()}


def _judged(ledger: OfSweep, opening: Opening, data_dir: Path | None) -> tuple[Opening, int | None]:
    """The opening with the setting that it is of, and the setting that is fixed."""
    found = confirmed_in(ledger.study, data_dir)
    winner = None if found is None else found.winner
    own = next((r for r in ledger.study.every_trial() if r.number == ledger.trial), None)
    confirms = None if own is None else own.confirms
    fixed = winner is not None and confirms == winner and not opening.elsewhere
    return replace(opening, confirms=confirms, exploratory=not fixed), winner
