"""A convolution whose kernel is a small network, sampled once for each step of the input.

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4.

Shapes: B batch, C channels in, D channels out, T time.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from ckconv_sweep.config.trial import Kernel
from ckconv_sweep.models.convolution import causal_conv
from ckconv_sweep.models.initial import put, unset
from ckconv_sweep.models.kernel_net import KernelNet


def relative_positions(length: int, like: Tensor) -> Tensor:
    """Positions in lag order, `(T,)`, from +1, the present, to -1, the oldest step; of one step +1.

    Args:
        length: number of steps T.
        like: gives device and precision.
    """
    return torch.linspace(1.0, -1.0, length, device=like.device, dtype=like.dtype)


class CKConv(nn.Module):
    """The kernel always spans the whole input: another length samples the same function more
    densely or more coarsely."""

    def __init__(
        self,
        config: Kernel,
        in_channels: int,
        out_channels: int,
        generator: Generator | None,
        *,
        bias: bool = True,
    ) -> None:
        """Without a generator the kernel net stays unset."""
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_net = KernelNet(config, out_channels * in_channels, generator)
        self.bias = unset(out_channels) if bias else None
        if generator is not None and self.bias is not None:
            put(self.bias, 0.0)

    def kernel(self, length: int) -> Tensor:
        """The kernel sampled at `length` steps, in lag order, `(D, C, T)`; index 0 weighs the
        present."""
        positions_T = relative_positions(length, like=self.kernel_net.omega_0)
        values_NT: Tensor = self.kernel_net(positions_T)
        return values_NT.reshape(self.out_channels, self.in_channels, length)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """`(B, C, T) -> (B, D, T)`"""
        return self.convolved(x_BCT)[0]

    def convolved(self, x_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """Output `(B, D, T)`, and the kernel `(D, C, T)` that made it, for `penalty`."""
        kernel_DCT = self.kernel(x_BCT.shape[-1])
        return causal_conv(x_BCT, kernel_DCT, self.bias), kernel_DCT

    def penalty(self, kernel_DCT: Tensor) -> Tensor:
        """L2 norm of the sampled kernel plus that of the bias, neither squared: a scalar.

        The published code's `LnLoss` is the sum of these over all CKConvs, times a factor.
        """
        penalty: Tensor = torch.linalg.vector_norm(kernel_DCT)
        if self.bias is not None:
            penalty = penalty + torch.linalg.vector_norm(self.bias)
        return penalty
