"""What a model's kernels have learnt, for a picture, a table of numbers, and a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ckconv_sweep.report.plots.learnt_kernels import Layer, draw
from ckconv_sweep.training.learnt_kernels import LearntKernel
from ckconv_sweep.training.omega_0 import Advice
from ckconv_sweep.training.spectra import Spectrum


def picture(found: Sequence[LearntKernel], shown: int, title: str, data: Spectrum | None) -> Figure:
    """Of each layer the `shown` largest kernels, their spectrum and their reach."""
    layers = [_layer(kernel, shown) for kernel in found]
    pairs = sum(kernel.pairs for kernel in found)
    drawn = sum(len(layer.pairs) for layer in layers)
    note = (
        f"{drawn:,} of {pairs:,} kernels: the largest of each layer by their norm, "
        "channel in → out; amplitudes are means over all kernels of a layer"
    )
    if data is None:
        return draw(layers, title, note)
    note += "; orange: the validation data, scaled"
    return draw(layers, title, note, (data.frequencies_F, data.amplitudes_F))


def as_csv(found: Sequence[LearntKernel]) -> str:
    """A line for each value of each kernel: layer, channel out, channel in, lag in steps, position
    from -1 to 1 (empty where the values are the weights themselves), value."""
    lines = ["layer,out,in,lag,position,value"]
    for kernel in found:
        positions = kernel.positions_K
        where = [
            f"{lag:.9g},{'' if positions is None else format(positions[k], '.9g')}"
            for k, lag in enumerate(kernel.lags_K)
        ]
        outs, ins, _ = kernel.values_DCK.shape
        for out, in_ in np.ndindex(outs, ins):
            # A separable convolution has a kernel for each channel, from that to that.
            place = f"{kernel.layer},{out},{out if kernel.separable else in_}"
            values = kernel.values_DCK[out, in_].tolist()
            lines += [f"{place},{w},{v:.9g}" for w, v in zip(where, values, strict=True)]
    return "\n".join(lines) + "\n"


def as_tree(
    found: Sequence[LearntKernel], data: Spectrum | None, why_none: str, said: Advice | None
) -> dict[str, Any]:
    """Plain values: of each layer its reach in steps and its frequencies in cycles per step, those
    of the data or why there are none, and the advice on omega_0."""
    layers = [
        {
            "layer": kernel.layer,
            "kernels": kernel.pairs,
            "samples": len(kernel.lags_K),
            "reach_95": kernel.reach(0.95),
            "reach_99": kernel.reach(0.99),
            **_frequencies(kernel.spectrum),
            "beyond_nyquist": kernel.beyond,
            "frequencies": kernel.spectrum.frequencies_F.tolist(),
            "amplitudes": kernel.spectrum.amplitudes_F.tolist(),
        }
        for kernel in found
    ]
    return {
        "layers": layers,
        "data": None if data is None else _frequencies(data),
        "why_no_data": why_none or None,
        "omega_0": None if said is None else asdict(said),
    }


def _frequencies(spectrum: Spectrum) -> dict[str, float]:
    return {f"frequency_{share}": spectrum.frequency_below(share / 100) for share in (50, 95, 99)}


def _layer(kernel: LearntKernel, shown: int) -> Layer:
    pairs = kernel.largest(shown)
    distances_K, within_K = kernel.within()
    return Layer(
        name=kernel.layer,
        pairs=pairs,
        kernels_SK=np.stack([kernel.values_DCK[pair] for pair in pairs]),
        lags_K=kernel.lags_K,
        frequencies_F=kernel.spectrum.frequencies_F,
        amplitudes_F=kernel.spectrum.amplitudes_F,
        within_K=within_K,
        distances_K=distances_K,
        note="" if kernel.beyond is None else f"{kernel.beyond:.0%} beyond 0.5",
    )
