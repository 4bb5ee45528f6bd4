from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.training import philox
from ckconv_sweep.training.dropout_masks import DeviceMasks, HostMasks
from ckconv_sweep.training.seeding import Rates

from .tiny import examples

CPU = torch.device("cpu")
SHAPE = (3, 5, 7)


def mask(
    seed: int = 0,
    step: int = 0,
    place: int = 0,
    rate: float = 0.5,
    shape: tuple[int, ...] = SHAPE,
) -> torch.Tensor:
    return HostMasks([seed], [step], CPU)(place, shape, rate)[0]


def philox_4x64_10(key: list[int], counter: list[int]) -> list[int]:
    """Salmon et al. 2011, written out."""
    word = 2**64 - 1
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        first, second = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = (second >> 64) ^ b ^ k, second & word, (first >> 64) ^ d ^ m, first & word
        k, m = (k + 0x9E3779B97F4A7C15) & word, (m + 0xBB67AE8584CAA73B) & word
    return [a, b, c, d]


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1,), (2, 3, 7), (5, 1, 16)])
def test_a_mask_is_plain_philox_with_sixteen_bits_for_each_element(
    rate: float, shape: tuple[int, ...]
) -> None:
    seed, step, place = 2**62 + 11, 300, 4
    size, lanes = int(np.prod(shape)), []
    for block in range(1, size // 16 + 2):  # numpy counts on before it draws
        for number in philox_4x64_10([seed, place], [block, 0, step, 0]):
            lanes += [(number >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
    threshold = round(rate * 65536)
    expected = torch.tensor([lane >= threshold for lane in lanes[:size]]).view(shape)
    got = mask(seed, step, place, rate, shape)
    assert torch.equal(got, expected * (1.0 / (1.0 - threshold / 65536)))
    assert got.dtype == torch.float32


@examples
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**9), st.integers(0, 64))
def test_a_mask_follows_from_seed_step_and_place_and_differs_with_each(
    seed: int, step: int, place: int
) -> None:
    same, again = mask(seed, step, place), mask(seed, step, place)
    assert torch.equal(same, again)
    for other in (
        mask((seed + 1) % 2**63, step, place),
        mask(seed, step + 1, place),
        mask(seed, step, place + 1),
    ):
        assert not torch.equal(same, other)


def test_a_mask_does_not_depend_on_the_ones_drawn_before() -> None:
    masks = HostMasks([1], [2], CPU)
    first = masks(0, SHAPE, 0.3)
    masks(1, (100,), 0.5)
    assert torch.equal(masks(0, SHAPE, 0.3), first)


def test_several_trials_have_the_masks_that_each_has_alone_and_ones_where_it_drops_nothing() -> (
    None
):
    seeds, steps, rates = [5, 6, 5, 7], [0, 3, 1, 0], [0.1, 0.5, 0.9, 0.0]
    masks = HostMasks(seeds, steps, CPU)(2, SHAPE, Rates(rates))
    assert Rates(rates) == 0.9
    assert masks.shape == (4, *SHAPE)
    for e in range(3):
        assert torch.equal(masks[e], mask(seeds[e], steps[e], 2, rates[e]))
    assert torch.equal(masks[3], torch.ones(SHAPE))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler, of PyTorch
@pytest.mark.parametrize(
    ("shape", "compiled"),
    [
        ((1,), False),
        ((2, 3, 8), False),
        ((5, 1, 17), False),
        pytest.param((5, 1, 17), True, marks=pytest.mark.slow),
    ],
)
def test_a_device_makes_the_masks_that_the_host_makes(
    shape: tuple[int, ...], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(philox, "fast_factors", lambda device: philox.factors)
    seeds, steps, rates = [0, 2**63 - 1, 6], [0, 3, 10**9], Rates([0.1, 0.0, 1.0 - 2**-20])
    host, device = HostMasks(seeds, steps, CPU), DeviceMasks(seeds, steps, CPU)
    for _ in range(2):
        for place in (0, 4, 1_000_001):
            assert torch.equal(device(place, shape, rates), host(place, shape, rates))
        host.next_step()
        device.next_step()


@pytest.mark.parametrize("kind", [HostMasks, DeviceMasks])
def test_the_masks_of_the_next_step_are_those_of_a_trial_that_begins_with_it(
    kind: type[HostMasks | DeviceMasks], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(philox, "fast_factors", lambda device: philox.factors)
    masks = kind([1, 2], [7, 0], CPU)
    masks(3, SHAPE, 0.5)
    masks.next_step()
    got = masks(3, SHAPE, 0.5)
    assert torch.equal(got[0], mask(1, 8, 3))
    assert torch.equal(got[1], mask(2, 1, 3))


def test_masks_that_cannot_be_compiled_are_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **options: object) -> None:
        raise RuntimeError("no compiler\nis here")

    monkeypatch.setattr(torch, "compile", lambda *_, **options: broken)
    with pytest.warns(UserWarning, match="and take longer: no compiler$"):
        assert philox.fast_factors.__wrapped__(CPU) is philox.factors


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_the_share_kept_and_the_mean_are_right(rate: float) -> None:
    factors = mask(seed=9, rate=rate, shape=(400_000,)).double()
    kept = (factors > 0).double().mean().item()
    deviation = (rate * (1 - rate) / 400_000) ** 0.5
    assert kept == pytest.approx(1 - rate, abs=4 * deviation + 2**-17)
    assert factors.mean().item() == pytest.approx(1.0, abs=4 * deviation / (1 - rate))


@examples
@given(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
def test_kept_elements_are_scaled_by_the_rounded_rate_and_stay_finite(rate: float) -> None:
    factors = mask(rate=rate, shape=(64,))
    rounded = min(round(rate * 65536), 65535) / 65536
    assert set(factors.tolist()) <= {0.0, torch.tensor(1 / (1 - rounded)).item()}
    assert abs(rounded - rate) <= 2**-16


def test_a_rate_of_one_half_drops_the_lower_half_of_the_sixteen_bits() -> None:
    bits = np.random.Philox(key=[0, 0], counter=[0, 0, 0, 0]).random_raw(250_000).view(np.uint16)
    factors = mask(shape=(1_000_000,)).numpy()
    assert set(factors.tolist()) == {0.0, 2.0}
    assert (factors[bits == 2**15] == 2.0).all()
    assert (factors[bits == 2**15 - 1] == 0.0).all()
    assert {2**15, 2**15 - 1} <= set(bits.tolist())


def test_masks_of_one_step_are_not_those_of_the_next_shifted() -> None:
    lanes = {
        mask(seed, step, place, shape=(64,)).numpy().tobytes()
        for seed in range(4)
        for step in range(50)
        for place in range(5)
    }
    assert len(lanes) == 4 * 50 * 5
