"""The campaign of `benchmarks.chaos`, short."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.campaign import Campaign
from benchmarks.chaos.faults import FAULTS

pytestmark = pytest.mark.timeout(240)

IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""What a kill leaves is the same there, and nobody waits for a disk."""
SOME_OR_MANY = pytest.mark.parametrize("hits", [2, pytest.param(25, marks=pytest.mark.slow)])
ONE_OR_MORE = pytest.mark.parametrize("hits", [1, pytest.param(3, marks=pytest.mark.slow)])
"""With Ray a fault costs two starts of it."""
WITH_RAY = 3


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    with tempfile.TemporaryDirectory(prefix="ckconv-test-", dir=IN_MEMORY) as name:
        yield Campaign(Path(name), seed=2)


def check(campaign: Campaign, fault: str, hits: int) -> None:
    """So many faults that hit a running trial, and nothing lost, twice or trained more than once
    again."""
    tally = campaign.run(fault, hits)
    assert tally.sentences == []
    assert tally.hits >= hits
    assert tally.again <= tally.allowed


@SOME_OR_MANY
@pytest.mark.fault("driver-sigkill")
def test_a_sweep_whose_driver_is_killed_at_random_ends_as_if_it_had_not_been(
    hits: int, campaign: Campaign
) -> None:
    check(campaign, "driver-sigkill", hits)


@ONE_OR_MORE
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("driver-sigint", marks=[pytest.mark.slow, pytest.mark.fault("driver-sigint")]),
        pytest.param("driver-sigterm", marks=pytest.mark.fault("driver-sigterm")),
        pytest.param(
            "driver-sighup", marks=[pytest.mark.slow, pytest.mark.fault("driver-sigterm")]
        ),
        pytest.param("second-signal", marks=pytest.mark.fault("second-signal")),
        pytest.param("two-drivers", marks=pytest.mark.fault("two-drivers")),
        pytest.param("disk-full", marks=pytest.mark.fault("disk-full")),
        pytest.param("damaged-checkpoint", marks=pytest.mark.fault("damaged-checkpoint")),
    ],
)
def test_a_sweep_that_is_disturbed_at_random_ends_as_if_it_had_not_been(
    fault: str, hits: int, campaign: Campaign
) -> None:
    check(campaign, fault, hits)


@pytest.mark.ray
@ONE_OR_MORE
@pytest.mark.fault("driver-sigkill")
def test_with_ray_a_sweep_whose_driver_is_killed_ends_as_if_it_had_not_been(
    hits: int, campaign: Campaign
) -> None:
    check(campaign, "ray-driver-sigkill", hits)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.fault("worker-killed")
def test_with_ray_a_sweep_whose_workers_are_killed_ends_as_if_they_had_not_been(
    campaign: Campaign,
) -> None:
    check(campaign, "worker-killed", WITH_RAY)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.fault("node-lost")
def test_a_sweep_on_a_cluster_whose_nodes_are_killed_ends_as_if_they_had_not_been(
    campaign: Campaign,
) -> None:
    check(campaign, "node-killed", WITH_RAY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("tracking-down-midway", marks=pytest.mark.fault("tracking-down-midway")),
        pytest.param("tracking-hangs", marks=pytest.mark.fault("tracking-hangs")),
        pytest.param("tracking-reply-lost", marks=pytest.mark.fault("tracking-reply-lost")),
    ],
)
def test_a_sweep_whose_tracking_server_fails_at_random_ends_as_if_it_had_not(
    fault: str, campaign: Campaign
) -> None:
    check(campaign, fault, 4)


def test_every_fault_of_the_campaign_is_injected_in_a_test() -> None:
    tested = Path(__file__).read_text()
    assert [name for name in FAULTS if f'"{name}"' not in tested] == []
