"""A trial that begins with another one's checkpoint: it has that trial's weights, and trains with
its own settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.config.changeable import CHANGEABLE, CHANGEABLE_BLOCKS
from ckconv_sweep.config.history import Epoch, Source
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError, SourceLost
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.dropout_masks import DropoutMasks
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.optimizers import AdamW
from ckconv_sweep.training.pack import Pack
from ckconv_sweep.training.seeding import Rates
from ckconv_sweep.training.shape import FREE, FREE_BLOCKS, why_apart

from .tiny import equal, in_hex, make_task, make_trial, run

TASK = make_task(noise=1.5)
EVERY = 2
EPOCHS = 6


def settings(rate: float = 0.05, dropout: float = 0.2, seed: int = 3, decay: float = 0.01) -> Trial:
    return make_trial(
        model={"dropout": dropout},
        optimizer={"name": "adamw", "learning_rate": rate, "weight_decay": decay},
        training={"epochs": EPOCHS, "seed": seed},
    )


def begun(trial: Trial, folder: Path, epochs: int, **others: Any) -> Member:
    """A member after so many epochs of its own."""
    made = Member.open(trial, TASK, folder=folder, kept_epochs=EVERY, **others)
    pack = Pack(TASK)
    pack.join(made)
    for _ in range(epochs):
        pack.epoch()
        made.keep()
    return made


def source_of(made: Member, epoch: int) -> Source:
    assert made.folder is not None
    return Source(path=str(made.folder / made.history[epoch - 1].checkpoint), epoch=epoch)


def epochs(made: Member) -> Iterator[Epoch]:
    pack = Pack(TASK)
    pack.join(made)
    while made.end is None:
        pack.epoch()
        yield made.keep()


def test_a_continuation_with_the_same_settings_has_the_curve_of_one_trial(tmp_path: Path) -> None:
    whole, curve = run(settings(), task=TASK)
    source = source_of(begun(settings(), tmp_path / "a", 5), 4)
    made = Member.open(settings(), TASK, folder=tmp_path / "b", source=source)
    own = list(epochs(made))
    assert [epoch.number for epoch in own] == [5, 6]
    assert in_hex(own) == in_hex(curve[4:])
    assert made.own == made.history[4:]
    if max(curve, key=lambda e: e.metrics["val/accuracy"]).number > 4:
        assert equal(made.model(), whole)


def test_its_first_checkpoint_is_the_sources_byte_for_byte(tmp_path: Path) -> None:
    source = source_of(begun(settings(), tmp_path / "a", 4), 4)
    Member.open(settings(0.1), TASK, folder=tmp_path / "b", source=source)
    name = Path(source.path).name
    assert (tmp_path / "b" / name).read_bytes() == Path(source.path).read_bytes()


def test_what_trains_it_is_what_its_record_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimiser's numbers and the dropout of the continuation's first epoch, as they reach the
    steps, beside a trial with other settings in the same pack."""
    source = source_of(begun(settings(0.05, 0.2), tmp_path / "a", 2), 2)
    trials = settings(0.013, 0.31, seed=9, decay=0.5), settings(0.4, 0.0, seed=4, decay=0.0)
    made = [
        Member.open(trial, TASK, folder=tmp_path / str(n), source=source)
        for n, trial in enumerate(trials)
    ]
    used: list[tuple[float, float, int]] = []
    coefficients = AdamW.coefficients

    def spied(row: Any, rate: float, step: int) -> tuple[float, ...]:
        used.append((rate, row.weight_decay, step))
        return coefficients(row, rate, step)

    monkeypatch.setattr(AdamW, "coefficients", staticmethod(spied))
    dropped = set[tuple[float, ...]]()
    masks = DropoutMasks.__call__

    def seen(self: Any, place: int, shape: tuple[int, ...], rate: float) -> Any:
        dropped.add(rate.each if isinstance(rate, Rates) else (rate,))
        return masks(self, place, shape, rate)

    monkeypatch.setattr(DropoutMasks, "__call__", seen)
    pack = Pack(TASK)
    for member in made:
        pack.join(member)
    pack.epoch()
    assert dropped == {(0.31, 0.0)}
    for trial, member in zip(trials, made, strict=True):
        optimizer = trial.model_dump()["optimizer"]
        rate, decay = optimizer["learning_rate"], optimizer["weight_decay"]
        steps = {step for *own, step in used if own == [rate, decay]}
        assert steps == {7, 8, 9}  # of 22 sequences in batches of 8, after two epochs
        assert member.keep().metrics["train/learning_rate"] == rate


def test_a_continuation_depends_on_each_setting_that_may_change(tmp_path: Path) -> None:
    source = source_of(begun(settings(), tmp_path / "a", 2), 2)
    curves = [
        in_hex(list(epochs(Member.open(trial, TASK, folder=tmp_path / str(n), source=source))))
        for n, trial in enumerate(
            [settings(), settings(rate=0.01), settings(dropout=0.4), settings(decay=0.3)]
        )
    ]
    assert all(one != other for i, one in enumerate(curves) for other in curves[:i])


def test_its_best_weights_are_of_its_own_epochs(tmp_path: Path) -> None:
    first = begun(settings(), tmp_path / "a", 4)
    made = Member.open(settings(1e-9), TASK, folder=tmp_path / "b", source=source_of(first, 4))
    assert made._best_weights == {}
    own = list(epochs(made))
    made.finish()
    assert [epoch.number for epoch in own] == [5, 6]
    assert (path := checkpoint.best(tmp_path / "b")) is not None
    assert Trial.model_validate(checkpoint.load(path)["trial"]) == settings(1e-9)


@pytest.mark.fault("population-killed")
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_continuation_that_is_killed_goes_on_bit_for_bit(tmp_path: Path, after: int) -> None:
    source = source_of(begun(settings(), tmp_path / "a", 2), 2)
    whole = list(epochs(Member.open(settings(0.01), TASK, folder=tmp_path / "b", source=source)))
    begun(settings(0.01), tmp_path / "c", after, source=source)
    again = Member.open(
        settings(0.01), TASK, folder=tmp_path / "c", source=source, recorded=whole[: after + 1]
    )
    assert in_hex(again.own) == in_hex(whole[:after])
    assert in_hex([*again.own, *epochs(again)]) == in_hex(whole)
    assert not again._differing


def test_the_checkpoints_that_others_may_begin_with_are_kept(tmp_path: Path) -> None:
    begun(settings(), tmp_path, 6)
    assert [epoch for epoch, _ in checkpoint.checkpoints(tmp_path)] == [6, 5, 4, 2]
    checkpoint.forget(tmp_path, EVERY)
    assert [epoch for epoch, _ in checkpoint.checkpoints(tmp_path)] == [6, 4, 2]


def test_they_are_written_where_checkpoints_are_rare(tmp_path: Path) -> None:
    made = begun(settings(), tmp_path, 5, checkpoint_seconds=3600.0)
    assert [bool(epoch.checkpoint) for epoch in made.history] == [False, True, False, True, False]


@pytest.mark.fault("source-lost")
@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_source_that_is_gone_or_damaged_fails_the_trial(tmp_path: Path, damage: str) -> None:
    source = source_of(begun(settings(), tmp_path / "a", 2), 2)
    path = Path(source.path)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SourceLost, match="the checkpoint that it begins with is lost"):
        Member.open(settings(0.01), TASK, folder=tmp_path / "b", source=source)


@pytest.mark.fault("source-lost")
def test_a_copy_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    source = source_of(begun(settings(), tmp_path / "a", 2), 2)
    Member.open(settings(0.01), TASK, folder=tmp_path / "b", source=source)
    copy = tmp_path / "b" / Path(source.path).name
    copy.write_bytes(b"")
    made = Member.open(settings(0.01), TASK, folder=tmp_path / "b", source=source)
    assert len(made.history) == 2
    assert copy.read_bytes() == Path(source.path).read_bytes()


def test_another_trials_checkpoint_is_taken_by_continuations_alone(tmp_path: Path) -> None:
    begun(settings(), tmp_path, 2)
    with pytest.raises(ConfigError, match="other settings"):
        Member.open(settings(0.01), TASK, folder=tmp_path)


@pytest.mark.parametrize("name", [name for name in CHANGEABLE if name != "model.weight_dropout"])
def test_what_may_change_may_differ_in_a_pack(name: str) -> None:
    assert name in FREE
    assert set(CHANGEABLE_BLOCKS) <= set(FREE_BLOCKS)
    one, other = (make_trial(model={"weight_dropout": rate}) for rate in (0.1, 0.2))
    assert why_apart(one, other) is None
