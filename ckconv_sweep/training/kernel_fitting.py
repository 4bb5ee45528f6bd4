"""Which functions a kernel net can be: one is fitted to each of some targets, by itself.

The experiment of Romero et al. 2022 (CKConv, arXiv:2102.02611) that argues for sines in the kernel
net: piecewise linear and smooth activations do not reach kernels with steps or high frequencies.

Shapes: K targets, P positions, evenly from -1 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.func import functional_call, stack_module_state

from ckconv_sweep.config.model import KERNEL_NETS, KernelConfig, MLPConfig
from ckconv_sweep.models.kernel_nets.base import make_kernel_net

TARGETS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "gaussian": lambda p, rng: torch.exp(-0.5 * (p / 0.2).square()),
    "step": lambda p, rng: torch.where(p < 0.0, 1.0, -1.0),
    "sawtooth": lambda p, rng: 2.0 * torch.remainder(p / 0.4, 1.0) - 1.0,
    "chirp": lambda p, rng: torch.sin(4.0 * math.pi * (p + 1.0).square()),
    "noise": lambda p, rng: torch.randn(p.shape, generator=rng),
}
"""A function of positions `(P,)`, within [-1, 1]; all but noise draw nothing."""


def positions(length: int) -> Tensor:
    """Positions `(P,)`, evenly from -1 to 1."""
    return torch.linspace(-1.0, 1.0, length)


def sampled_targets(length: int, generator: Generator) -> Tensor:
    """All of `TARGETS` at `length` positions, `(K, P)`."""
    return torch.stack([target(positions(length), generator) for target in TARGETS.values()])


def compared(hidden_channels: int, omega_0s: Sequence[float]) -> dict[str, KernelConfig]:
    """The nets that the experiment compares, by a name to show: a SIREN for each omega_0, the other
    activations, and the other kernel nets at an omega_0 that suits them."""
    sizes: dict[str, Any] = {"hidden_channels": hidden_channels}
    nets: dict[str, KernelConfig] = {
        f"sine, omega_0 {omega_0:g}": MLPConfig(**sizes, omega_0=omega_0) for omega_0 in omega_0s
    }
    for activation in ("relu", "leaky_relu", "swish"):
        nets[activation] = MLPConfig(**sizes, activation=activation)
    others = {name: row for name, row in KERNEL_NETS.items() if row is not MLPConfig}
    return nets | {name: row(**sizes, omega_0=5.0) for name, row in others.items()}


@dataclass(frozen=True, eq=False)
class Fit:
    """What became of one net for each target."""

    values_KP: Tensor  # noqa: N815
    """The fitted kernels."""
    errors_K: Tensor  # noqa: N815
    """Mean squared errors, in variances of their targets: 1 is no better than a constant."""


def fit(
    config: KernelConfig,
    targets_KP: Tensor,
    *,
    steps: int,
    learning_rate: float,
    generator: Generator,
) -> Fit:
    """Fit a net of its own to each target, from initial weights of its own, with Adam; the learning
    rate falls to zero along half a cosine.

    Args:
        config: the settings of the nets.
        targets_KP: what they shall be, at the positions of `positions`.
        steps: of Adam, each on all positions.
        learning_rate: of the first step.
        generator: all initial weights are drawn from it.
    """
    target_count, length = targets_KP.shape
    nets = [make_kernel_net(config, 1, generator) for _ in range(target_count)]
    weights, buffers = stack_module_state(nets)
    positions_P = positions(length)

    def together(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        values_KNP: Tensor = functional_call(nets[0], (weights, buffers), (positions_P,))
        return values_KNP[:, 0]

    factors = nets[0].learning_rate_factors()
    optimizer = torch.optim.Adam(
        [
            {"params": [weight], "lr": learning_rate * factors.get(name, 1.0)}
            for name, weight in weights.items()
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(steps):
        optimizer.zero_grad()
        # Summed over the targets: each net sees the gradient of its own error only.
        loss = (together(weights, buffers) - targets_KP).square().mean(1).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        values_KP = together(weights, buffers)
    errors_K = (values_KP - targets_KP).square().mean(1) / targets_KP.var(1, correction=0)
    return Fit(values_KP, errors_K)
