"""What a cluster has room for, and what is said where it has not. One local Ray for the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ckconv_sweep.errors import ConfigError, ResourcesMissing
from ckconv_sweep.sweep import cluster
from ckconv_sweep.sweep.cluster import Placement

from .mlflow_real import free_port

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def test_an_address_where_no_ray_answers_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError) as refused, cluster.connected(Placement(address=address)):
        pass
    assert address in str(refused.value)
    assert refused.value.where == "--address"


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1:no", "127.0.0.1:70000", "[::1]:1", ":1"]
)
def test_an_address_that_is_none_is_refused_too(address: str) -> None:
    with pytest.raises(ConfigError) as refused, cluster.connected(Placement(address=address)):
        pass
    assert refused.value.where == "--address"
    assert address in str(refused.value)


@pytest.fixture
def last_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `ray start` would note its cluster; no other cluster of this machine is seen."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray" / "ray_current_cluster"


def refused_auto() -> ConfigError:
    with pytest.raises(ConfigError) as refused, cluster.connected(Placement(address="auto")):
        pass
    assert refused.value.where == "--address"
    return refused.value


def test_auto_where_no_cluster_was_ever_started_is_refused(last_started: Path) -> None:
    assert not last_started.exists()
    assert "no Ray cluster answers at auto" in refused_auto().message


def test_auto_does_not_wait_for_a_cluster_that_has_ended(last_started: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    last_started.write_text(address)
    assert f"{address}, which `auto` means here" in refused_auto().message


def test_auto_follows_the_environment_and_says_where_it_led(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert f"{address}, which `auto` means here" in refused_auto().message


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        (Placement(), 2),
        (Placement(cpus_per_trial=2.0), 1),
        (Placement(cpus_per_trial=0.5), 4),
        (Placement(cpus_per_trial=0.1), 20),
        (Placement(concurrency=1), 1),
        (Placement(concurrency=9), 2),
    ],
)
def test_as_many_trials_run_as_there_is_room_for_and_no_more_than_asked(
    placement: Placement, expected: int
) -> None:
    assert cluster.concurrency(placement) == expected


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(
    ("placement", "option", "asked"),
    [
        (Placement(gpus_per_trial=1.0), "--gpus-per-trial", "1 CPUs and 1 GPUs"),
        (Placement(gpus_per_trial=0.25), "--gpus-per-trial", "1 CPUs and 0.25 GPUs"),
        (Placement(cpus_per_trial=3.0), "--cpus-per-trial", "3 CPUs and 0 GPUs"),
    ],
)
def test_what_no_node_has_is_refused_with_what_the_cluster_has(
    placement: Placement, option: str, asked: str
) -> None:
    with pytest.raises(ResourcesMissing) as refused:
        cluster.concurrency(placement)
    assert refused.value.where == option
    assert asked in refused.value.message
    assert refused.value.hint == "the cluster has 1 node: 2 CPUs and 0 GPUs"


@pytest.mark.usefixtures("two_cpus")
def test_every_node_of_this_machine_sees_its_folders_and_no_probe_stays(tmp_path: Path) -> None:
    cluster.check_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("placement", "where"),
    [
        (Placement(address="ray://head:10001"), "--address"),
        (Placement(gpus_per_trial=1.5), "--gpus-per-trial"),
    ],
)
def test_a_placement_that_no_cluster_could_give_is_refused_before_any_is_asked(
    placement: Placement, where: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        placement.check()
    assert refused.value.where == where


def test_gpus_may_be_shared_or_whole() -> None:
    for gpus in (0.0, 0.25, 1.0, 2.0):
        Placement(gpus_per_trial=gpus).check()
