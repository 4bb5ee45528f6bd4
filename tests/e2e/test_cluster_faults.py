"""Ray clusters of real processes on loopback: their nodes and their head die, and their doors are
open or closed."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ckconv_sweep
from benchmarks.chaos.nodes import BIN, Nodes, in_new_folder, session_of
from benchmarks.chaos.state import trained_again

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

EPOCHS = 30
BEGINS = "reading the data and joining the Ray cluster\n"
"""What a launch without a terminal says before anything else."""
SPACE = f"""
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 4, blocks: 1, kernel: {{hidden_channels: 8}}}}
  training: {{epochs: {EPOCHS}}}
search:
  model.dropout: {{low: 0.0, high: 0.3}}
sampler: {{name: random}}
budget: {{trials: 2}}
"""


class Cluster(Nodes):
    """With the commands of its user, whose space is `small.yaml`."""

    def ckconv_sweep(self, *args: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BIN / "ckconv-sweep", *args],
            cwd=self.folder,
            env=self.environment() | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def launched(self, *more: str) -> subprocess.Popen[str]:
        return self.ckconv_sweep("launch", "small.yaml", "--address", self.address, *more)

    def ended(self, *args: str, **more: str) -> tuple[int, str, str]:
        """The exit code of a command, and what it said on both ways."""
        process = self.ckconv_sweep(*args, **more)
        try:
            out, complaint = process.communicate(timeout=120)
        finally:
            process.kill()
        return process.returncode, out, complaint

    def status(self) -> dict[str, object]:
        code, out, complaint = self.ended("status", "small", "--json")
        assert code == 0, complaint
        return dict(json.loads(out))

    def ledger(self, trial: int) -> Path:
        return self.folder / "sweeps" / "small" / "trials" / f"{trial:04d}" / "ledger.jsonl"

    def has_begun(self, trial: int) -> bool:
        return self.ledger(trial).exists()

    def lines(self, trial: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ledger(trial).read_text().splitlines()]

    def executed(self, trial: int) -> list[tuple[int, int]]:
        """(process, epoch) for every epoch that was trained."""
        return [(line["pid"], line["epoch"]) for line in self.lines(trial)]


@contextlib.contextmanager
def with_a_space() -> Iterator[Path]:
    with in_new_folder() as made:
        (made / "small.yaml").write_text(SPACE)
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with with_a_space() as made:
        yield made


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    """One node of one CPU, which asks for a token."""
    made = Cluster(folder, secrets.token_hex(32))
    try:
        made.add()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def closed_cluster() -> Iterator[Cluster]:
    """As `cluster`, for those who do not get in or may not train: its node has a GPU that PyTorch
    does not see."""
    with with_a_space() as folder:
        made = Cluster(folder, secrets.token_hex(32))
        try:
            made.add(gpus=1)
            yield made
        finally:
            made.stop()


@pytest.fixture
def open_cluster(folder: Path) -> Iterator[Cluster]:
    made = Cluster(folder, None)
    try:
        made.add()
        yield made
    finally:
        made.stop()


def wait_for(text: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"it ended too early: {process.communicate()[1]}")


def one_message(complaint: str) -> str:
    assert "Traceback" not in complaint
    assert complaint.count("error: ") == 1, complaint
    return complaint


@pytest.mark.fault("node-lost")
def test_the_trial_of_a_lost_node_goes_on_from_its_checkpoint_on_another(cluster: Cluster) -> None:
    other, epochs = cluster.add(), 100  # long enough that both trials run at a time
    sweep = cluster.launched("--set", f"training.epochs={epochs}")
    try:
        wait_for("t000 epoch 1/", sweep)
        deadline = time.monotonic() + 60
        while not cluster.has_begun(1) and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = {trial: cluster.executed(trial)[-1][0] for trial in (0, 1)}
        on_other = session_of(other.pid)
        (moved,) = (trial for trial, pid in workers.items() if pid in on_other)
        cluster.kill(other, "raylet")
        out, complaint = sweep.communicate(timeout=120)
    finally:
        sweep.kill()
    assert (sweep.returncode, complaint) == (0, BEGINS)
    status = cluster.status()
    assert (status["state"], status["completed"], status["failed"]) == ("finished", 2, 0)
    runs = cluster.executed(moved)
    assert len({pid for pid, _ in runs}) == 2
    assert {epoch for _, epoch in runs} == set(range(1, epochs + 1))
    assert trained_again(cluster.lines(moved)) <= 1
    assert out.count(f"t{moved:03d} epoch 1/") <= 1
    assert [epoch for _, epoch in cluster.executed(1 - moved)] == list(range(1, epochs + 1))


@pytest.mark.fault("cluster-lost")
def test_a_sweep_whose_cluster_is_lost_ends_with_one_message_and_goes_on_elsewhere(
    cluster: Cluster,
) -> None:
    sweep = cluster.launched()
    try:
        wait_for(" epoch 3/", sweep)
        cluster.kill(cluster.nodes[0], "gcs_server")
        killed = time.monotonic()
        out, complaint = sweep.communicate(timeout=60)
    finally:
        sweep.kill()
    assert sweep.returncode == 75, out + complaint
    assert time.monotonic() - killed < 30
    said = one_message(complaint)
    assert "does not answer any more; every ended trial and recorded epoch is kept" in said
    assert "ckconv-sweep resume small" in said
    status = cluster.status()
    assert (status["state"], status["failed"], status["unfinished"]) == ("interrupted", 0, 1)

    before = len(cluster.executed(0))
    elsewhere = ("--address", "local")
    code, out, complaint = cluster.ended("resume", "small", *elsewhere, RAY_AUTH_TOKEN="")
    assert code == 0, complaint
    assert "t000 started again after epoch " in out
    assert cluster.status()["completed"] == 2
    assert before >= 3
    for trial in (0, 1):
        assert {epoch for _, epoch in cluster.executed(trial)} == set(range(1, EPOCHS + 1))
        assert trained_again(cluster.lines(trial)) <= 1


@pytest.fixture
def other_code(folder: Path) -> dict[str, str]:
    """The environment of a node that has another version of the code that trains."""
    package = Path(ckconv_sweep.__file__).parent
    copy = shutil.copytree(package, folder / "other" / package.name)
    with (copy / "models" / "ckconv.py").open("a") as file:
        file.write("# another version\n")
    return {"PYTHONPATH": str(copy.parent)}


@pytest.mark.fault("node-unfit")
def test_a_node_with_another_version_of_the_code_trains_nothing_and_is_named(
    cluster: Cluster, other_code: dict[str, str]
) -> None:
    other = cluster.add(**other_code)
    sweep = cluster.launched("--set", "training.epochs=3")
    try:
        out, complaint = sweep.communicate(timeout=120)
        on_other = session_of(other.pid)
    finally:
        sweep.kill()
    assert (sweep.returncode, complaint) == (0, BEGINS), out
    assert out.count("this node is not used: ") == 1
    assert ": code " in out
    assert "trials at a time: 1" in out
    assert cluster.status()["completed"] == 2
    for trial in (0, 1):
        assert [epoch for _, epoch in cluster.executed(trial)] == [1, 2, 3]
        assert not {pid for pid, _ in cluster.executed(trial)} & on_other.keys()


@pytest.mark.fault("gpu-not-there")
def test_a_gpu_that_pytorch_does_not_see_is_refused_before_anything_is_trained(
    closed_cluster: Cluster,
) -> None:
    address = ("--address", closed_cluster.address)
    code, out, complaint = closed_cluster.ended(
        "launch", "small.yaml", *address, "--gpus-per-trial", "1"
    )
    assert (code, out) == (2, "")
    said = one_message(complaint)
    assert "no node is left that may train these trials" in said
    assert "a trial gets 1 GPUs, and PyTorch sees no GPU here" in said
    assert not (closed_cluster.folder / "sweeps").exists()


@pytest.mark.fault("open-cluster")
def test_a_cluster_that_lets_everybody_in_is_refused_unless_one_insists(
    open_cluster: Cluster,
) -> None:
    command = ("launch", "small.yaml", "--address", open_cluster.address, "--trials", "1")
    code, out, complaint = open_cluster.ended(*command)
    assert (code, out) == (2, "")
    said = one_message(complaint)
    assert f"the Ray cluster at {open_cluster.address} has no authentication" in said
    assert "--insecure-cluster" in said
    assert not (open_cluster.folder / "sweeps").exists()
    changed = ("--insecure-cluster", "--set", "training.epochs=1")
    code, out, complaint = open_cluster.ended(*command, *changed)
    assert (code, complaint) == (0, BEGINS), out
    assert open_cluster.status()["completed"] == 1


@pytest.mark.fault("ray-token")
@pytest.mark.parametrize(
    ("token", "why"), [("", "and none is here"), ("0" * 64, "and refuses the one that is here")]
)
def test_a_cluster_that_asks_for_a_token_is_not_joined_without_it(
    closed_cluster: Cluster, token: str, why: str
) -> None:
    command = ("launch", "small.yaml", "--address", closed_cluster.address, "--insecure-cluster")
    code, out, complaint = closed_cluster.ended(*command, RAY_AUTH_TOKEN=token)
    assert (code, out) == (2, "")
    assert f"asks for a token, {why}" in one_message(complaint)
