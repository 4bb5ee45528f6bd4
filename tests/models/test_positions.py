from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ckconv_sweep.models.positions import Span, smoothed

LIKE = torch.zeros((), dtype=torch.float64)


def causal(training_length: int, length: int, rate: float = 1.0) -> list[float]:
    positions: list[float] = Span(training_length, True).sampled(length, rate, LIKE).tolist()
    return positions


def centred(training_length: int, length: int, rate: float = 1.0) -> list[float]:
    positions: list[float] = Span(training_length, False).sampled(length, rate, LIKE).tolist()
    return positions


def published(training_length: int, length: int) -> tuple[float, list[float]]:
    """Rate and positions, present first, by the formulas of the published code."""
    if training_length > length:
        rate: float = round(training_length / length)
    else:
        rate = 1 / round(length / training_length)
    step = 2.0 / (training_length - 1)
    if rate > 1:
        largest = 1 - ((training_length - 1) % rate) * step
    else:
        largest = 1 + ((length - 1) % (1 / rate)) * step * rate
    return rate, np.linspace(-1.0, largest, length)[::-1].tolist()


@pytest.mark.parametrize("training_length", [2, 3, 31, 784, 785])
def test_positions_run_from_the_present_back_to_the_oldest_step(training_length: int) -> None:
    expected = np.linspace(1.0, -1.0, training_length).tolist()
    assert causal(training_length, training_length) == pytest.approx(expected, abs=1e-12)


def test_at_the_rate_of_training_a_lag_has_one_position_whatever_the_length() -> None:
    expected = [1.0 - 2.0 * lag / 8 for lag in range(9)]
    for length in (1, 2, 8, 9, 10, 100):
        assert causal(9, length) == pytest.approx(expected[:length], abs=1e-12)


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_where_training_sequences_have_one_step_only_the_present_is_sampled(
    length: int, rate: float
) -> None:
    assert causal(1, length, rate) == [1.0]
    assert centred(1, length, rate) == [0.0]


@pytest.mark.parametrize(
    ("training_length", "length", "rate", "present"),
    [
        (182, 91, 2, 0.98895),
        (182, 46, 4, 0.98895),
        (182, 23, 8, 0.94475),
        (91, 182, 1 / 2, 1.01111),
        (91, 46, 2, 1.0),
        (91, 23, 4, 0.95556),
    ],
)
def test_the_present_is_where_it_was_measured_in_the_published_code(
    training_length: int, length: int, rate: float, present: float
) -> None:
    positions = causal(training_length, length, rate)
    assert positions[0] == pytest.approx(present, abs=5e-6)
    assert positions[-1] == -1.0
    assert published(training_length, length)[0] == rate


@pytest.mark.parametrize("training_length", [5, 8, 91, 182, 784])
@pytest.mark.parametrize("subsampling", [2, 3, 4, 7])
def test_positions_of_every_nth_step_are_those_of_the_published_formulas(
    training_length: int, subsampling: int
) -> None:
    length = len(range(0, training_length, subsampling))
    _, expected = published(training_length, length)
    step = 2.0 / (training_length - 1)
    if length > 1 and expected[0] - expected[1] == pytest.approx(subsampling * step):
        # Otherwise it rounds the ratio of the lengths to another rate.
        got = causal(training_length, length, float(subsampling))
        assert got == pytest.approx(expected, abs=1e-12)
    else:
        assert training_length < subsampling**2


@pytest.mark.parametrize("training_length", [5, 8, 91, 182])
@pytest.mark.parametrize("finer", [2, 3, 4, 7, 49])
def test_positions_of_finer_sequences_are_those_of_the_published_formulas(
    training_length: int, finer: int
) -> None:
    length = finer * training_length
    rate, expected = published(training_length, length)
    assert rate == 1 / finer
    got = causal(training_length, length, 1 / finer)
    assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rate", [0.3, 0.75, 1.25, 1.5, 2.0, 2.7, 90.0, 500.0])
@pytest.mark.parametrize("training_length", [2, 10, 91])
def test_any_rate_gives_steps_of_that_rate_back_to_the_oldest(
    training_length: int, rate: float
) -> None:
    step = rate * 2.0 / (training_length - 1)
    positions = causal(training_length, 10_000, rate)
    assert positions[-1] == -1.0
    assert np.diff(positions) == pytest.approx(-step, abs=1e-9)
    assert 1.0 - step < positions[0] < 1.0 + 2.0 / (training_length - 1)
    for length in (1, 2, 7):
        shorter = causal(training_length, length, rate)
        assert len(shorter) == min(length, len(causal(training_length, length + 10_000, rate)))
        assert np.diff(shorter) == pytest.approx(-step, abs=1e-9)


def test_a_ratio_that_is_rounded_is_counted_as_the_whole_number_it_is() -> None:
    # 300 finer steps are 90 of training; 300 / (1 / 0.3) is a little less than 90 in floats.
    positions = causal(91, 301, 0.3)
    assert (len(positions), positions[0], positions[-1]) == (301, 1.0, -1.0)
    # 1 / (1 / 93) is a little less than 93 in floats: 93 samples at each end are left as they are.
    kernel = torch.zeros(2 * 93 + 1, dtype=torch.float64)
    kernel[93] = 1.0
    assert smoothed(kernel, 1 / 93).count_nonzero() == 1


def test_positions_of_the_authors_character_trajectories(shared: Path) -> None:
    path = shared / "reference" / "character_trajectories_sr1.npz"
    with np.load(path, allow_pickle=False) as arrays:
        for test_rate, length in [(1, 182), (2, 91)]:
            theirs = torch.from_numpy(arrays[f"srtr_1_drop_0_srtest{test_rate}_relpos"])
            ours = Span(182, True).sampled(length, float(test_rate), theirs)
            # Theirs runs from the oldest step.
            torch.testing.assert_close(ours.flip(0), theirs, rtol=0, atol=2e-7)


def test_centred_positions_run_from_ahead_to_the_past_around_the_present() -> None:
    assert centred(5, 5) == pytest.approx([1.0, 0.5, 0.0, -0.5, -1.0])
    assert centred(4, 4) == pytest.approx([1.0, 0.5, 0.0, -0.5, -1.0])
    assert centred(2, 9) == pytest.approx([1.0, 0.0, -1.0])
    assert centred(9, 2) == pytest.approx([0.25, 0.0, -0.25])
    assert centred(9, 1) == [0.0]


def test_centred_positions_at_another_rate_keep_the_present_in_the_middle() -> None:
    assert centred(9, 9, rate=2.0) == pytest.approx([1.0, 0.5, 0.0, -0.5, -1.0])
    assert centred(9, 9, rate=3.0) == pytest.approx([0.75, 0.0, -0.75])
    assert centred(5, 9, rate=0.5) == pytest.approx(np.linspace(1.0, -1.0, 9).tolist())
    assert centred(9, 9, rate=7.0) == [0.0]


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("training_length", [1, 2, 7, 8])
def test_a_lag_has_the_position_at_which_it_is_sampled(
    training_length: int, is_causal: bool
) -> None:
    span = Span(training_length, is_causal)
    ahead = 0 if is_causal else span.steps
    lags = torch.arange(-ahead, span.steps + 1, dtype=torch.float64)
    positions, reached = span.at_lags(lags)
    assert reached.all()
    torch.testing.assert_close(positions, span.sampled(100, 1.0, LIKE))


@pytest.mark.parametrize("is_causal", [True, False])
def test_lags_that_the_kernel_does_not_reach_are_moved_to_its_ends(is_causal: bool) -> None:
    span = Span(9, is_causal)
    lags = torch.tensor([-4.5, -0.5, 0.0, 3.5, 4.5, 8.0, 8.5])
    positions, reached = span.at_lags(lags)
    if is_causal:
        assert reached.tolist() == [False, False, True, True, True, True, False]
        assert positions.tolist() == [1.0, 1.0, 1.0, 0.125, -0.125, -1.0, -1.0]
    else:
        assert reached.tolist() == [False, True, True, True, False, False, False]
        assert positions.tolist() == [1.0, 0.125, 0.0, -0.875, -1.0, -1.0, -1.0]


def written_out(kernel: list[float], rate: float) -> list[float]:
    half = int(1 / rate)
    sigma = 0.5
    out = list(kernel)
    for k in range(half, len(kernel) - half):
        out[k] = sum(
            math.exp(-(j**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)) * kernel[k + j]
            for j in range(-half, half + 1)
        )
    return [rate * value for value in out]


@pytest.mark.parametrize("rate", [1 / 2, 1 / 3, 1 / 4, 0.75])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 20])
def test_finer_kernels_are_smoothed_but_for_their_ends_and_scaled(length: int, rate: float) -> None:
    kernel: Tensor = torch.randn(
        2, 3, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    got = smoothed(kernel, rate)
    assert got.shape == kernel.shape
    for d in range(2):
        for c in range(3):
            expected = written_out(kernel[d, c].tolist(), rate)
            assert got[d, c].tolist() == pytest.approx(expected, abs=1e-12)


def test_the_smoothing_weights_add_up_to_a_little_more_than_one() -> None:
    assert smoothed(torch.ones(1, 9), 0.5)[0, 4].item() == pytest.approx(1.0144 / 2, abs=1e-5)


def test_coarser_kernels_are_only_scaled_and_those_of_training_left() -> None:
    kernel = torch.tensor([[1.0, 2.0, 3.0]])
    assert smoothed(kernel, 2.0).tolist() == [[2.0, 4.0, 6.0]]
    assert smoothed(kernel, 1.0) is kernel
