from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import CKCNNConfig, GaussianMask, MLPConfig, RandomFourierConfig
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.authors import from_authors, to_authors
from ckconv_sweep.models.ckcnn import CKCNN

MakeModel = Callable[..., CKCNN]


def load(shared: Path, name: str, model: CKCNN) -> CKCNN:
    path = shared / "reference" / f"{name}.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(from_authors(state, model))
    return model.double()


def arrays_of(shared: Path, name: str) -> dict[str, Any]:
    """Theirs were computed in float32, ours are in float64: the difference is their rounding, and
    the same on every processor."""
    with np.load(shared / "reference" / f"{name}.npz", allow_pickle=False) as arrays:
        read = {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}
    return {key: x.double() if x.is_floating_point() else x for key, x in read.items()}


def test_the_authors_smnist_network_gives_the_authors_kernels_and_logits(shared: Path) -> None:
    there = arrays_of(shared, "smnist_98k")
    config = CKCNNConfig(hidden_channels=30, kernel=MLPConfig(omega_0=there["omega_0"].item()))
    description = Description(name="smnist", in_channels=1, length=784, outputs=10)
    model = load(shared, "smnist_98k", CKCNN(config, description, None))
    block = model.blocks[0]
    with torch.no_grad():
        logits_BK = model(there["x"])
        torch.testing.assert_close(logits_BK, there["logits"], rtol=0, atol=1e-4)
        assert torch.equal(logits_BK.argmax(1), there["labels"])
        for conv, name, x_BCT in [
            (block.conv1, "block0_conv1", there["x"][:4]),
            (block.conv2, "block0_conv2", there["block0_conv2_in"]),
        ]:
            kernel_DCT = there[f"{name}_kernel"].flip(-1)  # theirs runs from the oldest step
            torch.testing.assert_close(conv.kernel(784), kernel_DCT, rtol=0, atol=1e-4)
            largest = there[f"{name}_out"].abs().max().item()
            torch.testing.assert_close(
                conv(x_BCT), there[f"{name}_out"], rtol=0, atol=4e-6 * largest
            )


def test_the_authors_character_trajectories_network_gives_their_logits_and_penalty(
    shared: Path,
) -> None:
    there = arrays_of(shared, "character_trajectories_sr1")
    config = CKCNNConfig(hidden_channels=30, kernel=MLPConfig(omega_0=21.44961185481323))
    description = Description(name="letters", in_channels=3, length=182, outputs=20)
    model = load(shared, "character_trajectories_sr1", CKCNN(config, description, None))
    with torch.no_grad():
        logits_BK, penalty = model.forward_with_penalty(there["x_norm"])
    expected_BK = there["srtr_1_drop_0_srtest1_logits"]
    torch.testing.assert_close(logits_BK, expected_BK, rtol=0, atol=1e-4)
    theirs = there["srtr_1_drop_0_lnloss_wd1e-4"].item()
    assert 1e-4 * penalty.item() == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("changes", [{}, {"bias": False}, {"blocks": 3, "kernel__layers": 4}])
def test_weights_survive_the_way_to_the_authors_names_and_back(
    changes: dict[str, Any], make_model: MakeModel
) -> None:
    model = make_model(seed=1, **changes)
    other = make_model(seed=2, **changes)
    other.load_state_dict(from_authors(to_authors(model), other))
    assert model.state_dict().keys() == other.state_dict().keys()
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_names_and_shapes_are_the_authors(make_model: MakeModel) -> None:
    state = to_authors(make_model())
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    kernel_net = "backbone.0.cconv1.Kernel.kernel_net"
    assert len(shapes) == 52
    assert shapes[f"{kernel_net}.0.weight_v"] == (5, 1, 1)
    assert shapes[f"{kernel_net}.4.weight_g"] == (5, 1, 1)
    assert shapes[f"{kernel_net}.8.weight_v"] == (8, 5, 1)
    assert shapes[f"{kernel_net}.8.bias"] == (8,)
    assert shapes["backbone.1.norm2.layer_norm.weight"] == (4,)
    assert shapes["backbone.0.shortcut.0.weight"] == (4, 2, 1)
    assert shapes["finallyr.weight"] == (3, 4)


def test_what_the_authors_compute_anew_is_ignored(make_model: MakeModel) -> None:
    model = make_model()
    state: dict[str, object] = dict(to_authors(model))
    state["backbone.0.cconv1.train_length"] = torch.tensor([784], dtype=torch.int32)
    state["backbone.0.cconv1.conv_kernel"] = torch.ones(4, 2, 784)
    assert from_authors(state, model).keys() == model.state_dict().keys()


KEY = "backbone.0.cconv2.Kernel.kernel_net.4.weight_v"


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        (KEY, None, ConfigError, f"lacks '{KEY}'"),
        (
            KEY,
            torch.ones(5, 5),
            ConfigError,
            rf"'{KEY}' must have the shape \(5, 5, 1\), got \(5, 5\)",
        ),
        (KEY, torch.full((5, 5, 1), torch.nan), DamagedData, f"'{KEY}' must hold finite"),
        (
            KEY,
            torch.ones(5, 5, 1, dtype=torch.int64),
            DamagedData,
            f"'{KEY}' must hold finite real",
        ),
        (KEY, [1.0], DamagedData, f"'{KEY}' must be a tensor, got list"),
        (
            "backbone.2.cconv1.bias",
            torch.ones(4),
            ConfigError,
            r"holds 'backbone\.2\.cconv1\.bias'",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_the_key_named(
    key: str, value: Tensor | None, error: type[Exception], message: str, make_model: MakeModel
) -> None:
    model = make_model()
    state: dict[str, object] = dict(to_authors(model))
    if value is None:
        del state[key]
    else:
        state[key] = value
    with pytest.raises(error, match=message):
        from_authors(state, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel__activation": "relu", "kernel__norm": "layer"}, r"norms\.0"),
        ({"kernel__learn_omega_0": True}, "omega_0"),
        ({"kernel": RandomFourierConfig(hidden_channels=4)}, "model.kernel must be mlp"),
        ({"mask": GaussianMask()}, r"mask\.width"),
        ({"separable": True}, "pointwise"),
        ({"block": "preactivation"}, "model.block must be residual"),
        ({"norm": "instance"}, "model.norm must be layer"),
        ({"norm": "none"}, "model.norm must be layer"),
        ({"activation": "gelu"}, "model.activation must be relu"),
        ({"readout": "mean"}, "model.readout must be last"),
        ({"causal": False}, "model.causal must be True"),
    ],
)
def test_a_network_that_the_published_code_has_not_is_refused(
    changes: dict[str, Any], message: str, make_model: MakeModel
) -> None:
    published = to_authors(make_model())
    model = make_model(**changes)
    with pytest.raises(ConfigError, match=message):
        to_authors(model)
    with pytest.raises(ConfigError, match=message):
        from_authors(published, model)
