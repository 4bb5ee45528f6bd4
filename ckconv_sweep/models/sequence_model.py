"""What every architecture is: sequences in, an input stage, hidden channels, a readout.

An architecture is a subclass with `build` and `hidden`, in a file of its own, and a row of
`ARCHITECTURES` in `config/model.py`, which has its settings.

Shapes: B batch, C channels in, D hidden channels, T time, K outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import READOUTS, ModelConfig
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.initial import normal, put, uniform, unset
from ckconv_sweep.models.masks import Masks, dropped
from ckconv_sweep.models.members import product


@dataclass(frozen=True, eq=False)
class Sampling:
    """When the steps of a sequence were."""

    rate: float = 1.0
    """Distance of two steps, in steps of the training sequences: 2 where every second is left. A
    model that cannot resample reads such sequences as if they were those of training."""
    times_BT: Tensor | None = None  # noqa: N815
    """Where steps are not equally far apart: the time of each, rising, in steps of the training
    sequences. `rate` is not used then."""
    present_B1T: Tensor | None = None  # noqa: N815
    """Where sequences end before the last step: 1 at the steps that there are, 0 after them. What
    comes after a sequence's end changes none of its answers."""

    def of_one(self) -> Sampling:
        """That of the first of some members."""
        first: dict[str, Any] = {n: v[0] for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **first)


EVENLY = Sampling()
"""As in training."""


def present(lengths_B: Tensor, like_BCT: Tensor) -> Tensor:
    """`Sampling.present_B1T` of sequences with so many steps each, int64."""
    steps_T = torch.arange(like_BCT.shape[-1], device=like_BCT.device)
    return (steps_T < lengths_B[..., None, None]).to(like_BCT.dtype)


Penalty = Callable[[], Tensor]
"""Gives a scalar. Called where it is wanted: it costs something too."""


def no_penalty(h_BDT: Tensor) -> Penalty:
    """Zero."""
    return lambda: h_BDT.new_zeros(h_BDT.shape[:-3])


def pointwise(x_BCT: Tensor, weight_DC: Tensor) -> Tensor:
    """The same linear map at every step, `(B, D, T)`."""
    if weight_DC.shape[-1] == 1:
        return x_BCT * weight_DC.unsqueeze(-3)
    return product(weight_DC, x_BCT, b_dims=3)


def embedded(numbers_BT: Tensor, embedding_VC: Tensor) -> Tensor:
    """The rows of the embedding with these numbers, `(B, C, T)`."""
    rows, vocabulary = embedding_VC.flatten(0, -2), embedding_VC.shape[-2]
    if embedding_VC.dim() > 2:  # the rows of the members one after another
        members = torch.arange(len(embedding_VC), device=rows.device)
        numbers_BT = numbers_BT + vocabulary * members[:, None, None]
    return functional.embedding(numbers_BT, rows).mT


class Pointwise(nn.Module):
    """The same linear map at every step. `torch.nn.Linear` would draw its initial weights from the
    global random state."""

    def __init__(self, in_channels: int, out_channels: int, generator: Generator | None) -> None:
        super().__init__()
        self.weight = unset(out_channels, in_channels)
        self.bias = unset(out_channels)
        if generator is not None:  # PyTorch's default
            put(self.weight, uniform(self.weight.shape, in_channels**-0.5, generator))
            put(self.bias, uniform(self.bias.shape, in_channels**-0.5, generator))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, D, T)`"""
        return pointwise(x_BCT, self.weight) + self.bias[..., None, :, None]


def matched(in_channels: int, out_channels: int, generator: Generator | None) -> nn.Module:
    """`(B, C, T) -> (B, D, T)`: a linear map at every step, or nothing where the channels are the
    same."""
    if in_channels == out_channels:
        return nn.Identity()
    return Pointwise(in_channels, out_channels, generator)


class Readout(nn.Module):
    """The parameters of the readout, a linear map.

    Tied, it has no weight of its own: one parameter under two names would become two where the
    model is moved to the meta device.
    """

    def __init__(
        self, in_channels: int, outputs: int, generator: Generator | None, *, tied: bool
    ) -> None:
        super().__init__()
        self.weight = None if tied else unset(outputs, in_channels)
        self.bias = unset(outputs)
        if generator is not None:
            if self.weight is not None:
                put(self.weight, normal(self.weight.shape, 0.01, generator))
            put(self.bias, 0.0)


def last(h_BDT: Tensor, weight_KD: Tensor, bias_K: Tensor, present_B1T: Tensor | None) -> Tensor:
    """Of the last step, `(B, K)`."""
    if present_B1T is None:
        last_BD = h_BDT[..., -1]
    else:
        at_B11 = present_B1T.sum(-1, keepdim=True).long() - 1
        last_BD = h_BDT.gather(-1, at_B11.expand(*h_BDT.shape[:-1], 1)).squeeze(-1)
    return product(last_BD, weight_KD.mT) + bias_K[..., None, :]


def mean(h_BDT: Tensor, weight_KD: Tensor, bias_K: Tensor, present_B1T: Tensor | None) -> Tensor:
    """Of the mean over the steps, `(B, K)`."""
    if present_B1T is None:
        mean_BD = h_BDT.mean(-1)
    else:
        mean_BD = (h_BDT * present_B1T).sum(-1) / present_B1T.sum(-1)
    return product(mean_BD, weight_KD.mT) + bias_K[..., None, :]


def every_step(
    h_BDT: Tensor, weight_KD: Tensor, bias_K: Tensor, present_B1T: Tensor | None
) -> Tensor:
    """Of each step by itself, `(B, K, T)`."""
    return pointwise(h_BDT, weight_KD) + bias_K[..., None, :, None]


class SequenceModel(nn.Module, ABC):
    """Called without masks it is in evaluation; there is no other mode. Nothing is kept between
    calls, so inputs of different lengths may follow each other."""

    def __init__(
        self, config: ModelConfig, description: Description, generator: Generator | None
    ) -> None:
        """
        Args:
            config: the settings.
            description: what sequences come in and what is asked of them.
            generator: a generator of the CPU, from which all initial weights are drawn. Without
                one they stay unset: for a model that is only counted, or loaded next.
        """
        super().__init__()
        self.resamples = config.resamples
        self.vectorizes = config.vectorizes
        self.input_dropout = config.input_dropout
        self.one_number = description.kind in ("binary", "regression")
        self.answer = READOUTS.maker(config.readout)
        self.embedding, in_channels = None, description.in_channels
        if description.kind == "text":
            self.embedding = unset(in_channels, config.hidden_channels)
            in_channels = config.hidden_channels
        self.build(config, in_channels, description.length, generator)
        self.readout = Readout(
            config.hidden_channels,
            description.outputs,
            generator,
            tied=READOUTS[config.readout].tied,
        )
        if self.embedding is not None and generator is not None:
            put(self.embedding, normal(self.embedding.shape, 0.01, generator))

    @abstractmethod
    def build(
        self, config: Any, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        """Make what `hidden` needs.

        Args:
            config: the settings of this architecture.
            in_channels: channels of what `hidden` gets.
            length: steps of a training sequence.
            generator: as in `__init__`.
        """

    @abstractmethod
    def hidden(
        self, x_BCT: Tensor, masks: Masks | None, sampling: Sampling
    ) -> tuple[Tensor, Penalty]:
        """Hidden channels `(B, D, T)`, and the penalty of the convolutions' kernels. Where the
        answer is that of the last step, and all sequences end there, the others may be left out,
        `(B, D, 1)`."""

    def forward(
        self, inputs: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> Tensor:
        """Answers `(B, K)`; `(B, K, T)` where every step is answered; `(B,)` where the answer is
        one number.

        Args:
            inputs: `(B, C, T)`; for text the characters' numbers, `(B, T)`.
            masks: the dropout masks of a training step.
            sampling: when the steps were.
        """
        return self._answers(inputs, masks, sampling)[0]

    def forward_with_penalty(
        self, inputs: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> tuple[Tensor, Tensor]:
        """Answers as of `forward`, and the sum over all CKConvs of the L2 norms of sampled kernel
        and bias, a scalar.

        Raises:
            ConfigError: the steps have times, which this architecture cannot read.
        """
        answers, penalty = self._answers(inputs, masks, sampling)
        return answers, penalty()

    def _answers(
        self, inputs: Tensor, masks: Masks | None, sampling: Sampling
    ) -> tuple[Tensor, Penalty]:
        if sampling.times_BT is not None and not self.resamples:
            raise ConfigError(
                f"{type(self).__name__} cannot use time stamps",
                hint="take data.dropped_as mask, or a ckcnn",
            )
        if self.embedding is not None:
            inputs = embedded(inputs, self.embedding)
        x_BCT = dropped(inputs, masks, 0, self.input_dropout)
        h_BDT, penalty = self.hidden(x_BCT, masks, sampling)
        weight_KD = self.embedding if self.readout.weight is None else self.readout.weight
        assert weight_KD is not None  # only text is tied, and only text has an embedding
        answers = self.answer(h_BDT, weight_KD, self.readout.bias, sampling.present_B1T)
        return answers.squeeze(-1) if self.one_number else answers, penalty

    def learning_rate_factors(self) -> dict[str, float]:
        """Parameters, by name, whose learning rate is not that of the others, and its factor."""
        return {}
