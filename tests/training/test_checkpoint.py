from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from contracts.system_calls import hear_steps

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.errors import CannotWrite, DamagedData
from ckconv_sweep.training import checkpoint

from .tiny import in_child

PAGE = 4096
EPOCH = Epoch(number=1, metrics={"val/accuracy": 0.5}, timestamp_ms=7)


def state_of(epoch: int, size: int = 64) -> dict[str, Any]:
    return {"epoch": epoch, "weights": torch.full((size,), float(epoch)), "names": ["a", None, 0.1]}


def is_whole(state: dict[str, Any] | None, epoch: int) -> bool:
    return (
        state is not None
        and state["epoch"] == epoch
        and state["names"] == ["a", None, 0.1]
        and bool((state["weights"] == float(epoch)).all())
    )


def whole_epoch(folder: Path) -> int:
    """The epoch of the newest state, which must be a whole one and need no message."""
    state, messages = checkpoint.newest(folder)
    assert messages == []
    assert state is not None
    assert is_whole(state, state["epoch"])
    return int(state["epoch"])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    name = checkpoint.save(tmp_path, 12, state_of(12))
    assert name.startswith("checkpoint-00012-")
    assert is_whole(checkpoint.load(tmp_path / name), 12)
    assert whole_epoch(tmp_path) == 12


def test_the_name_holds_the_sha_256_of_the_content(tmp_path: Path) -> None:
    name = checkpoint.save(tmp_path, 1, state_of(1))
    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16] in name


def test_the_same_state_gets_the_same_name(tmp_path: Path) -> None:
    assert checkpoint.save(tmp_path, 1, state_of(1)) == checkpoint.save(tmp_path, 1, state_of(1))


def test_an_empty_folder_has_no_state_and_nothing_to_say(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) == (None, [])
    assert checkpoint.best(tmp_path) is None


def test_the_two_newest_are_kept_and_sorted_by_number(tmp_path: Path) -> None:
    for epoch in (9, 10, 99_999, 100_000):
        checkpoint.save(tmp_path, epoch, state_of(epoch))
    assert [epoch for epoch, _ in checkpoint.checkpoints(tmp_path)] == [100_000, 99_999]
    assert len(names(tmp_path)) == 2


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("checkpoint-00009-0123.pt", "checkpoint-x.pt", ".tmp-1-checkpoint-00009-a.pt"):
        (tmp_path / name).write_text("x")
    assert checkpoint.newest(tmp_path) == (None, [])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints of epochs 1 and 2, the second some pages long."""
    folder = tmp_path_factory.mktemp("two")
    checkpoint.save(folder, 1, state_of(1))
    checkpoint.save(folder, 2, state_of(2, size=4 * PAGE))
    return folder


def flips(content: bytes, count: int) -> Iterator[bytes]:
    draws = random.Random(0)
    for _ in range(count):
        place, bit = draws.randrange(len(content)), draws.randrange(8)
        changed = content[place] ^ (1 << bit)
        yield content[:place] + bytes([changed]) + content[place + 1 :]


def cuts(content: bytes, count: int) -> Iterator[bytes]:
    draws = random.Random(0)
    for size in [0, 1, len(content) - 1, *(draws.randrange(len(content)) for _ in range(count))]:
        yield content[:size]


def zeroed_pages(content: bytes, count: int) -> Iterator[bytes]:
    draws = random.Random(0)
    places = [*range(0, len(content), PAGE), *(draws.randrange(len(content)) for _ in range(count))]
    for start in places[:count]:
        size = len(content[start : start + PAGE])
        yield content[:start] + bytes(size) + content[start + size :]


# CKCONV_FLIPS=100000 damages oftener than `make test` has time for.
DAMAGES = int(os.environ.get("CKCONV_FLIPS", "2000"))


@pytest.mark.fault("damaged-checkpoint")
@pytest.mark.parametrize("damage", [flips, cuts, zeroed_pages])
def test_damage_is_refused_and_the_checkpoint_before_is_used_with_a_message(
    damage: Callable[[bytes, int], Iterator[bytes]], two: Path
) -> None:
    (_, newer), _ = checkpoint.checkpoints(two)
    content = newer.read_bytes()
    tried = 0
    try:
        for damaged in damage(content, DAMAGES):
            if damaged == content:
                continue
            newer.write_bytes(damaged)
            state, messages = checkpoint.newest(two)
            assert is_whole(state, 1)
            (message,) = messages
            assert str(newer) in message
            assert "damaged" in message
            tried += 1
    finally:
        newer.write_bytes(content)
    assert tried > DAMAGES * 9 // 10
    assert whole_epoch(two) == 2


@pytest.mark.fault("damaged-checkpoint")
def test_with_every_checkpoint_damaged_there_is_no_state_and_a_message_for_each(
    tmp_path: Path,
) -> None:
    for epoch in (1, 2):
        (tmp_path / checkpoint.save(tmp_path, epoch, state_of(epoch))).write_bytes(b"")
    state, messages = checkpoint.newest(tmp_path)
    assert state is None
    assert ["00002" in messages[0], "00001" in messages[1]] == [True, True]


def test_a_state_saved_after_damage_takes_the_place_of_the_damaged_ones(tmp_path: Path) -> None:
    for epoch in (6, 7):
        (tmp_path / checkpoint.save(tmp_path, epoch, state_of(epoch))).write_bytes(b"")
    name = checkpoint.save(tmp_path, 1, state_of(1))
    assert names(tmp_path) == {name}
    assert whole_epoch(tmp_path) == 1


def test_an_epoch_trained_again_keeps_the_whole_checkpoint_before_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 6, state_of(6))
    (tmp_path / checkpoint.save(tmp_path, 7, state_of(7, size=32))).write_bytes(b"")
    checkpoint.save(tmp_path, 7, state_of(7))
    assert [epoch for epoch, _ in checkpoint.checkpoints(tmp_path)] == [7, 6]
    assert whole_epoch(tmp_path) == 7


class Bomb:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


@pytest.mark.fault("no-unsafe-load")
@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_pickle_bomb_under_a_valid_name_is_refused_and_not_executed(
    form: str, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, 1, state_of(1))
    canary = tmp_path / "canary"
    buffer = io.BytesIO()
    if form == "torch":
        torch.save({"epoch": Bomb(canary)}, buffer)
    else:
        buffer.write(pickle.dumps(Bomb(canary), protocol=2))
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    path = tmp_path / f"checkpoint-00002-{digest}.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DamagedData, match="holds no state that can be read"):
        checkpoint.load(path)
    state, messages = checkpoint.newest(tmp_path)
    assert is_whole(state, 1)
    assert len(messages) == 1
    assert not canary.exists()
    if form == "torch":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert canary.exists()  # the bomb would have worked


@pytest.mark.fault("modes")
@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_only_the_owner_may_read_what_is_written(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        checkpoint.save(tmp_path, 1, state_of(1))
        checkpoint.save_best(tmp_path, {}, {"w": torch.ones(2)})
        checkpoint.note_in_ledger(tmp_path, EPOCH)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600] * 3


def test_forgetting_leaves_the_best_weights_and_the_ledger(tmp_path: Path) -> None:
    checkpoint.note_in_ledger(tmp_path, EPOCH)
    checkpoint.save(tmp_path, 1, state_of(1))
    name = checkpoint.save_best(tmp_path, {}, {"w": torch.ones(2)})
    (tmp_path / ".tmp-123-checkpoint-00002-0123456789abcdef.pt").write_text("half")
    checkpoint.forget(tmp_path)
    assert names(tmp_path) == {name, "ledger.jsonl"}
    assert checkpoint.newest(tmp_path) == (None, [])


def test_there_is_one_file_of_best_weights(tmp_path: Path) -> None:
    checkpoint.save_best(tmp_path, {}, {"w": torch.ones(2)})
    name = checkpoint.save_best(tmp_path, {}, {"w": torch.zeros(2)})
    assert names(tmp_path) == {name}
    assert checkpoint.best(tmp_path) == tmp_path / name
    assert torch.equal(checkpoint.load(tmp_path / name)["best_weights"]["w"], torch.zeros(2))


# Crashes and full disks.


def steps_of_a_save(folder: Path) -> list[str]:
    heard: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, heard.append)
        checkpoint.save(folder, 3, state_of(3))
    return heard


@pytest.fixture
def steps(tmp_path: Path) -> list[str]:
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    for epoch in (1, 2):
        checkpoint.save(folder, epoch, state_of(epoch))
    return steps_of_a_save(folder)


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(steps: list[str]) -> None:
    write = ["open", "fdopen", "write", "write the rest", "fsync"]
    assert steps == [*write, "rename", "open", "fsync", "close", "unlink"]


@pytest.mark.fault("half-written-checkpoint")
def test_a_crash_at_any_step_leaves_the_old_state_or_the_new_one(
    steps: list[str], tmp_path: Path
) -> None:
    found = []
    for number in range(len(steps)):
        folder = tmp_path / str(number)
        folder.mkdir()
        for epoch in (1, 2):
            checkpoint.save(folder, epoch, state_of(epoch))

        def crash(folder: Path = folder, number: int = number) -> None:
            left = iter(range(number))

            def hear(step: str) -> None:
                if next(left, None) is None:
                    os._exit(42)

            with pytest.MonkeyPatch.context() as patched:
                hear_steps(patched, hear)
                checkpoint.save(folder, 3, state_of(3))

        assert in_child(crash) == 42
        found.append(whole_epoch(folder))
        checkpoint.save(folder, 4, state_of(4))  # and the next one is written as ever
        assert whole_epoch(folder) == 4
        checkpoint.forget(folder)
        assert names(folder) == set()
    renamed = steps.index("rename") + 1
    assert found == [2] * renamed + [3] * (len(steps) - renamed)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(errno.ENOSPC, marks=pytest.mark.fault("disk-full")),
        pytest.param(errno.EIO, marks=pytest.mark.fault("write-error")),
    ],
)
def test_an_error_of_the_disk_at_any_step_is_said_and_keeps_the_old_state(
    code: int, steps: list[str], tmp_path: Path
) -> None:
    steps = steps[: steps.index("unlink")]
    for number, failing in enumerate(steps):
        folder = tmp_path / str(number)
        folder.mkdir()
        for epoch in (1, 2):
            checkpoint.save(folder, epoch, state_of(epoch))
        left = iter(range(number))

        def hear(step: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(code, os.strerror(code))

        with pytest.MonkeyPatch.context() as patched:
            hear_steps(patched, hear)
            if failing != "close":  # a descriptor that was only synced
                with pytest.raises(CannotWrite, match=os.strerror(code)) as caught:
                    checkpoint.save(folder, 3, state_of(3))
                assert (caught.value.where or "").startswith(f"{folder}/checkpoint-00003-")
                assert caught.value.exit_code == 73
        kept = [epoch for epoch, _ in checkpoint.checkpoints(folder)]
        assert kept[-2:] == [2, 1]
        assert whole_epoch(folder) in (2, 3)
        assert not [name for name in names(folder) if name.startswith(".tmp-")]


@pytest.mark.fault("write-error")
def test_a_sync_that_failed_is_never_tried_again_on_the_same_file(tmp_path: Path) -> None:
    """Linux forgets what it could not write: a second fsync would say that all is well."""
    checkpoint.save(tmp_path, 1, state_of(1))
    heard: list[str] = []

    def hear(step: str) -> None:
        heard.append(step)
        if step == "fsync" and heard.count("fsync") == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patched:
        hear_steps(patched, hear)
        with pytest.raises(CannotWrite, match="Input/output error"):
            checkpoint.save(tmp_path, 2, state_of(2))
        assert heard.count("fsync") == 1
        assert "rename" not in heard
        assert whole_epoch(tmp_path) == 1
        checkpoint.save(tmp_path, 2, state_of(2))  # a new file, not the one that failed
    assert heard.count("open") == 1 + 2
    assert whole_epoch(tmp_path) == 2


@pytest.mark.fault("disk-full")
def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, state_of(1))
    before = names(tmp_path)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(
            CannotWrite, match=r"cannot be written: File too large \([0-9,]+ bytes\)"
        ):
            checkpoint.save(tmp_path, 2, state_of(2, size=100_000))
        assert names(tmp_path) == before
        assert whole_epoch(tmp_path) == 1

    assert in_child(limited) == 0


def test_a_ledger_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(CannotWrite, match=r"ledger\.jsonl: cannot be written: Is a directory"):
        checkpoint.note_in_ledger(tmp_path, EPOCH)


def test_equal_trials_and_weights_are_one_file_whichever_texts_are_one_object(
    tmp_path: Path,
) -> None:
    def trial(together: bool) -> dict[str, Any]:
        name = "".join(["a", "dam"])
        return {"optimizer": name, "also": [name if together else "".join(["ad", "am"])]}

    weights = {"kernel": torch.arange(3.0)}
    first = checkpoint.save_best(tmp_path, trial(together=True), weights)
    assert trial(together=True) == trial(together=False)
    assert checkpoint.save_best(tmp_path, trial(together=False), weights) == first
