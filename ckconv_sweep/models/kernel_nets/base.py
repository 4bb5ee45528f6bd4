"""What every kernel net is: relative positions in, values of all kernels out.

    psi(p) = W features(p) + b

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4. A kernel net is a subclass with `build` and
`features`, in a file of its own, and a row of `KERNEL_NETS` in `config/model.py`, which has its
settings.

A net and its positions take the axis of members (`ckconv_sweep.models.members`) in front; positions
without it are those of all members.

Shapes: P positions, N channels out (one for each pair of channels of a convolution), H features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ckconv_sweep.config.model import KERNEL_NETS, KernelConfig
from ckconv_sweep.models.initial import put
from ckconv_sweep.models.kernel_nets.linear import LinearLayer


class KernelNet(nn.Module, ABC):
    """A small network from positions to kernel values.

    Where `omega_0` is not learned it is a buffer: a setting and no part of the state, and yet
    `torch.func.functional_call` can put another one in its place.
    """

    omega_0: Tensor
    """A scalar."""
    layers: nn.ModuleList
    """Linear layers; the last one makes the kernel values."""

    def __init__(
        self,
        config: KernelConfig,
        out_channels: int,
        generator: Generator | None,
        summed: int = 1,
    ) -> None:
        """
        Args:
            config: the settings of this net.
            out_channels: number of kernels N.
            generator: a generator of the CPU, from which all initial values are drawn. Without one
                they stay unset; those that are not drawn are set.
            summed: number of values that the convolution adds up for one output: channels in times
                length of the kernel; the length alone where it is separable.
        """
        super().__init__()
        omega_0 = torch.tensor(config.omega_0)
        if config.learn_omega_0:
            self.omega_0 = nn.Parameter(omega_0)
        else:
            self.register_buffer("omega_0", omega_0, persistent=False)
        self._omega_0_factor = config.omega_0_learning_rate_factor
        self.layers = nn.ModuleList()
        self.build(config, out_channels, generator)
        if config.normalize_variance and generator is not None:
            # As Chang et al. 2020 in CCNN (arXiv:2206.03398), whose last bias is zero; where it is
            # not, the kernel has the wanted size only if its bias shrinks with its weights.
            for parameter in (self.last.amplitude, self.last.bias):
                put(parameter, parameter.detach() * summed**-0.5)

    @abstractmethod
    def build(self, config: Any, out_channels: int, generator: Generator | None) -> None:
        """Fill `layers`, and make what else `features` needs. Arguments as of `__init__`."""

    @abstractmethod
    def features(self, positions_P: Tensor) -> Tensor:
        """All before the last linear layer: positions `(P,)`, within [-1, 1], to `(H, P)`."""

    @property
    def last(self) -> LinearLayer:
        """The last linear layer: `weight()` is `(N, H)`, `bias` is `(N,)`."""
        last = self.layers[-1]
        assert isinstance(last, LinearLayer)
        return last

    def forward(self, positions_P: Tensor) -> Tensor:
        """Relative positions `(P,)`, within [-1, 1], to kernel values `(N, P)`."""
        values_NP: Tensor = self.last(self.features(positions_P))
        return values_NP

    def learning_rate_factors(self) -> dict[str, float]:
        """Parameters, by name, whose learning rate is not that of the others, and its factor."""
        learned = isinstance(self.omega_0, nn.Parameter)
        return {"omega_0": self._omega_0_factor} if learned and self._omega_0_factor != 1.0 else {}


def make_kernel_net(
    config: KernelConfig, out_channels: int, generator: Generator | None, summed: int = 1
) -> KernelNet:
    """The kernel net of these settings; see `KernelNet` for the arguments."""
    net: KernelNet = KERNEL_NETS.maker(config.name)(config, out_channels, generator, summed)
    return net
