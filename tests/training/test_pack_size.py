"""How many trials a pack is given, measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ckconv_sweep.errors import OutOfMemory
from ckconv_sweep.training import pack, pack_size
from ckconv_sweep.training.pack_size import Measured, best_size

from .tiny import make_task, make_trial


def chosen(
    monkeypatch: pytest.MonkeyPatch, *measured: tuple[float, float], share: float = 1.0
) -> int:
    """The size that is taken where packs of 1, 2, 4, ... reach these steps a second, with this
    share of the memory; an endless row after them would be an error."""

    def row(*_: object) -> Iterator[Measured]:
        for i, (steps_a_second, memory) in enumerate(measured):
            yield Measured(2**i, steps_a_second, memory)
        pytest.fail("more was tried than needed")

    monkeypatch.setattr(pack_size, "_measured", row)
    return best_size(make_trial(), make_task(), "cpu", share)[-1].members


def test_the_largest_pack_is_taken_that_is_worth_its_members(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chosen(monkeypatch, (100, 0.0), (150, 0.0), (166, 0.0), (180, 0.0)) == 4
    assert chosen(monkeypatch, (100, 0.0), (109, 0.0)) == 1


def test_no_pack_is_tried_for_which_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, (100, 0.1), (200, 0.45)) == 2
    assert chosen(monkeypatch, (100, 0.1), (200, 0.21), share=0.5) == 2


@pytest.mark.parametrize("epochs", [1, 30])
def test_packs_are_really_trained_however_short_the_trial_or_wild_its_learning_rate(
    epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_size, "MOST_MEMBERS", 4)
    trained: list[int] = []
    train_epoch = pack.train_epoch

    def counted(model: object, members: list[object], *args: object) -> object:
        trained.append(len(members))
        return train_epoch(model, members, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "train_epoch", counted)
    trial = make_trial(
        training={"epochs": epochs, "early_stopping_epochs": 1},
        optimizer={"name": "adam", "learning_rate": 1e30},
    )
    found = list(pack_size._measured(trial, make_task(), "cpu"))
    each = 1 + pack_size.REPEATS
    assert trained == [1] * each + [2] * each + [4] * each
    assert [m.members for m in found] == [1, 2, 4]
    assert all(m.steps_a_second > 0.0 and 0.0 < m.memory < 1.0 for m in found)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_pack_without_room_ends_the_trying_and_one_trial_without_room_is_an_error(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_epoch = pack.train_epoch

    def limited(model: object, members: list[object], *args: object) -> object:
        if len(members) > room:
            raise MemoryError
        return train_epoch(model, members, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "train_epoch", limited)
    if room == 0:
        with pytest.raises(OutOfMemory):
            list(pack_size._measured(make_trial(), make_task(), "cpu"))
    else:
        found = list(pack_size._measured(make_trial(), make_task(), "cpu"))
        assert [m.members for m in found] == [1, 2][: (room + 1) // 2]
