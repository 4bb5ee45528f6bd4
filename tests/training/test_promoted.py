"""A folder that is handed over: whole or refused, and never written over something else."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ckconv_sweep.config import documents
from ckconv_sweep.config.data import Description
from ckconv_sweep.data.digits import DIGITS
from ckconv_sweep.data.plain_preparation import as_plain
from ckconv_sweep.data.preparation import Preparation
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.record import blobs
from ckconv_sweep.record.openings import FILE
from ckconv_sweep.training import promoted
from ckconv_sweep.training.promoted import ABOUT, CARD, TRIAL, WEIGHTS, Promoted
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.weights import read_trained

from .tiny import make_trial

TRIAL_OF = make_trial()
MODEL = make_model(TRIAL_OF.model, DIGITS, generator(0, "init"))
HELD = Promoted(
    trial=TRIAL_OF,
    weights=MODEL.state_dict(),
    description=Description(name="digits", in_channels=1, length=64, outputs=10),
    classes=tuple("0123456789"),
    preparation=Preparation(
        channels=1,
        length=64,
        measured_on="some sequences",
        mean=torch.full((1, 1, 1), 0.1, dtype=torch.float64),
        std=torch.full((1, 1, 1), 1.0 / 3.0, dtype=torch.float64),
    ),
    data={"digest": "d" * 32},
    origin={"sweep": "mine", "uid": "u"},
)
TEXT = documents.write(TRIAL_OF.model_dump(mode="json"))


def files(card: str = "# mine\n", uid: str = "u") -> dict[str, bytes]:
    held = replace(HELD, origin={"sweep": "mine", "uid": uid})
    return promoted.contents(held, TEXT, card)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    assert promoted.write(tmp_path / "m", files(), "u")
    found = promoted.read(tmp_path / "m")
    assert found.trial == TRIAL_OF
    assert found.description == HELD.description
    assert found.classes == HELD.classes
    assert found.data == HELD.data
    for name, weight in MODEL.state_dict().items():
        assert torch.equal(found.weights[name], weight)
    assert found.preparation is not None
    assert HELD.preparation is not None
    assert torch.equal(found.preparation.std, HELD.preparation.std)
    trained = read_trained(tmp_path / "m")
    assert torch.equal(next(trained.model(DIGITS).parameters()), next(MODEL.parameters()))


def test_the_same_again_changes_nothing_and_another_card_only_that(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    promoted.write(folder, files(), "u")
    (folder / FILE).write_text("{}\n")
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert not promoted.write(folder, files(), "u")
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == before
    assert blobs.digest_of_files(files()) == blobs.digest_of_files(files())
    assert blobs.digest_of_files(files()) != blobs.digest_of_files(files("# other\n"))
    assert promoted.write(folder, files("# other\n"), "u")
    assert (folder / CARD).read_text() == "# other\n"
    assert (folder / FILE).read_text() == "{}\n"  # the test split was opened by these weights
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("at", ["blob.written", "blob.kept"])
def test_a_kill_at_any_write_leaves_a_whole_folder_or_one_that_is_refused_and_completed(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for begun in (False, True):
        for number in range(1, 5):
            folder = tmp_path / f"{begun}{number}"
            new = promoted.contents(replace(HELD, classes=tuple("abcdefghij")), TEXT, "# new\n")
            if begun:
                promoted.write(folder, files(), "u")
            with monkeypatch.context() as patched, contextlib.suppress(Killed):
                patched.setattr(blobs, "crash_point", killer(at, number))
                promoted.write(folder, new, "u")
            if folder.exists():
                with contextlib.suppress(DamagedData):
                    assert promoted.read(folder).classes in (HELD.classes, tuple("abcdefghij"))
            promoted.write(folder, new, "u")
            assert promoted.read(folder).classes == tuple("abcdefghij")
            assert (folder / CARD).read_text() == "# new\n"


def test_what_a_killed_writer_left_is_no_file_of_anybody(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    promoted.write(folder, files(), "u")
    (folder / f".tmp-{'0' * 32}").write_bytes(b"half of the weights")
    assert promoted.write(folder, files("# new\n"), "u")
    assert {path.name for path in folder.iterdir()} == {TRIAL, WEIGHTS, ABOUT, CARD}


def test_what_a_writer_left_that_was_killed_before_the_folder_had_its_name_is_taken_away(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "m[1]"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        assert promoted.write(folder, files(), "u")  # another one writes it meanwhile
        assert [path.name for path in tmp_path.glob(".m*/*")] == ["some"]
        writer.kill()
    shutil.rmtree(folder)
    assert promoted.write(folder, files(), "u")
    assert [path.name for path in tmp_path.iterdir()] == ["m[1]"]


ROOT = Path(__file__).parents[2]
WRITER = """
import sys, time
from pathlib import Path
from ckconv_sweep.durable import whole_folder
with whole_folder(Path(sys.argv[1])) as new:
    (new / "some").touch()
    print("written", flush=True)
    time.sleep(600)
"""


def test_a_card_that_somebody_edited_stays_until_it_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    promoted.write(folder, files(), "u")
    assert not promoted.card_is_edited(folder)
    (folder / CARD).write_text("# mine, with more\n")
    for _ in range(2):
        promoted.write(folder, files("# new\n"), "u")
        assert promoted.card_is_edited(folder)
        assert (folder / CARD).read_text() == "# mine, with more\n"
    (folder / CARD).unlink()
    assert promoted.write(folder, files("# new\n"), "u")
    assert (folder / CARD).read_text() == "# new\n"
    assert not promoted.card_is_edited(folder)


class Killed(BaseException):
    """As a process ends that is killed, but for what `finally` does."""


def killer(at: str, number: int) -> Callable[[str], None]:
    """Kills at the so-many-th time that a place is passed."""
    passed = itertools.count(1)

    def crash_point(name: str) -> None:
        if name == at and next(passed) == number:
            raise Killed

    return crash_point


def _another_sweep(folder: Path) -> None:
    promoted.write(folder, files(uid="other"), "other")


def _a_file_beside(folder: Path) -> None:
    promoted.write(folder, files(), "u")
    (folder / "notes.txt").write_text("mine")


def _somebodys(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")


def _a_file(folder: Path) -> None:
    folder.write_text("x")


@pytest.mark.parametrize("occupy", [_another_sweep, _a_file_beside, _somebodys, _a_file])
def test_something_else_is_never_written_over(
    occupy: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    occupy(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="something else is there already"):
        promoted.write(folder, files(), "u")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert promoted.write(tmp_path / "m", files(), "u")
    promoted.read(tmp_path / "m")


def changed(folder: Path, **parts: object) -> None:
    """As another program might have written it, with the digest that is right for it."""
    about = json.loads((folder / ABOUT).read_text()) | parts
    del about["sha256"][ABOUT]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    about["sha256"][ABOUT] = digest
    (folder / ABOUT).write_text(json.dumps(about))


def touched(folder: Path, before: str, after: str) -> None:
    """One place in what goes with the weights is another, and nothing else."""
    text = (folder / ABOUT).read_text()
    assert text.count(before) == 1
    (folder / ABOUT).write_text(text.replace(before, after))


def replaced(folder: Path, weights: bytes) -> None:
    """Other weights, with digests that are right for them."""
    (folder / WEIGHTS).write_bytes(weights)
    digests = json.loads((folder / ABOUT).read_text())["sha256"]
    changed(folder, sha256={**digests, WEIGHTS: hashlib.sha256(weights).hexdigest()})


DAMAGE: dict[str, tuple[Callable[[Path], object], type[CkconvSweepError], str]] = {
    "weights cut short": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-3]),
        DamagedData,
        "SHA-256",
    ),
    "weights that are none": (
        lambda f: replaced(f, (f / WEIGHTS).read_bytes()[:-3]),
        DamagedData,
        "no whole safetensors file",
    ),
    "another setting": (
        lambda f: (f / TRIAL).write_text(TEXT.replace("epochs: 3", "epochs: 4")),
        DamagedData,
        "SHA-256",
    ),
    "another mean": (
        lambda f: touched(f, "0.1\n", "0.2\n"),
        DamagedData,
        r"model.json: its SHA-256",
    ),
    "classes in another order": (
        lambda f: touched(f, '"0",\n  "1"', '"1",\n  "0"'),
        DamagedData,
        r"model.json: its SHA-256",
    ),
    "too few classes": (
        lambda f: changed(f, classes=["0", "1"]),
        DamagedData,
        "10 different classes expected",
    ),
    "another shape": (
        lambda f: changed(f, preparation=as_plain(HELD.preparation) | {"shape": [3]}),
        DamagedData,
        "no preparation",
    ),
    "a huge order": (
        lambda f: changed(f, preparation=as_plain(HELD.preparation) | {"order": [2**70]}),
        DamagedData,
        "no preparation",
    ),
    "no trial": (lambda f: (f / TRIAL).unlink(), ConfigError, "trial.yaml is missing"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), ConfigError, "model.safetensors is missing"),
    "no description": (lambda f: (f / ABOUT).unlink(), ConfigError, "model.json is missing"),
    "a newer format": (lambda f: changed(f, format=2), ConfigError, "update ckconv-sweep"),
    "no format": (lambda f: changed(f, format="x"), DamagedData, "not written by"),
    "no JSON": (lambda f: (f / ABOUT).write_text("{"), DamagedData, "no JSON"),
    "another JSON": (lambda f: (f / ABOUT).write_text("[1]"), DamagedData, "not written by"),
    "no classes": (lambda f: changed(f, classes=3), DamagedData, "cannot be read"),
    "a broken preparation": (
        lambda f: changed(f, preparation={"mean": [1]}),
        DamagedData,
        "cannot be read",
    ),
    "other data": (lambda f: changed(f, description={"name": "x"}), DamagedData, "cannot be read"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_folder_that_is_not_whole_is_refused(what: str, tmp_path: Path) -> None:
    damage, error, said = DAMAGE[what]
    folder = tmp_path / "m"
    promoted.write(folder, files(), "u")
    damage(folder)
    with pytest.raises(error, match=said) as raised:
        read_trained(folder)
    assert raised.value.where is not None
    assert str(folder) in raised.value.where


def test_weights_that_are_parts_of_one_tensor_come_back_to_the_last_bit(tmp_path: Path) -> None:
    table = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    weights = {"a": table[:, ::2], "b": table.T, "c": table, "none": table[:0], "one": table[0, 0]}
    content = promoted.contents(replace(HELD, weights=weights), TEXT, "")[WEIGHTS]
    found = promoted.weights_of(content, "a")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
