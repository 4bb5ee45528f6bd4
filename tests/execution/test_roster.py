"""Which nodes may train, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from ckconv_sweep.execution.places import PATIENCE_SECONDS, Waiting
from ckconv_sweep.execution.roster import CLOCK_SECONDS, MOST_FAULTS, Roster, why_unfit

NEEDED = {"ckconv-sweep": "0.2.0", "python": "3.11", "torch": "2.13.0", "code": "c3d4e5f6a7b8c9d0"}
DATA = {"digest": "d" * 32, "training sequences": 40}
NOW = 1_000_000.0


def why(gpus: float = 0.0, versions: dict[str, str] | None = None, **said: Any) -> str:
    """Why a node may not train that answers as needed but for `said`, two seconds after `NOW`."""
    answer = {"versions": NEEDED | (versions or {}), "error": "", "gpus": 0, "data": DATA}
    answer |= {"clock": NOW + 1} | said
    return why_unfit(NEEDED, answer, gpus=gpus, data=DATA, asked_at=NOW, heard_at=NOW + 2)


@pytest.mark.fault("node-unfit")
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ""),
        (
            {"versions": {"ckconv-sweep": "0.9.9", "code": "a1b2c3d4e5f6a7b8"}},
            "ckconv-sweep 0.9.9, code a1b2c3d4; here 0.2.0, c3d4e5f6",
        ),
        ({"versions": {"torch": "2.9.0"}}, "torch 2.9.0; here 2.13.0"),
        (
            {"versions": {"ckconv-sweep": "none", "code": "none"}, "error": "it is not installed"},
            "it is not installed",
        ),
        ({"error": "it does not see /s"}, "it does not see /s"),
        ({"gpus": 1.0}, "a trial gets 1 GPUs, and PyTorch sees no GPU here"),
        (
            {"data": DATA | {"training sequences": 39, "digest": "e" * 32}},
            f"it has other data: training sequences: 40, now 39; digest {'d' * 32}, now {'e' * 32}",
        ),
        ({"clock": NOW - CLOCK_SECONDS}, ""),
        ({"clock": NOW - 60}, "its clock is 60 seconds slow"),
        ({"clock": NOW + 62}, "its clock is 60 seconds fast"),
    ],
)
def test_a_node_is_told_by_what_differs(said: dict[str, Any], expected: str) -> None:
    gpus = said.pop("gpus", 0.0)
    assert why(gpus, **said) == expected


@pytest.mark.fault("node-fault")
def test_a_node_is_left_alone_after_three_faults_without_an_epoch_in_between() -> None:
    roster = Roster()
    for _ in range(MOST_FAULTS - 1):
        line = roster.fault("id", "10.0.0.4", "no disk")
        assert line == "10.0.0.4 could not train, and its trials are handed out again: no disk"
    roster.works("id")
    for _ in range(MOST_FAULTS - 1):
        roster.fault("id", "10.0.0.4", "no disk")
        assert roster.unfit == {}
    line = roster.fault("id", "10.0.0.4", "no disk")
    assert line == "10.0.0.4 is left alone after 3 faults, at last: no disk"
    assert roster.unfit == {"id": "10.0.0.4: no disk"}
    assert roster.fault("id", "10.0.0.4", "no disk") == ""


def test_a_node_that_differs_is_named_once() -> None:
    roster = Roster()
    assert roster.refuse("id", "10.0.0.4", "old") == "this node is not used: 10.0.0.4: old"
    assert roster.refuse("id", "10.0.0.4", "old") == ""
    roster.asked["other"] = "10.0.0.5"
    assert roster.unused == ["id", "other"]


def test_waiting_for_room_is_said_once_after_a_while_and_so_is_its_end() -> None:
    now = [100.0]
    waiting = Waiting(clock=lambda: now[0])
    assert waiting.heard(1, 0, "5 CPUs", "0") == ""
    now[0] += PATIENCE_SECONDS
    said = waiting.heard(1, 0, "5 CPUs", "0")
    assert said == "waiting for room: the cluster's 5 CPUs are taken"
    assert waiting.heard(1, 0, "5 CPUs", "0") == ""
    assert waiting.heard(0, 1, "5 CPUs", "1") == "there is room again; processes that train: 1"
    assert waiting.heard(1, 2, "5 CPUs", "2") == ""
    now[0] += PATIENCE_SECONDS
    assert waiting.heard(1, 2, "5 CPUs", "2").endswith("are taken, 2 of them by this sweep")
    waiting = Waiting(clock=lambda: now[0])
    waiting.heard(1, 0, "", "0")
    now[0] += PATIENCE_SECONDS
    assert "no node is there that has what a trial needs" in waiting.heard(1, 0, "", "0")
