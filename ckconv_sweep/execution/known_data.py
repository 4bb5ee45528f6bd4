"""The data that the trials of a session must be trained on."""

from __future__ import annotations

from collections.abc import Iterable

from ckconv_sweep.config.data import Data
from ckconv_sweep.config.space import Space
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.record.trials import TrialRecord, trial_of


class KnownData:
    """What a worker compares its data with, by their settings: those of the base trial as the
    driver reads them, others as the first trial with these settings was trained on them.

    Args:
        identity: of the base trial's data.
        records: the trials of earlier sessions.
        allow_change: nothing is compared. Each epoch keeps the digest of its data all the same.
    """

    def __init__(
        self,
        space: Space,
        identity: Identity,
        records: Iterable[TrialRecord] = (),
        *,
        allow_change: bool = False,
    ) -> None:
        self.allow_change = allow_change
        self._known: dict[str, Identity] = {_key(space.trial.data): identity}
        for record in records:
            if any(record.data):
                self.heard(trial_of(record, space).data, record.data[-1])

    def of(self, data: Data) -> Identity | None:
        """The identity of the data of these settings, None if any will do."""
        return None if self.allow_change else self._known.get(_key(data))

    def knows(self, data: Data) -> bool:
        """Whether the data of these settings were read before, by the driver or by a trial."""
        return _key(data) in self._known

    def heard(self, data: Data, digest: str) -> None:
        """A trial was trained on data with this digest."""
        if digest:
            self._known.setdefault(_key(data), {"digest": digest})


def _key(data: Data) -> str:
    return data.model_dump_json()
