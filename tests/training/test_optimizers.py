from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ckconv_sweep.config.optimization import OPTIMIZERS
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.optimizers import Step, clip
from ckconv_sweep.training.vectorized import Layout

from .tiny import examples, in_hex, make_task, make_trial, run

LEARNED: dict[str, Any] = {
    "mask": {"name": "gaussian", "learning_rate_factor": 0.1},
    "kernel": {"learn_omega_0": True, "omega_0_learning_rate_factor": 7.0},
}


PLAIN: dict[str, Any] = {
    "adam": lambda p, s: torch.optim.Adam(p, lr=s.learning_rate, betas=(s.beta_1, s.beta_2)),
    "adamw": lambda p, s: torch.optim.AdamW(
        p, lr=s.learning_rate, betas=(s.beta_1, s.beta_2), weight_decay=s.weight_decay
    ),
    "sgd": lambda p, s: torch.optim.SGD(
        p, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay
    ),
    "rmsprop": lambda p, s: torch.optim.RMSprop(
        p, lr=s.learning_rate, alpha=s.alpha, momentum=s.momentum
    ),
}
"""The same optimisers in PyTorch."""
SETTINGS: dict[str, list[dict[str, float]]] = {
    "adam": [{}, {"beta_1": 0.0, "beta_2": 0.9}, {"learning_rate": 0.3, "beta_1": 0.6}],
    "adamw": [{}, {"weight_decay": 0.0}, {"learning_rate": 0.3, "weight_decay": 0.2}],
    "sgd": [{"momentum": 0.0}, {}, {"learning_rate": 0.3, "weight_decay": 0.1}],
    "rmsprop": [{}, {"momentum": 0.9}, {"learning_rate": 0.3, "alpha": 0.5}],
}


def stepped(
    name: str, settings: list[Any], weights_EP: Tensor, gradients: list[Tensor], factors: Any = 1.0
) -> Tensor:
    """The weights after a step with each of the gradients `(E, P)`."""
    rule, weights_EP = OPTIMIZERS.maker(name), weights_EP.clone()
    moments = tuple(torch.zeros_like(weights_EP) for _ in rule.moments)
    for number, gradients_EP in enumerate(gradients, 1):
        rows = [rule.coefficients(s, s.learning_rate / number, number) for s in settings]
        columns = torch.tensor(rows, dtype=weights_EP.dtype).T[..., None].unbind()
        rule.update(Step(weights_EP, gradients_EP.clone(), moments, columns, factors))
    return weights_EP


def draws(models: int, weights: int, steps: int, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    rng = torch.Generator().manual_seed(weights)
    start, *gradients = torch.randn(steps + 1, models, weights, generator=rng, dtype=dtype)
    return start, gradients


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_row_is_changed_as_by_the_optimizer_of_pytorch_with_its_own_settings(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    settings = [type(make_trial(optimizer={"name": name}).optimizer)(**s) for s in SETTINGS[name]]
    start, gradients = draws(len(settings), 23, 12, dtype)
    together = stepped(name, settings, start, gradients)
    for e, one in enumerate(settings):
        weight = torch.nn.Parameter(start[e].clone())
        plain = PLAIN[name]([weight], one)
        for number, gradients_EP in enumerate(gradients, 1):
            plain.param_groups[0]["lr"] = one.learning_rate / number
            weight.grad = gradients_EP[e].clone()
            plain.step()
        torch.testing.assert_close(together[e], weight.detach(), rtol=tolerance, atol=tolerance)
        assert not torch.allclose(together[e], start[e], atol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_setting_of_an_optimizer_matters(name: str) -> None:
    base = make_trial(optimizer={"name": name, "learning_rate": 0.1}).optimizer
    start, gradients = draws(1, 3, 3, torch.float64)
    plain = stepped(name, [base], start, gradients)
    for setting in type(base).model_fields.keys() - {"name"}:
        changed = base.model_copy(update={setting: 0.125})
        assert not torch.allclose(stepped(name, [changed], start, gradients), plain), setting


def test_adam_is_the_formula_written_out() -> None:
    (settings,) = [make_trial(optimizer={"name": "adam", "beta_1": 0.7}).optimizer]
    start, gradients = draws(1, 5, 4, torch.float64)
    weight, m, v = start[0], torch.zeros(5), torch.zeros(5)
    for t, gradient in enumerate((g[0] for g in gradients), 1):
        m, v = 0.7 * m + 0.3 * gradient, 0.999 * v + 0.001 * gradient**2
        weight = weight - 1e-3 / t * (m / (1 - 0.7**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
    torch.testing.assert_close(stepped("adam", [settings], start, gradients)[0], weight)


@examples
@given(st.sampled_from(sorted(OPTIMIZERS)), st.integers(1, 40), st.integers(1, 5), st.data())
def test_a_row_does_not_depend_on_the_others_to_the_last_bit(
    name: str, weights: int, models: int, data: st.DataObject
) -> None:
    kind = type(make_trial(optimizer={"name": name}).optimizer)
    settings = [kind(**data.draw(st.sampled_from(SETTINGS[name]))) for _ in range(models)]
    start, gradients = draws(models, weights, 3, torch.float32)
    factors = start.abs() if data.draw(st.booleans()) else 1.0
    broken = data.draw(st.integers(0, models - 1))
    gradients[0][broken] = math.nan
    together = stepped(name, settings, start, gradients, factors)
    for e in range(models):
        own = [gradients_EP[e : e + 1] for gradients_EP in gradients]
        factor = factors[e : e + 1] if isinstance(factors, Tensor) else factors
        alone = stepped(name, settings[e : e + 1], start[e : e + 1], own, factor)
        assert torch.equal(alone[0].nan_to_num(), together[e].nan_to_num())
        assert together[e].isfinite().all() == (e != broken)


@examples
@given(st.integers(1, 70), st.lists(st.sampled_from([math.inf, 0.5, 3.0, 1e9]), min_size=1))
def test_each_gradient_is_clipped_to_its_own_norm(weights: int, largest: list[float]) -> None:
    _, (gradients_EP,) = draws(len(largest), weights, 1, torch.float32)
    clipped_EP = gradients_EP.clone()
    clip(clipped_EP, torch.tensor(largest)[:, None])
    for e, norm in enumerate(largest):
        weight = torch.nn.Parameter(torch.zeros(weights))
        weight.grad = gradients_EP[e].clone()
        torch.nn.utils.clip_grad_norm_([weight], norm)
        torch.testing.assert_close(clipped_EP[e], weight.grad)
        alone_1P = gradients_EP[e : e + 1].clone()
        clip(alone_1P, torch.tensor([[norm]]))
        assert torch.equal(alone_1P[0], clipped_EP[e])
        if norm in (math.inf, 1e9):
            assert torch.equal(clipped_EP[e], gradients_EP[e])


def test_weights_with_a_learning_rate_of_their_own_are_found_by_name() -> None:
    member = Member.open(make_trial(model=LEARNED), make_task())
    trial = make_trial(model=LEARNED)
    model = make_model(trial.model, make_task().description, torch.Generator().manual_seed(0))
    assert member.factors is not None
    factor_of = Layout(dict(model.named_parameters())).named(member.factors)
    for name, factors in factor_of.items():
        special = {"omega_0": 7.0, "width": 0.1}.get(name.split(".")[-1], 1.0)
        torch.testing.assert_close(factors, torch.full(factors.shape, special))
    assert Member.open(make_trial(), make_task()).factors is None


def test_a_learning_rate_factor_scales_the_first_step_of_its_weight() -> None:
    def width_after(factor: float) -> float:
        mask = {"name": "gaussian", "width": 0.5, "learning_rate_factor": factor}
        trial = make_trial(
            model={"mask": mask},
            optimizer={"name": "sgd", "learning_rate": 0.01},
            training={"epochs": 1, "batch_size": 22},
        )
        (width,) = (
            v for k, v in run(trial)[0].named_parameters() if k.endswith("conv1.mask.width")
        )
        return width.item() - 0.5

    assert width_after(1.0) != 0.0
    assert width_after(20.0) == pytest.approx(20.0 * width_after(1.0), rel=1e-2)


@pytest.mark.parametrize("model", [{"name": "gru"}, {"name": "lru", "state_channels": 4}])
def test_other_architectures_train_by_the_same_loop_and_repeat_themselves(
    model: dict[str, Any],
) -> None:
    trial = make_trial(architecture=model, training={"epochs": 2})
    assert in_hex(run(trial)[1]) == in_hex(run(trial)[1])
