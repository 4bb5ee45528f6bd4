from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call

from ckconv_sweep.config.model import KERNEL_NETS
from ckconv_sweep.models.convolution import causal_conv
from ckconv_sweep.models.kernel_nets.magnet import Magnet
from ckconv_sweep.models.kernel_nets.random_fourier import RandomFourier

from .nets import make

POSITIONS = torch.linspace(1, -1, 9)
each = pytest.mark.parametrize("name", KERNEL_NETS)


@each
@pytest.mark.parametrize("layers", [2, 3, 16])
@pytest.mark.parametrize("hidden_channels", [2, 6])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_positions_become_finite_values_of_every_kernel(
    name: str, layers: int, hidden_channels: int, length: int
) -> None:
    net = make(name, out_channels=7, layers=layers, hidden_channels=hidden_channels)
    positions_P = torch.linspace(1, -1, length)
    assert net.features(positions_P).shape == (hidden_channels, length)
    assert net(positions_P).shape == (7, length)
    assert torch.isfinite(net(positions_P)).all()


@each
@pytest.mark.parametrize("layers", [2, 4])
def test_values_are_the_last_linear_layer_of_the_features(name: str, layers: int) -> None:
    net = make(name, layers=layers).double()
    positions_P = POSITIONS.double()
    weight_NH, features_HP = net.last.weight(), net.features(positions_P)
    assert weight_NH.shape == (5, 6)
    torch.testing.assert_close(net(positions_P), weight_NH @ features_HP + net.last.bias[:, None])


@each
def test_positions_do_not_see_each_other(name: str) -> None:
    net = make(name)
    alone = torch.cat([net(p[None]) for p in POSITIONS], dim=1)
    torch.testing.assert_close(net(POSITIONS), alone)


@each
def test_the_same_seed_gives_the_same_net_and_another_seed_another(name: str) -> None:
    torch.manual_seed(1)
    first = make(name, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = make(name, seed=3).state_dict(), make(name, seed=4).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@each
def test_a_net_draws_nothing_from_the_global_random_state(name: str) -> None:
    before = torch.get_rng_state()
    make(name)(POSITIONS)
    assert torch.equal(before, torch.get_rng_state())


@each
def test_without_a_generator_whatever_is_drawn_stays_unset(name: str) -> None:
    net = make(name, seed=None)
    assert all(value.isnan().all() for value in net.state_dict().values())
    assert net(POSITIONS).isnan().all()
    net.load_state_dict(make(name).state_dict())
    assert torch.equal(net(POSITIONS), make(name)(POSITIONS))


@each
def test_a_net_has_as_many_values_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        shapes = [p.shape for p in make(name, seed=None).parameters()]
    assert shapes == [p.shape for p in make(name).parameters()]


@each
def test_omega_0_is_no_parameter_and_in_no_state_but_can_be_replaced(name: str) -> None:
    net, other = make(name, omega_0=3.0), make(name, seed=None, omega_0=9.0)
    names = [*net.state_dict(), *dict(net.named_parameters())]
    assert [n for n in names if "omega" in n] == []
    other.load_state_dict(net.state_dict())
    replaced = functional_call(net, {"omega_0": torch.tensor(9.0)}, (POSITIONS,))
    assert torch.equal(replaced, other(POSITIONS))
    assert not torch.equal(replaced, net(POSITIONS))


@each
def test_a_learned_omega_0_starts_at_its_setting_and_gets_a_gradient(name: str) -> None:
    net = make(name, omega_0=3.0, learn_omega_0=True)
    assert torch.equal(net(POSITIONS), make(name, omega_0=3.0)(POSITIONS))
    assert "omega_0" in net.state_dict()
    assert net.omega_0.item() == 3.0
    net(POSITIONS).square().sum().backward()
    assert net.omega_0.grad is not None
    assert net.omega_0.grad != 0.0


@each
def test_omega_0_has_a_learning_rate_of_its_own_where_it_is_learned_and_asked_for(
    name: str,
) -> None:
    factor = {"omega_0_learning_rate_factor": 0.1}
    assert make(name, learn_omega_0=True, **factor).learning_rate_factors() == {"omega_0": 0.1}
    assert make(name, learn_omega_0=True).learning_rate_factors() == {}
    assert make(name, **factor).learning_rate_factors() == {}


@each
def test_with_normalize_variance_the_first_values_shrink_by_the_root_of_the_number_summed(
    name: str,
) -> None:
    plain = make(name, summed=400)
    normalized = make(name, summed=400, normalize_variance=True)
    torch.testing.assert_close(normalized(POSITIONS), plain(POSITIONS) / 20.0)
    torch.testing.assert_close(normalized.last.weight(), plain.last.weight() / 20.0)
    assert torch.equal(normalized.features(POSITIONS), plain.features(POSITIONS))
    again = make(name, seed=None, summed=400, normalize_variance=True)
    again.load_state_dict(normalized.state_dict())
    assert torch.equal(again(POSITIONS), normalized(POSITIONS))


@each
@pytest.mark.parametrize("length", [50, 400])
def test_with_normalize_variance_a_convolution_keeps_about_the_variance_of_its_input(
    name: str, length: int, rng: torch.Generator
) -> None:
    channels, deviations = 8, []
    for normalize in (True, False):
        net = make(
            name,
            out_channels=channels * channels,
            hidden_channels=32,
            omega_0=10.0,
            summed=channels * length,
            normalize_variance=normalize,
        )
        x_BCT = torch.randn(4, channels, 2 * length, generator=rng)
        kernel_DCK = net(torch.linspace(1, -1, length)).reshape(channels, channels, length)
        deviations.append(causal_conv(x_BCT, kernel_DCK)[..., length:].std().item())
    normalized, plain = deviations
    # Not exactly one: the values of a kernel are not yet of variance one.
    assert 0.1 < normalized < 2.0
    assert plain == pytest.approx(normalized * math.sqrt(channels * length), rel=0.2)


@each
def test_stacked_nets_equal_one_after_the_other(name: str) -> None:
    nets = [make(name, seed=seed) for seed in range(3)]
    parameters, buffers = torch.func.stack_module_state(nets)
    buffers["omega_0"] = torch.tensor([1.0, 2.0, 3.0])
    together = functional_call(nets[0], (parameters, buffers), (POSITIONS,))
    for number, net in enumerate(nets):
        alone = functional_call(net, {"omega_0": torch.tensor(number + 1.0)}, (POSITIONS,))
        torch.testing.assert_close(together[number], alone)


@each
def test_a_forward_pass_changes_no_state(name: str) -> None:
    net = make(name)
    before = {key: value.clone() for key, value in {**net.state_dict(), "o": net.omega_0}.items()}
    first = net(POSITIONS)
    after = {**net.state_dict(), "o": net.omega_0}
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert torch.equal(net.train()(POSITIONS), net.eval()(POSITIONS))
    assert torch.equal(first, net(POSITIONS))


@each
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    net = make(name, layers=4, learn_omega_0=True)
    net(POSITIONS).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        # The direction of a single number is its sign: nothing changes with its size.
        direction_of_one = key.endswith("weight_v") and parameter.shape[1] == 1
        assert (parameter.grad.abs().max() > 0.0) != direction_of_one, key


def test_random_frequencies_are_kept_in_the_state_and_not_trained() -> None:
    net = make("random_fourier")
    assert "frequencies" in net.state_dict()
    assert "frequencies" not in dict(net.named_parameters())


def test_a_random_fourier_net_is_the_formula_written_out() -> None:
    net = make("random_fourier", layers=4, omega_0=1.5).double()
    assert isinstance(net, RandomFourier)
    for n in range(5):
        for p, position in enumerate(POSITIONS.tolist()):
            angles = [1.5 * f * position for f in net.frequencies.tolist()]
            h = [*map(math.cos, angles), *map(math.sin, angles)]
            for layer in net.layers[:-1]:
                h = [max(0.0, v) for v in affine(layer.matrix.tolist(), h, layer.bias.tolist())]
            value = affine(net.last.weight().tolist(), h, net.last.bias.tolist())[n]
            assert net(POSITIONS.double())[n, p].item() == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_random_frequencies_are_normal_with_deviation_two_pi() -> None:
    net = make("random_fourier", hidden_channels=4000)
    assert isinstance(net, RandomFourier)
    assert net.frequencies.mean().item() == pytest.approx(0.0, abs=0.5)
    assert net.frequencies.std().item() == pytest.approx(2.0 * math.pi, rel=0.05)


def affine(matrix: list[list[float]], h: list[float], bias: list[float]) -> list[float]:
    rows = zip(matrix, bias, strict=True)
    return [b + sum(w * v for w, v in zip(row, h, strict=True)) for row, b in rows]


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_a_magnet_is_the_formula_written_out(layers: int, rng: torch.Generator) -> None:
    net = make("magnet", layers=layers, omega_0=1.5).double()
    assert isinstance(net, Magnet)
    with torch.no_grad():
        for parameter in net.parameters():  # away from the special values of the start
            parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.3)
    for p, position in enumerate(POSITIONS.double().tolist()):
        h: list[float] = []
        for number, gabor in enumerate(net.filters):
            values = [
                math.exp(-0.5 * (gamma * (position - mu)) ** 2)
                * math.sin(2.0 * math.pi * 1.5 * w * position + b)
                for gamma, mu, w, b in zip(
                    gabor.gamma.tolist(),
                    gabor.mu.tolist(),
                    gabor.weight.tolist(),
                    gabor.bias.tolist(),
                    strict=True,
                )
            ]
            if number > 0:
                layer = net.layers[number - 1]
                linear = affine(layer.matrix.tolist(), h, layer.bias.tolist())
                values = [g * v for g, v in zip(values, linear, strict=True)]
            h = values
        expected = affine(net.last.weight().tolist(), h, net.last.bias.tolist())
        got = net(POSITIONS.double())[:, p].tolist()
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_later_windows_of_a_magnet_start_wider() -> None:
    net = make("magnet", hidden_channels=4000, layers=4)
    assert isinstance(net, Magnet)
    for number, gabor in enumerate(net.filters):
        # A gamma distribution of scale one has its shape as mean and as variance.
        assert gabor.gamma.mean().item() == pytest.approx(6.0 / (number + 1), rel=0.1)
        assert gabor.gamma.var().item() == pytest.approx(6.0 / (number + 1), rel=0.15)
        assert gabor.mu.min() < -0.99
        assert gabor.mu.max() > 0.99
        assert (gabor.weight / gabor.gamma).abs().max() <= 1.0 + 1e-6
    assert [layer.bias.unique().tolist() for layer in net.layers] == [[1.0], [1.0], [0.0]]


def test_the_authors_layers_are_numbered_with_the_last_one() -> None:
    net = make("mlp", layers=3)
    names = ["weight_g", "weight_v", "bias"]
    assert set(net.state_dict()) == {f"layers.{n}.{name}" for n in range(3) for name in names}
