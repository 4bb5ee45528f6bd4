"""A small CKCNN computed slowly: the formula written out in loops, in float64, without torch.

    python tests/reference/make_reference.py      # writes small_ckcnn.npz beside this file

Nothing is shared with the package but the names of the parameters. Every array of the file:
`state/<name>` parameters; for each length L in 31 and 32: `<L>/x` input (2, 2, L), `<L>/kernel` of
the first CKConv in lag order (4, 2, L), `<L>/block` output of the first block (2, 4, L),
`<L>/logits` (2, 3), `<L>/penalty` (), the sum of the norms of all kernels and biases.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

IN_CHANNELS, CHANNELS, CLASSES, BLOCKS = 2, 4, 3, 2
KERNEL_HIDDEN, KERNEL_LAYERS, OMEGA_0 = 5, 3, 7.5
LENGTHS = (31, 32)
EPS = 1e-12


def make_state(rng: np.random.Generator) -> dict[str, Array]:
    state = {}
    for block in range(BLOCKS):
        for conv in (1, 2):
            channels_in = IN_CHANNELS if block == 0 and conv == 1 else CHANNELS
            widths = [1] + [KERNEL_HIDDEN] * (KERNEL_LAYERS - 1) + [CHANNELS * channels_in]
            for layer in range(KERNEL_LAYERS):
                name = f"blocks.{block}.conv{conv}.kernel_net.layers.{layer}"
                state[f"{name}.weight_g"] = rng.uniform(0.2, 1.0, (widths[layer + 1], 1))
                state[f"{name}.weight_v"] = rng.normal(size=(widths[layer + 1], widths[layer]))
                state[f"{name}.bias"] = rng.uniform(-1.0, 1.0, widths[layer + 1])
            state[f"blocks.{block}.conv{conv}.bias"] = rng.normal(size=CHANNELS)
            state[f"blocks.{block}.norm{conv}.weight"] = rng.normal(1.0, 0.3, CHANNELS)
            state[f"blocks.{block}.norm{conv}.bias"] = rng.normal(0.0, 0.3, CHANNELS)
    state["blocks.0.shortcut.weight"] = rng.normal(size=(CHANNELS, IN_CHANNELS))
    state["blocks.0.shortcut.bias"] = rng.normal(size=CHANNELS)
    state["readout.weight"] = rng.normal(size=(CLASSES, CHANNELS))
    state["readout.bias"] = rng.normal(size=CLASSES)
    return state


def kernel_at(state: dict[str, Array], name: str, position: float) -> list[float]:
    """The kernel net at one relative position: one value per (channel out, channel in)."""
    values = [position]
    for layer in range(KERNEL_LAYERS):
        g = state[f"{name}.layers.{layer}.weight_g"]
        v = state[f"{name}.layers.{layer}.weight_v"]
        bias = state[f"{name}.layers.{layer}.bias"]
        sums = []
        for n in range(len(bias)):
            length = math.sqrt(sum(float(x) ** 2 for x in v[n]))
            total = float(bias[n])
            for m, value in enumerate(values):
                total += float(g[n, 0]) * float(v[n, m]) / length * value
            sums.append(total)
        last = layer == KERNEL_LAYERS - 1
        values = sums if last else [math.sin(OMEGA_0 * total) for total in sums]
    return values


def sampled_kernel(state: dict[str, Array], conv: str, channels_in: int, length: int) -> Array:
    """Lag s lies at the position 1 - 2 s / (length - 1)."""
    kernel = np.zeros((CHANNELS, channels_in, length))
    for lag in range(length):
        values = kernel_at(state, f"{conv}.kernel_net", 1.0 - 2.0 * lag / (length - 1))
        for d in range(CHANNELS):
            for c in range(channels_in):
                kernel[d, c, lag] = values[d * channels_in + c]
    return kernel


def convolved(x: Array, kernel: Array, bias: Array) -> Array:
    batch, channels_in, length = x.shape
    y = np.zeros((batch, CHANNELS, length))
    for b in range(batch):
        for d in range(CHANNELS):
            for t in range(length):
                total = float(bias[d])
                for c in range(channels_in):
                    for s in range(t + 1):
                        total += kernel[d, c, s] * x[b, c, t - s]
                y[b, d, t] = total
    return y


def normed(x: Array, weight: Array, bias: Array) -> Array:
    """Each sequence by its mean and variance over channels and time."""
    y = np.zeros_like(x)
    for b in range(len(x)):
        mean = x[b].sum() / x[b].size
        variance = ((x[b] - mean) ** 2).sum() / x[b].size
        for d in range(CHANNELS):
            y[b, d] = (x[b, d] - mean) / math.sqrt(variance + EPS) * weight[d] + bias[d]
    return y


def block_output(state: dict[str, Array], block: int, x: Array) -> tuple[Array, float, Array]:
    """Output, penalty, and the first kernel."""
    name = f"blocks.{block}"
    h, penalty, kernels = x, 0.0, []
    for conv in (1, 2):
        kernel = sampled_kernel(state, f"{name}.conv{conv}", h.shape[1], h.shape[2])
        bias = state[f"{name}.conv{conv}.bias"]
        penalty += math.sqrt((kernel**2).sum()) + math.sqrt((bias**2).sum())
        kernels.append(kernel)
        h = convolved(h, kernel, bias)
        h = normed(h, state[f"{name}.norm{conv}.weight"], state[f"{name}.norm{conv}.bias"])
        h = np.maximum(h, 0.0)
    shortcut = x
    if f"{name}.shortcut.weight" in state:
        weight, bias = state[f"{name}.shortcut.weight"], state[f"{name}.shortcut.bias"]
        shortcut = np.zeros_like(h)
        for d in range(CHANNELS):
            shortcut[:, d] = bias[d]
            for c in range(IN_CHANNELS):
                shortcut[:, d] += weight[d, c] * x[:, c]
    return np.maximum(h + shortcut, 0.0), penalty, kernels[0]


def main() -> None:
    rng = np.random.default_rng(2022)
    state = make_state(rng)
    arrays = {f"state/{name}": value for name, value in state.items()}
    for length in LENGTHS:
        x = rng.normal(size=(2, IN_CHANNELS, length))
        h, penalty = x, 0.0
        for block in range(BLOCKS):
            h, added, kernel = block_output(state, block, h)
            penalty += added
            if block == 0:
                arrays |= {f"{length}/kernel": kernel, f"{length}/block": h}
        logits = np.zeros((len(x), CLASSES))
        for b in range(len(x)):
            for k in range(CLASSES):
                logits[b, k] = state["readout.bias"][k]
                for d in range(CHANNELS):
                    logits[b, k] += state["readout.weight"][k, d] * h[b, d, -1]
        arrays |= {f"{length}/x": x, f"{length}/logits": logits}
        arrays[f"{length}/penalty"] = np.float64(penalty)
    np.savez_compressed(Path(__file__).parent / "small_ckcnn.npz", **arrays)


if __name__ == "__main__":
    main()
