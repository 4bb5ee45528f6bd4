from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from ckconv_sweep.config.model import (
    CKCNNConfig,
    GaussianMask,
    MagnetConfig,
    MLPConfig,
    RandomFourierConfig,
)
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.convolution import causal_conv, centred_conv, legacy_odd_fft
from ckconv_sweep.models.positions import Span, smoothed
from ckconv_sweep.models.sequence_model import EVENLY, Sampling

from .largest import Largest

KERNELS = [MLPConfig(), RandomFourierConfig(), MagnetConfig(layers=4)]
KINDS: list[dict[str, Any]] = [
    {"causal": causal, "separable": separable, "mask": mask}
    for causal in (True, False)
    for separable in (False, True)
    for mask in ({}, GaussianMask(width=0.5))
]


def name_of(kind: dict[str, Any]) -> str:
    causal = "causal" if kind["causal"] else "centred"
    return f"{causal}-{'separable' if kind['separable'] else 'dense'}" + "-mask" * bool(
        kind["mask"]
    )


every_kind = pytest.mark.parametrize("kind", KINDS, ids=name_of)


def make_conv(
    length: int = 9,
    *,
    place: int = 7,
    channels: tuple[int, int] = (2, 3),
    seed: int = 0,
    **changes: Any,
) -> CKConv:
    """From 2 to 3 channels, with a bias that is not zero, in float64."""
    if not changes.get("mask"):
        changes.pop("mask", None)
    config = CKCNNConfig(**{"kernel": MLPConfig(hidden_channels=5, omega_0=3.0)} | changes)
    rng = Generator().manual_seed(seed)
    conv = CKConv(config, *channels, length, place, rng).double()
    if conv.bias is not None:
        with torch.no_grad():
            conv.bias.copy_(torch.randn(channels[1], generator=rng))
    return conv


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def mixed(conv: CKConv, y_BCT: Tensor) -> Tensor:
    """What comes after the sum over the steps."""
    if conv.pointwise is not None:
        y_BCT = torch.einsum("dc,bct->bdt", conv.pointwise, y_BCT)
    return y_BCT if conv.bias is None else y_BCT + conv.bias[:, None]


def test_the_output_is_the_convolution_with_the_sampled_kernel() -> None:
    conv, x_BCT = make_conv(), random(2, 2, 9)
    y_BDT, _ = conv.convolved(x_BCT)
    assert torch.equal(y_BDT, conv(x_BCT))
    assert conv.kernel(9).shape == (3, 2, 9)
    torch.testing.assert_close(y_BDT, causal_conv(x_BCT, conv.kernel(9)) + conv.bias[:, None])


def test_a_centred_convolution_has_a_kernel_around_the_present() -> None:
    conv, x_BCT = make_conv(causal=False), random(2, 2, 9)
    assert conv.kernel(9).shape == (3, 2, 9)
    assert make_conv(8, causal=False).kernel(8).shape == (3, 2, 9)
    torch.testing.assert_close(
        conv(x_BCT), centred_conv(x_BCT, conv.kernel(9)) + conv.bias[:, None]
    )


@pytest.mark.parametrize("causal", [True, False])
def test_a_separable_convolution_has_a_kernel_a_channel_and_mixes_after_it(causal: bool) -> None:
    conv, x_BCT = make_conv(causal=causal, separable=True), random(2, 2, 9)
    kernel_CK = conv.kernel(9)
    assert kernel_CK.shape == (2, 9)
    assert conv.pointwise is not None
    assert conv.pointwise.shape == (3, 2)
    assert 0.0 < conv.pointwise.abs().max() <= 2**-0.5
    convolve = causal_conv if causal else centred_conv
    torch.testing.assert_close(conv(x_BCT), mixed(conv, convolve(x_BCT, kernel_CK)))


def test_the_kernel_net_counts_input_channels_fastest() -> None:
    conv = make_conv()
    values_NK = conv.kernel_net(conv.span.sampled(5, 1.0, like=conv.kernel_net.last.bias))
    for d in range(3):
        for c in range(2):
            assert torch.equal(conv.kernel(5)[d, c], values_NK[d * 2 + c])


def test_a_longer_input_meets_no_more_of_the_kernel_and_a_shorter_one_its_beginning() -> None:
    conv = make_conv(9)
    assert torch.equal(conv.kernel(100), conv.kernel(9))
    torch.testing.assert_close(conv.kernel(4), conv.kernel(9)[..., :4])


@every_kind
@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_at_another_rate_the_kernel_is_smoothed_scaled_and_then_masked(
    rate: float, kind: dict[str, Any]
) -> None:
    conv, length = make_conv(31, **kind), round(31 / rate)
    positions_K = Span(31, kind["causal"]).sampled(length, rate, like=random(1))
    expected_NK = conv.mask(smoothed(conv.kernel_net(positions_K), rate), positions_K)
    assert torch.equal(conv.kernel(length, rate).flatten(0, -2), expected_NK)
    x_BCT = random(2, 2, length)
    convolve = causal_conv if kind["causal"] else centred_conv
    expected_BDT = mixed(conv, convolve(x_BCT, conv.kernel(length, rate)))
    torch.testing.assert_close(conv(x_BCT, sampling=Sampling(rate=rate)), expected_BDT)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_net_makes_kernels_with_gradients(kernel: Any) -> None:
    conv = make_conv(kernel=kernel, mask=GaussianMask())
    y_BDT, penalty = conv.convolved(random(2, 2, 9))
    (y_BDT.square().sum() + penalty()).backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("separable", [True, False])
def test_the_bias_starts_at_zero_and_can_be_left_out(
    separable: bool, causal: bool, rng: Generator
) -> None:
    config = CKCNNConfig(separable=separable, causal=causal)
    with_bias = CKConv(config, 1, 3, 4, 0, rng)
    assert with_bias.bias is not None
    assert with_bias.bias.tolist() == [0.0, 0.0, 0.0]
    without = CKConv(config.model_copy(update={"bias": False}), 1, 3, 4, 0, rng)
    assert without.bias is None
    assert "bias" not in without.state_dict()
    assert without(torch.zeros(1, 1, 4)).tolist() == torch.zeros(1, 3, 4).tolist()


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_the_penalty_is_the_norm_of_the_kernel_plus_that_of_the_bias(
    rate: float, separable: bool
) -> None:
    conv, x_BCT, sampling = make_conv(separable=separable), random(1, 2, 6), Sampling(rate=rate)
    assert conv.bias is not None
    expected = conv.kernel(6, rate).square().sum().sqrt()
    penalty = conv.convolved(x_BCT, sampling=sampling)[1]()
    torch.testing.assert_close(penalty, expected + conv.bias.square().sum().sqrt())
    without = make_conv(separable=separable, bias=False)
    torch.testing.assert_close(without.convolved(x_BCT, sampling=sampling)[1](), expected)


def test_the_penalty_of_a_bias_of_zeros_has_a_finite_gradient(rng: Generator) -> None:
    conv = CKConv(CKCNNConfig(), 1, 2, 6, 0, rng)
    assert conv.bias is not None
    conv.convolved(torch.ones(1, 1, 6))[1]().backward()
    assert conv.bias.grad is not None
    assert conv.bias.grad.tolist() == [0.0, 0.0]


class EveryOther:
    """Drops every second value, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...], float]] = []

    def __call__(self, place: int, shape: tuple[int, ...], rate: float) -> Tensor:
        self.asked.append((place, shape, rate))
        ones = torch.ones(shape, dtype=torch.float64)
        ones.view(-1)[::2] = 0.0
        return ones / (1.0 - rate)


@pytest.mark.parametrize("separable", [True, False])
def test_weight_dropout_is_that_of_the_sampled_kernel_at_the_given_place(separable: bool) -> None:
    masks, x_BCT = EveryOther(), random(2, 2, 6)
    conv = make_conv(separable=separable, weight_dropout=0.5, place=12)
    kernel = conv.kernel(6)
    y_BDT, penalty = conv.convolved(x_BCT, masks)
    assert masks.asked == [(12, tuple(kernel.shape), 0.5)]
    dropped = kernel * masks(0, tuple(kernel.shape), 0.5)
    torch.testing.assert_close(y_BDT, mixed(conv, causal_conv(x_BCT, dropped)))
    assert conv.bias is not None
    torch.testing.assert_close(penalty(), dropped.norm() + conv.bias.norm())
    torch.testing.assert_close(conv(x_BCT), mixed(conv, causal_conv(x_BCT, kernel)))


def test_without_weight_dropout_no_mask_is_asked_for() -> None:
    masks = EveryOther()
    make_conv().convolved(random(2, 2, 6), masks)
    assert masks.asked == []


def test_the_published_fault_is_there_when_asked_for_and_never_in_shorter_inputs() -> None:
    conv, right = make_conv(31, legacy_odd_fft=True), make_conv(31)
    x_BCT = random(2, 2, 31)
    expected_BDT = legacy_odd_fft(x_BCT, conv.kernel(31)) + conv.bias[:, None]
    torch.testing.assert_close(conv(x_BCT), expected_BDT)
    assert (conv(x_BCT) - right(x_BCT)).abs().max() > 0.1
    for length in (21, 30, 32):
        x_BCT = random(2, 2, length)
        torch.testing.assert_close(conv(x_BCT), right(x_BCT))


@every_kind
def test_several_lengths_in_any_order_give_what_fresh_objects_give(kind: dict[str, Any]) -> None:
    samplings = {9: EVENLY, 5: Sampling(rate=2.0), 18: Sampling(rate=0.5), 30: EVENLY}
    fresh = {
        length: make_conv(**kind)(random(1, 2, length), sampling=sampling)
        for length, sampling in samplings.items()
    }
    for order in permutations(samplings):
        conv = make_conv(**kind)
        for length in order:
            y_BDT = conv(random(1, 2, length), sampling=samplings[length])
            assert torch.equal(y_BDT, fresh[length])


def at_times_written_out(conv: CKConv, x_BCT: Tensor, times_BT: Tensor, length: int) -> Tensor:
    """The sum over pairs of steps, one psi at a time."""
    causal = conv.span.causal
    reach = length - 1 if causal else length // 2
    y_BNT = x_BCT.new_zeros(x_BCT.shape[0], conv.kernels[0], x_BCT.shape[2])
    for b in range(x_BCT.shape[0]):
        for t in range(x_BCT.shape[2]):
            for s in range(t + 1 if causal else x_BCT.shape[2]):
                lag = (times_BT[b, t] - times_BT[b, s]).item()
                if abs(lag) > reach:
                    continue
                p = 1.0 - lag * 2.0 / max(1, length - 1) if causal else -lag / max(1, reach)
                position_P = torch.tensor([p], dtype=torch.float64)
                psi = conv.mask(conv.kernel_net(position_P), position_P).reshape(conv.kernels)
                spec = "c,c->c" if conv.separable else "dc,c->d"
                y_BNT[b, :, t] += torch.einsum(spec, psi, x_BCT[b, :, s])
    return mixed(conv, y_BNT)


@every_kind
@pytest.mark.parametrize(("length", "steps"), [(9, 7), (4, 9), (1, 3), (9, 1)])
def test_steps_with_times_are_convolved_as_the_sum_written_out(
    length: int, steps: int, kind: dict[str, Any]
) -> None:
    conv, x_BCT = make_conv(length, **kind), random(3, 2, steps)
    gaps_BT = 0.3 + torch.rand(3, steps, generator=Generator().manual_seed(2), dtype=torch.float64)
    times_BT = 1000.0 + gaps_BT.cumsum(1)
    y_BDT = conv(x_BCT, sampling=Sampling(times_BT=times_BT))
    expected_BDT = at_times_written_out(conv, x_BCT, times_BT, length)
    torch.testing.assert_close(y_BDT, expected_BDT)


@every_kind
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("steps", [4, 9, 20])
def test_times_one_after_another_are_those_of_training(
    steps: int, kernel: Any, kind: dict[str, Any]
) -> None:
    conv, x_BCT = make_conv(9, kernel=kernel, **kind), random(3, 2, steps)
    times_BT = torch.arange(float(steps)).expand(3, steps)
    y_BDT, penalty = conv.convolved(x_BCT, sampling=Sampling(times_BT=times_BT))
    torch.testing.assert_close(y_BDT, conv(x_BCT))
    torch.testing.assert_close(penalty(), conv.convolved(random(1, 2, 9))[1]())


@every_kind
def test_gradients_through_times_are_those_of_finite_differences(kind: dict[str, Any]) -> None:
    conv, times_BT = make_conv(5, **kind), torch.tensor([[0.0, 0.7, 2.0], [0.0, 1.5, 3.1]])

    def output(x_BCT: Tensor, *_: Tensor) -> Tensor:
        return conv(x_BCT, sampling=Sampling(times_BT=times_BT))

    inputs = (random(2, 2, 3).requires_grad_(), *conv.parameters())
    assert torch.autograd.gradcheck(output, inputs)


def test_no_kernel_is_made_for_each_pair_of_steps() -> None:
    batch, steps, channels = 2, 12, 24
    conv, x_BCT = make_conv(steps, channels=(channels, channels)), random(batch, channels, steps)
    sampling = Sampling(times_BT=torch.arange(float(steps)).expand(batch, steps))
    with Largest() as largest:
        conv(x_BCT, sampling=sampling).sum().backward()
    features, pairs = 5 + 1, batch * steps * steps
    assert features * pairs <= largest.values < channels * channels * pairs / 20


def test_values_cannot_be_dropped_from_a_kernel_that_is_not_there() -> None:
    conv, times_BT = make_conv(weight_dropout=0.5), torch.tensor([[0.0, 1.5]])
    x_BCT, sampling = random(1, 2, 2), Sampling(times_BT=times_BT)
    with pytest.raises(ConfigError, match="weight_dropout must be 0 where steps have times"):
        conv(x_BCT, EveryOther(), sampling)
    assert conv(x_BCT, None, sampling).shape == (1, 3, 2)


def test_learning_rates_of_their_own_are_named_as_the_parameters_are() -> None:
    conv = make_conv(
        kernel=MLPConfig(learn_omega_0=True, omega_0_learning_rate_factor=0.5),
        mask=GaussianMask(learning_rate_factor=0.1),
    )
    factors = conv.learning_rate_factors()
    assert factors == {"kernel_net.omega_0": 0.5, "mask.width": 0.1}
    assert factors.keys() <= dict(conv.named_parameters()).keys()
    assert make_conv().learning_rate_factors() == {}


def test_the_variance_is_normalized_over_what_is_summed() -> None:
    for separable, summed in [(False, 2 * 9), (True, 9)]:
        plain, scaled = (
            make_conv(separable=separable, kernel=MLPConfig(normalize_variance=normalized))
            for normalized in (False, True)
        )
        torch.testing.assert_close(scaled.kernel(9), plain.kernel(9) * summed**-0.5)


def test_names_of_the_parameters_are_those_of_old_checkpoints() -> None:
    layers = [
        f"kernel_net.layers.{number}.{kind}"
        for number in range(3)
        for kind in ("weight_g", "weight_v", "bias")
    ]
    assert set(make_conv().state_dict()) == {"bias", *layers}


@every_kind
def test_many_models_at_once_are_each_by_itself(kind: dict[str, Any]) -> None:
    convs = [make_conv(20, seed=seed, **kind) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(convs)
    x_EBCT, times_EBT = random(3, 2, 2, 20), random(3, 2, 20).cumsum(-1)

    for sampling in (EVENLY, Sampling(rate=0.5), Sampling(times_BT=times_EBT)):
        arguments = x_EBCT, None, sampling
        together = torch.func.functional_call(convs[0], (parameters, buffers), arguments)
        for number, conv in enumerate(convs):
            own = sampling if sampling.times_BT is None else Sampling(times_BT=times_EBT[number])
            torch.testing.assert_close(together[number], conv(x_EBCT[number], None, own))
