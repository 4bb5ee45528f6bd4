from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.model import TCNConfig
from ckconv_sweep.models.tcn import TCN


def model_of(readout: str, rng: Generator, **changes: Any) -> TCN:
    described: dict[str, Any] = {"name": "x", "in_channels": 2, "length": 7, "outputs": 3}
    config = TCNConfig(hidden_channels=4, blocks=1, kernel_size=2, readout=readout)
    return TCN(config, Description(**described | changes), rng)


def hidden(model: TCN, x_BCT: Tensor) -> Tensor:
    return model.hidden(x_BCT, None, None)[0]


def test_the_last_step_answers(rng: Generator) -> None:
    model, x_BCT = model_of("last", rng), torch.randn(2, 2, 7, generator=rng)
    expected_BK = hidden(model, x_BCT)[..., -1] @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x_BCT), expected_BK)


def test_the_mean_over_all_steps_answers(rng: Generator) -> None:
    model, x_BCT = model_of("mean", rng), torch.randn(2, 2, 7, generator=rng)
    expected_BK = hidden(model, x_BCT).mean(-1) @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x_BCT), expected_BK)


def test_every_step_answers_by_itself(rng: Generator) -> None:
    model = model_of("every_step", rng, kind="per_step")
    x_BCT = torch.randn(2, 2, 7, generator=rng)
    h_BDT, answers_BKT = hidden(model, x_BCT), model(x_BCT)
    for t in range(7):
        expected_BK = h_BDT[..., t] @ model.readout.weight.T + model.readout.bias
        torch.testing.assert_close(answers_BKT[..., t], expected_BK)


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_one_number_has_no_axis_of_its_own(kind: str, rng: Generator) -> None:
    model = model_of("last", rng, kind=kind, outputs=1)
    x_BCT = torch.randn(2, 2, 7, generator=rng)
    expected_BK = hidden(model, x_BCT)[..., -1] @ model.readout.weight.T + model.readout.bias
    torch.testing.assert_close(model(x_BCT), expected_BK[:, 0])


def test_characters_are_read_and_answered_by_the_same_weights_where_tied(rng: Generator) -> None:
    model = model_of("tied", rng, kind="text", in_channels=5, outputs=5)
    assert model.embedding is not None
    assert [name for name, _ in model.readout.named_parameters()] == ["bias"]
    numbers_BT = torch.randint(5, (2, 7), generator=rng)
    h_BDT = hidden(model, model.embedding[numbers_BT].transpose(1, 2))
    expected_BKT = torch.einsum("bdt,kd->bkt", h_BDT, model.embedding)
    torch.testing.assert_close(model(numbers_BT), expected_BKT + model.readout.bias[:, None])


def test_characters_are_read_and_answered_by_different_weights_where_not_tied(
    rng: Generator,
) -> None:
    model = model_of("every_step", rng, kind="text", in_channels=5, outputs=5)
    assert model.embedding is not None
    assert model.readout.weight is not model.embedding
    assert model(torch.randint(5, (2, 7), generator=rng)).shape == (2, 5, 7)


def test_readout_and_embedding_start_small(rng: Generator) -> None:
    for readout in ("tied", "every_step"):
        model = model_of(readout, rng, kind="text", in_channels=500, outputs=500)
        assert model.embedding is not None
        for weight in (model.readout.weight, model.embedding):
            assert weight is None or weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert model.readout.bias.abs().max() == 0.0
