"""The code paths of a GPU, on a CPU."""

from __future__ import annotations

import pytest

from ckconv_sweep.models import convolution, members, right_angle, spectral_convolution
from ckconv_sweep.training import philox, steps
from ckconv_sweep.training.dropout_masks import DeviceMasks


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All members are multiplied and transformed at once, and masks are made on the device."""
    for module in (members, convolution, right_angle):
        monkeypatch.setattr(module, "one_by_one", lambda tensor: False)
    monkeypatch.setattr(spectral_convolution, "CHUNK_BYTES", {})
    monkeypatch.setattr(steps, "dropout_masks", DeviceMasks)
    monkeypatch.setattr(philox, "fast_factors", lambda device: philox.factors)
