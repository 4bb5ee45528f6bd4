"""Clips in the real format that the tests write themselves, and an archive of them."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch

from ckconv_sweep.config.data import TEN_WORDS, SpeechCommandsData
from ckconv_sweep.data import speech_commands
from ckconv_sweep.data.mfcc import mfcc
from ckconv_sweep.data.speech_commands import read_clip, read_clips
from ckconv_sweep.errors import ConfigError, DamagedData, UnknownNameError

from .small_files import CLIPS, clips, samples, wav, write_clips

WORDS = ("yes", "no")


@pytest.fixture
def data_dir(tmp_path):
    write_clips(tmp_path / "data", WORDS)
    return tmp_path / "data"


@pytest.fixture
def serve(mirror, monkeypatch):
    """`serve(words)`: a mirror that has an archive of clips, taken for the official one."""

    def serve(words):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            extra = {"_background_noise_/hum.wav": b"noise", "README.md": b"read me"}
            for name, content in (clips(words) | extra).items():
                info = tarfile.TarInfo(f"./{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        mirror.files[speech_commands.ARCHIVE] = file.getvalue()
        checksum = f"sha256:{hashlib.sha256(file.getvalue()).hexdigest()}"
        monkeypatch.setattr(speech_commands, "CHECKSUM", checksum)
        monkeypatch.setattr(speech_commands, "MIRRORS", (mirror.address,))
        return mirror

    return serve


def load(data_dir, **changes):
    data = SpeechCommandsData(**({"words": WORDS} | changes))
    task = speech_commands.load(data, data_dir)
    assert task.description == speech_commands.describe(data, None)
    return task


def splits(task):
    return [task.train, task.validation, task.read_test()]


def test_clips_of_a_second_are_split_70_15_15_and_shorter_ones_are_left_out(data_dir):
    task = load(data_dir)
    assert [len(split) for split in splits(task)] == [28, 6, 6]
    for split in splits(task):
        assert split.inputs.shape == (len(split), 1, 16_000)
        assert split.inputs.dtype == torch.float32
        assert torch.bincount(split.targets).tolist() == [len(split) // 2] * 2


def test_a_clip_is_its_samples_divided_by_2_to_the_15_and_normalised(data_dir):
    task = load(data_dir)
    raw = {w: [samples(100 * w + i) / 2**15 for i in range(CLIPS)] for w in (0, 1)}
    found = []
    for split in splits(task):
        for sound, target in zip(split.inputs[:, 0].numpy(), split.targets.tolist(), strict=True):
            fits = [np.corrcoef(sound, one)[0, 1] for one in raw[target]]
            found.append((target, int(np.argmax(fits))))
            assert max(fits) > 0.9999
    assert sorted(found) == [(w, i) for w in (0, 1) for i in range(CLIPS)]
    assert task.train.inputs.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert task.train.inputs.std().item() == pytest.approx(1.0, abs=1e-4)
    one = task.train.inputs[0, 0].double().numpy()
    scale = one.std() / samples(0).std() * 2**15  # uniform noise: std 1 / sqrt(3)
    assert scale == pytest.approx(np.sqrt(3), rel=0.02)


def test_mfcc_features_are_20_at_161_steps_of_the_same_clips(data_dir):
    task = load(data_dir, features="mfcc")
    for split in splits(task):
        assert split.inputs.shape == (len(split), 20, 161)
        assert split.inputs.isfinite().all()
    features = task.train.inputs
    assert features.mean(dim=(0, 2)).abs().max() < 1e-3
    torch.testing.assert_close(features.std(dim=(0, 2)), torch.ones(20), atol=1e-3, rtol=0)
    assert torch.equal(task.train.targets, load(data_dir).train.targets)


def test_features_are_those_of_the_sound_of_each_clip(data_dir):
    data = SpeechCommandsData(words=WORDS, features="mfcc")
    features, targets = read_clips(data_dir / "speech_commands", data)
    assert targets.tolist() == [0] * CLIPS + [1] * CLIPS
    for place, seed in ((0, 0), (7, 7), (CLIPS + 3, 103)):
        sound = torch.from_numpy(samples(seed).astype(np.float32) / 2**15)
        torch.testing.assert_close(features[place], mfcc(sound[None])[0])


def test_clips_are_read_a_few_at_a_time_without_a_difference(data_dir, monkeypatch):
    whole = load(data_dir, features="mfcc").train
    monkeypatch.setattr(speech_commands, "CLIPS_AT_ONCE", 3)
    few = load(data_dir, features="mfcc").train
    torch.testing.assert_close(few.inputs, whole.inputs)
    assert torch.equal(few.targets, whole.targets)


def test_words_are_numbered_as_in_the_settings(data_dir):
    data = SpeechCommandsData(words=("no", "yes"))
    sounds, targets = read_clips(data_dir / "speech_commands", data)
    assert targets.tolist() == [0] * CLIPS + [1] * CLIPS
    assert torch.equal(sounds[0, 0], torch.from_numpy(samples(100).astype(np.float32) / 2**15))


def test_another_seed_deals_train_and_validation_anew_but_never_the_test_split(data_dir):
    one, other = load(data_dir), load(data_dir, split_seed=1)
    torch.testing.assert_close(  # normalised by other training clips
        one.read_test().inputs, other.read_test().inputs, atol=0.02, rtol=0.02
    )
    assert not torch.allclose(one.validation.inputs, other.validation.inputs, atol=0.1)
    assert torch.equal(one.train.inputs, load(data_dir).train.inputs)


def test_clips_can_be_sampled_more_coarsely_and_lack_steps(data_dir):
    task = load(data_dir, sampling_rate=4, test_sampling_rate=8, dropped_fraction=0.5)
    assert task.train.inputs.shape == (28, 2, 4_000)
    assert (task.train.inputs[:, 1].sum(1) == 2_000).all()
    assert task.read_test().inputs.shape == (6, 2, 2_000)
    assert task.read_test().rate == 2.0


def test_a_folder_of_ones_own_is_a_word(data_dir):
    (data_dir / "speech_commands" / "no").rename(data_dir / "speech_commands" / "hooray")
    assert len(load(data_dir, words=("yes", "hooray")).train) == 28


@pytest.mark.parametrize(
    "word", ["yess", "..", "../speech_commands/yes", ".", "_background_noise_"]
)
def test_a_word_that_is_nowhere_is_refused_before_any_download(data_dir, serve, word):
    mirror = serve(WORDS)
    with pytest.raises(UnknownNameError, match="no word is called") as error:
        load(data_dir, words=("no", word))
    assert error.value.where == "data.words"
    assert mirror.requested == []
    if word == "yess":
        assert error.value.hint == "did you mean 'yes'?"


def test_missing_clips_are_downloaded_once_and_only_words_asked_for_unpacked(serve, tmp_path):
    mirror = serve(("yes", "no", "up", "down"))
    for _ in range(2):
        assert len(load(tmp_path / "new").train) == 28
    folder = tmp_path / "new" / "speech_commands"
    assert sorted(path.name for path in folder.iterdir()) == ["no", "yes"]
    assert len(list(folder.glob("*/*.wav"))) == 2 * (CLIPS + 1)
    load(tmp_path / "new", words=("up", "yes"))
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["no", "up", "yes"]
    assert mirror.requested == [speech_commands.ARCHIVE]


def test_an_archive_without_an_official_word_is_damaged(serve, tmp_path):
    serve(("yes", "up"))
    with pytest.raises(DamagedData, match=r"tar\.gz: .*none of the needed files"):
        load(tmp_path / "new")


def test_another_archive_is_refused(serve, tmp_path, monkeypatch):
    serve(WORDS)
    monkeypatch.setattr(speech_commands, "CHECKSUM", f"sha256:{'0' * 64}")
    with pytest.raises(DamagedData, match="expected sha256:0000"):
        load(tmp_path / "new")
    assert not (tmp_path / "new" / "speech_commands").exists()


def test_without_a_mirror_the_message_says_where_the_archive_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(speech_commands, "MIRRORS", ("http://127.0.0.1:1/",))
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "new")
    assert str(error.value).startswith(str(tmp_path / "new" / speech_commands.ARCHIVE))


def test_ten_words_must_have_all_their_clips(tmp_path, monkeypatch):
    write_clips(tmp_path, TEN_WORDS)
    with pytest.raises(DamagedData, match=r"expected 34975 clips .* got 200"):
        load(tmp_path, words=TEN_WORDS, features="mfcc")
    monkeypatch.setattr(speech_commands, "CLIPS_OF_TEN_WORDS", 200)
    assert len(load(tmp_path, words=TEN_WORDS, features="mfcc").train) == 140


def test_a_folder_without_a_clip_is_damaged(data_dir):
    for path in (data_dir / "speech_commands" / "no").glob("*.wav"):
        path.write_bytes(wav(samples(0, 10)))
    with pytest.raises(DamagedData, match="no: holds no clip of 16000 samples"):
        load(data_dir)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got it ends too early"),
        (b"<html>please log in</html>", "file does not start with RIFF id"),
        (wav(samples(0))[:30], "got "),
        (wav(samples(0))[:-2], "got 31998 bytes of 32000"),
        (wav(samples(0), rate=8_000), "1 channels, 8000 samples"),
        (wav(samples(0, 32_000), channels=2), "got 2 bytes a sample, 2 channels"),
        (wav(samples(0, 8_000), width=1), "got 1 bytes a sample"),
    ],
)
def test_a_broken_clip_says_where_what_was_expected_and_what_was_read(tmp_path, content, got):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(DamagedData) as error:
        read_clip(path)
    message = str(error.value)
    assert message.startswith(f"{path}: not a valid clip: expected a wav file of 2 bytes")
    assert got in message


def test_a_clip_that_is_there_but_cannot_be_read_is_told(tmp_path):
    (tmp_path / "clip.wav").mkdir()
    with pytest.raises(ConfigError, match=r"clip\.wav: cannot be read"):
        read_clip(tmp_path / "clip.wav")


def test_the_archive_is_reached_over_https_and_known_by_its_checksum():
    assert all(m.startswith("https://") and m.endswith("/") for m in speech_commands.MIRRORS)
    assert len(speech_commands.CHECKSUM) == len("sha256:") + 64
    assert len(speech_commands.WORDS) == 35
    assert set(TEN_WORDS) <= set(speech_commands.WORDS)
