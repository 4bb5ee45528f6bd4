"""Trials on a Ray cluster: what `execution.protocol` asks of an executor."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from ckconv_sweep.execution import cluster, nodes, packs
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.known_data import KnownData
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
        self._unfit: dict[str, str] = {}

    def check(self) -> None:
        """Raises ConfigError if no cluster could give this."""
        self._placement.check()

    def connected(self, log: Path, signals: Signals) -> AbstractContextManager[None]:
        """A connection to the cluster; see `cluster.connected`."""
        return cluster.connected(self._placement, log, signals.check)

    def prepare(self, session: Session, signals: Signals) -> tuple[int, list[str]]:
        """Look at the nodes, and find the size of packs. Raises as the protocol says."""
        placement, said = self._placement, list[str]()
        if placement.address or placement.gpus_per_trial:  # else no node but this machine's CPUs
            self._unfit = nodes.find_unfit(
                placement, session.trial, session.data_dir, session.data, signals
            )
            said += [f"this node is not used: {why}" for why in self._unfit.values()]
        placement = packs.sized(
            placement, session.trial, session.data_dir, signals, said.append, self._unfit
        )
        at_a_time = cluster.concurrency(placement, self._unfit)
        if placement.address:
            cluster.check_shared(session.folder, signals.check)
        self._placement = replace(placement, concurrency=at_a_time)
        return at_a_time, said

    def run(self, work: Work, signals: Signals, session: Session, known: KnownData) -> None:
        """Train until the work is done; see `tune.run`. After `prepare`."""
        # Not before `connected` has told Ray Tune to be quiet.
        from ckconv_sweep.execution import tune

        tune.run(
            work,
            signals,
            placement=self._placement,
            data_dir=session.data_dir,
            data=known,
            folder=session.folder / "tune",
            unfit=self._unfit,
        )
