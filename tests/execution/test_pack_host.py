"""The process that holds packs, called as relays call it, without Ray."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny import in_hex, make_task, make_trial, run

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.execution import pack_host
from ckconv_sweep.execution.pack_host import PackHost
from ckconv_sweep.record import lease, versions
from ckconv_sweep.training import checkpoint, pack

ENDLESS = 100_000
"""Epochs."""


def trial(seed: int, epochs: int = 3, **blocks: Any) -> Trial:
    return make_trial(training={"seed": seed, "epochs": epochs}, **blocks)


def alone(asked: Trial) -> list[dict[str, str]]:
    return in_hex(run(asked)[1])


class Relay:
    """Brings one trial to a host and takes what is said of it."""

    def __init__(
        self, host: PackHost, asked: Trial, folder: Path, attempt: str = "1:1", data: Any = None
    ) -> None:
        self.host, self.folder = host, folder
        self.ticket = host.join(asked.model_dump_json(), str(folder), attempt, data)
        self.epochs: list[Epoch] = []
        self._said = self._all_said()

    def _all_said(self) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + 120.0
        while time.monotonic() < deadline:
            for said in map(json.loads, self.host.said(self.ticket, within_seconds=0.5)):
                # One that is read from a checkpoint tells its epochs again, as a worker does.
                if "epoch" in said and said["epoch"]["number"] == len(self.epochs) + 1:
                    self.epochs.append(Epoch(**said["epoch"]))
                yield said
        pytest.fail("nothing is said of this trial any more")

    def next_epoch(self) -> None:
        assert "epoch" in next(self._said)

    def to_its_end(self) -> dict[str, Any]:
        """The last that is said of it."""
        said = next(said for said in self._said if "epoch" not in said)
        self.host.leave(self.ticket)
        return said


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackHost]:
    monkeypatch.setattr(pack_host, "task_of", lambda data, data_dir: make_task())
    host = PackHost(0.0, None, versions.of_worker(), allow_data_change=False)
    yield host
    for ticket in list(host._seats):
        host.leave(ticket)


def test_trials_of_two_shapes_have_the_curves_that_they_have_alone(
    host: PackHost, tmp_path: Path
) -> None:
    asked = [trial(1), trial(2), trial(3, model={"hidden_channels": 4})]
    relays = [Relay(host, one, tmp_path / str(i)) for i, one in enumerate(asked)]
    assert [relay.to_its_end() for relay in relays] == [{"ended": True}] * 3
    for relay, one in zip(relays, asked, strict=True):
        assert in_hex(relay.epochs) == alone(one)
        assert checkpoint.best(relay.folder) is not None
        assert (relay.folder / "lease").read_text().startswith("1:1:")


def test_packs_go_on_side_by_side_a_short_epoch_does_not_wait_for_a_long_one(
    host: PackHost, tmp_path: Path
) -> None:
    slow = make_trial(training={"batch_size": 1, "epochs": ENDLESS})  # 22 steps an epoch
    quick = make_trial(training={"batch_size": 22, "epochs": 20})  # one step an epoch
    other, one = Relay(host, slow, tmp_path / "0"), Relay(host, quick, tmp_path / "1")
    assert one.to_its_end() == {"ended": True}
    assert in_hex(one.epochs) == alone(quick)
    first, last = one.epochs[0].timestamp_ms, one.epochs[-1].timestamp_ms
    other.next_epoch()
    while other.epochs[-1].timestamp_ms <= last:
        other.next_epoch()
    # Of 40 rounds, one for each step and one more an epoch; an epoch each in turn would be 19.
    assert sum(first <= epoch.timestamp_ms <= last for epoch in other.epochs) <= 2
    expected = run(
        slow.model_copy(update={"training": slow.training.model_copy(update={"epochs": 1})})
    )
    assert in_hex(other.epochs[:1]) == in_hex(expected[1])


def test_a_trial_that_leaves_keeps_the_epochs_that_were_said_and_disturbs_nobody(
    host: PackHost, tmp_path: Path
) -> None:
    stays, leaves = trial(1, 20), trial(2, ENDLESS)
    one, other = Relay(host, stays, tmp_path / "0"), Relay(host, leaves, tmp_path / "1")
    other.next_epoch()
    host.leave(other.ticket)
    assert one.to_its_end() == {"ended": True}
    assert in_hex(one.epochs) == alone(stays)
    ledger = (tmp_path / "1" / "ledger.jsonl").read_text().splitlines()
    assert 1 <= len(ledger) < ENDLESS
    assert checkpoint.checkpoints(tmp_path / "1")[-1][0] == len(ledger)
    assert other.ticket not in host._seats


def test_a_trial_that_is_brought_again_goes_on_after_its_last_epoch(
    host: PackHost, tmp_path: Path
) -> None:
    asked = trial(1, 20)
    first = Relay(host, asked, tmp_path / "0")
    first.next_epoch()
    again = Relay(host, asked, tmp_path / "0")  # the first relay died without a word
    assert again.to_its_end() == {"ended": True}
    assert in_hex(again.epochs) == alone(asked)
    ledger = (tmp_path / "0" / "ledger.jsonl").read_text().splitlines()
    assert len(ledger) - 20 <= 1
    assert first.ticket not in host._seats


def test_a_trial_that_diverges_fails_alone(host: PackHost, tmp_path: Path) -> None:
    wild, tame = trial(1, optimizer={"name": "adam", "learning_rate": 1e30}), trial(2)
    relays = [Relay(host, wild, tmp_path / "0"), Relay(host, tame, tmp_path / "1")]
    failed = relays[0].to_its_end()
    assert failed["reason"] == "nonfinite"
    assert relays[1].to_its_end() == {"ended": True}
    assert in_hex(relays[1].epochs) == alone(tame)


def test_nothing_is_written_of_a_trial_that_was_stopped(host: PackHost, tmp_path: Path) -> None:
    relay = Relay(host, trial(1, ENDLESS), tmp_path / "0")
    relay.next_epoch()
    lease.revoke(tmp_path / "0")
    written = len((tmp_path / "0" / "ledger.jsonl").read_text().splitlines())
    assert "handed out again" in relay.to_its_end()["error"]
    now = len((tmp_path / "0" / "ledger.jsonl").read_text().splitlines())
    assert now - written <= 1  # the one that was being written


def test_a_trial_without_room_waits_until_another_has_left(
    host: PackHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, waited = pack.Pack.step, list[int]()
    turned_away: list[pack.Member] = []

    def for_one(self: pack.Pack) -> Any:
        if not self.running:
            turned_away[:] = self.members[1:]
            for member in turned_away:
                self.leave(member)
            waited.append(len(turned_away))
        outcomes = step(self)
        waits = {member: pack.Waits("no room") for member in turned_away}
        return None if outcomes is None else outcomes | waits

    monkeypatch.setattr(pack.Pack, "step", for_one)
    asked = [trial(seed) for seed in (1, 2, 3)]
    relays = [Relay(host, one, tmp_path / str(i)) for i, one in enumerate(asked)]
    assert [relay.to_its_end() for relay in relays] == [{"ended": True}] * 3
    assert [in_hex(relay.epochs) for relay in relays] == list(map(alone, asked))
    assert 1 <= sum(waited) <= 4  # not asked again at every epoch


def test_where_not_even_one_trial_has_room_each_fails(
    host: PackHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pack, "train_epoch", full)
    relays = [Relay(host, trial(seed), tmp_path / str(seed)) for seed in (1, 2)]
    for relay in relays:
        failed = relay.to_its_end()
        assert failed["reason"] == "out_of_memory"
        assert "2.00 GiB" in failed["error"]


def test_when_a_pack_breaks_each_of_its_trials_goes_on_or_fails_alone(
    host: PackHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_epoch = pack.train_epoch

    def broken(model: Any, members: Any, *args: Any) -> Any:
        if any(member.trial.training.seed == 2 for member in members):
            raise ValueError("nobody foresaw this")
        return train_epoch(model, members, *args)

    monkeypatch.setattr(pack, "train_epoch", broken)
    asked = [trial(seed, 10) for seed in (1, 2, 3)]
    relays = [Relay(host, one, tmp_path / str(i)) for i, one in enumerate(asked)]
    first, failed, last = [relay.to_its_end() for relay in relays]
    assert first == last == {"ended": True}
    assert failed["reason"] == "error"
    assert failed["error"].endswith("ValueError: nobody foresaw this\n")
    for i in (0, 2):
        assert in_hex(relays[i].epochs) == alone(asked[i])


def test_a_trial_whose_relay_has_died_leaves_by_itself(
    host: PackHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_host, "SILENT_SECONDS", 1.0)
    relay = Relay(host, trial(1, ENDLESS), tmp_path / "0")
    relay.next_epoch()
    deadline = time.monotonic() + 60.0
    while relay.ticket in host._seats and time.monotonic() < deadline:
        time.sleep(0.2)
    assert host._seats == {}
