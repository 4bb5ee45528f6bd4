"""Places come and go while sweeps run, and nodes break while they train."""

from __future__ import annotations

import pytest

from .conftest import SPACE, Cluster, ended, wait_for

LONG = ("--set", "training.epochs=60")
TRIALS = SPACE.count("trials: 6") * 6


def test_a_second_driver_says_that_it_waits_and_starts_no_trial_until_there_is_room(
    cluster: Cluster,
) -> None:
    first = cluster.launch("first", *LONG)
    wait_for("t000 started", first)
    second = cluster.launch("second", "--trials", "2")
    said = wait_for("waiting for room: ", second)
    assert said.endswith("waiting for room: the cluster's 1 CPUs are taken\n")
    assert " started" not in said
    assert cluster.status("second")["unfinished"] == 0
    done = ended(first)
    assert done.code == 0, done.complaint
    done = ended(second)
    assert done.code == 0, done.out + done.complaint
    assert "there is room again; processes that train: 1\n" in done.out
    assert cluster.status("second")["completed"] == 2


@pytest.mark.fault("node-fault")
@pytest.mark.fault("node-unfit")
def test_a_node_that_breaks_is_left_alone_and_one_that_joins_without_the_folder_is_not_used(
    cluster: Cluster,
) -> None:
    other = cluster.add()
    sweep = cluster.launch("small", *LONG)
    wait_for("t001 epoch 2/", sweep)
    other.run("mount", "--bind", cluster.folder, cluster.folder)
    other.run("mount", "-o", "remount,ro,bind", cluster.folder)
    blind = cluster.add(f"mount -t tmpfs none {cluster.folder}")
    done = ended(sweep)
    assert done.code == 0, done.out + done.complaint
    assert f"{other.address} is left alone after 3 faults, at last: " in done.out
    assert f"this node is not used: {blind.address}: it does not see " in done.out
    status = cluster.status("small")
    assert (status["completed"], status["failed"]) == (TRIALS, 0)


def test_a_shipped_package_is_that_of_the_driver_and_a_node_without_one_is_used(
    cluster: Cluster,
) -> None:
    empty = cluster.folder.parent / "empty"
    empty.mkdir()
    (empty / "ckconv_sweep.py").write_text("raise ModuleNotFoundError('not here')\n")
    path = f"{empty}:{cluster.environment()['PYTHONPATH']}"
    cluster.add(PYTHONPATH=path)
    done = ended(cluster.launch("small", "--ship"))
    assert done.code == 0, done.out + done.complaint
    assert "trials at a time: 2\n" in done.out
    assert cluster.status("small")["completed"] == TRIALS


@pytest.mark.fault("ray-token")
def test_a_node_with_another_token_does_not_join(cluster: Cluster) -> None:
    with pytest.raises(RuntimeError, match="oken"):
        cluster.add(RAY_AUTH_TOKEN="0" * 64)


def test_auto_lists_several_clusters_and_takes_none(cluster: Cluster) -> None:
    head = cluster.head
    second = head.start(
        *("ray", "start", "--head", "--port=6380", "--include-dashboard=false", "--num-cpus=1"),
        *(f"--node-ip-address={head.address}", "--object-store-memory=80000000", "--block"),
        *("--disable-usage-stats", f"--temp-dir={head.folder}/second"),
        log=head.folder / "second.log",
    )
    while "block forever" not in (head.folder / "second.log").read_text():
        assert second.poll() is None
    done = ended(cluster.launch("small"))
    assert done.code == 2
    assert f"`auto` may mean 2 Ray clusters here: {cluster.address}, {head.address}:6380" in (
        done.complaint
    )
