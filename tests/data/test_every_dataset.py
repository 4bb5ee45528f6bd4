"""The contract of every row of the table of datasets, in every form that its settings give it."""

import math
import pickle
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import pytest
import torch

from ckconv_sweep.config.data import (
    DATASETS,
    AddingData,
    ArraysData,
    CharacterTrajectoriesData,
    CopyMemoryData,
    Data,
    DigitsData,
    PennTreebankData,
    PhysioNetData,
    PmnistData,
    Scifar10Data,
    SmnistData,
    SpeechCommandsData,
    UeaData,
)
from ckconv_sweep.data import arrays
from ckconv_sweep.data.datasets import describe, load, read_split
from ckconv_sweep.data.task import IGNORED
from ckconv_sweep.errors import CkconvSweepError, ConfigError

from . import small_files

WORDS = ("yes", "no")
NAMES = ("train", "validation", "test")


def write_letters(data_dir, monkeypatch):
    small_files.write_letters_npz(data_dir, small_files.letters(monkeypatch))


WRITERS = {
    "smnist": small_files.write_mnist,
    "pmnist": small_files.write_mnist,
    "scifar10": small_files.write_cifar10,
    "character_trajectories": write_letters,
    "speech_commands": lambda data_dir, _: small_files.write_clips(data_dir, WORDS),
    "physionet2019": small_files.write_records,
    "ptb_characters": lambda data_dir, _: small_files.write_treebank(data_dir),
    "uea": lambda data_dir, _: small_files.write_uea(data_dir),
    "arrays": lambda data_dir, _: small_files.write_arrays(data_dir),
}
"""Those that are missing need no file."""


@dataclass(frozen=True)
class Form:
    """Settings, and what must come of them beyond their description."""

    data: Data
    sizes: tuple[int, int, int]
    """Sequences to train, to validate and to test."""
    test_rate: float = 1.0
    can_be_coarser: bool = True
    is_real: bool = False
    """On the official files, not on small ones."""

    def __str__(self) -> str:
        settings = self.data.model_dump(exclude_defaults=True, exclude={"words"})
        return "-".join([self.data.name, *map(str, settings.values()), *["real"] * self.is_real])

    @property
    def kept(self) -> int:
        """The training split keeps every n-th step."""
        return getattr(self.data, "sampling_rate", 1)


def letters(test_rate=1.0, **changes):
    data = CharacterTrajectoriesData(**changes)
    return Form(data, (112, 24, 24), test_rate, can_be_coarser=not data.has_times)


def clips(**changes):
    coarser = changes.get("features") != "mfcc"
    return Form(SpeechCommandsData(words=WORDS, **changes), (28, 6, 6), can_be_coarser=coarser)


FORMS = [
    Form(DigitsData(), (1293, 144, 360)),
    Form(SmnistData(validation_fraction=1 / 6), (50, 10, 20)),
    Form(PmnistData(validation_fraction=1 / 6), (50, 10, 20), can_be_coarser=False),
    Form(Scifar10Data(validation_fraction=0.2), (80, 20, 20)),
    Form(Scifar10Data(validation_fraction=0.2, normalization="imagenet"), (80, 20, 20)),
    letters(),
    letters(normalization="per_time_step"),
    letters(sampling_rate=2),
    letters(sampling_rate=2, test_sampling_rate=1, test_rate=0.5),
    letters(test_sampling_rate=4, test_rate=4.0, normalization="per_time_step"),
    letters(dropped_fraction=0.3),
    letters(dropped_fraction=0.3, dropped_as="times"),
    letters(dropped_fraction=0.5, dropped_as="times", sampling_rate=4),
    clips(sampling_rate=16),
    clips(sampling_rate=16, dropped_fraction=0.5),
    clips(features="mfcc"),
    Form(PhysioNetData(), (42, 9, 9)),
    Form(
        CopyMemoryData(blank_steps=30, train_sequences=100, test_sequences=100),
        (100, 100, 100),
        can_be_coarser=False,
    ),
    Form(
        AddingData(length=21, train_sequences=100, test_sequences=100),
        (100, 100, 100),
        can_be_coarser=False,
    ),
    Form(PennTreebankData(sequence_length=12, predicted_steps=8), (32, 7, 6), can_be_coarser=False),
    Form(UeaData(problem="Tiny", validation_fraction=0.25), (12, 4, 6)),
    Form(ArraysData(path="even.npz", validation_fraction=0.25), (12, 4, 4)),
    Form(
        ArraysData(path="mine.npz", sampled="at_times", validation_fraction=0.25),
        (12, 4, 4),
        can_be_coarser=False,
    ),
    Form(ArraysData(path="numbers.csv", target="number", validation_fraction=0.25), (12, 4, 4)),
    Form(SmnistData(), (54_000, 6_000, 10_000), is_real=True),
    Form(PmnistData(), (54_000, 6_000, 10_000), can_be_coarser=False, is_real=True),
    Form(CharacterTrajectoriesData(), (2_000, 429, 429), is_real=True),
]


def of(forms):
    """The real pMNIST is the real sMNIST in another order, and as large."""
    slow = [pytest.mark.slow]
    return [pytest.param(f, marks=slow if str(f) == "pmnist-real" else []) for f in forms]


@pytest.fixture(scope="module", params=of(FORMS), ids=str)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def data_dir(form, request, tmp_path_factory):
    name = form.data.name
    if form.is_real:
        folder = request.getfixturevalue("shared") / "data"
        if not (folder / {"smnist": "mnist", "pmnist": "mnist"}.get(name, name)).is_dir():
            pytest.skip(f"needs shared/data/{name}")
        yield folder
        return
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp(name)
        if name in WRITERS:
            WRITERS[name](folder, monkeypatch)
        yield folder


@pytest.fixture(scope="module")
def task(form, data_dir):
    return load(form.data, data_dir)


@pytest.fixture(scope="module")
def splits(task):
    return splits_of(task)


def splits_of(task):
    return {"train": task.train, "validation": task.validation, "test": task.read_test()}


def only(which: Callable[[Form], bool]):
    """The forms for which this is true, and no others."""
    return pytest.mark.parametrize("form", of(filter(which, FORMS)), ids=str, indirect=True)


def is_same(one, other):
    return (
        torch.equal(one.inputs, other.inputs)
        and torch.equal(one.targets, other.targets)
        and (one.times is None) == (other.times is None)
        and (one.times is None or torch.equal(one.times, other.times))
        and one.rate == other.rate
    )


def test_every_row_of_the_table_is_here_on_small_files():
    assert {form.data.name for form in FORMS if not form.is_real} == set(DATASETS)


def test_every_split_has_its_number_of_sequences(form, splits):
    assert tuple(len(splits[name]) for name in NAMES) == form.sizes


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_finite_and_shaped_as_described(form, task, splits, name):
    described, split = task.description, splits[name]
    rate = form.test_rate if name == "test" else 1.0
    assert split.rate == rate
    if described.kind == "text":
        assert split.inputs.shape == (len(split), described.length)
        assert split.inputs.dtype == torch.int64
        assert 0 <= split.inputs.min() <= split.inputs.max() < described.in_channels
        return
    steps = math.ceil(described.length / rate) if split.times is None else split.times.shape[1]
    assert split.inputs.shape == (len(split), described.in_channels, steps)
    assert split.inputs.dtype == torch.float32
    assert split.inputs.isfinite().all()


@only(lambda form: not form.data.has_times)
def test_steps_equally_far_apart_have_no_times(splits):
    assert [split.times for split in splits.values()] == [None] * 3


@only(lambda form: form.data.has_times)
@pytest.mark.parametrize("name", NAMES)
def test_times_rise_within_the_whole_sequence(form, task, splits, name):
    split = splits[name]
    whole = math.ceil(task.description.length / form.kept)
    if form.data.name == "arrays":  # as many as the longest sequence has
        assert split.times.shape == (len(split), split.inputs.shape[-1])
        assert not split.times[:, 0].any()
        return
    left = whole - int(whole * form.data.dropped_fraction)
    assert split.times.shape == (len(split), left)
    assert split.times.dtype == torch.float32
    assert (split.times.diff() > 0).all()
    assert 0 <= split.times.min() <= split.times.max() <= task.description.length - 1
    assert (split.times % form.kept == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_as_the_kind_of_question_asks(task, splits, name):
    described, split = task.description, splits[name]
    targets, every_step = split.targets, described.kind in ("per_step", "text")
    steps = split.inputs.shape[-1:] if every_step else ()
    assert targets.shape == (len(split.inputs), *steps)
    is_number = described.kind in ("binary", "regression")
    assert targets.dtype == (torch.float32 if is_number else torch.int64)
    if is_number:
        assert described.outputs == 1
    if described.kind == "regression":
        assert targets.isfinite().all()
    elif every_step:
        scored = targets[targets != IGNORED]
        assert 0 <= scored.min() < scored.max() < described.outputs
    else:  # every class, and no other
        classes = 2 if described.kind == "binary" else described.outputs
        assert targets.unique().tolist() == list(range(classes))


@only(lambda form: form.data.kind in ("classification", "binary"))
def test_validation_has_the_classes_in_the_shares_of_training(splits):
    train, validation = (splits[name].targets.long().bincount() for name in NAMES[:2])
    expected = (train + validation) * (validation.sum() / (train + validation).sum())
    assert (validation - expected).abs().max() < 2


def test_no_sequence_is_in_two_splits(splits):
    rows = [{row.numpy().tobytes() for row in split.inputs} for split in splits.values()]
    assert not any(one & other for one, other in combinations(rows, 2))


def test_loading_twice_gives_the_same(form, data_dir, splits):
    again = splits_of(load(form.data, data_dir))
    assert [name for name in NAMES if not is_same(splits[name], again[name])] == []


def test_another_split_seed_deals_anew_but_never_touches_the_test_split(form, data_dir, splits):
    other = splits_of(load(form.data.model_copy(update={"split_seed": 1}), data_dir))

    def unscaled(split):
        """The values are normalised by other training sequences then, but for the zeros."""
        x = split.inputs.double()
        x = torch.where(x == 0, math.nan, x)
        x -= x.nanmean(0)
        return x / x.square().nanmean(0).sqrt().clamp(min=1e-4)

    def is_dealt_anew(name):
        one = splits[name]
        return not (
            torch.equal(one.targets, other[name].targets)
            and torch.allclose(unscaled(one), unscaled(other[name]), atol=0.01, equal_nan=True)
            and (one.times is None or torch.equal(one.times, other[name].times))
        )

    comes_split = form.data.kind == "text"
    assert [is_dealt_anew(name) for name in NAMES] == [not comes_split, not comes_split, False]


def test_a_task_can_be_sent_to_another_process(task, splits):
    copy = pickle.loads(pickle.dumps(task))
    assert copy.description == task.description
    assert is_same(copy.read_test(), splits["test"])


def test_a_data_set_is_described_as_it_is_loaded(form, data_dir, task):
    assert describe(form.data, data_dir) == task.description
    assert (task.description.name, task.description.kind) == (form.data.name, form.data.kind)


def test_describing_opens_no_file_but_those_of_uea_and_arrays(form, data_dir, monkeypatch):
    opened = []

    def refuse(path, *_, **__):
        opened.append(path)
        raise PermissionError

    arrays._read.cache_clear()
    with monkeypatch.context() as watched, suppress(CkconvSweepError):
        for place in ("builtins.open", "io.open", "os.open"):
            watched.setattr(place, refuse)
        describe(form.data, data_dir)
    assert bool(opened) == (form.data.name in ("uea", "arrays"))


def test_a_split_is_read_by_its_name(form, data_dir, task, splits):
    for name in ("validation", "test"):
        described, split = read_split(form.data, name, data_dir=data_dir)
        assert described == task.description
        assert is_same(split, splits[name])


@only(lambda form: form.can_be_coarser)
@pytest.mark.parametrize("name", ["validation", "test"])
def test_every_second_step_can_be_asked_for(form, data_dir, task, splits, name):
    _, fine = read_split(form.data, name, form.kept, data_dir)
    described, coarse = read_split(form.data, name, 2 * form.kept, data_dir)
    assert described == task.description
    assert is_same(fine, splits[name]) or splits[name].rate == form.test_rate != 1.0
    assert (fine.rate, coarse.rate) == (1.0, 2.0)
    assert coarse.times is None
    assert torch.equal(coarse.targets, fine.targets)
    expected, got = fine.inputs[..., ::2], coarse.inputs
    if getattr(form.data, "dropped_fraction", 0):  # other steps may be missing: those in both
        in_both = expected[:, -1:] * got[:, -1:]
        assert in_both.any()
        expected, got = expected * in_both, got * in_both
    torch.testing.assert_close(got, expected)


@only(lambda form: not form.can_be_coarser)
@pytest.mark.parametrize("name", ["validation", "test"])
def test_every_second_step_of_what_has_no_rate_is_refused(form, data_dir, name):
    with pytest.raises(ConfigError) as error:
        read_split(form.data, name, 2 * form.kept, data_dir)
    assert error.value.where.startswith("--sampling-rate")


@only(lambda form: form.kept == 2)
def test_validation_at_a_rate_between_its_steps_is_refused(form, data_dir):
    with pytest.raises(ConfigError, match="3 is no multiple"):
        read_split(form.data, "validation", 3, data_dir)
