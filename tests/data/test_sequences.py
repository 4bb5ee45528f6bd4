"""How raw sequences become splits: the published recipe, step by step and as a whole."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config.data import CharacterTrajectoriesData
from ckconv_sweep.data.sequences import (
    Normalizer,
    Positions,
    dropped_steps,
    prepare,
    prepare_test,
    prepared_shape,
    published_split,
    with_mask,
    without_missing,
)
from ckconv_sweep.errors import ConfigError

NAN = math.nan
POSITIONS = Positions(np.arange(0, 12), np.arange(12, 16), np.arange(16, 20))
TARGETS = np.arange(20, dtype=np.int64) % 2


def settings(**changes):
    return CharacterTrajectoriesData(**changes)


@pytest.fixture
def inputs_ncl():
    return np.random.default_rng(0).normal(3.0, 2.0, (20, 2, 10)).astype(np.float32)


def drop(x_nct, fraction):
    missing_nt = dropped_steps(len(x_nct), x_nct.shape[-1], fraction)
    return torch.as_tensor(x_nct).masked_fill(missing_nt[:, None, :], NAN)


def test_every_third_step_begins_with_the_first(inputs_ncl):
    train, *_ = prepare(inputs_ncl, TARGETS, POSITIONS, settings(sampling_rate=3))
    every_third = inputs_ncl[:12, :, [0, 3, 6, 9]]
    torch.testing.assert_close(train.inputs, Normalizer.of(every_third, "per_channel")(every_third))


def test_dropped_steps_are_those_of_the_published_recipe():
    generator = torch.Generator().manual_seed(56789)
    missing_nt = dropped_steps(5, 182, 0.3)
    for missing_t in missing_nt:
        expected = torch.randperm(182, generator=generator)[:54].sort().values
        assert torch.equal(missing_t.nonzero()[:, 0], expected)


@pytest.mark.parametrize("length", [182, 16_000, 91])
@pytest.mark.parametrize("percent", [30, 50, 70])
def test_as_many_steps_are_dropped_as_published(length, percent):
    expected = int(length * float(percent) / 100.0)
    assert dropped_steps(1, length, percent / 100).sum() == expected


def test_a_dropped_step_is_missing_in_all_channels_and_the_rest_is_untouched(inputs_ncl):
    before = inputs_ncl.copy()
    x = drop(inputs_ncl, 0.5)
    missing = x.isnan()
    assert torch.equal(missing[:, 0], missing[:, 1])
    assert missing[:, 0].sum(1).tolist() == [5] * 20
    assert torch.equal(x[~missing], torch.from_numpy(before)[~missing])
    assert (inputs_ncl == before).all()


@pytest.mark.parametrize(
    ("normalization", "axes", "shape"),
    [("per_channel", (0, 2), (1, 2, 1)), ("per_time_step", (0, 1), (1, 1, 10))],
)
def test_statistics_equal_the_plain_sums_without_missing_values(
    inputs_ncl, normalization, axes, shape, monkeypatch
):
    monkeypatch.setattr("ckconv_sweep.data.sequences.CHUNK_VALUES", 60)  # three sequences at a time
    x = drop(inputs_ncl, 0.5).double().numpy()
    normalizer = Normalizer.of(x.astype(np.float32), normalization)
    mean = np.nanmean(x, axis=axes, keepdims=True)
    std = np.nanstd(x, axis=axes, keepdims=True, ddof=1)
    assert normalizer.mean.shape == normalizer.std.shape == shape
    np.testing.assert_allclose(normalizer.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(normalizer.std, std, rtol=1e-6)
    np.testing.assert_allclose(normalizer(x.astype("f4")), (x - mean) / (std + 1e-5), atol=1e-5)


def test_a_channel_of_which_nothing_is_known_is_left_as_it_is():
    normalizer = Normalizer.of(np.full((3, 1, 4), NAN, np.float32), "per_channel")
    assert normalizer(torch.ones(1, 1, 1)).item() == pytest.approx(1.0, abs=1e-4)


def test_the_mask_is_the_last_channel_and_says_what_is_there():
    x = torch.tensor([[[1.0, NAN, 3.0], [4.0, NAN, NAN]]])
    assert with_mask(x).tolist() == [[[1, 0, 3], [4, 0, 0], [1, 0, 1]]]


def test_what_is_missing_can_be_left_out_and_the_rest_keeps_its_time():
    x = torch.tensor([[[1.0, NAN, 3.0, NAN]], [[NAN, 6.0, NAN, 8.0]]])
    values, times = without_missing(x)
    assert values.tolist() == [[[1, 3]], [[6, 8]]]
    assert times.tolist() == [[0, 2], [1, 3]]
    assert times.dtype == torch.float32


def test_sequences_that_lack_different_numbers_of_steps_have_no_common_times():
    with pytest.raises(ValueError, match="same number"):
        without_missing(torch.tensor([[[1.0, NAN]], [[1.0, 2.0]]]))


def test_the_published_split_is_scikit_learns_under_0_and_1():
    from sklearn.model_selection import train_test_split

    targets = np.random.default_rng(0).integers(0, 5, 200)
    x = np.arange(200)
    train, rest, _, rest_targets = train_test_split(
        x, targets, train_size=0.7, random_state=0, shuffle=True, stratify=targets
    )
    validation, test = train_test_split(
        rest, train_size=0.5, random_state=1, shuffle=True, stratify=rest_targets
    )
    positions = published_split(targets, 0)
    assert positions.train.tolist() == sorted(train)
    assert positions.validation.tolist() == sorted(validation)
    assert positions.test.tolist() == sorted(test)


def test_another_seed_deals_train_and_validation_anew_and_never_the_test_split():
    targets = np.arange(300) % 3
    published, other = published_split(targets, 0), published_split(targets, 2**40 + 1)
    assert (published.test == other.test).all()
    assert (published.validation != other.validation).any()
    assert len(published.validation) == len(other.validation)
    everything = np.concatenate([other.train, other.validation, other.test])
    assert sorted(everything) == list(range(300))


def test_too_few_sequences_of_a_class_to_split_are_one_message():
    with pytest.raises(ConfigError, match="3 sequences cannot be split"):
        published_split(np.array([0, 0, 1]), 0)


@pytest.mark.parametrize("normalization", ["per_channel", "per_time_step"])
def test_statistics_come_from_training_sequences_only(inputs_ncl, normalization):
    data = settings(normalization=normalization)
    other = inputs_ncl.copy()
    other[12:] *= 100
    train, *_ = prepare(inputs_ncl, TARGETS, POSITIONS, data)
    other_train, other_validation, _ = prepare(other, TARGETS, POSITIONS, data)
    assert torch.equal(train.inputs, other_train.inputs)
    normalizer = Normalizer.of(inputs_ncl[:12], normalization)
    assert torch.equal(other_validation.inputs, normalizer(other[12:16]))
    test = prepare_test(other, TARGETS, POSITIONS, data)
    assert torch.equal(test.inputs, normalizer(other[16:]))
    assert test.targets.tolist() == TARGETS[16:].tolist()


def test_as_published_the_mask_follows_normalising_without_the_dropped_steps(inputs_ncl):
    data = settings(dropped_fraction=0.3, normalization="per_time_step")
    dropped = drop(inputs_ncl, 0.3)  # one generator for the whole dataset, before it is split
    normalised = Normalizer.of(dropped[:12], "per_time_step")(dropped)
    expected = with_mask(normalised)
    train, validation, _ = prepare(inputs_ncl, TARGETS, POSITIONS, data)
    test = prepare_test(inputs_ncl, TARGETS, POSITIONS, data)
    for split, part in ((train, slice(0, 12)), (validation, slice(12, 16)), (test, slice(16, 20))):
        assert torch.equal(split.inputs, expected[part])
        assert split.times is None
        assert split.rate == 1.0


def test_the_same_steps_are_missing_whichever_way_a_model_sees_it(inputs_ncl):
    mask = settings(dropped_fraction=0.5, sampling_rate=2)
    times = mask.model_copy(update={"dropped_as": "times"})
    (masked, *_), (timed, *_) = (prepare(inputs_ncl, TARGETS, POSITIONS, d) for d in (mask, times))
    assert timed.inputs.shape == (12, 2, 3)
    for inputs_ct, inputs_cs, times_s in zip(masked.inputs, timed.inputs, timed.times, strict=True):
        there = inputs_ct[-1].nonzero()[:, 0]
        assert (2 * there).tolist() == times_s.tolist()  # in steps of the whole sequence
        assert torch.equal(inputs_ct[:2, there], inputs_cs)


def test_the_test_split_may_have_its_own_rate(inputs_ncl):
    data = settings(sampling_rate=2, test_sampling_rate=1)
    train, *_ = prepare(inputs_ncl, TARGETS, POSITIONS, data)
    test = prepare_test(inputs_ncl, TARGETS, POSITIONS, data)
    assert (train.inputs.shape[-1], test.inputs.shape[-1]) == (5, 10)
    assert (train.rate, test.rate) == (1.0, 0.5)
    # Normalised by what was trained on.
    assert torch.equal(
        test.inputs, Normalizer.of(inputs_ncl[:12, :, ::2], "per_channel")(inputs_ncl[16:])
    )


def test_at_another_rate_a_time_step_is_normalised_as_that_step_of_the_training_sequences(
    inputs_ncl,
):
    data = settings(test_sampling_rate=3, normalization="per_time_step")
    test = prepare_test(inputs_ncl, TARGETS, POSITIONS, data)
    expected = Normalizer.of(inputs_ncl[:12], "per_time_step")(inputs_ncl[16:])[:, :, ::3]
    assert torch.equal(test.inputs, expected)
    assert test.rate == 3.0


@given(
    rate=st.integers(1, 12),
    test_rate=st.none() | st.integers(1, 12),
    fraction=st.floats(0.0, 0.99),
    dropped_as=st.sampled_from(["mask", "times"]),
    normalization=st.sampled_from(["per_channel", "per_time_step"]),
    kind=st.sampled_from(["numpy", "read-only", "torch"]),
)
def test_every_form_is_finite_float32_and_as_described(
    rate, test_rate, fraction, dropped_as, normalization, kind
):
    data = settings(
        sampling_rate=rate,
        test_sampling_rate=test_rate,
        dropped_fraction=fraction,
        dropped_as=dropped_as,
        normalization=normalization,
    )
    x = np.random.default_rng(0).normal(3.0, 2.0, (20, 2, 11)).astype(np.float32)
    x.setflags(write=kind != "read-only")
    inputs = torch.from_numpy(x) if kind == "torch" else x
    train, validation, _ = prepare(inputs, TARGETS, POSITIONS, data)
    test = prepare_test(inputs, TARGETS, POSITIONS, data)
    for split in (train, validation):
        channels, length = prepared_shape(2, 11, data)
        assert split.inputs.shape[1] == channels
        assert split.times is not None or split.inputs.shape[2] == length
        assert split.rate == 1.0
    for split in (train, validation, test):
        assert split.inputs.dtype == torch.float32
        assert split.inputs.isfinite().all()
        assert split.targets.dtype == torch.int64
        assert (split.times is not None) == data.has_times
        if split.times is not None:
            assert split.times.shape == (len(split), split.inputs.shape[-1])
            assert (split.times.diff() > 0).all()
            assert split.times.min() >= 0.0
            assert split.times.max() <= prepared_shape(2, 11, data)[1] - 1
