"""One CKConv three ways, forward and backward: from the features of its kernel net, with its
sampled kernel, and as one einsum.

    python -m benchmarks.convolution                         # 30 channels, batch 64
    python -m benchmarks.convolution --lengths 8 12 16 24 32 784 797

Interleaved in one process, medians of CPU time; one thread unless --threads says more. `sampled` is
`models.convolution.causal_conv`: directly below 16 steps, from there on by FFT.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.machine import where
from ckconv_sweep.models.convolution import causal_conv, fft_size
from ckconv_sweep.models.spectral_convolution import spectral_conv
from ckconv_sweep.training.allocator import keep_pages

Conv = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def sampled(x_BCT: Tensor, weight: Tensor, offset: Tensor, features: Tensor) -> Tensor:
    """With the kernel in time, `(D, C, T)`."""
    return causal_conv(x_BCT, _kernel(x_BCT, weight, offset, features))


def einsum(x_BCT: Tensor, weight: Tensor, offset: Tensor, features: Tensor) -> Tensor:
    """The same by FFT, the product over channels left to one einsum."""
    time_steps, kernel_DCT = x_BCT.shape[-1], _kernel(x_BCT, weight, offset, features)
    size = fft_size(2 * time_steps - 1)
    x_BCF, kernel_DCF = torch.fft.rfft(x_BCT, n=size), torch.fft.rfft(kernel_DCT, n=size)
    y_BDF = torch.einsum("bcf,dcf->bdf", x_BCF, kernel_DCF)
    return torch.fft.irfft(y_BDF, n=size)[..., :time_steps]


def _kernel(x_BCT: Tensor, weight: Tensor, offset: Tensor, features: Tensor) -> Tensor:
    return torch.addmm(offset[:, None], weight, features).unflatten(0, (-1, x_BCT.shape[1]))  # type: ignore[no-untyped-call, no-any-return]


WAYS: dict[str, Conv] = {"features": spectral_conv, "sampled": sampled, "einsum": einsum}


def seconds(conv: Conv, inputs: list[Tensor]) -> float:
    """CPU time of one forward and backward."""
    start = time.process_time()
    torch.autograd.grad(conv(*inputs).sum(), inputs)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (
        ("channels", 30),
        ("batch", 64),
        ("features", 32),
        ("threads", 1),
        ("repeats", 15),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    lengths = [8, 12, 16, 24, 32, 64, 161, 182, 784, 797, 4096]
    parser.add_argument("--lengths", type=int, nargs="*", default=lengths)
    options = parser.parse_args()
    kept = keep_pages()
    torch.set_num_threads(options.threads)
    print(
        f"{where('cpu', kept)}\n"
        f"{options.channels} channels, batch {options.batch}, {options.features} features, ms, "
        f"median of {options.repeats}\n\n{'steps':>6}" + "".join(f"{name:>10}" for name in WAYS)
    )
    channels = options.channels
    for length in options.lengths:
        rng = torch.Generator().manual_seed(0)
        inputs = [
            torch.randn(shape, generator=rng).requires_grad_()
            for shape in (
                (options.batch, channels, length),
                (channels * channels, options.features),
                (channels * channels,),
                (options.features, length),
            )
        ]
        results = [conv(*inputs) for conv in WAYS.values()]
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], rtol=1e-3, atol=1e-2)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(options.repeats):
            for name, conv in WAYS.items():
                times[name].append(seconds(conv, inputs))
        medians = [statistics.median(values) * 1000 for values in times.values()]
        print(f"{length:6}" + "".join(f"{value:10.2f}" for value in medians), flush=True)


if __name__ == "__main__":
    main()
