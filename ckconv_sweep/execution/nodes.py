"""Whether a node may train for a sweep: it must have the driver's versions, code and data, and the
GPU that was requested.

Every worker checks its own node before it trains (`check`). The driver of a cluster also checks all
nodes before it starts (`find_unfit`), so that no trial is placed on one that does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.errors import CkconvSweepError, NodeUnfit
from ckconv_sweep.execution import cluster
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.protocol import Signals
from ckconv_sweep.record import versions

ANSWER_SECONDS = 120.0
"""How long a node is waited for. One that is busy until then is checked by its workers alone."""


def check(needed: Mapping[str, str], gpus: float) -> None:
    """Check the versions of this process and its GPU.

    Args:
        needed: the driver's `record.versions.of_worker()`.
        gpus: how many GPUs a trial gets.

    Raises:
        NodeUnfit: they are not what the driver needs.
    """
    changed = versions.differences(needed, versions.of_worker())
    if changed:
        raise NodeUnfit(
            "; ".join(
                f"{change.label} is {change.now} here, the driver has {change.before}"
                for change in changed
            )
        )
    if gpus:
        import torch

        if not torch.cuda.is_available():
            raise NodeUnfit(f"a trial gets {gpus:g} GPUs, and PyTorch sees no GPU here")


def why_unfit(
    needed: Mapping[str, str], gpus: float, trial: str, data_dir: str | None, data: Identity | None
) -> str | None:
    """Why the node on which this runs may not train; None if it may."""
    from ckconv_sweep.execution.worker import check_data, task_of

    try:
        check(needed, gpus)
        if data is not None:
            check_data(task_of(Trial.model_validate_json(trial).data, data_dir), data)
    except CkconvSweepError as error:
        return in_a_line(error)
    return None


def find_unfit(
    placement: Placement,
    trial: Trial,
    data_dir: Path | None,
    data: Identity | None,
    interruption: Signals,
) -> dict[str, str]:
    """The nodes that may not train, by id, and why in words. Nodes that have less than a trial gets
    are not asked.

    Args:
        trial: the base trial, whose data are compared.
        data: the identity of the driver's; None: a node may have others.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    arguments = (
        versions.of_worker(),
        placement.gpus_per_trial,
        trial.model_dump_json(),
        str(data_dir) if data_dir else None,
        data,
    )
    # Of a GPU the least that there is: without one Ray hides them all.
    gpus = 0.001 if placement.gpus_per_trial else 0
    task = ray.remote(why_unfit)
    asked = {
        task.options(
            num_cpus=0,
            num_gpus=gpus,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(*arguments): node
        for node in cluster.nodes()
        if cluster.room_on(node, placement)
    }
    unfit: dict[str, str] = {}
    for answer in cluster.answers(asked, ANSWER_SECONDS, interruption.check):
        node = asked[answer]
        if why := _answer(answer):
            unfit[node["NodeID"]] = f"{node['NodeManagerAddress']}: {why}"
    return unfit


def _answer(answer: Any) -> str | None:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        why: str | None = ray.get(answer)
        return why
    except RayTaskError as error:  # its ckconv-sweep is too old to know the question
        return str(error).strip().splitlines()[-1]
    except RayError:  # it is gone, or about to go
        return None


def in_a_line(error: CkconvSweepError) -> str:
    """Without its hint, which is for the user of this node."""
    return str(error).partition("\n")[0]


def this_node() -> tuple[str, str]:
    """The id of the node of this process, and its name in messages."""
    import ray

    if not ray.is_initialized():
        return "", "this machine"
    return ray.get_runtime_context().get_node_id(), str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def without(unfit: Mapping[str, str]) -> dict[str, str]:
    """A label selector of Ray that keeps off some nodes."""
    return {"ray.io/node-id": f"!in({','.join(sorted(unfit))})"} if unfit else {}
