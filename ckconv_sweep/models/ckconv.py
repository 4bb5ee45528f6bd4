"""A convolution whose kernel is a small network, sampled at the steps of its input.

Romero et al. 2022 (CKConv, arXiv:2102.02611), sec. 4. Centred and masked kernels are from FlexConv
(arXiv:2110.08059), separable ones from CCNN (arXiv:2206.03398). Times of their own for the steps of
each sequence: named in CKConv as what continuous kernels are good for; the published code has none.

All take the axis of members (`members.py`) in front.

Shapes: B batch, C channels in, D channels out, T time, K samples of the kernel, N kernels (C, or
D C for each pair of channels), H features of the kernel net.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from ckconv_sweep.config.model import MASKS, CKCNNConfig
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.convolution import (
    DIRECT_BELOW,
    causal_conv,
    centred_conv,
    legacy_odd_fft,
)
from ckconv_sweep.models.initial import put, uniform, unset
from ckconv_sweep.models.kernel_masks import KernelMask, Unmasked
from ckconv_sweep.models.kernel_nets.base import make_kernel_net
from ckconv_sweep.models.masks import Masks, dropped
from ckconv_sweep.models.members import product
from ckconv_sweep.models.positions import Span, smoothed
from ckconv_sweep.models.sequence_model import EVENLY, Penalty, Sampling, pointwise
from ckconv_sweep.models.spectral_convolution import kernel_norm, spectral_conv


class CKConv(nn.Module):
    """The kernel spans a training sequence. Nothing is kept between calls: the same function is
    sampled anew for each length, rate or set of times."""

    def __init__(
        self,
        config: CKCNNConfig,
        in_channels: int,
        out_channels: int,
        length: int,
        place: int,
        generator: Generator | None,
    ) -> None:
        """
        Args:
            config: the settings of the network.
            in_channels: C.
            out_channels: D.
            length: steps of a training sequence.
            place: number of the place where the kernel's values are dropped.
            generator: as of `SequenceModel`.
        """
        super().__init__()
        self.place, self.weight_dropout = place, config.weight_dropout
        self.separable, self.legacy_odd_fft = config.separable, config.legacy_odd_fft
        self.span = Span(length, config.causal)
        self.kernels = (in_channels,) if config.separable else (out_channels, in_channels)
        self.kernel_net = make_kernel_net(
            config.kernel,
            in_channels if config.separable else out_channels * in_channels,
            generator,
            summed=length if config.separable else in_channels * length,
        )
        self.mask: KernelMask = MASKS.maker(config.mask.name)(config.mask, config.causal)
        self.pointwise = unset(out_channels, in_channels) if config.separable else None
        if generator is not None and self.pointwise is not None:  # PyTorch's default
            put(
                self.pointwise,
                uniform((out_channels, in_channels), in_channels**-0.5, generator),
            )
        self.bias = unset(out_channels) if config.bias else None
        if generator is not None and self.bias is not None:
            put(self.bias, 0.0)

    def kernel(self, length: int, rate: float = 1.0) -> Tensor:
        """The kernel for sequences of `length` steps, in lag order: masked, and made ready for
        their sampling rate.

        Args:
            length: steps of the sequences.
            rate: distance of two of their steps, in steps of the training sequences.

        Returns:
            `(D, C, K)`, or `(C, K)` where the convolution is separable. Causal, index 0 weighs the
            present and K is at most `length`; centred, the present is in the middle.
        """
        positions_K = self.span.sampled(length, rate, like=self.kernel_net.last.bias)
        # Masked last, so that smoothing brings nothing back where the kernel is cropped.
        values_NK: Tensor = self.mask(smoothed(self.kernel_net(positions_K), rate), positions_K)
        return torch.unflatten(values_NK, -2, self.kernels)

    def forward(
        self, x_BCT: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> Tensor:
        """`(B, C, T) -> (B, D, T)`; see `convolved`."""
        return self.convolved(x_BCT, masks, sampling)[0]

    def convolved(
        self, x_BCT: Tensor, masks: Masks | None = None, sampling: Sampling = EVENLY
    ) -> tuple[Tensor, Penalty]:
        """The output and what it costs.

        Args:
            x_BCT: input, `(B, C, T)`.
            masks: which values of the kernel are dropped in a training step.
            sampling: when the steps were.

        Returns:
            The output `(B, D, T)`, and what gives a scalar: the L2 norm of the sampled kernel, as
            it was used, plus that of the bias, neither squared. The published code's `LnLoss` is
            the sum of these over all CKConvs, times a factor. Where every sequence has times, and
            so a kernel of its own, it is the norm of the kernel as training sequences without them
            would sample it.

        Raises:
            ConfigError: values are to be dropped from the kernel, but the steps have times.
        """
        if sampling.present_B1T is not None:
            x_BCT = x_BCT * sampling.present_B1T
        if sampling.times_BT is None:
            positions_K = self._plain_positions(x_BCT.shape[-1], masks, sampling.rate)
            if positions_K is None:
                y_BDT, penalty = self.by_its_kernel(x_BCT, masks, sampling.rate)
            else:
                y_BDT, penalty = self._by_its_features(x_BCT, positions_K)
        else:
            if masks is not None and self.weight_dropout > 0.0:
                raise ConfigError(
                    "model.weight_dropout must be 0 where steps have times of their own: there is "
                    "no one sampled kernel whose values could be dropped",
                    hint="take data.dropped_as mask, or another dropout",
                )
            y_BDT, penalty = self._at_times(x_BCT, sampling.times_BT)
        bias_D = self.bias
        if bias_D is None:
            return y_BDT, penalty
        return y_BDT, lambda: penalty() + torch.linalg.vector_norm(bias_D, dim=-1)

    def by_its_kernel(
        self, x_BCT: Tensor, masks: Masks | None = None, rate: float = 1.0
    ) -> tuple[Tensor, Penalty]:
        """`convolved` in plain words: the kernel is sampled and the input convolved with it. Works
        for every kernel; `_by_its_features` is the same, faster, for most."""
        kernel = self.kernel(x_BCT.shape[-1], rate)
        kernel = dropped(kernel, masks, self.place, self.weight_dropout, dims=len(self.kernels) + 1)
        return self._biased(self._evenly(x_BCT, kernel)), lambda: self._norm(kernel)

    def _plain_positions(self, length: int, masks: Masks | None, rate: float) -> Tensor | None:
        """Where the kernel is sampled; or None where its samples must be seen one by one, or are
        so few that they better are."""
        faulty = self.legacy_odd_fft and length >= self.span.training_length
        if (
            rate != 1.0
            or not isinstance(self.mask, Unmasked)
            or (masks is not None and self.weight_dropout > 0.0)
            or faulty
        ):
            return None
        positions_K = self.span.sampled(length, rate, like=self.kernel_net.last.bias)
        return None if len(positions_K) < DIRECT_BELOW else positions_K

    def _by_its_features(self, x_BCT: Tensor, positions_K: Tensor) -> tuple[Tensor, Penalty]:
        """As `by_its_kernel`, without the kernel's samples (`spectral_convolution`)."""
        last = self.kernel_net.last
        kernel = last.weight(), last.bias, self.kernel_net.features(positions_K)
        ahead = 0 if self.span.causal else len(positions_K) // 2
        if self.separable:
            y_BDT = self._biased(spectral_conv(x_BCT, *kernel, ahead=ahead, depthwise=True))
        else:
            y_BDT = spectral_conv(x_BCT, *kernel, self.bias, ahead=ahead)
        return y_BDT, lambda: kernel_norm(*kernel)

    def _biased(self, y_BDT: Tensor) -> Tensor:
        """After what comes after the sum over the steps: the channels mixed where the convolution
        is separable, and the bias."""
        if self.pointwise is not None:
            y_BDT = pointwise(y_BDT, self.pointwise)
        return y_BDT if self.bias is None else y_BDT + self.bias[..., None, :, None]

    def _norm(self, kernel: Tensor) -> Tensor:
        """In two steps: several threads round the sum of a whole tensor in another order."""
        norms = torch.linalg.vector_norm(kernel, dim=-1).flatten(-len(self.kernels))
        norm: Tensor = torch.linalg.vector_norm(norms, dim=-1)
        return norm

    def learning_rate_factors(self) -> dict[str, float]:
        """Parameters, by name, whose learning rate is not that of the others, and its factor."""
        return {
            f"{part}.{name}": factor
            for part, factors in [
                ("kernel_net", self.kernel_net.learning_rate_factors()),
                ("mask", self.mask.learning_rate_factors()),
            ]
            for name, factor in factors.items()
        }

    def _evenly(self, x_BCT: Tensor, kernel: Tensor) -> Tensor:
        """Convolved, `(B, D, T)`; where separable each channel by itself, `(B, C, T)`."""
        if not self.span.causal:
            return centred_conv(x_BCT, kernel)
        # The published code has no FFT, and so not its fault, where an input is shorter than those
        # of training.
        if self.legacy_odd_fft and x_BCT.shape[-1] >= self.span.training_length:
            return legacy_odd_fft(x_BCT, kernel)
        return causal_conv(x_BCT, kernel)

    def _at_times(self, x_BCT: Tensor, times_BT: Tensor) -> tuple[Tensor, Penalty]:
        """As `by_its_kernel`, where each sequence has times, `(B, T)`, of its own.

        `y[b, d, t] = sum over c and s of psi[d, c](times[b, t] - times[b, s]) * x[b, c, s]`

        The kernel of each pair of steps is never made, `(B, T, T, D, C)` values. psi is linear in
        the features of the kernel net, so that these are summed with the input first. A kernel net
        with norm takes its statistics over all pairs of steps, reached or not.
        """
        batch, time = times_BT.shape[-2:]
        lags_BTT = (times_BT[..., :, None] - times_BT[..., None, :]).to(x_BCT.dtype)  # [b, t, s]
        positions_BTT, reached_BTT = self.span.at_lags(lags_BTT)
        if self.span.causal:
            steps_T = torch.arange(time, device=x_BCT.device)
            reached_BTT = reached_BTT & (steps_T[:, None] >= steps_T)
        positions_P = positions_BTT.flatten(-3)
        last = self.kernel_net.last
        # A last feature that is always one stands for the bias of the kernel net's last layer.
        weight_NH = torch.cat([last.weight(), last.bias[..., None]], dim=-1)
        features_HP = functional.pad(self.kernel_net.features(positions_P), (0, 0, 0, 1), value=1.0)
        features_HP = self.mask(features_HP, positions_P) * reached_BTT.flatten(-3).unsqueeze(-2)
        features_BTHS = torch.unflatten(features_HP, -1, (batch, time, time)).movedim(-4, -2)
        summed_BTHC = product(features_BTHS.flatten(-3, -2), x_BCT.mT, a_dims=3, b_dims=3)
        summed_BTHC = torch.unflatten(summed_BTHC, -2, (time, -1))
        if self.separable:
            y_BDT = (summed_BTHC * weight_NH.mT[..., None, None, :, :]).sum(-2).mT
        else:
            weight_DCH = torch.unflatten(weight_NH, -2, self.kernels)
            summed_PN = summed_BTHC.flatten(-2).flatten(-3, -2)
            y_PD = product(summed_PN, weight_DCH.mT.flatten(-2).mT)
            y_BDT = torch.unflatten(y_PD, -2, (batch, time)).mT
        return self._biased(y_BDT), lambda: self._norm(self.kernel(self.span.training_length))
