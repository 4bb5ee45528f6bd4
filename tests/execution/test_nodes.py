"""A Ray of two nodes, of which one has another version of the code that trains."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sweep.in_process import make_space

import ckconv_sweep
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import ClusterLost, ResourcesMissing
from ckconv_sweep.execution import cluster, nodes
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.executor import RayExecutor
from ckconv_sweep.execution.nodes import Census
from ckconv_sweep.execution.protocol import Session
from ckconv_sweep.record import versions
from ckconv_sweep.record.events import Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.sweep.driver import run_sweep
from ckconv_sweep.sweep.interruption import Interrupted

from .test_tune import ledger

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

SPACE = make_space(trials=4, epochs=2)
LONG = 80


@pytest.fixture(scope="module")
def other_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of the second node; this process and the first one have the same code."""
    package = Path(ckconv_sweep.__file__).parent
    copy = shutil.copytree(package, tmp_path_factory.mktemp("other") / package.name)
    with (copy / "models" / "ckconv.py").open("a") as file:
        file.write("# another version\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        for name, value in cluster._QUIET.items():
            patch.setenv(name, value)
        import ray
        from ray.cluster_utils import Cluster

        size = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}
        made = Cluster(initialize_head=True, head_node_args=size | {"include_dashboard": False})
        try:
            where = os.pathsep.join([str(copy.parent), *filter(None, sys.path)])
            second = made.add_node(**size, env_vars={"PYTHONPATH": where})
            patch.chdir(copy.parent.parent)  # Ray's workers import from the driver's folder first
            ray.init(address=made.address, log_to_driver=False)
            yield second.node_id
        finally:
            ray.shutdown()
            made.shutdown()
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")  # Ray keeps the mode of its tokens for the files after this one


@dataclass
class Heard(Listener):
    said: list[str] = field(default_factory=list)

    def say(self, message: str) -> None:
        self.said.append(message)


def asked(folder: Path, **changes: Any) -> Census:
    """The nodes, once they have answered a driver that needs what `changes` says."""
    data = load(SPACE.trial.data).identity
    session = Session(folder=folder, files=folder, trial=SPACE.trial, data_dir=None, data=data)
    census = Census(Placement(address="here"), replace(session, **changes))
    try:
        census.wait(lambda: None)
    finally:
        census.end()
    assert list(folder.iterdir()) == []
    return census


@pytest.mark.fault("node-unfit")
def test_a_driver_finds_the_nodes_with_other_code_and_those_with_other_data(
    other_node: str, tmp_path: Path
) -> None:
    found = asked(tmp_path).roster.unfit
    assert list(found) == [other_node]
    code = versions.of_worker()["code"][:8]
    assert re.search(rf": code [0-9a-f]{{8}}; here {code}$", found[other_node])
    assert cluster.processes(Placement(), found) == 1
    data = load(SPACE.trial.data).identity
    other = data | {"digest": "0" * 32}
    found = asked(tmp_path, data=other).roster.unfit
    assert len(found) == 2
    with pytest.raises(ResourcesMissing, match="no node is left") as refused:
        cluster.check_room(Placement(), found)
    assert f"digest {other['digest']}, now {data['digest']}" in str(refused.value)


@pytest.mark.usefixtures("other_node")
def test_a_node_that_does_not_see_the_sweeps_folder_or_cannot_write_there_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.Census, "marker", str(tmp_path / "not" / "there"))
    (why, *_) = [w for w in asked(tmp_path).roster.unfit.values() if "code" not in w]
    assert f"it does not see {tmp_path}/not, which all nodes must share" in why
    monkeypatch.setattr(nodes.Census, "marker", "/proc/version")
    (why, *_) = [w for w in asked(tmp_path).roster.unfit.values() if "code" not in w]
    assert "it cannot write to /proc: " in why


@pytest.mark.fault("cluster-lost")
@pytest.mark.usefixtures("other_node")
def test_nodes_that_do_not_answer_are_one_message_and_a_signal_is_heard_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Census, "_ready", lambda self: [])
    census = Census(Placement(), None)
    with pytest.raises(ClusterLost) as lost:
        census.wait(lambda: None, seconds=0.0)
    assert lost.value.exit_code == 75
    assert "did not answer within 0 seconds" in str(lost.value)
    assert "run the same command again" in str(lost.value)

    def interrupted() -> None:
        raise Interrupted(signal.SIGINT)

    with pytest.raises(Interrupted):
        census.wait(interrupted)


@pytest.mark.slow
@pytest.mark.fault("node-unfit")
def test_trials_that_a_node_refuses_are_trained_on_another_and_it_is_named_once(
    other_node: str, tmp_path: Path
) -> None:
    """Nobody has asked the nodes before, as if this one had joined later. A trial lasts longer than
    a worker takes to start there."""
    heard, folder = Heard(), SweepFolder.of(tmp_path, "sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connected", lambda *_: contextlib.nullcontext())
        session = run_sweep(
            folder,
            make_space(trials=4, epochs=LONG),
            RayExecutor(Placement()),
            tracking_uri="http://127.0.0.1:1",
            data_dir=None,
            listeners=(heard,),
        )
    assert "trials at a time: 2" in heard.said
    assert sum(line.startswith("this node is not used: ") for line in heard.said) == 1
    assert [(r.outcome, len(r.history)) for r in session.records] == [("completed", LONG)] * 4
    for number in range(4):
        assert [line["epoch"] for line in ledger(folder, number)] == list(range(1, LONG + 1))
