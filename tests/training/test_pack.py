"""A trial in a pack has the numbers that it has alone, to the last bit, whatever
the other members are and whenever they join or leave."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from thinned import each_second
from torch import Tensor

from benchmarks.packs import operations
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError, NonFiniteLoss, OutOfMemory
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training import pack as packs
from ckconv_sweep.training.pack import Member, Pack, Waits

from .test_loop import executed
from .test_resume import SCHEDULES, SETTINGS
from .tiny import equal, in_hex, make_task, make_trial, run

TASK = make_task(noise=1.5)
LOSS = {"name": "val/loss", "mode": "min"}
Whole = tuple[SequenceModel, list[Epoch]]
_alone: dict[str, Whole] = {}


def alone(trial: Trial) -> Whole:
    """The trial trained by itself."""
    key = trial.model_dump_json()
    if key not in _alone:
        _alone[key] = run(trial, task=TASK)
    return _alone[key]


def opened(*trials: Trial, folder: Path | None = None) -> list[Member]:
    folders = [None if folder is None else folder / str(i) for i in range(len(trials))]
    return [Member.open(t, TASK, folder=f) for t, f in zip(trials, folders, strict=True)]


def joined(*members: Member) -> Pack:
    pack = Pack(TASK)
    for member in members:
        pack.join(member)
    return pack


def to_the_end(pack: Pack) -> None:
    while any(member.end is None for member in pack.members):
        for member, outcome in pack.epoch().items():
            assert isinstance(outcome, Epoch)
            member.keep()


def as_alone(member: Member) -> bool:
    """Whether an ended member has the metrics and weights of the trial trained by itself."""
    model, epochs = alone(member.trial)
    return in_hex(epochs) == in_hex(member.history) and equal(model, member.model())


def member_trial(number: int, optimizer: str = "adam") -> Trial:
    """Members that differ in all that may differ."""
    dropout = [0.2, 0.0, 0.5][number % 3]
    return make_trial(
        model={
            "dropout": dropout,
            "input_dropout": [0.0, 0.1][number % 2],
            "kernel": {"hidden_channels": 3, "layers": 2, "omega_0": 10.0 + number},
        },
        optimizer={"name": optimizer}
        | {k: v / (1 + number) for k, v in SETTINGS[optimizer].items()},
        schedule=[*SCHEDULES.values(), {"name": "constant"}][number % 4],
        training={
            "epochs": 3 + number % 3,
            "seed": number,
            "kernel_penalty": [0.0, 0.01][number % 2],
            "clip_norm": [1.0, 0.0, 0.1][number % 3],
            "early_stopping_epochs": [0, 2][number // 2 % 2],
        },
        metric=[LOSS, {"name": "val/accuracy", "mode": "max"}][number % 2],
    )


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_members_that_differ_in_all_that_may_differ_train_as_alone(optimizer: str) -> None:
    members = opened(*(member_trial(number, optimizer) for number in range(5)))
    to_the_end(joined(*members))
    assert len({len(member.history) for member in members}) > 1
    assert all(as_alone(member) for member in members)


MODELS: dict[str, dict[str, Any]] = {
    "separable": {"model": {"separable": True}},
    "centred": {"model": {"causal": False}},
    "gaussian mask": {"model": {"mask": {"name": "gaussian", "width": 0.5}}},
    "learned omega_0": {"model": {"kernel": {"learn_omega_0": True}}},
    "weight dropout": {"model": {"weight_dropout": 0.2}},
    "channels dropped": {"model": {"dropout": 0.3, "dropout_kind": "channel"}},
    "magnet": {"model": {"kernel": {"name": "magnet", "hidden_channels": 3, "layers": 3}}},
    "random_fourier": {"model": {"kernel": {"name": "random_fourier", "hidden_channels": 4}}},
    "preactivation": {"model": {"block": "preactivation", "norm": "channel"}},
    "s4": {"model": {"block": "s4", "norm": "instance", "activation": "gelu"}},
    "tcn": {"architecture": {"name": "tcn", "hidden_channels": 3, "blocks": 2, "dropout": 0.1}},
    "lru": {"architecture": {"name": "lru", "hidden_channels": 3, "state_channels": 4}},
}


@pytest.mark.parametrize("name", MODELS)
def test_members_of_every_kind_of_model_train_as_alone(name: str) -> None:
    trials = [
        make_trial(
            **MODELS[name],
            optimizer={"name": "adam", "learning_rate": 0.02 * (seed + 1)},
            training={"epochs": 2, "seed": seed},
        )
        for seed in range(3)
    ]
    members = opened(*trials)
    to_the_end(joined(*members))
    assert all(as_alone(member) for member in members)


@pytest.mark.parametrize("name", each_second([*SETTINGS, *MODELS]))
def test_as_on_a_gpu_members_train_as_alone_to_one_part_in_ten_thousand_over_twenty_steps(
    name: str, request: pytest.FixtureRequest
) -> None:
    trials = [
        make_trial(
            **{"model": {"dropout": 0.2 * seed}} | MODELS.get(name, {}),
            optimizer={"name": name if name in SETTINGS else "adam", "learning_rate": 1e-3},
            training={"epochs": 7, "seed": seed},
        )
        for seed in range(3)
    ]
    curves = [alone(trial)[1] for trial in trials]
    request.getfixturevalue("as_on_a_gpu")
    members = opened(*trials)
    to_the_end(joined(*members))
    for member, curve in zip(members, curves, strict=True):
        for together, by_itself in zip(member.history, curve, strict=True):
            assert together.metrics["train/loss"] == pytest.approx(
                by_itself.metrics["train/loss"], rel=1e-4
            )


def test_a_member_whose_loss_is_not_finite_leaves_and_the_others_never_notice() -> None:
    wild = make_trial(optimizer={"name": "adam", "learning_rate": 1e30}, training={"seed": 9})
    calm, diverging, other = opened(member_trial(0), wild, member_trial(1))
    pack = joined(calm, diverging, other)
    outcome = pack.epoch()[diverging]
    assert isinstance(outcome, NonFiniteLoss)
    with pytest.raises(NonFiniteLoss) as caught:
        alone(wild)
    assert str(outcome) == str(caught.value)
    assert pack.members == [calm, other]
    assert diverging.history == []
    for member in (calm, other):
        member.keep()
    to_the_end(pack)
    assert as_alone(calm)
    assert as_alone(other)


def test_an_epoch_past_a_stop_leaves_no_trace(tmp_path: Path) -> None:
    stopped, going = opened(member_trial(2), member_trial(0), folder=tmp_path)
    pack = joined(stopped, going)
    for _ in range(2):
        for member in pack.epoch():
            member.keep()
    files = {path.name: path.read_bytes() for path in stopped.folder.iterdir()}
    pack.epoch()
    pack.leave(stopped)
    going.keep()
    assert {path.name: path.read_bytes() for path in stopped.folder.iterdir()} == files
    assert len(stopped.history) == 2
    to_the_end(pack)
    assert as_alone(going)
    to_the_end(joined(stopped))  # and it can go on as if that epoch had never been
    assert as_alone(stopped)


def test_an_epoch_must_be_kept_or_left_before_the_next() -> None:
    (member,) = opened(member_trial(0))
    pack = joined(member)
    pack.epoch()
    with pytest.raises(RuntimeError, match="neither kept nor left"):
        pack.epoch()


def test_packs_that_take_turns_step_by_step_train_as_those_that_do_not() -> None:
    members = opened(
        member_trial(0), member_trial(1, "sgd"), make_trial(model={"hidden_channels": 3})
    )
    packs = [joined(member) for member in members]
    while any(member.end is None for member in members):
        for member, pack in zip(members, packs, strict=True):
            if member.end is None and pack.step() is not None:
                member.keep()
    assert all(as_alone(member) for member in members)


def test_nobody_joins_or_leaves_in_the_midst_of_an_epoch() -> None:
    member, other = opened(member_trial(0), member_trial(1))
    pack = joined(member)
    assert pack.step() is None
    for change in (lambda: pack.join(other), lambda: pack.leave(member)):
        with pytest.raises(RuntimeError, match="between epochs"):
            change()
    while pack.step() is None:
        pass
    member.keep()
    pack.join(other)
    to_the_end(pack)
    assert as_alone(member)
    assert as_alone(other)


def test_a_checkpoint_of_a_pack_goes_on_alone_and_one_of_a_lone_trial_in_a_pack(
    tmp_path: Path,
) -> None:
    first, second = opened(member_trial(0), member_trial(2), folder=tmp_path)
    pack = joined(first, second)
    for member in pack.epoch():
        member.keep()
    model, epochs = run(first.trial, first.folder, TASK)
    assert in_hex(epochs) == in_hex(alone(first.trial)[1])
    assert equal(model, alone(first.trial)[0])
    assert executed(first.folder) == list(range(1, len(epochs) + 1))

    (again,) = [Member.open(second.trial, TASK, folder=second.folder)]
    assert [epoch.number for epoch in again.history] == [1]
    to_the_end(joined(*opened(member_trial(1)), again))
    assert as_alone(again)
    again.finish()
    path = checkpoint.best(second.folder)
    assert path is not None
    kept = checkpoint.load(path)["best_weights"]
    assert all(torch.equal(kept[n], v) for n, v in alone(second.trial)[0].state_dict().items())


def full(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """As on a device that has room for so many members; the sizes that were tried."""
    real, tried = packs.train_epoch, list[int]()
    left: list[weakref.ref[Tensor]] = []

    def train_epoch(vectorized: Any, members: Any, *others: Any) -> Any:
        tried.append(len(members))
        assert not any(made() is not None for made in left)  # room was made first
        large = torch.empty(1)
        left[:] = [weakref.ref(large)]
        scores = real(vectorized, members, *others)  # their rows have changed when it is noticed
        if len(members) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return scores

    monkeypatch.setattr(packs, "train_epoch", train_epoch)
    return tried


def test_a_member_for_whom_there_is_no_room_waits_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = full(monkeypatch, most=2)
    first, second, third = opened(*(member_trial(number) for number in range(3)))
    pack = joined(first, second)
    for member in pack.epoch():
        member.keep()
    pack.join(third)
    outcomes = pack.epoch()
    assert isinstance(outcomes[third], Waits)
    assert "2.00 GiB" in outcomes[third].message
    assert pack.members == [first, second]
    for member in (first, second):
        assert isinstance(outcomes[member], Epoch)
        member.keep()
    assert tried == [2, 3, 2]
    to_the_end(pack)
    pack.join(third)
    to_the_end(pack)
    assert all(as_alone(member) for member in (first, second, third))


def test_a_member_for_whom_there_is_no_room_even_alone_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full(monkeypatch, most=0)
    first, second = opened(member_trial(0), member_trial(1))
    pack = joined(first, second)
    outcomes = pack.epoch()
    assert isinstance(outcomes[first], OutOfMemory)
    assert isinstance(outcomes[second], Waits)
    assert pack.members == []


def test_a_failure_that_is_no_lack_of_room_is_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(packs, "train_epoch", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        joined(*opened(member_trial(0), member_trial(1))).epoch()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model": {"hidden_channels": 3}}, "model.hidden_channels must agree, got 2 and 3"),
        ({"training": {"batch_size": 4}}, "training.batch_size must agree, got 8 and 4"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name must agree, got adam and sgd"),
        ({"data": {"name": "digits", "split_seed": 1}}, "data.split_seed must agree, got 0 and 1"),
        ({"model": {"weight_dropout": 0.1}}, "must be 0 for both or for none, got 0.0 and 0.1"),
        ({"architecture": {"name": "tcn"}}, "model.name must agree, got ckcnn and tcn"),
        ({"architecture": {"name": "gru"}}, "a gru is trained alone"),
    ],
)
def test_a_trial_that_cannot_be_trained_with_the_others_is_refused_with_the_reason(
    other: dict[str, Any], said: str
) -> None:
    (first,) = opened(make_trial())
    pack = joined(first)
    with pytest.raises(ConfigError, match=said):
        pack.join(*opened(make_trial(**other)))
    assert pack.members == [first]


def test_a_guard_that_raises_concerns_its_own_member_only(tmp_path: Path) -> None:
    class HandedOut(Exception):
        pass

    def guard() -> None:
        raise HandedOut

    lost = Member.open(member_trial(0), TASK, folder=tmp_path / "lost", guard=guard)
    (kept,) = opened(member_trial(1))
    pack = joined(lost, kept)
    pack.epoch()
    with pytest.raises(HandedOut):
        lost.keep()
    assert list((tmp_path / "lost").iterdir()) == []
    pack.leave(lost)
    kept.keep()
    to_the_end(pack)
    assert as_alone(kept)


EXAMPLES = settings(max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "8")), deadline=None)


@EXAMPLES
@given(data=st.data())
def test_whenever_members_come_go_and_resume_each_has_its_lone_curve(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("members")
    members = opened(*(member_trial(number) for number in range(4)), folder=folder)
    pools = [Pack(TASK), Pack(TASK)]
    where: dict[int, Pack | None] = dict.fromkeys(range(4))
    for _ in range(40):
        for i, member in enumerate(members):
            if where[i] is None and member.end is None and data.draw(st.integers(0, 3)):
                where[i] = pools[data.draw(st.integers(0, 1))]
                where[i].join(member)
        for pool in pools:
            for member in pool.epoch():
                i = members.index(member)
                match data.draw(st.sampled_from(["keep"] * 6 + ["leave", "discard", "resume"])):
                    case "keep":
                        member.keep()
                    case "leave":
                        member.keep()
                        pool.leave(member)
                        where[i] = None
                    case "discard":  # an epoch past a stop; and then it goes on after all
                        pool.leave(member)
                        where[i] = None
                    case "resume":  # as after a crash
                        member.keep()
                        pool.leave(member)
                        members[i] = Member.open(member.trial, TASK, folder=member.folder)
                        where[i] = None
    assert all(as_alone(member) for member in members if member.end is not None)
    for member in members:
        curve = in_hex(alone(member.trial)[1])
        assert in_hex(member.history) == curve[: len(member.history)]


def test_sixteen_members_take_hardly_more_operations_than_one_and_sixty_four_no_more() -> None:
    one, many, most = (
        operations(opened(*(member_trial(number) for number in range(members))), TASK)
        for members in (1, 16, 64)
    )
    assert 0 < one < many <= 1.5 * one
    assert most == many
