"""The small networks that are the kernel, by name. A new one is a class in `config/model.py`, a
file here and a line in the table."""

from __future__ import annotations

from ckconv_sweep.models.kernel_nets.base import KernelNet
from ckconv_sweep.models.kernel_nets.magnet import Magnet
from ckconv_sweep.models.kernel_nets.mlp import MLP
from ckconv_sweep.models.kernel_nets.random_fourier import RandomFourier

__all__ = ["KERNEL_NETS", "MLP", "KernelNet", "Magnet", "RandomFourier"]

KERNEL_NETS: dict[str, type[KernelNet]] = {
    "mlp": MLP,
    "random_fourier": RandomFourier,
    "magnet": Magnet,
}
