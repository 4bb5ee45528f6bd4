"""The process that trains, spoken to as the driver does, without Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny import in_hex, make_task, make_trial, run

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.execution import seat
from ckconv_sweep.execution.seat import Seat
from ckconv_sweep.record import lease, versions
from ckconv_sweep.training import checkpoint, pack

ENDLESS = 100_000
"""Epochs."""


def trial(seed: int, epochs: int = 3, **blocks: Any) -> Trial:
    return make_trial(training={"seed": seed, "epochs": epochs}, **blocks)


def alone(asked: Trial) -> list[dict[str, str]]:
    return in_hex(run(asked)[1])


class Driver:
    """Brings trials to a seat, and takes what is said of each."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.said: dict[str, list[dict[str, Any]]] = {"": []}

    def listen(self) -> None:
        for one in self.seat.said():
            self.said[one.get("attempt", "")].append(one)


class Brought:
    """One trial that was brought to a seat."""

    def __init__(
        self,
        driver: Driver,
        asked: Trial,
        folder: Path,
        attempt: str | None = None,
        data: Any = None,
        recorded: Sequence[Epoch] = (),
        **begin: Any,
    ) -> None:
        self.driver, self.folder = driver, folder
        self.attempt = attempt or f"1:{len(driver.said)}"
        driver.said[self.attempt] = []
        new = {
            "attempt": self.attempt,
            "trial": asked.model_dump_json(),
            "folder": str(folder),
            "data": data,
            "recorded": [asdict(epoch) for epoch in recorded],
            **begin,
        }
        driver.seat.take({"new": [new], "gone": []})
        self.epochs: list[Epoch] = []

    def next(self) -> dict[str, Any]:
        deadline = time.monotonic() + 120.0
        while not self.driver.said[self.attempt]:
            if time.monotonic() > deadline:
                pytest.fail("nothing is said of this trial any more")
            self.driver.listen()
        said = self.driver.said[self.attempt].pop(0)
        # One that is read from a checkpoint tells its epochs again.
        if "epoch" in said and said["epoch"]["number"] == len(self.epochs) + 1:
            self.epochs.append(Epoch(**said["epoch"]))
        return {key: value for key, value in said.items() if key != "attempt"}

    def next_epoch(self) -> None:
        assert "epoch" in self.next()

    def to_its_end(self) -> dict[str, Any]:
        """The last that is said of it."""
        while "epoch" in (said := self.next()):
            pass
        return said

    def leave(self) -> None:
        self.driver.seat.take({"new": [], "gone": [self.attempt]})

    def is_gone(self) -> bool:
        deadline = time.monotonic() + 60.0
        while self.attempt in self.driver.seat._places and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.attempt not in self.driver.seat._places


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setattr(seat, "task_of", lambda data, data_dir: make_task())
    made = Seat(3, 0.0, None, versions.of_worker(), allow_data_change=False)
    yield Driver(made)
    made.take({"new": [], "gone": list(made._places)})


def test_trials_of_two_shapes_have_the_curves_that_they_have_alone(
    driver: Driver, tmp_path: Path
) -> None:
    asked = [trial(1), trial(2), trial(3, model={"hidden_channels": 4})]
    brought = [Brought(driver, one, tmp_path / str(i)) for i, one in enumerate(asked)]
    assert [one_trial.to_its_end() for one_trial in brought] == [{"ended": True}] * 3
    for one_trial, one in zip(brought, asked, strict=True):
        assert in_hex(one_trial.epochs) == alone(one)
        assert checkpoint.best(one_trial.folder) is not None
        assert (one_trial.folder / "lease").read_text().startswith(f"{one_trial.attempt}:")


def test_a_continuation_begins_with_the_checkpoint_of_another_trial_and_tells_its_own_epochs(
    driver: Driver, tmp_path: Path
) -> None:
    first = Brought(driver, trial(1), tmp_path / "a", kept_epochs=2)
    assert first.to_its_end() == {"ended": True}
    checkpoint.forget(tmp_path / "a", 2)
    ((epoch, path),) = checkpoint.checkpoints(tmp_path / "a")
    source = {"path": str(path), "epoch": epoch}
    second = Brought(driver, trial(1, epochs=5), tmp_path / "b", source=source, kept_epochs=2)
    said = [second.next()["epoch"] for _ in range(3)]
    assert second.next() == {"ended": True}
    assert [one["number"] for one in said] == [3, 4, 5]
    assert in_hex([Epoch(**one) for one in said]) == alone(trial(1, epochs=5))[2:]
    assert [bool(one["checkpoint"]) for one in said][1]


@pytest.mark.fault("source-lost")
def test_a_continuation_whose_source_is_gone_fails_alone(driver: Driver, tmp_path: Path) -> None:
    source = {"path": str(tmp_path / "a" / "checkpoint-00002-0123456789abcdef.pt"), "epoch": 2}
    said = Brought(driver, trial(1), tmp_path / "b", source=source).next()
    assert said["reason"] == "source_lost"
    assert "the checkpoint that it begins with" in said["error"]
    assert "Traceback" not in said["error"]


def test_packs_go_on_side_by_side_a_short_epoch_does_not_wait_for_a_long_one(
    driver: Driver, tmp_path: Path
) -> None:
    slow = make_trial(training={"batch_size": 1, "epochs": ENDLESS})  # 22 steps an epoch
    quick = make_trial(training={"batch_size": 22, "epochs": 20})  # one step an epoch
    other, one = Brought(driver, slow, tmp_path / "0"), Brought(driver, quick, tmp_path / "1")
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
    driver: Driver, tmp_path: Path
) -> None:
    stays, leaves = trial(1, 20), trial(2, ENDLESS)
    one, other = Brought(driver, stays, tmp_path / "0"), Brought(driver, leaves, tmp_path / "1")
    other.next_epoch()
    other.leave()
    assert one.to_its_end() == {"ended": True}
    assert in_hex(one.epochs) == alone(stays)
    ledger = (tmp_path / "1" / "ledger.jsonl").read_text().splitlines()
    assert len(other.epochs) <= len(ledger) < ENDLESS
    assert other.is_gone()


def test_a_trial_that_is_brought_again_goes_on_after_its_last_checkpoint(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat, "CHECKPOINT_SECONDS", 0.0)
    asked = trial(1, 20)
    first = Brought(driver, asked, tmp_path / "0")
    first.next_epoch()
    again = Brought(driver, asked, tmp_path / "0")  # the driver took the first for lost
    assert again.to_its_end() == {"ended": True}
    assert in_hex(again.epochs) == alone(asked)
    ledger = (tmp_path / "0" / "ledger.jsonl").read_text().splitlines()
    assert len(ledger) - 20 <= 1
    assert first.is_gone()


def test_what_the_study_has_of_a_trial_without_a_checkpoint_is_compared_with_what_is_trained_again(
    driver: Driver, tmp_path: Path
) -> None:
    asked = trial(1, 6)
    first = Brought(driver, asked, tmp_path / "0")
    for _ in range(3):
        first.next_epoch()
    recorded = list(first.epochs)
    first.leave()
    assert first.is_gone()
    assert checkpoint.checkpoints(tmp_path / "0") == []

    again = Brought(driver, asked, tmp_path / "0", recorded=recorded)
    assert again.to_its_end() == {"ended": True}
    assert in_hex(again.epochs) == alone(asked)
    assert again.epochs[:3] == recorded

    other = [replace(recorded[0], metrics=recorded[0].metrics | {"train/loss": 9.0}), *recorded[1:]]
    differs = Brought(driver, asked, tmp_path / "1", recorded=other)
    (warning,) = differs.next()["warnings"]
    assert warning.startswith("epoch 1, trained again, is not the recorded one: train/loss ")
    assert differs.to_its_end() == {"ended": True}
    assert differs.epochs[0].metrics["train/loss"] == 9.0


def test_a_trial_that_diverges_fails_alone(driver: Driver, tmp_path: Path) -> None:
    wild, tame = trial(1, optimizer={"name": "adam", "learning_rate": 1e30}), trial(2)
    brought = [Brought(driver, wild, tmp_path / "0"), Brought(driver, tame, tmp_path / "1")]
    failed = brought[0].to_its_end()
    assert failed["reason"] == "nonfinite"
    assert brought[1].to_its_end() == {"ended": True}
    assert in_hex(brought[1].epochs) == alone(tame)


def test_nothing_is_written_of_a_trial_that_was_stopped(driver: Driver, tmp_path: Path) -> None:
    one_trial = Brought(driver, trial(1, ENDLESS), tmp_path / "0")
    one_trial.next_epoch()
    lease.revoke(tmp_path / "0")
    written = len((tmp_path / "0" / "ledger.jsonl").read_text().splitlines())
    assert "handed out again" in one_trial.to_its_end()["error"]
    now = len((tmp_path / "0" / "ledger.jsonl").read_text().splitlines())
    assert now - written <= 1  # the one that was being written


def test_a_trial_without_room_waits_until_another_has_left(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    brought = [Brought(driver, one, tmp_path / str(i)) for i, one in enumerate(asked)]
    assert [one_trial.to_its_end() for one_trial in brought] == [{"ended": True}] * 3
    assert [in_hex(one_trial.epochs) for one_trial in brought] == list(map(alone, asked))
    assert 1 <= sum(waited) <= 4  # not asked again at every epoch


def test_where_not_even_one_trial_has_room_each_fails(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pack, "train_epoch", full)
    brought = [Brought(driver, trial(seed), tmp_path / str(seed)) for seed in (1, 2)]
    for one_trial in brought:
        failed = one_trial.to_its_end()
        assert failed["reason"] == "out_of_memory"
        assert "2.00 GiB" in failed["error"]


def test_when_a_pack_breaks_each_of_its_trials_goes_on_or_fails_alone(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_epoch = pack.train_epoch

    def broken(model: Any, members: Any, *args: Any) -> Any:
        if any(member.trial.training.seed == 2 for member in members):
            raise ValueError("nobody foresaw this")
        return train_epoch(model, members, *args)

    monkeypatch.setattr(pack, "train_epoch", broken)
    asked = [trial(seed, 10) for seed in (1, 2, 3)]
    brought = [Brought(driver, one, tmp_path / str(i)) for i, one in enumerate(asked)]
    first, failed, last = [one_trial.to_its_end() for one_trial in brought]
    assert first == last == {"ended": True}
    assert failed["reason"] == "error"
    assert failed["error"].endswith("ValueError: nobody foresaw this\n")
    for i in (0, 2):
        assert in_hex(brought[i].epochs) == alone(asked[i])


def test_an_epoch_of_a_trial_that_leaves_is_broken_off_where_nobody_else_is_in_it(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = pack.Pack.step, list[int]()

    def slow(self: pack.Pack) -> Any:
        steps.append(len(self.members))
        time.sleep(0.05)
        return step(self)

    monkeypatch.setattr(pack.Pack, "step", slow)
    long = make_trial(training={"batch_size": 1, "epochs": ENDLESS})  # 22 steps, and a score
    one = Brought(driver, long, tmp_path / "0")
    one.next_epoch()
    one.leave()
    assert one.is_gone()
    assert 22 < len(steps) < 40
    assert len((tmp_path / "0" / "ledger.jsonl").read_text().splitlines()) == 1


def test_a_seat_whose_trial_is_to_leave_asks_for_orders_although_its_epoch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Seat, "_work", lambda self: None)  # an epoch without end
    monkeypatch.setattr(seat, "BUSY_SECONDS", 3600.0)
    made = Seat(1, 0.0, None, versions.of_worker(), allow_data_change=False)
    driver = Driver(made)
    driver.listen()
    Brought(driver, trial(1), tmp_path / "0").leave()
    assert list(made._places) == ["1:1"]
    asks = threading.Thread(target=made.said, daemon=True)
    asks.start()
    asks.join(60.0)
    assert not asks.is_alive()


def test_a_seat_says_that_it_is_ready_and_asks_for_more_while_a_place_is_empty(
    driver: Driver,
) -> None:
    assert [set(said) for said in driver.seat.said()] == [{"ready", "node", "name"}]
    assert driver.seat.said() == []
