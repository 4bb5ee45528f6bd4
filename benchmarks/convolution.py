"""The causal convolution of `ckconv_sweep.models`, against the same sum as one einsum.

    python -m benchmarks.convolution --channels 30 --batch 64 --length 784

Forward and backward, interleaved in one process, medians; one thread unless --threads says more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ckconv_sweep.models.convolution import causal_conv, fft_size


def einsum_conv(x_BCT: Tensor, kernel_DCT: Tensor) -> Tensor:
    """The same convolution, the product over channels left to one einsum."""
    time_steps = x_BCT.shape[-1]
    size = fft_size(2 * time_steps - 1)
    x_BCF, kernel_DCF = torch.fft.rfft(x_BCT, n=size), torch.fft.rfft(kernel_DCT, n=size)
    y_BDF = torch.einsum("bcf,dcf->bdf", x_BCF, kernel_DCF)
    return torch.fft.irfft(y_BDF, n=size)[..., :time_steps]


def seconds(conv: Callable[[Tensor, Tensor], Tensor], x_BCT: Tensor, kernel_DCT: Tensor) -> float:
    """One forward and backward."""
    start = time.perf_counter()
    conv(x_BCT, kernel_DCT).sum().backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name, default in (
        ("channels", 30),
        ("batch", 64),
        ("length", 784),
        ("threads", 1),
        ("repeats", 15),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(options.batch, options.channels, options.length, generator=rng)
    kernel = torch.randn(options.channels, options.channels, options.length, generator=rng)
    x.requires_grad_()
    kernel.requires_grad_()
    torch.testing.assert_close(causal_conv(x, kernel), einsum_conv(x, kernel), rtol=1e-3, atol=1e-2)
    ours, theirs = [], []
    for _ in range(options.repeats):
        ours.append(seconds(causal_conv, x, kernel))
        theirs.append(seconds(einsum_conv, x, kernel))
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.channels} channels, "
        f"batch {options.batch}, length {options.length}, median of {options.repeats}"
    )
    print(
        f"causal_conv {statistics.median(ours) * 1000:.1f} ms, "
        f"einsum {statistics.median(theirs) * 1000:.1f} ms, "
        f"ratio {statistics.median(theirs) / statistics.median(ours):.2f}"
    )


if __name__ == "__main__":
    main()
