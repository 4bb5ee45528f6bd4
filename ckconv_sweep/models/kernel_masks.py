"""Masks that say how far a kernel reaches: kernel values in, masked kernel values out.

Romero et al. 2022 (FlexConv, arXiv:2110.08059): a Gaussian of learned width around the present. A
new mask is a subclass of `KernelMask` and a row of `MASKS` in `config/model.py`.

They take the axis of members (`members.py`) in front.

Shapes: P positions, N kernels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ckconv_sweep.config.model import GaussianMask, NoMask


class KernelMask(nn.Module, ABC):
    """A function of the kernel's values and of where they are. It is made from its settings and
    from whether the kernel is causal."""

    @abstractmethod
    def forward(self, values_NP: Tensor, positions_P: Tensor) -> Tensor:
        """The values `(N, P)` at the positions `(P,)`, masked, `(N, P)`."""

    def learning_rate_factors(self) -> dict[str, float]:
        """Parameters, by name, whose learning rate is not that of the others, and its factor."""
        return {}


class Unmasked(KernelMask):
    """Leaves the values as they are."""

    def __init__(self, config: NoMask, causal: bool) -> None:
        super().__init__()

    def forward(self, values_NP: Tensor, positions_P: Tensor) -> Tensor:
        """`values_NP`"""
        return values_NP


class Gaussian(KernelMask):
    """`mask(p) = exp(-1/2 (p - m)^2 / (s^2 + 1e-8))`, zero where that is below `crop_below`.

    The middle m is the present: +1, or 0 where the kernel is centred. The width s is learned. The
    small number is from the published code of CCNN (https://github.com/david-knigge/ccnn, issue 1):
    without it a width near zero divides by zero.

    A cropped kernel keeps its length, filled up with zeros, where FlexConv makes it shorter. The
    result is the same; a length would have to be read back from the device in every forward pass,
    which makes the device wait and cannot differ among models that run at once.
    """

    def __init__(self, config: GaussianMask, causal: bool) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.tensor(config.width))
        self.middle = 1.0 if causal else 0.0
        self.crop_below = config.crop_below
        self._factor = config.learning_rate_factor

    def forward(self, values_NP: Tensor, positions_P: Tensor) -> Tensor:
        """`values_NP` times the mask."""
        distances_P = (positions_P - self.middle).square()
        mask_P = torch.exp(-0.5 * distances_P / (self.width[..., None].square() + 1e-8))
        mask_1P = mask_P[..., None, :]
        # The zero is chosen, not multiplied: a value that is cropped gets no gradient either.
        return torch.where(mask_1P < self.crop_below, 0.0, values_NP * mask_1P)

    def learning_rate_factors(self) -> dict[str, float]:
        """That of the width, where it is not 1."""
        return {"width": self._factor} if self._factor != 1.0 else {}
