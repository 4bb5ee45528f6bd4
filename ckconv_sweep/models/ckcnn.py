"""The CKCNN: residual blocks of two CKConvs each, and a linear readout of the last step.

Romero et al. 2022 (CKConv, arXiv:2102.02611); each choice is that of the published code.

Shapes: B batch, C channels, T time, K classes.
"""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.trial import Model
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.initial import normal, put, uniform, unset
from ckconv_sweep.models.masks import Masks, dropped


class Affine(nn.Module):
    """Weight `(D, C)` and bias `(D,)` of a linear map. `torch.nn.Linear` would draw its initial
    weights from the global random state."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = unset(out_channels, in_channels)
        self.bias = unset(out_channels)


class Shortcut(Affine):
    """The same linear map at every step."""

    def __init__(self, in_channels: int, out_channels: int, generator: Generator | None) -> None:
        super().__init__(in_channels, out_channels)
        if generator is not None:  # PyTorch's default
            put(self.weight, uniform(self.weight.shape, in_channels**-0.5, generator))
            put(self.bias, uniform(self.bias.shape, in_channels**-0.5, generator))

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, D, T)`"""
        return functional.conv1d(x_BCT, self.weight[:, :, None], self.bias)


class Readout(Affine):
    """The last step to one value per class."""

    def __init__(self, in_channels: int, classes: int, generator: Generator | None) -> None:
        super().__init__(in_channels, classes)
        if generator is not None:
            put(self.weight, normal(self.weight.shape, 0.01, generator))
            put(self.bias, 0.0)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, K)`"""
        return functional.linear(x_BCT[..., -1], self.weight, self.bias)


def group_norm(channels: int) -> nn.GroupNorm:
    """Statistics over channels and time together, scale and shift per channel."""
    return nn.GroupNorm(1, channels, eps=1e-12)


class CKBlock(nn.Module):
    """CKConv, norm, ReLU, dropout, twice; then the shortcut is added and a ReLU taken."""

    def __init__(
        self, config: Model, in_channels: int, place: int, generator: Generator | None
    ) -> None:
        """`place` is the number of the first of the block's two dropout sites."""
        super().__init__()
        hidden = config.hidden_channels
        self.place, self.dropout = place, config.dropout
        self.conv1 = CKConv(config.kernel, in_channels, hidden, generator, bias=config.bias)
        self.norm1 = group_norm(hidden)
        self.conv2 = CKConv(config.kernel, hidden, hidden, generator, bias=config.bias)
        self.norm2 = group_norm(hidden)
        self.shortcut = (
            nn.Identity() if in_channels == hidden else Shortcut(in_channels, hidden, generator)
        )

    def forward(self, x_BCT: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """Output `(B, D, T)` and the penalty of the two CKConvs, a scalar."""
        h_BDT, kernel1_DCT = self.conv1.convolved(x_BCT)
        h_BDT = dropped(functional.relu(self.norm1(h_BDT)), masks, self.place, self.dropout)
        h_BDT, kernel2_DDT = self.conv2.convolved(h_BDT)
        h_BDT = dropped(functional.relu(self.norm2(h_BDT)), masks, self.place + 1, self.dropout)
        penalty = self.conv1.penalty(kernel1_DCT) + self.conv2.penalty(kernel2_DDT)
        return functional.relu(h_BDT + self.shortcut(x_BCT)), penalty


class CKCNN(nn.Module):
    """A classifier of sequences. Called without masks it is in evaluation; there is no other mode.

    Inputs of different lengths may follow each other: nothing is kept between calls.
    """

    def __init__(
        self, config: Model, in_channels: int, out_channels: int, generator: Generator | None
    ) -> None:
        """
        Args:
            config: the settings.
            in_channels: channels of the sequences.
            out_channels: number of classes.
            generator: a generator of the CPU, from which all initial weights are drawn. Without
                one they stay unset: for a model that is only counted, or loaded next.
        """
        super().__init__()
        self.input_dropout = config.input_dropout
        channels = [in_channels] + [config.hidden_channels] * (config.blocks - 1)
        self.blocks = nn.ModuleList(
            CKBlock(config, channels_in, 1 + 2 * number, generator)
            for number, channels_in in enumerate(channels)
        )
        self.readout = Readout(config.hidden_channels, out_channels, generator)

    def forward(self, x_BCT: Tensor, masks: Masks | None = None) -> Tensor:
        """Sequences `(B, C, T)` to logits `(B, K)`."""
        return self.forward_with_penalty(x_BCT, masks)[0]

    def forward_with_penalty(
        self, x_BCT: Tensor, masks: Masks | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits `(B, K)`, and the sum over all CKConvs of the L2 norms of sampled kernel and bias,
        a scalar."""
        h_BCT = dropped(x_BCT, masks, 0, self.input_dropout)
        penalties: list[Tensor] = []
        for block in self.blocks:
            h_BCT, penalty = block(h_BCT, masks)
            penalties.append(penalty)
        logits_BK: Tensor = self.readout(h_BCT)
        return logits_BK, sum(penalties[1:], penalties[0])
