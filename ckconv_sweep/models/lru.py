"""Linear recurrent units (Orvieto et al. 2023, arXiv:2303.06349): a linear recurrence with complex,
diagonal weights, computed for all steps at once.

Shapes: B batch, D hidden channels, N state channels, T time.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from ckconv_sweep.config.model import LRUConfig
from ckconv_sweep.models.activations import gelu
from ckconv_sweep.models.convolution import depthwise_product, fft_size
from ckconv_sweep.models.initial import normal, put, unset
from ckconv_sweep.models.masks import Masks, dropped
from ckconv_sweep.models.norms import channel
from ckconv_sweep.models.sequence_model import (
    Penalty,
    Pointwise,
    Sampling,
    SequenceModel,
    matched,
    no_penalty,
    pointwise,
)

SMALLEST = torch.finfo(torch.float32).tiny
"""Put in the place of a zero whose logarithm is taken."""


class LinearRecurrence(nn.Module):
    """States `s[t] = lambda s[t-1] + gamma (B x[t])`, outputs `y[t] = Re(C s[t]) + d x[t]`.

    All parameters are real. The eigenvalues are `lambda = exp(-exp(nu_log) + i exp(theta_log))`,
    whose modulus is below 1 whatever the parameters; `gamma = exp(gamma_log)` starts such that
    a state's variance is that of its input if that is white.
    """

    def __init__(self, config: LRUConfig, generator: Generator | None) -> None:
        super().__init__()
        states, hidden = config.state_channels, config.hidden_channels
        self.nu_log = unset(states)
        self.theta_log = unset(states)
        self.gamma_log = unset(states)
        self.input_real = unset(states, hidden)
        self.input_imaginary = unset(states, hidden)
        self.output_real = unset(hidden, states)
        self.output_imaginary = unset(hidden, states)
        self.skip = unset(hidden)
        if generator is not None:
            self._draw(config, generator)

    def _draw(self, config: LRUConfig, generator: Generator) -> None:
        """Eigenvalues uniform on a ring (or part of it), the other weights normal."""
        states, hidden = self.input_real.shape
        least, most = config.radius_min**2, config.radius_max**2
        radius_N, phase_N = torch.empty(2, states, device="cpu").uniform_(generator=generator)
        squared_N = (least + (most - least) * radius_N).clamp_min(SMALLEST)
        put(self.nu_log, torch.log(-0.5 * torch.log(squared_N)))
        put(self.theta_log, torch.log((config.phase_max * phase_N).clamp_min(SMALLEST)))
        put(self.gamma_log, 0.5 * torch.log1p(-squared_N))
        for weight in (self.input_real, self.input_imaginary):
            put(weight, normal(weight.shape, (2 * hidden) ** -0.5, generator))
        for weight in (self.output_real, self.output_imaginary):
            put(weight, normal(weight.shape, states**-0.5, generator))
        put(self.skip, normal(self.skip.shape, 1.0, generator))

    def powers(self, length: int) -> Tensor:
        """The eigenvalues to the powers 0, 1, ..., `length` - 1: `(N, T)`, complex."""
        steps_T = torch.arange(length, device=self.nu_log.device, dtype=self.nu_log.dtype)
        decay_NT = self.nu_log.exp()[..., None] * steps_T
        angle_NT = self.theta_log.exp()[..., None] * steps_T
        modulus_NT = torch.exp(-decay_NT)
        return torch.complex(modulus_NT * torch.cos(angle_NT), modulus_NT * torch.sin(angle_NT))

    def forward(self, x_BDT: Tensor) -> Tensor:
        """`(B, D, T) -> (B, D, T)`; a step sees inputs of its own and earlier times only."""
        time = x_BDT.shape[-1]
        gamma_N1 = self.gamma_log.exp()[..., None]
        input_BNT = torch.complex(
            pointwise(x_BDT, gamma_N1 * self.input_real),
            pointwise(x_BDT, gamma_N1 * self.input_imaginary),
        )
        # Written out, the recurrence is a convolution with the powers of the eigenvalues.
        size = fft_size(2 * time - 1)
        spectra = torch.fft.fft(input_BNT, n=size), torch.fft.fft(self.powers(time), n=size)
        states_BNT = torch.fft.ifft(depthwise_product(*spectra), n=size)[..., :time]
        y_BDT = pointwise(states_BNT.real, self.output_real)
        y_BDT = y_BDT - pointwise(states_BNT.imag, self.output_imaginary)
        return y_BDT + self.skip[..., None, :, None] * x_BDT


class LRUBlock(nn.Module):
    """Norm over the channels of each step, LRU, GELU, dropout, a linear map at each step; then the
    input is added. The paper has a gated map (GLU) there, with twice as many weights."""

    def __init__(self, config: LRUConfig, number: int, generator: Generator | None) -> None:
        """`number` counts the blocks from 0; the dropout place is 1 + `number`."""
        super().__init__()
        hidden = config.hidden_channels
        self.place, self.dropout = 1 + number, config.dropout
        self.norm = channel(hidden)
        self.recurrence = LinearRecurrence(config, generator)
        self.pointwise = Pointwise(hidden, hidden, generator)

    def forward(self, x_BDT: Tensor, masks: Masks | None) -> Tensor:
        """`(B, D, T) -> (B, D, T)`"""
        h_BDT = gelu(self.recurrence(self.norm(x_BDT)))
        h_BDT = dropped(h_BDT, masks, self.place, self.dropout)
        mapped_BDT: Tensor = self.pointwise(h_BDT)
        return x_BDT + mapped_BDT


class LRU(SequenceModel):
    """A linear map to the hidden channels where the input has others, then the blocks."""

    def build(
        self, config: LRUConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        self.encoder = matched(in_channels, config.hidden_channels, generator)
        self.blocks = nn.ModuleList(
            LRUBlock(config, number, generator) for number in range(config.blocks)
        )

    def hidden(
        self, x_BCT: Tensor, masks: Masks | None, sampling: Sampling
    ) -> tuple[Tensor, Penalty]:
        h_BDT: Tensor = self.encoder(x_BCT)
        for block in self.blocks:
            h_BDT = block(h_BDT, masks)
        return h_BDT, no_penalty(h_BDT)
