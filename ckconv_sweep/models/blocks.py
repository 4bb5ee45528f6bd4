"""The blocks that a CKCNN is made of: CKConvs with norm, activation and dropout around them, and
the input added again.

`residual` is the published one (Romero et al. 2022, CKConv, arXiv:2102.02611); `preactivation` has
the order of He et al. 2016 (arXiv:1603.05027); `s4` that of S4 (Gu et al. 2022, arXiv:2111.00396).

A new block is a subclass of `Block` and a line in `BLOCKS`.

Shapes: B batch, C channels in, D hidden channels, T time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.model import CKCNNConfig
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.masks import Masks, dropped
from ckconv_sweep.models.norms import NORMS
from ckconv_sweep.models.sequence_model import EVENLY, Pointwise, Sampling, matched

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
}

FIRST_KERNEL_PLACE = 1_000_000
"""Number of the first place where a kernel's values are dropped; hidden values have those below."""


def channels_dropped(x_BCT: Tensor, masks: Masks | None, place: int, rate: float) -> Tensor:
    """As `masks.dropped`, but a channel of a sequence is dropped at all steps or at none."""
    if masks is None or rate == 0.0:
        return x_BCT
    batch, channels, _ = x_BCT.shape
    return x_BCT * masks(place, (batch, channels, 1), rate)


DROPOUTS: dict[str, Callable[[Tensor, Masks | None, int, float], Tensor]] = {
    "element": dropped,
    "channel": channels_dropped,
}


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
        self.activation = ACTIVATIONS[config.activation]
        self.drop_from = DROPOUTS[config.dropout_kind]
        self.build(config, in_channels, length, generator)

    @abstractmethod
    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        """Make the block's parts, in the order in which they draw their initial weights."""

    @abstractmethod
    def forward(
        self, x_BCT: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> tuple[Tensor, Tensor]:
        """Output `(B, D, T)`, and the sum of the penalties of its CKConvs, a scalar."""

    def drop(self, h_BDT: Tensor, masks: Masks | None, nth: int) -> Tensor:
        """The block's first (`nth` = 0) or second dropout."""
        return self.drop_from(h_BDT, masks, 1 + 2 * self.number + nth, self.dropout)

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
        self.norm1 = NORMS[config.norm](hidden)
        self.conv2 = self.conv(config, hidden, length, 1, generator)
        self.norm2 = NORMS[config.norm](hidden)
        self.shortcut = matched(in_channels, hidden, generator)

    def forward(
        self, x_BCT: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> tuple[Tensor, Tensor]:
        h_BDT, penalty1 = self.conv1.convolved(x_BCT, masks, sampling)
        h_BDT = self.drop(self.activation(self.norm1(h_BDT)), masks, 0)
        h_BDT, penalty2 = self.conv2.convolved(h_BDT, masks, sampling)
        h_BDT = self.drop(self.activation(self.norm2(h_BDT)), masks, 1)
        return self.activation(h_BDT + self.shortcut(x_BCT)), penalty1 + penalty2


class Preactivation(Block):
    """Norm, activation, CKConv, dropout, twice; then the input is added. Nothing comes after the
    sum, so that from the first block to the readout there is a way without an activation."""

    needs_hidden_channels = True

    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        hidden = config.hidden_channels
        self.norm1 = NORMS[config.norm](in_channels)
        self.conv1 = self.conv(config, in_channels, length, 0, generator)
        self.norm2 = NORMS[config.norm](hidden)
        self.conv2 = self.conv(config, hidden, length, 1, generator)

    def forward(
        self, x_BCT: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> tuple[Tensor, Tensor]:
        h_BCT = self.activation(self.norm1(x_BCT))
        h_BDT, penalty1 = self.conv1.convolved(h_BCT, masks, sampling)
        h_BDT = self.activation(self.norm2(self.drop(h_BDT, masks, 0)))
        h_BDT, penalty2 = self.conv2.convolved(h_BDT, masks, sampling)
        return x_BCT + self.drop(h_BDT, masks, 1), penalty1 + penalty2


class S4(Block):
    """Norm, CKConv, activation, dropout, a linear map at each step, activation; then the input is
    added. One CKConv and one dropout a block."""

    needs_hidden_channels = True

    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        hidden = config.hidden_channels
        self.norm1 = NORMS[config.norm](in_channels)
        self.conv1 = self.conv(config, in_channels, length, 0, generator)
        self.pointwise = Pointwise(hidden, hidden, generator)

    def forward(
        self, x_BCT: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> tuple[Tensor, Tensor]:
        h_BDT, penalty = self.conv1.convolved(self.norm1(x_BCT), masks, sampling)
        h_BDT = self.drop(self.activation(h_BDT), masks, 0)
        return x_BCT + self.activation(self.pointwise(h_BDT)), penalty


BLOCKS: dict[str, type[Block]] = {
    "residual": Residual,
    "preactivation": Preactivation,
    "s4": S4,
}
