"""Every node of a cluster is asked, once and as soon as it is there, whether it may train: it must
have the driver's versions, code and data, the GPU that was requested, the sweep's folder, and the
time.

Every process that trains checks its own node as well, before its first trial (`check`): a node may
have joined in the same moment.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep.errors import CkconvSweepError, ClusterLost, NodeUnfit
from ckconv_sweep.execution import cluster, probe, roster
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.protocol import Session
from ckconv_sweep.execution.roster import Roster
from ckconv_sweep.record import versions

ANSWER_SECONDS = 120.0
"""How long the first answers are waited for. A node that is slower is used once it has answered."""

MARKER = ".nodes-"
"""The beginning of the name of a file in the sweep's folder by which a node sees that it shares
it."""


def check(needed: Mapping[str, str], gpus: float, marker: str = "") -> None:
    """Check the versions of this process, its GPU and that it sees the sweep's folder.

    Args:
        needed: the driver's `record.versions.of_worker()`.
        gpus: how many GPUs a trial gets.
        marker: a file in the sweep's folder; empty: the driver is on this node.

    Raises:
        NodeUnfit: they are not what the driver needs.
    """
    if apart := roster.differences(needed, versions.of_worker()):
        raise NodeUnfit(apart)
    if marker and not Path(marker).exists():
        raise NodeUnfit(probe.unseen(Path(marker)))
    if gpus:
        import torch

        if not torch.cuda.is_available():
            raise NodeUnfit(f"a trial gets {gpus:g} GPUs, and {roster.NO_GPU}")


@dataclass(frozen=True)
class Answer:
    """What a node said of itself (`probe.answer`); None where it could not even be asked, and why
    it may not train, empty where it may."""

    node: Mapping[str, Any]
    """What Ray says of it."""
    said: Mapping[str, Any] | None
    why: str


class Census:
    """Asks the nodes of a cluster, and hears their answers.

    Args:
        placement: nodes that have less than a trial gets are not asked.
        session: whose data and folder a node needs; None: of no sweep.
        everybody: also nodes without room are asked.
    """

    def __init__(
        self, placement: Placement, session: Session | None = None, *, everybody: bool = False
    ) -> None:
        self.roster = Roster()
        self.answers: dict[str, Answer] = {}
        """By the node's id."""
        self._placement, self._everybody = placement, everybody
        self._data = session.data if session else None
        self._marker: Path | None = None
        if session is not None and not placement.is_local:
            self._marker = session.folder / f"{MARKER}{uuid.uuid4().hex}"
            self._marker.write_text("")
        self._asked: dict[Any, tuple[Mapping[str, Any], float]] = {}
        self._question: probe.Question = {
            "needed": versions.of_worker(),
            "trial": session.trial.model_dump_json() if session else "",
            "data_dir": str(session.data_dir) if session and session.data_dir else None,
            "reads_data": session is not None,
            "marker": self.marker,
        }

    @property
    def marker(self) -> str:
        """A file that every node must see; empty where none needs to."""
        return str(self._marker or "")

    def end(self) -> None:
        """Nobody is asked any more."""
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)

    def look(self) -> list[str]:
        """Ask the nodes that are new and hear those that have answered; does not wait. Returns
        lines for the user."""
        here = {node["NodeID"]: node for node in cluster.nodes()}
        for node in here.values():
            wanted = self._everybody or cluster.room_on(node, self._placement)
            known = node["NodeID"] in self.answers or node["NodeID"] in self.roster.unused
            if wanted and not known:
                self._ask(node)
        return [line for answer in self._ready() if (line := self._hear(answer, here))]

    def wait(self, check: Callable[[], None], seconds: float = ANSWER_SECONDS) -> list[str]:
        """As `look`, until all have answered, or so many seconds are over. `check`: asked all the
        time; may raise to end the waiting.

        Raises:
            ClusterLost: not one has answered.
        """
        said, deadline = self.look(), time.monotonic() + seconds
        while self._asked and time.monotonic() < deadline:
            check()
            said += self.look()
            time.sleep(0.1)
        silent = list(self.roster.asked.values())
        if silent and not self.answers:
            raise ClusterLost(
                f"{', '.join(silent)} did not answer within {seconds:g} seconds",
                where="the Ray cluster",
                hint="is it starting, overloaded or gone? See ray status, then run the same "
                "command again",
            )
        return said + [f"{name} has not answered yet; it is used once it has" for name in silent]

    def _ask(self, node: Mapping[str, Any]) -> None:
        import ray
        from ray import cloudpickle
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        cloudpickle.register_pickle_by_value(probe)  # type: ignore[no-untyped-call]
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(probe.answer).options(
            num_cpus=0, max_retries=0, scheduling_strategy=there
        )
        self._asked[task.remote(self._question)] = node, time.time()
        self.roster.asked[node["NodeID"]] = node["NodeManagerAddress"]

    def _ready(self) -> Iterable[Any]:
        import ray

        if not self._asked:
            return []
        return list(ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)[0])

    def _hear(self, answer: Any, here: Mapping[str, Any]) -> str:
        import ray
        from ray.exceptions import RayError, RayTaskError

        node, asked_at = self._asked.pop(answer)
        name, key = node["NodeManagerAddress"], node["NodeID"]
        self.roster.asked.pop(key, None)
        try:
            said = ray.get(answer)
        except RayTaskError as error:
            said, why = None, f"it cannot answer: {_last_line(error)}"
        except RayError as error:
            if key not in here:  # it has left
                return ""
            return self.roster.fault(key, name, f"it cannot answer: {_last_line(error)}")
        else:
            why = roster.why_unfit(
                self._question["needed"],
                said,
                gpus=self._placement.gpus_per_trial,
                data=self._data,
                asked_at=asked_at,
                heard_at=time.time(),
            )
        self.answers[key] = Answer(node, said, why)
        return self.roster.refuse(key, name, why) if why else ""


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def in_a_line(error: CkconvSweepError) -> str:
    """Without its hint, which is for the user of this node."""
    return str(error).partition("\n")[0]


def this_node() -> tuple[str, str]:
    """The id of the node of this process, and its name in messages."""
    import ray

    if not ray.is_initialized():
        return "", "this machine"
    return ray.get_runtime_context().get_node_id(), str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def named_in(said: str) -> tuple[str, str]:
    """The id and the name of the node that Ray names in an error; empty where it names none, or
    several nodes have that address."""
    found = re.search(r"\bip=([^,)\s]+)", said)
    if found is None:
        return "", ""
    here = [node for node in cluster.nodes() if node["NodeManagerAddress"] == found[1]]
    return (here[0]["NodeID"], here[0]["NodeManagerAddress"]) if len(here) == 1 else ("", "")


def without(unfit: Iterable[str]) -> dict[str, str]:
    """A label selector of Ray that keeps off some nodes, named by their ids."""
    ids = ",".join(sorted(unfit))
    return {"ray.io/node-id": f"!in({ids})"} if ids else {}


def forget_markers(folder: Path) -> None:
    """Delete the markers that a killed driver left in a sweep's folder."""
    for path in folder.glob(f"{MARKER}*"):
        with contextlib.suppress(OSError):
            path.unlink()
