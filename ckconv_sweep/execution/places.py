"""How many trials run at a time, as nodes of the cluster come and go, and what is said of it."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from ckconv_sweep.execution import cluster
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.nodes import Census

LOOK_SECONDS = 2.0
"""How often the cluster is looked at."""

PATIENCE_SECONDS = 6.0
"""How long a process may be without room before that is said. Where there is room it gets it at
once."""


@dataclass
class Waiting:
    """What is said while processes that train are without room. Knows no Ray."""

    clock: Callable[[], float] = time.monotonic
    _since: float | None = None
    _said: bool = False

    def heard(self, pending: int, held: int, taken: str, own: str) -> str:
        """The line for the user; empty where there is nothing new.

        Args:
            pending, held: how many processes are without room, and how many have it.
            taken: what there is not enough of, as in `5 CPUs`; empty where nothing has it at all.
            own: how much of it this sweep has itself, as in `2`.
        """
        if not pending:
            ended, self._since, self._said = self._said, None, False
            return f"there is room again; processes that train: {held}" if ended else ""
        now = self.clock()
        self._since = now if self._since is None else self._since
        if self._said or now < self._since + PATIENCE_SECONDS:
            return ""
        self._said = True
        if not taken:
            return "waiting for room: no node is there that has what a trial needs"
        return f"waiting for room: the cluster's {taken} are taken" + (
            f", {own} of them by this sweep" if own != "0" else ""
        )


@dataclass
class Places:
    """Follows the nodes; to be looked at several times a second.

    Args:
        placement: `concurrency` is a bound, also above what is there; `pack` is a number by now.
        at_a_time: how many trials have room.
    """

    placement: Placement
    census: Census
    at_a_time: int
    group: str = field(default_factory=lambda: f"ckconv-{uuid.uuid4().hex}")
    """What the names of this session's placement groups begin with."""
    _looked_at: float = 0.0
    _unfit: int = 0
    _waiting: Waiting = field(default_factory=Waiting)

    def look(self) -> list[str]:
        """Lines for the user. Raises ResourcesMissing where no node is left that may train."""
        roster, now = self.census.roster, time.monotonic()
        if now < self._looked_at + LOOK_SECONDS and len(roster.unfit) == self._unfit:
            return []
        self._looked_at = now
        said = self.census.look()
        self._unfit = len(roster.unfit)
        there = cluster.at_a_time(self.placement, roster.unused)
        if not there and roster.unfit and not roster.asked:
            cluster.check_room(self.placement, roster.unfit)
        if there and there != self.at_a_time:
            said.append(f"trials at a time: {there} now, {self.at_a_time} before")
            self.at_a_time = there
        pending, held = cluster.groups(self.group)
        # One too many waits where it was asked for before a node had left.
        seats = math.ceil(self.at_a_time / int(self.placement.pack or 1))
        short = min(pending, max(0, seats - held))
        taken, own = cluster.taken(self.placement, roster.unused, held)
        return [*said, *filter(None, [self._waiting.heard(short, held, taken, own)])]
