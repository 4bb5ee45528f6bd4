"""Character Trajectories: small files of both forms, and the real data against the reference."""

import zipfile

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import CharacterTrajectoriesData
from ckconv_sweep.data import character_trajectories
from ckconv_sweep.data.character_trajectories import NPZ_FILE, TS_FILES, describe, load
from ckconv_sweep.data.sequences import with_mask
from ckconv_sweep.errors import ConfigError, DamagedData

from .small_files import LETTERS, letters, write_letters_npz, write_letters_ts

DATA = CharacterTrajectoriesData()
PUBLISHED = {"normalization": "per_time_step"}


@pytest.fixture(name="letters")
def _letters(monkeypatch):
    return letters(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "character_trajectories"
    inner.mkdir()
    return inner


def splits(task):
    return task.train, task.validation, task.read_test()


@pytest.mark.parametrize("write", [write_letters_npz, write_letters_ts])
def test_one_pool_is_split_into_70_15_and_15_percent(letters, folder, write):
    write(folder.parent, letters)
    task = load(DATA, folder.parent)
    assert [len(split) for split in splits(task)] == [112, 24, 24]
    for split in splits(task):
        assert split.inputs.shape[1:] == (3, 182)
        assert split.targets.unique().tolist() == list(range(20))


def test_both_forms_give_the_same_series_and_number_classes_their_own_way(letters, folder):
    # In order of first appearance, the classes of the .ts files have the numbers of the .npz file.
    first = {k: i for i, k in enumerate(dict.fromkeys(letters["y"].tolist()))}
    letters["y"] = np.array([first[k] for k in letters["y"]])
    write_letters_npz(folder.parent, letters)
    from_npz = splits(load(DATA, folder.parent))
    letters["y"] = 19 - letters["y"]  # called otherwise, they appear in the same order
    write_letters_ts(folder.parent, letters)
    for one, other in zip(from_npz, splits(load(DATA, folder.parent)), strict=True):
        torch.testing.assert_close(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)


def test_a_series_is_continued_by_the_last_value_of_each_channel(letters, folder):
    letters["lengths"][:] = 60
    letters["X"][:, :, :60] = np.nan_to_num(letters["X"][:, :, :60])
    letters["X"][:, :, 60:] = np.nan
    write_letters_npz(folder.parent, letters)
    inputs = load(DATA, folder.parent).train.inputs
    assert torch.equal(inputs[:, :, 60:], inputs[:, :, 59:60].expand(-1, -1, 122))


def test_another_seed_never_touches_the_test_split(letters, folder):
    write_letters_npz(folder.parent, letters)
    published = load(DATA, folder.parent)
    other = load(CharacterTrajectoriesData(split_seed=3), folder.parent)
    assert torch.equal(published.read_test().targets, other.read_test().targets)
    assert not torch.equal(published.validation.targets, other.validation.targets)


def test_published_lengths_and_channels_are_described():
    def shape(**changes):
        described = describe(CharacterTrajectoriesData(**changes))
        return described.in_channels, described.length, described.outputs

    assert [shape(sampling_rate=r) for r in (1, 2, 4, 8)] == [
        (3, 182, 20),
        (3, 91, 20),
        (3, 46, 20),
        (3, 23, 20),
    ]
    assert shape(dropped_fraction=0.3) == (4, 182, 20)
    assert shape(dropped_fraction=0.3, dropped_as="times") == (3, 182, 20)


@pytest.mark.parametrize("name", TS_FILES)
def test_one_of_two_files_is_not_enough(letters, folder, name):
    write_letters_npz(folder.parent, letters)
    write_letters_ts(folder.parent, letters)
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name) as error:
        load(DATA, folder.parent)
    assert error.value.where == str(folder)
    assert "https://www.timeseriesclassification.com" in error.value.hint


def test_without_any_file_the_message_says_how_to_get_them(tmp_path):
    with pytest.raises(ConfigError, match=" and ".join(TS_FILES)) as error:
        load(DATA, tmp_path)
    for part in (NPZ_FILE, "--data-dir", "CKCONV_DATA"):
        assert part in error.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "y"}, "a .npz file with X, y"),
        (lambda a: a | {"y": np.array([None] * LETTERS)}, "a .npz file with X, y"),  # a pickle
        (lambda a: a | {"X": a["X"][:, :2]}, r"arrays \(N, 3, 182\)"),
        (lambda a: a | {"X": a["X"][:-1]}, r"arrays \(N, 3, 182\)"),
        (lambda a: a | {"X": a["X"].astype("U8")}, r"arrays \(N, 3, 182\)"),
        (lambda a: a | {"y": np.float64(3)}, r"arrays \(N, 3, 182\)"),
        (lambda a: a | {"lengths": a["lengths"] - 1}, "NaN after it"),
        (lambda a: a | {"lengths": a["lengths"] * 0}, "NaN after it"),
        (lambda a: a | {"lengths": a["lengths"].astype("u8") - np.uint64(500)}, "NaN after it"),
        (lambda a: a | {"X": np.nan_to_num(a["X"])}, "NaN after it"),
        (lambda a: a | {"X": np.where(np.isnan(a["X"]), a["X"], np.inf)}, "finite values"),
        (lambda a: a | {"y": a["y"] + 1}, "160 series of 20 classes"),
        (lambda a: a | {"y": a["y"] % 19}, "got 160 of 19"),
        (lambda a: {k: v[:-1] for k, v in a.items()}, "160 series of 20 classes, got 159"),
    ],
)
def test_an_npz_file_of_something_else_is_damage(letters, folder, change, message):
    write_letters_npz(folder.parent, change(letters))
    with pytest.raises(DamagedData, match=message):
        load(DATA, folder.parent)


@pytest.mark.parametrize("keep", [0, 100, 5000, -1])
def test_an_npz_file_cut_short_is_damage(letters, folder, keep):
    write_letters_npz(folder.parent, letters)
    path = folder / NPZ_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedData, match=r"a \.npz file") as error:
        load(DATA, folder.parent)
    assert error.value.where == str(path)


def test_an_npz_file_that_unpacks_without_end_is_damage(letters, folder, monkeypatch):
    monkeypatch.setattr(character_trajectories, "MAX_NPZ_BYTES", 1_000_000)
    with zipfile.ZipFile(folder / NPZ_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", bytes(2_000_000))
    with pytest.raises(DamagedData, match="at most 1000000 bytes"):
        load(DATA, folder.parent)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@dimensions 3", "@dimensions 2", "2 channels expected, got 3"),
        (":1\n", ":21\n", "no class of the header"),
    ],
)
def test_a_ts_file_of_something_else_is_damage(letters, folder, old, new, message):
    write_letters_ts(folder.parent, letters)
    path = folder / TS_FILES[0]
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DamagedData, match=message):
        load(DATA, folder.parent)


@pytest.fixture
def reference(shared):
    if not (shared / "data" / "character_trajectories" / NPZ_FILE).is_file():
        pytest.skip("needs shared/data/character_trajectories")
    with np.load(shared / "reference" / "character_trajectories_sr1.npz") as arrays:
        return {name: arrays[name] for name in ("x_raw_padded", "x_norm", "y", "idx")}


def test_the_real_letters_are_split_2000_429_429(shared, reference):
    task = load(DATA, shared / "data")
    assert [len(split) for split in splits(task)] == [2000, 429, 429]
    for split in splits(task):
        assert split.targets.unique().tolist() == list(range(20))


def test_inputs_equal_those_that_the_published_code_normalised(shared, reference):
    task = load(CharacterTrajectoriesData(**PUBLISHED), shared / "data")
    inputs = torch.cat([split.inputs for split in splits(task)])
    targets = torch.cat([split.targets for split in splits(task)])
    for x_ct, y in zip(reference["x_norm"], reference["y"], strict=True):
        distance = (inputs - torch.from_numpy(x_ct)).abs().amax((1, 2))
        assert distance.min() < 1e-5
        assert targets[distance.argmin()] == y


def test_dropped_letters_are_those_of_the_published_recipe(shared, reference):
    """The recipe written out for all 2,858 letters, in plain loops."""
    from sklearn.model_selection import train_test_split

    path = shared / "data" / "character_trajectories" / NPZ_FILE
    with np.load(path, allow_pickle=False) as arrays:
        x, y = arrays["X"].copy(), arrays["y"]
    for letter, length in zip(x, (~np.isnan(x[:, 0])).sum(1), strict=True):
        letter[:, length:] = letter[:, length - 1 : length]
    x = torch.from_numpy(x)
    generator = torch.Generator().manual_seed(56789)
    for letter in x:
        letter[:, torch.randperm(182, generator=generator)[:91]] = float("nan")
    train, rest = train_test_split(np.arange(2858), train_size=0.7, random_state=0, stratify=y)
    validation, _ = train_test_split(rest, train_size=0.5, random_state=1, stratify=y[rest])
    normalised = torch.empty_like(x)
    for t in range(182):
        known = x[train, :, t][~x[train, :, t].isnan()]
        normalised[:, :, t] = (x[:, :, t] - known.mean()) / (known.std() + 1e-5)
    expected = with_mask(normalised)
    data = CharacterTrajectoriesData(dropped_fraction=0.5, **PUBLISHED)
    task = load(data, shared / "data")
    torch.testing.assert_close(task.train.inputs, expected[sorted(train)], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        task.validation.inputs, expected[sorted(validation)], atol=1e-5, rtol=1e-5
    )
