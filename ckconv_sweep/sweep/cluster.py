"""The Ray cluster: this machine's own, or one that is named by its address."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep.errors import ConfigError, ResourcesMissing


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where trials run and what each of them gets. None: as many as there is room for."""

    address: str | None = None
    concurrency: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0

    def check(self) -> None:
        """Raises ConfigError if no cluster could give this."""
        if self.address and self.address.startswith("ray://"):
            raise ConfigError(
                "ray:// addresses are not supported: the sweep's driver must run in the cluster",
                where="--address",
                hint="run ckconv-sweep on the head node with --address auto",
            )
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise ConfigError(
                f"more than one GPU must be a whole number, got {self.gpus_per_trial}",
                where="--gpus-per-trial",
            )


# Ray Tune prints boxes, writes loggers' files and snapshots that nobody reads here.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
}


@contextlib.contextmanager
def connected(placement: Placement) -> Iterator[None]:
    """A connection to the cluster, ended on exit; a local cluster's processes end with it.

    Raises:
        ConfigError: nothing answers at the address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    try:
        if placement.address not in (None, "local"):
            _check_answers(placement.address)
        if placement.address:
            ray.init(address=placement.address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            ray.init(
                address="local",
                logging_level=logging.ERROR,
                log_to_driver=False,
                include_dashboard=False,
                # Nothing is passed through the object store but small results.
                object_store_memory=200 * 2**20,
            )
    except ConnectionError as error:
        raise ConfigError(
            f"no Ray cluster answers at {placement.address}",
            where="--address",
            hint="is it running (ray status)? A cluster with token authentication needs "
            f"RAY_AUTH_MODE=token here. Ray says: {str(error).splitlines()[0]}",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Ray itself tries a wrong address for minutes, and cannot be interrupted meanwhile.

    Raises:
        ConfigError: nothing listens there.
        ConnectionError: `auto`, and Ray knows of no cluster on this machine.
    """
    named = address
    if address == "auto":
        # RAY_ADDRESS, or the note of the last `ray start` here, which outlives its cluster. Ray
        # has no public word for where `auto` leads to.
        from ray._private.services import get_ray_address_from_environment

        address = get_ray_address_from_environment("auto", None)
        named = f"{address}, which `auto` means here"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        why = str(error) if isinstance(error, OSError) else "it is not written as host:port"
        raise ConfigError(
            f"no Ray cluster answers at {named}: {why}",
            where="--address",
            hint="write host:port as `ray start --head` says it, or auto on a node of the cluster",
        ) from None


def concurrency(placement: Placement) -> int:
    """How many trials run at a time.

    Raises:
        ResourcesMissing: no node can hold a single trial.
    """
    nodes = [node["Resources"] for node in _nodes()]
    wanted = {"CPU": placement.cpus_per_trial, "GPU": placement.gpus_per_trial}
    room = 0
    for node in nodes:
        fits = [
            int(node.get(kind, 0.0) / amount + 1e-9) for kind, amount in wanted.items() if amount
        ]
        room += min(fits, default=os.cpu_count() or 1)
    if room == 0:
        has = [f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes]
        option = "--gpus-per-trial" if placement.gpus_per_trial else "--cpus-per-trial"
        raise ResourcesMissing(
            f"a trial asks for {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs, "
            f"and no node has them",
            where=option,
            hint=f"the cluster has {len(nodes)} node{'s' * (len(nodes) != 1)}: {'; '.join(has)}",
        )
    return min(placement.concurrency or room, room)


def _nodes() -> list[dict[str, Any]]:
    """What Ray says of each node that is up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def check_shared(folder: Path) -> None:
    """Every node must see the sweep's folder: checkpoints are written there.

    Raises:
        ConfigError: a node does not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = folder / f".probe-{uuid.uuid4().hex}"
    probe.write_text("seen")

    @ray.remote(num_cpus=0)
    def sees(path: str) -> bool:
        from pathlib import Path

        return Path(path).exists()

    try:
        asked = {
            node["NodeManagerAddress"]: sees.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(probe))
            for node in _nodes()
        }
        blind = [name for name, answer in asked.items() if not ray.get(answer, timeout=60)]
    finally:
        probe.unlink(missing_ok=True)
    if blind:
        raise ConfigError(
            f"{', '.join(blind)} cannot see {folder}",
            where="--sweeps-dir",
            hint="on a cluster the sweeps must lie in a folder that all nodes share",
        )
