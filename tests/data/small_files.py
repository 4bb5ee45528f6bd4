"""Small files of the datasets' real formats.

`write_...` puts them into the dataset's folder below `data_dir`. Where a loader knows its official
files by their size or checksum, the monkeypatch makes it take the small ones for them.
"""

import gzip
import hashlib
import io
import random
import string
import struct
import wave

import numpy as np

from ckconv_sweep.data import character_trajectories, cifar10, mnist, penn_treebank, physionet2019


def idx(array):
    """The bytes of an idx file."""
    array = np.asarray(array, dtype=np.uint8)
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def mnist_contents(monkeypatch):
    """Name -> content of four files like MNIST's: 60 images to train with, 20 to test with."""
    rng = np.random.default_rng(0)
    contents = {
        mnist.TRAIN_IMAGES: idx(rng.integers(0, 256, (60, 28, 28))),
        mnist.TRAIN_LABELS: idx(np.arange(60) % 10),
        mnist.TEST_IMAGES: idx(rng.integers(0, 256, (20, 28, 28))),
        mnist.TEST_LABELS: idx(np.arange(20) % 10),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(mnist, "SHA256", hashes)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return contents


def write_mnist(data_dir, monkeypatch):
    """Packed, as they are downloaded."""
    (data_dir / "mnist").mkdir(parents=True)
    for name, content in mnist_contents(monkeypatch).items():
        (data_dir / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))


def cifar10_records(monkeypatch):
    """Name -> `(20, 3073)`, bytes of six files like CIFAR-10's, of 20 images each."""
    monkeypatch.setattr(cifar10, "RECORDS", 20)
    monkeypatch.setattr(cifar10, "MIRRORS", ())
    rng = np.random.default_rng(0)
    files = {}
    for name in (*cifar10.TRAIN_FILES, *cifar10.TEST_FILES):
        files[name] = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
        files[name][:, 0] = np.arange(20) % 10
    return files


def write_cifar10(data_dir, monkeypatch):
    """Unpacked."""
    folder = data_dir / "scifar10" / cifar10.FOLDER
    folder.mkdir(parents=True)
    for name, content in cifar10_records(monkeypatch).items():
        (folder / name).write_bytes(content.tobytes())


LETTERS = 160  # eight of each class


def letters(monkeypatch):
    """Arrays like those of Character Trajectories' .npz file."""
    monkeypatch.setattr(character_trajectories, "SERIES", LETTERS)
    rng = np.random.default_rng(0)
    lengths = np.array([182, *rng.integers(60, 183, LETTERS - 1)])
    x_ncl = rng.normal(1.0, 2.0, (LETTERS, 3, 182)).astype(np.float32)
    x_ncl[np.broadcast_to((np.arange(182) >= lengths[:, None])[:, None], x_ncl.shape)] = np.nan
    return {"X": x_ncl, "y": rng.permutation(LETTERS) % 20, "lengths": lengths}


def write_letters_npz(data_dir, arrays):
    folder = data_dir / "character_trajectories"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / character_trajectories.NPZ_FILE, **arrays)


def write_letters_ts(data_dir, arrays, cut=100):
    """The same letters as UEA's two files; class k is called `k + 1`."""
    folder = data_dir / "character_trajectories"
    folder.mkdir(parents=True, exist_ok=True)
    header = "@dimensions 3\n@equalLength false\n@classLabel true "
    header += " ".join(str(k) for k in range(1, 21)) + "\n"
    series = [x_cl[:, :n] for x_cl, n in zip(arrays["X"], arrays["lengths"], strict=True)]
    names = [str(k + 1) for k in arrays["y"]]
    train, test = (folder / name for name in character_trajectories.TS_FILES)
    train.write_text(ts(series[:cut], names[:cut], header))
    test.write_text(ts(series[cut:], names[cut:], header))


def ts(series, labels, header):
    """A `.ts` file: series `(C, T)` and the class of each."""
    rows = [
        ":".join([*(",".join("?" if v != v else str(v) for v in row) for row in x_ct), label])
        for x_ct, label in zip(series, labels, strict=True)
    ]
    return header + "@data\n" + "\n".join(rows)


UEA_HEADER = "@dimensions 2\n@equalLength false\n@classLabel true b a\n"


def write_uea(data_dir):
    """The problem `Tiny`: 16 series to train with, 6 to test with, of at most 6 and 9 steps."""

    def series(count, longest, seed):
        rng = np.random.default_rng(seed)
        lengths = [longest, *rng.integers(1, longest + 1, count - 1)]
        return [rng.normal(5.0, 2.0, (2, length)).round(3).tolist() for length in lengths]

    folder = data_dir / "uea" / "Tiny"
    folder.mkdir(parents=True)
    (folder / "Tiny_TRAIN.ts").write_text(ts(series(16, 6, 0), "abbb" * 4, UEA_HEADER))
    (folder / "Tiny_TEST.ts").write_text(ts(series(6, 9, 1), "ab" * 3, UEA_HEADER))


def write_arrays(data_dir):
    """`mine.npz`: 20 sequences of 2 to 7 steps and 3 channels, of the classes 2 and 10, and when
    their steps were, in seconds; `even.npz` and `numbers.csv`: the same without times, the latter
    with a number each."""
    rng = np.random.default_rng(0)
    lengths = [7, *rng.integers(2, 8, 19)]
    X = rng.normal(3.0, 2.0, (20, 3, 7)).round(3)
    times = 100.0 + rng.uniform(0.1, 0.9, (20, 7)).cumsum(1)
    y = np.array([2, 10] * 10)
    np.savez(data_dir / "mine.npz", X=X, y=y, lengths=lengths, times=times)
    np.savez(data_dir / "even.npz", X=X, y=y, lengths=lengths)
    rows = ["sequence,a,b,c,target"]
    for number, (x, length) in enumerate(zip(X, lengths, strict=True)):
        for a, b, c in x[:, :length].T.tolist():
            rows.append(f"s{number},{a},{b},{c},{number / 4 - 1}")
    (data_dir / "numbers.csv").write_text("\n".join(rows))


CLIPS = 20  # of each word


def samples(seed, count=16_000):
    """Noise."""
    return np.random.default_rng(seed).integers(-(2**15), 2**15, count).astype("<i2")


def wav(values, width=2, channels=1, rate=16_000):
    """The bytes of a clip."""
    file = io.BytesIO()
    with wave.open(file, "wb") as clip:
        clip.setsampwidth(width)
        clip.setnchannels(channels)
        clip.setframerate(rate)
        clip.writeframes(values.tobytes())
    return file.getvalue()


def clips(words):
    """Name -> content of 20 good clips of each word and one that is too short."""
    return {
        f"{word}/{i:02}_nohash_0.wav": wav(samples(100 * w + i, 16_000 if i < CLIPS else 15_000))
        for w, word in enumerate(words)
        for i in range(CLIPS + 1)
    }


def write_clips(data_dir, words):
    for name, content in clips(words).items():
        path = data_dir / "speech_commands" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def hour(number, sepsis=0, **values):
    """One line of a PhysioNet record; what is not said was not measured."""
    known = {"Age": 60, "Gender": 1, "Unit1": 0, "Unit2": 1, "HospAdmTime": -5.5} | values
    known |= {"ICULOS": number, "SepsisLabel": sepsis}
    names = physionet2019.COLUMNS.split("|")
    return "|".join("NaN" if n not in known else str(known[n]) for n in names)


def psv(*lines):
    """A PhysioNet record."""
    return "\n".join([physionet2019.COLUMNS, *lines]) + "\n"


def write_records(data_dir, monkeypatch):
    """60 records in two folders: a third has sepsis; HR, Temp and Age differ between them."""
    rng = np.random.default_rng(0)
    folder = data_dir / "physionet2019"
    for part in ("training_setA", "training_setB"):
        (folder / part).mkdir(parents=True)
        for i in range(30):
            age = int(rng.integers(20, 90))
            lines = [
                hour(h, int(i % 3 == 0 and h > 4), HR=round(rng.normal(80, 9), 2), Age=age)
                for h in range(1, 8 + i % 5)
            ]
            lines[2] = hour(3, Temp=round(rng.normal(37, 1), 2), Age=age)
            (folder / part / f"p{i:06}.psv").write_text(psv(*lines))
    (folder / "training_setA" / "index.html").write_text("no record")
    monkeypatch.setattr(physionet2019, "RECORDS", {"training_setA": 30, "training_setB": 30})


FIFTY = "\n #$&'*-./<>N\\" + string.digits + string.ascii_lowercase


def treebank_texts():
    """Name -> a text of fifty different characters."""

    def text(length, seed):
        return "".join(random.Random(seed).choices(FIFTY, k=length))

    return {
        penn_treebank.TRAIN: " pierre N\n" + FIFTY + text(200, 0),
        penn_treebank.VALIDATION: text(61, 1),
        penn_treebank.TEST: text(50, 2),
    }


def write_treebank(data_dir):
    folder = data_dir / "penn_treebank"
    folder.mkdir(parents=True)
    for name, content in treebank_texts().items():
        (folder / name).write_bytes(content.encode())
