"""A row is added in one place: what is registered here is read, drawn, trained in packs, ranked and
written like any other, and no other file names it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from sweep.in_process import machine
from torch import Tensor, nn
from training.test_pack import to_the_end
from training.tiny import equal, in_hex, make_task, run

from ckconv_sweep.config import documents
from ckconv_sweep.config.build import build
from ckconv_sweep.config.data import DATASETS, HeldOut
from ckconv_sweep.config.domains import from_unit
from ckconv_sweep.config.history import Epoch, Go, Stop, Verdict
from ckconv_sweep.config.metrics import METRICS, SCORES, Score
from ckconv_sweep.config.model import (
    ACTIVATIONS,
    ARCHITECTURES,
    BLOCKS,
    DROPOUTS,
    INITIALIZATIONS,
    KERNEL_ACTIVATIONS,
    KERNEL_NETS,
    KERNEL_NORMS,
    MASKS,
    NORMS,
    READOUTS,
    KernelActivation,
    KernelConfig,
    MaskConfig,
    ModelConfig,
    Norm,
    Readout,
)
from ckconv_sweep.config.optimization import OPTIMIZERS, SCHEDULES, Optimizer, Schedule
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.sampling import SAMPLERS, Sampler
from ckconv_sweep.config.settings import OpenFraction, Positive, flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import RULES, StoppingRule
from ckconv_sweep.config.table import Word
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.blocks import Block
from ckconv_sweep.models.initial import put, uniform
from ckconv_sweep.models.kernel_masks import KernelMask
from ckconv_sweep.models.kernel_nets.base import KernelNet
from ckconv_sweep.models.kernel_nets.linear import Linear
from ckconv_sweep.models.sequence_model import Pointwise, SequenceModel, no_penalty
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.search.samplers import PlannedSampler
from ckconv_sweep.training.optimizers import Rule, Step
from ckconv_sweep.training.pack import Member, Pack

TABLES = (ACTIVATIONS, ARCHITECTURES, BLOCKS, DATASETS, DROPOUTS, KERNEL_NETS, MASKS, METRICS)
TABLES += (NORMS, OPTIMIZERS, READOUTS, RULES, SAMPLERS, SCHEDULES, SCORES)
TABLES += (KERNEL_ACTIVATIONS, KERNEL_NORMS, INITIALIZATIONS)
SMALL = {"hidden_channels": 2, "blocks": 1, "kernel": {"hidden_channels": 3, "layers": 2}}

Blocks = dict[str, Any]
"""The blocks of a trial that use the row that was added."""


@contextlib.contextmanager
def all_restored() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for table in TABLES:
            stack.enter_context(table.restored())
        yield


def data_set() -> Blocks:
    @DATASETS.row(
        SimpleNamespace(describe=lambda *_: make_task().description, load=lambda *_: make_task())
    )
    class Own(HeldOut):
        name: Literal["own"] = "own"

    return {"data": {"name": "own"}}


def architecture() -> Blocks:
    class Model(SequenceModel):
        def build(self, config: Any, in_channels: int, length: int, generator: Any) -> None:
            self.maps = nn.ModuleList(
                Pointwise(
                    in_channels if not n else config.hidden_channels,
                    config.hidden_channels,
                    generator,
                )
                for n in range(config.maps)
            )

        def hidden(self, x_BCT: Tensor, masks: Any, sampling: Any) -> Any:
            for one in self.maps:
                x_BCT = torch.tanh(one(x_BCT))
            return x_BCT, no_penalty(x_BCT)

    @ARCHITECTURES.row(Model)
    class Own(ModelConfig):
        name: Literal["own"] = "own"
        maps: Positive = 2

    return {"model": {"name": "own", "hidden_channels": 3, "maps": 3}}


def kernel_net() -> Blocks:
    class Net(KernelNet):
        def build(self, config: Any, out_channels: int, generator: Any) -> None:
            self.layers.append(Linear(config.hidden_channels, out_channels))
            if generator is not None:
                self.last.set_weight(
                    uniform((out_channels, config.hidden_channels), 1.0, generator)
                )
                put(self.last.bias, 0.0)

        def features(self, positions_P: Tensor) -> Tensor:
            waves_H = torch.arange(self.last.in_channels) * self.omega_0[..., None]
            return torch.cos(waves_H[..., None] * positions_P[..., None, :])

    @KERNEL_NETS.row(Net)
    class Own(KernelConfig):
        name: Literal["own"] = "own"

    return {"model": SMALL | {"kernel": {"name": "own", "omega_0": 2.0, "hidden_channels": 4}}}


def kernel_activation() -> Blocks:
    KERNEL_ACTIVATIONS.add(KernelActivation("own", lambda h, omega_0: torch.cos(omega_0 * h), True))
    return {"model": SMALL | {"kernel": {"activation": "own", "omega_0": 2.0}}}


def kernel_norm() -> Blocks:
    KERNEL_NORMS.add(Word("own", lambda channels: Halved()))
    return {"model": SMALL | {"kernel": {"activation": "relu", "norm": "own"}}}


def initialization() -> Blocks:
    def flat_lines(layers: Any, kernel: Any, generator: Any) -> None:
        for layer in layers:
            layer.set_weight(uniform(layer.weight_v.shape, 0.1, generator))
            put(layer.bias, 0.0)

    INITIALIZATIONS.add(Word("own", flat_lines))
    return {"model": SMALL | {"kernel": {"initialization": "own"}}}


def mask() -> Blocks:
    class Ramp(KernelMask):
        def __init__(self, config: Any, causal: bool) -> None:
            super().__init__()
            self.slope = config.slope

        def forward(self, values_NP: Tensor, positions_P: Tensor) -> Tensor:
            return values_NP * (1.0 + self.slope * positions_P[..., None, :])

    @MASKS.row(Ramp)
    class Own(MaskConfig):
        name: Literal["own"] = "own"
        slope: OpenFraction = 0.5

    return {"model": SMALL | {"mask": {"name": "own", "slope": 0.25}}}


def block() -> Blocks:
    class OneConv(Block):
        def build(self, config: Any, in_channels: int, length: int, generator: Any) -> None:
            self.conv1 = self.conv(config, in_channels, length, 0, generator)

        def forward(
            self, x_BCT: Tensor, masks: Any = None, sampling: Any = None, *, last: bool = False
        ) -> Any:
            h_BDT, penalty = self.conv1.convolved(x_BCT, masks, sampling)
            return self.activation(h_BDT), penalty

    BLOCKS.add(Word("own", OneConv))
    return {"model": SMALL | {"block": "own"}}


class Halved(nn.Module):
    def forward(self, x_BCT: Tensor) -> Tensor:
        return 0.5 * x_BCT


def norm() -> Blocks:
    NORMS.add(Norm("own", lambda channels: Halved(), causal=True))
    return {"model": SMALL | {"norm": "own"}}


def activation() -> Blocks:
    ACTIVATIONS.add(Word("own", torch.tanh))
    return {"model": SMALL | {"activation": "own"}}


def dropout_kind() -> Blocks:
    DROPOUTS.add(Word("own", lambda shape: (*shape[:1], 1, shape[2])))
    return {"model": SMALL | {"dropout_kind": "own", "dropout": 0.5}}


def readout() -> Blocks:
    def of_sum(
        h_BDT: Tensor, weight_KD: Tensor, bias_K: Tensor, present_B1T: Tensor | None
    ) -> Tensor:
        return (h_BDT.sum(-1)[..., None, :] * weight_KD[..., None, :, :]).sum(-1) + bias_K[
            ..., None, :
        ]

    READOUTS.add(Readout("own", of_sum, ("classification",)))
    return {"model": SMALL | {"readout": "own"}}


def optimizer() -> Blocks:
    class Signs(Rule):
        moments = ()

        @staticmethod
        def coefficients(settings: Any, rate: float, step: int) -> tuple[float, ...]:
            return (rate * settings.share,)

        @staticmethod
        def update(step: Step) -> None:
            (size,) = step.coefficients
            step.weights_EP.sub_(step.gradients_EP.sign() * (size * step.factors))

    @OPTIMIZERS.row(Signs)
    class Own(Optimizer):
        name: Literal["own"] = "own"
        share: OpenFraction = 0.5

    return {"optimizer": {"name": "own", "share": 0.25}}


def schedule() -> Blocks:
    @SCHEDULES.row(lambda settings, trial, history: settings.rate / (1 + len(history)))
    class Own(Schedule):
        name: Literal["own"] = "own"
        rate: OpenFraction = 0.5

    return {"schedule": {"name": "own", "rate": 0.125}}


def metric() -> Blocks:
    SCORES.add(Score("own", lambda right: 1.0 - right, "min", ("classification",), "right", True))
    return {"metric": {"name": "val/own"}, "schedule": {"name": "plateau", "patience": 0}}


def metric_of_answers() -> Blocks:
    def largest(answers: Tensor, targets: Tensor) -> float:
        return float(answers.max() + len(targets))

    SCORES.add(Score("own", largest, "max", ("classification",), "answers"))
    return {"metric": {"name": "val/own"}}


ADDED = (data_set, architecture, kernel_net, mask, block, norm, activation, dropout_kind, readout)
ADDED += (optimizer, schedule, metric, metric_of_answers)
ADDED += (kernel_activation, kernel_norm, initialization)
added = pytest.mark.parametrize("add", ADDED)


def text_of(blocks: Blocks, seed: int = 3) -> str:
    training = {"epochs": 3, "batch_size": 8, "seed": seed}
    tree = {"data": {"name": "digits"}, "model": SMALL, "training": training}
    return documents.write(tree | blocks)


def trial_of(text: str) -> Trial:
    return build(Trial, documents.parse(text, "own.yaml"))


@added
def test_a_trial_with_a_new_row_is_read_and_written_and_no_longer_when_the_row_is_gone(
    add: Callable[[], Blocks],
) -> None:
    with all_restored():
        blocks = add()
        trial = trial_of(text_of(blocks))
        asked, got = flat(blocks), flat(trial.model_dump())
        assert {key: got[key] for key in asked} == asked
        assert trial_of(documents.write(trial.model_dump(mode="json"))) == trial
        assert Trial.model_validate_json(trial.model_dump_json()) == trial
    with pytest.raises(ConfigError, match=r"own\.yaml:\d+: .* 'own'|, got 'val/own'"):
        trial_of(text_of(blocks))


@added
def test_trials_with_a_new_row_train_in_a_pack_as_alone(add: Callable[[], Blocks]) -> None:
    with all_restored():
        blocks = add()
        trials = [trial_of(text_of(blocks, seed)) for seed in (3, 4)]
        task = load(trials[0].data) if add is data_set else make_task()
        members = [Member.open(trial, task) for trial in trials]
        pack = Pack(task)
        for member in members:
            pack.join(member)
        to_the_end(pack)
        for member in members:
            model, epochs = run(member.trial, task=task)
            assert in_hex(epochs) == in_hex(member.history)
            assert equal(model, member.model())
            assert member.trial.metric.name in epochs[0].metrics
    plain = run(trial_of(text_of({}, 4)))[1]
    assert (in_hex(epochs) == in_hex(plain)) == (add is data_set)  # the task is that of `run`


@added
def test_a_new_row_can_be_searched(add: Callable[[], Blocks]) -> None:
    with all_restored():
        trial = trial_of(text_of(add())).model_dump(mode="json")
        key = next(key for key, value in flat(trial).items() if value in ("own", "val/own"))
        path = key.removesuffix(".name")
        if path == "metric":
            return
        trial_block = trial
        if path != "data":
            plain = trial_of(text_of({})).model_dump(mode="json")
            *outer, last = path.split(".")
            for word in outer:
                trial_block, plain = trial_block[word], plain[word]
            trial_block[last] = plain[last]
        space = space_of(trial, {path: {"choices": {"own": {}} if path != key else ["own"]}})
        assert flat(space.resolve({path: "own"}).model_dump())[key] == "own"
        assert parse_space(space.to_yaml(), "space.yaml") == space


def space_of(trial: Any, search: Any, **others: Any) -> Space:
    tree = {"trial": trial, "search": search, "budget": {"trials": 6}} | others
    return parse_space(documents.write(tree), "space.yaml")


def shifted(space: Space, position: int) -> PlannedSampler:
    shift, domains = space.sampler.shift, space.parameters()  # type: ignore[attr-defined]
    return PlannedSampler(lambda name: from_unit(domains[name], shift))


def odd_ones_stop(rule: Any, curves: Any, number: int, mode: str) -> Verdict:
    late = len(curves[number].values) >= rule.epoch
    return Stop(f"odd, by {mode}") if number % 2 and late else Go()


def test_a_sweep_with_a_new_sampler_rule_and_metric_draws_stops_ranks_and_is_read_again(
    disk: Path,
) -> None:
    with all_restored():

        @SAMPLERS.row(shifted)
        class Shifted(Sampler):
            name: Literal["own"] = "own"
            shift: OpenFraction = 0.5

        @RULES.row(odd_ones_stop)
        class OddOnes(StoppingRule):
            name: Literal["own"] = "own"
            epoch: Positive = 2

        space = space_of(
            trial_of(text_of(metric())).model_dump(mode="json"),
            {"model.dropout": {"low": 0.0, "high": 0.8}},
            sampler={"name": "own", "shift": 0.25},
            scheduler={"name": "own", "epoch": 1},
            first=[],
        )
        assert list(space.written()["sampler"]) == ["name", "seed", "shift"]
        one = machine(disk, space, work=worse_by_seed)
        assert one.run()
        records = one.records()
        assert [r.params["model.dropout"] for r in records] == pytest.approx([0.2] * 6)
        assert [r.outcome for r in records] == ["completed", "pruned"] * 3
        assert [len(r.history) for r in records] == [3, 1] * 3
        table = leaderboard(records, space)
        assert table.sort_values("rank")["trial"].tolist()[:3] == [0, 2, 4]
        with one.session() as session:
            assert session.study.space == space


def worse_by_seed(trial: Trial, number: int) -> Epoch:
    metrics = {"val/own": trial.training.seed / 10, "val/accuracy": 0.5}
    return Epoch(number=number, metrics=metrics, timestamp_ms=number)
