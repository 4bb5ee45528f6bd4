"""The blocks that a CKCNN is made of: CKConvs with norm, activation and dropout around them, and
the input added again.

`residual` is the published one (Romero et al. 2022, CKConv, arXiv:2102.02611); `preactivation` has
the order of He et al. 2016 (arXiv:1603.05027); `s4` that of S4 (Gu et al. 2022, arXiv:2111.00396).

A new block is a subclass of `Block` and a row of `BLOCKS` in `config/model.py`.

Shapes: B batch, C channels in, D hidden channels, T time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.model import ACTIVATIONS, DROPOUTS, NORMS, CKCNNConfig
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.masks import Masks
from ckconv_sweep.models.norms import OverTime, last_of, normed
from ckconv_sweep.models.sequence_model import EVENLY, Penalty, Pointwise, Sampling, matched

FIRST_KERNEL_PLACE = 1_000_000
"""Number of the first place where a kernel's values are dropped; hidden values have those below."""


def each_element(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Each value is dropped by itself."""
    return shape


def each_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A channel of a sequence is dropped at all steps or at none."""
    return (*shape[:2], 1)


class Block(nn.Module, ABC):
    """Part of a CKCNN. Block i drops hidden values at the places 1 + 2i and 2 + 2i, and kernel
    values at 1,000,000 + 2i and 1,000,001 + 2i."""

    needs_hidden_channels: ClassVar[bool] = False
    """Whether the network maps its input to the hidden channels before the first block. A block
    that begins with a norm needs that: a norm over channels leaves nothing of a single channel."""

    def __init__(
        self,
        config: CKCNNConfig,
        in_channels: int,
        length: int,
        number: int,
        generator: Generator | None,
    ) -> None:
        """
        Args:
            config: the settings.
            in_channels: channels of the block's input.
            length: steps of a training sequence.
            number: which block this is, from 0.
            generator: as of `SequenceModel`.
        """
        super().__init__()
        self.number, self.dropout = number, config.dropout
        self.activation = ACTIVATIONS.maker(config.activation)
        self.dropped_shape = DROPOUTS.maker(config.dropout_kind)
        self.build(config, in_channels, length, generator)

    @abstractmethod
    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        """Make the block's parts, in the order in which they draw their initial weights."""

    @abstractmethod
    def forward(
        self,
        x_BCT: Tensor,
        masks: Masks | None = None,
        sampling: Sampling = EVENLY,
        *,
        last: bool = False,
    ) -> tuple[Tensor, Penalty]:
        """Output `(B, D, T)`, or where only the last step is wanted `(B, D, 1)`; and the sum of
        the penalties of its CKConvs."""

    def factors(self, h_BDT: Tensor, masks: Masks | None, nth: int) -> Tensor | None:
        """Those of the block's first (`nth` = 0) or second dropout, if it drops anything."""
        if masks is None or self.dropout == 0.0:
            return None
        shape = self.dropped_shape(tuple(h_BDT.shape[-3:]))
        return masks(1 + 2 * self.number + nth, shape, self.dropout)

    def drop(self, h_BDT: Tensor, masks: Masks | None, nth: int) -> Tensor:
        """The block's first or second dropout."""
        factors = self.factors(h_BDT, masks, nth)
        return h_BDT if factors is None else h_BDT * factors

    def conv(
        self,
        config: CKCNNConfig,
        in_channels: int,
        length: int,
        nth: int,
        generator: Generator | None,
    ) -> CKConv:
        """The block's first (`nth` = 0) or second convolution."""
        place = FIRST_KERNEL_PLACE + 2 * self.number + nth
        return CKConv(config, in_channels, config.hidden_channels, length, place, generator)


class Residual(Block):
    """The published block: CKConv, norm, activation, dropout, twice; then the input is added,
    mapped to the hidden channels where it has others, and the activation taken."""

    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        hidden = config.hidden_channels
        self.conv1 = self.conv(config, in_channels, length, 0, generator)
        self.norm1 = NORMS.maker(config.norm)(hidden)
        self.conv2 = self.conv(config, hidden, length, 1, generator)
        self.norm2 = NORMS.maker(config.norm)(hidden)
        self.shortcut = matched(in_channels, hidden, generator)

    def forward(
        self,
        x_BCT: Tensor,
        masks: Masks | None = None,
        sampling: Sampling = EVENLY,
        *,
        last: bool = False,
    ) -> tuple[Tensor, Penalty]:
        h_BDT, penalty1 = self.conv1.convolved(x_BCT, masks, sampling)
        h_BDT = self._finished(self.norm1, h_BDT, masks, 0, sampling)
        h_BDT, penalty2 = self.conv2.convolved(h_BDT, masks, sampling)
        if last:
            h_BDT, x_BCT = last_of(self.norm2, h_BDT), x_BCT[..., -1:]
            h_BDT = self.drop(self.activation(h_BDT), masks, 1)
        else:
            h_BDT = self._finished(self.norm2, h_BDT, masks, 1, sampling)
        return self.activation(h_BDT + self.shortcut(x_BCT)), lambda: penalty1() + penalty2()

    def _finished(
        self, norm: nn.Module, h_BDT: Tensor, masks: Masks | None, nth: int, sampling: Sampling
    ) -> Tensor:
        """After norm, activation and dropout."""
        at_once = sampling.present_B1T is None and self.activation is functional.relu
        if at_once and isinstance(norm, OverTime):
            return norm.relu_dropped(h_BDT, self.factors(h_BDT, masks, nth))
        return self.drop(self.activation(normed(norm, h_BDT, sampling)), masks, nth)


class Preactivation(Block):
    """Norm, activation, CKConv, dropout, twice; then the input is added. Nothing comes after the
    sum, so that from the first block to the readout there is a way without an activation."""

    needs_hidden_channels = True

    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        hidden = config.hidden_channels
        self.norm1 = NORMS.maker(config.norm)(in_channels)
        self.conv1 = self.conv(config, in_channels, length, 0, generator)
        self.norm2 = NORMS.maker(config.norm)(hidden)
        self.conv2 = self.conv(config, hidden, length, 1, generator)

    def forward(
        self,
        x_BCT: Tensor,
        masks: Masks | None = None,
        sampling: Sampling = EVENLY,
        *,
        last: bool = False,
    ) -> tuple[Tensor, Penalty]:
        h_BCT = self.activation(normed(self.norm1, x_BCT, sampling))
        h_BDT, penalty1 = self.conv1.convolved(h_BCT, masks, sampling)
        h_BDT = self.activation(normed(self.norm2, self.drop(h_BDT, masks, 0), sampling))
        h_BDT, penalty2 = self.conv2.convolved(h_BDT, masks, sampling)
        if last:
            h_BDT, x_BCT = h_BDT[..., -1:], x_BCT[..., -1:]
        return x_BCT + self.drop(h_BDT, masks, 1), lambda: penalty1() + penalty2()


class S4(Block):
    """Norm, CKConv, activation, dropout, a linear map at each step, activation; then the input is
    added. One CKConv and one dropout a block."""

    needs_hidden_channels = True

    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        hidden = config.hidden_channels
        self.norm1 = NORMS.maker(config.norm)(in_channels)
        self.conv1 = self.conv(config, in_channels, length, 0, generator)
        self.pointwise = Pointwise(hidden, hidden, generator)

    def forward(
        self,
        x_BCT: Tensor,
        masks: Masks | None = None,
        sampling: Sampling = EVENLY,
        *,
        last: bool = False,
    ) -> tuple[Tensor, Penalty]:
        h_BDT = normed(self.norm1, x_BCT, sampling)
        h_BDT, penalty = self.conv1.convolved(h_BDT, masks, sampling)
        if last:
            h_BDT, x_BCT = h_BDT[..., -1:], x_BCT[..., -1:]
        h_BDT = self.drop(self.activation(h_BDT), masks, 0)
        return x_BCT + self.activation(self.pointwise(h_BDT)), penalty
