"""A sweep's events in the log of `-v` and `--log-file`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ckconv_sweep.record.events import Ended, EpochEnded, Event, Listener, Rejected, Started
from ckconv_sweep.record.trials import TrialRecord

log = logging.getLogger(__name__)


class Log(Listener):
    """Writes a sweep's events to the log."""

    def begin(self, records: Sequence[TrialRecord]) -> None:
        log.info("the session begins with %d trials", len(records))

    def hear(self, event: Event) -> None:
        match event:
            case Started():
                log.info(
                    "trial %d starts after epoch %d: %s",
                    event.number,
                    event.epochs_before,
                    dict(event.params),
                )
            case EpochEnded():
                log.debug(
                    "trial %d, epoch %d: %s", event.number, event.epoch.number, event.epoch.metrics
                )
            case Ended():
                log.info(
                    "trial %d %s (%s) after epoch %d: %s%s",
                    event.number,
                    event.outcome,
                    event.reason,
                    event.epochs,
                    dict(event.values),
                    f"\n{event.error.rstrip()}" * bool(event.error),
                )
            case Rejected():
                log.info("grid point %d rejected; %d settings can come", event.number, event.most)

    def say(self, message: str) -> None:
        log.info("%s", message)
