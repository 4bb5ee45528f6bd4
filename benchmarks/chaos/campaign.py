"""Disturbs sweeps with one fault after the other, and counts."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.chaos.driver import warm_up
from benchmarks.chaos.faults import FAULTS, Fault
from benchmarks.chaos.server import served
from benchmarks.chaos.state import result_of
from benchmarks.chaos.sweep import Plan, Sweep, empty_database

STOPPED_EARLY: dict[str, Any] = {
    "sampler": "tpe",
    "scheduler": "{name: asha, grace_epochs: 2, reduction_factor: 2}",
}
MOST_MISSES = 40
"""Disturbances in a row that may hit nothing before a fault is called impossible."""


@dataclass
class Tally:
    """What became of one fault. `broken` counts broken promises by their word: lost, twice, again
    (more epochs trained again than allowed), wrong (anything else that is not as promised)."""

    fault: str
    injected: int = 0
    hits: int = 0
    sweeps: int = 0
    again: int = 0
    allowed: int = 0
    seconds: float = 0.0
    broken: Counter[str] = field(default_factory=Counter)
    sentences: list[str] = field(default_factory=list)

    HEADINGS = (
        "fault",
        "injected",
        "hits",
        "sweeps",
        "lost",
        "twice",
        "wrong",
        "again",
        "allowed",
        "s",
    )

    def line(self) -> str:
        words = [self.broken["lost"], self.broken["twice"]]
        words += [self.broken["wrong"] + self.broken["again"], self.again, self.allowed]
        cells = [self.injected, self.hits, self.sweeps, *words, round(self.seconds)]
        return f"{self.fault:22}" + "".join(f"{cell:>9}" for cell in cells)

    @classmethod
    def heading(cls) -> str:
        return f"{cls.HEADINGS[0]:22}" + "".join(f"{cell:>9}" for cell in cls.HEADINGS[1:])


class Campaign:
    """A folder for the sweeps, and what they are compared with.

    Args:
        deadline: of `time.monotonic()`; no sweep is begun after it.
    """

    def __init__(self, folder: Path, *, seed: int = 0, deadline: float = float("inf")) -> None:
        warm_up()
        self._folder, self._seed, self._deadline = folder, seed, deadline
        self._empty = empty_database(folder)
        self._undisturbed: dict[Plan, Any] = {}

    def run(self, name: str, hits: int) -> Tally:
        """Disturb sweeps with a fault until so many times work in flight was hit."""
        fault, tally, start = FAULTS[name], Tally(name), time.monotonic()
        draws = random.Random(f"{self._seed}/{name}")
        undisturbed = self.undisturbed(fault.plan)
        with self._server(fault, name) as server:
            while tally.hits < hits and time.monotonic() < self._deadline:
                plan = fault.plan
                if fault.alternates and tally.sweeps % 2:
                    plan = replace(plan, **STOPPED_EARLY)
                home = self._folder / f"{name}-{tally.sweeps}"
                sweep = Sweep.new(home, plan, empty=self._empty, server=server)
                self._disturb(sweep, fault, hits, tally, draws)
                sweep.finish()
                if plan.sampler == "random":
                    sweep.compare(undisturbed)
                self._count(sweep, tally)
                if tally.injected - tally.hits > MOST_MISSES + 4 * hits:
                    raise RuntimeError(f"{name}: {tally.injected} times, {tally.hits} hits")
        tally.seconds = time.monotonic() - start
        return tally

    def undisturbed(self, plan: Plan) -> Any:
        """What a sweep comes to when nobody disturbs it; run once, and without Ray, which changes
        no number."""
        if plan not in self._undisturbed:
            home = self._folder / f"undisturbed-{len(self._undisturbed)}"
            sweep = Sweep.new(home, replace(plan, ray=False), empty=self._empty)
            sweep.finish()
            if sweep.broken:
                raise RuntimeError(f"without a fault: {sweep.broken}")
            self._undisturbed[plan] = result_of(sweep.folder)
        return self._undisturbed[plan]

    def _disturb(
        self, sweep: Sweep, fault: Fault, hits: int, tally: Tally, draws: random.Random
    ) -> None:
        """As often as one sweep can be, and not after it has finished."""
        for _ in range(fault.a_sweep):
            hit = fault.disturb(sweep, draws)
            tally.injected += max(hit, 1)
            tally.hits += hit
            if sweep.states[-1].finished or tally.hits >= hits:
                return

    def _count(self, sweep: Sweep, tally: Tally) -> None:
        tally.sweeps += 1
        tally.again += sweep.states[-1].trained_again
        tally.allowed += sweep.allowed
        tally.broken.update(word for word, _ in sweep.broken)
        tally.sentences += [sentence for _, sentence in sweep.broken]
        if not sweep.broken:
            sweep.remove()

    def _server(self, fault: Fault, name: str) -> contextlib.AbstractContextManager[Any]:
        return served(self._folder / f"server-{name}") if fault.server else contextlib.nullcontext()


def last_line(tallies: list[Tally]) -> str:
    """With 0 failures in N trials the 95 % upper bound is about 3/N."""
    hits = sum(tally.hits for tally in tallies)
    lost, twice = (sum(t.broken[word] for t in tallies) for word in ("lost", "twice"))
    bound = (
        f": at most {3 / hits:.2%} a fault at 95 % confidence" if hits and not lost + twice else ""
    )
    return f"{hits} faults that hit work in flight, {lost} lost, {twice} twice{bound}"
