"""The authors' Character Trajectories network, trained on all steps, read at other rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import CKCNNConfig, MLPConfig
from ckconv_sweep.models.authors import from_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.sequence_model import Sampling

NAME = "character_trajectories_sr1"


@pytest.fixture
def there(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "reference" / f"{NAME}.npz", allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])).double() for key in arrays.files}


def make_model(shared: Path, **changes: Any) -> CKCNN:
    config = CKCNNConfig(hidden_channels=30, kernel=MLPConfig(omega_0=21.44961185481323), **changes)
    description = Description(name="x", in_channels=3, length=182, outputs=20)
    model = CKCNN(config, description, None)
    path = shared / "reference" / f"{NAME}.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(from_authors(state, model))
    return model.double()  # on every processor the same, within their rounding


@pytest.mark.parametrize("rate", [1, 2])
def test_kernels_are_the_authors_at_both_rates(
    rate: int, shared: Path, there: dict[str, Tensor]
) -> None:
    conv = make_model(shared).blocks[0].conv1
    assert isinstance(conv, CKConv)
    theirs_DCK = there[f"srtr_1_drop_0_srtest{rate}_b0c1_kernel"].flip(-1)  # from the oldest step
    with torch.no_grad():
        ours_DCK = conv.kernel(theirs_DCK.shape[-1], float(rate))
    torch.testing.assert_close(ours_DCK, theirs_DCK, rtol=0, atol=1e-4)


@pytest.mark.parametrize("legacy_odd_fft", [False, True])
@pytest.mark.parametrize("rate", [1, 2])
def test_answers_are_the_authors_at_both_rates(
    rate: int, legacy_odd_fft: bool, shared: Path, there: dict[str, Tensor]
) -> None:
    # 182 steps are even, and where an input is shorter than in training, as these 91 are, the
    # published code convolves without FFT: its fault is in neither.
    model = make_model(shared, legacy_odd_fft=legacy_odd_fft)
    with torch.no_grad():
        logits_BK = model(there["x_norm"][..., ::rate], sampling=Sampling(rate=float(rate)))
    theirs_BK = there[f"srtr_1_drop_0_srtest{rate}_logits"]
    torch.testing.assert_close(logits_BK, theirs_BK, rtol=0, atol=1e-4)


def test_answers_at_half_the_rate_are_wrong_when_the_rate_is_not_said(
    shared: Path, there: dict[str, Tensor]
) -> None:
    model = make_model(shared)
    with torch.no_grad():
        logits_BK = model(there["x_norm"][..., ::2])
    theirs_BK = there["srtr_1_drop_0_srtest2_logits"]
    assert (logits_BK - theirs_BK).abs().max() > 5.0


def test_half_of_the_steps_with_their_times_are_convolved_with_the_authors_kernel(
    shared: Path, there: dict[str, Tensor]
) -> None:
    conv, x_BCT = make_model(shared).blocks[0].conv1, there["x_norm"][..., ::2]
    assert isinstance(conv, CKConv)
    times_BT = torch.arange(0.0, 182.0, 2.0).expand(x_BCT.shape[0], -1)
    # Times lay the present at +1; a rate of 2 lays the oldest step at -1 and, because 182 is even,
    # the present one step of training before +1, where these kernels are sampled too.
    kernel_DCK = there["srtr_1_drop_0_srtest1_b0c1_kernel"].flip(-1)[..., ::2]
    assert conv.bias is not None
    with torch.no_grad():
        got_BDT = conv(x_BCT, sampling=Sampling(times_BT=times_BT))
        expected_BDT = plain_sum(x_BCT, kernel_DCK) + conv.bias[:, None]
    torch.testing.assert_close(got_BDT, expected_BDT, rtol=0, atol=1e-3)


def plain_sum(x_BCT: Tensor, kernel_DCT: Tensor) -> Tensor:
    y_BDT = x_BCT.new_zeros(x_BCT.shape[0], kernel_DCT.shape[0], x_BCT.shape[2])
    for t in range(x_BCT.shape[2]):
        seen_BCS = x_BCT[..., : t + 1].flip(-1)
        y_BDT[..., t] = torch.einsum("bcs,dcs->bd", seen_BCS, kernel_DCT[..., : t + 1])
    return y_BDT
