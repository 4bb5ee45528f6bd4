"""Trials on a Ray cluster: what `execution.protocol` asks of an executor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ckconv_sweep.execution import cluster, nodes, packs
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.nodes import Census
from ckconv_sweep.execution.protocol import Session, Signals, Work
from ckconv_sweep.execution.surveyor import Surveyor


def load() -> None:
    """Import Ray Tune, a second that a command may spend while it waits for something else."""
    cluster.be_quiet()
    import ray.tune  # noqa: F401


class RayExecutor:
    """Trains with Ray Tune, in seats for one trial or for many."""

    def __init__(self, placement: Placement, surveyor: Surveyor | None = None) -> None:
        self._placement = placement
        self.surveyor = surveyor or Surveyor()
        self._census: Census | None = None
        self._at_a_time = 0

    def check(self) -> None:
        """Raises ConfigError if no cluster could give this."""
        self._placement.check()

    @contextlib.contextmanager
    def connected(self, log: Path, signals: Signals) -> Iterator[None]:
        """A connection to the cluster; see `cluster.connected`."""
        with cluster.connected(self._placement, log, signals.check):
            try:
                yield
            finally:
                if self._census is not None:
                    self._census.end()

    def prepare(self, session: Session, signals: Signals) -> tuple[int, list[str]]:
        """Look at the nodes, and find the size of packs. Raises as the protocol says."""
        nodes.forget_markers(session.files)
        self._census = census = Census(self._placement, session)
        said = census.wait(signals.check) if self._asks else []
        cluster.check_room(self._placement, census.roster.unfit)
        self._placement = packs.sized(
            self._placement,
            session.trial,
            session.data_dir,
            signals,
            said.append,
            census.roster.unused,
        )
        self._at_a_time = max(1, cluster.at_a_time(self._placement, census.roster.unused))
        return self._at_a_time, said

    @property
    def _asks(self) -> bool:
        """Without a cluster and GPUs there is no node but this machine's CPUs."""
        return not self._placement.is_local or self._placement.gpus_per_trial > 0

    def run(self, work: Work, signals: Signals, session: Session, known: KnownData) -> None:
        """Train until the work is done; see `tune.run`. After `prepare`."""
        # Not before `connected` has told Ray Tune to be quiet.
        from ckconv_sweep.execution import tune

        assert self._census is not None
        tune.run(
            work,
            signals,
            placement=self._placement,
            at_a_time=self._at_a_time,
            census=self._census,
            session=session,
            data=known,
        )
