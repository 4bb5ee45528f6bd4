"""`predict` as a user types it, on a model that was really trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ckconv_sweep.data import digits
from ckconv_sweep.data.splits import held_out_by, hold_out

from .commands import ckconv_sweep, ended, refused


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """The folder of a run, called `model`, in a folder of the test's own."""
    shutil.copytree(trained / "runs" / "trial", tmp_path / "model")
    return tmp_path


def validation_digits() -> tuple[np.ndarray, np.ndarray]:
    """Values from 0 to 16, `(144, 1, 64)`, and classes."""
    from ckconv_sweep.config.data import DigitsData

    values_NT, targets_N = digits._read()
    kept, _ = hold_out(targets_N, digits.TEST_FRACTION, digits.TEST_SEED)
    _, chosen = held_out_by(DigitsData(), targets_N[kept])
    return values_NT[kept][chosen][:, None], targets_N[kept][chosen]


def test_a_split_and_a_file_of_the_same_sequences_have_the_same_answers(model: Path) -> None:
    scored = json.loads(
        ended(ckconv_sweep("evaluate", "model", "--split", "validation", "--json", cwd=model))
    )
    said = ended(ckconv_sweep("predict", "model", "validation", cwd=model))
    assert f"accuracy {scored['validation/accuracy']:.6f}" in said
    assert f"loss {scored['validation/loss']:.6f}" in said
    split = pd.read_csv(model / "predictions.csv", dtype={"target": str, "prediction": str})
    assert (split["target"] == split["prediction"]).mean() == scored["validation/accuracy"]
    x, y = validation_digits()
    np.savez(model / "mine.npz", X=x, y=y)
    done = ckconv_sweep("predict", "model", "mine.npz", "--out", "file.parquet", cwd=model)
    assert "normalised by the 1,293 training sequences of digits" in done.stderr
    assert ended(done).splitlines()[1:3] == said.splitlines()[1:3]
    file = pd.read_parquet(model / "file.parquet")
    probabilities = [f"p_{k}" for k in range(10)]
    assert (file[probabilities] == split[probabilities].astype(np.float32)).all().all()
    for stem in ("predictions", "file"):
        assert (model / f"{stem}-confusion.png").read_bytes()[:4] == b"\x89PNG"
        assert (model / f"{stem}-mistakes.png").exists()


def test_sequences_without_classes_are_answered_and_nothing_is_scored(model: Path) -> None:
    np.save(model / "x.npy", validation_digits()[0][:7])
    said = ended(ckconv_sweep("predict", "model", "x.npy", "--pictures", "seen", cwd=model))
    assert said == "predictions.csv: answers to 7 sequences\n"
    assert list(pd.read_csv(model / "predictions.csv").columns[:3]) == [
        "sequence",
        "prediction",
        "p_0",
    ]
    assert not list(model.rglob("*.png"))


def test_another_table_stays_unless_it_is_forced(model: Path) -> None:
    np.save(model / "x.npy", validation_digits()[0][:7])
    (model / "predictions.csv").write_text("mine")
    said = refused(ckconv_sweep("predict", "model", "x.npy", cwd=model))
    assert "--force" in said
    assert (model / "predictions.csv").read_text() == "mine"
    for _ in range(2):  # the same again is no other table
        ended(ckconv_sweep("predict", "model", "x.npy", "--out", "other.csv", cwd=model))
    ended(ckconv_sweep("predict", "model", "x.npy", "--force", cwd=model))
    assert (model / "predictions.csv").read_bytes() == (model / "other.csv").read_bytes()


def test_each_opening_of_the_test_split_is_recorded_with_those_of_evaluate(model: Path) -> None:
    ended(ckconv_sweep("predict", "model", "validation", "--out", "v.csv", cwd=model))
    assert not (model / "model" / "openings.jsonl").exists()
    ended(ckconv_sweep("evaluate", "model", cwd=model))
    done = ckconv_sweep("predict", "model", "test", cwd=model)
    ended(done)
    assert "opening 2 of the test split of this run; 1 before" in done.stderr
    first, second = map(json.loads, (model / "model" / "openings.jsonl").read_text().splitlines())
    assert (first["by"], second["by"]) == ("evaluate", "predict")
    for name in ("scores", "sequences", "data", "code"):
        assert first[name] == second[name]


def openings(model: Path) -> list[str]:
    path = model / "model" / "openings.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_the_test_split_stays_shut_where_its_number_could_not_be_written(model: Path) -> None:
    (model / "t-mistakes.png").write_text("mine")
    (model / "folder.csv").mkdir()
    ended(ckconv_sweep("predict", "model", "validation", cwd=model))
    for words, path, code in (
        ([], "predictions.csv", 2),
        (["--out", "t.csv"], "t-mistakes.png", 2),
        (["--out", "folder.csv"], "folder.csv", 73),
        (["--out", "t-mistakes.png/t.csv"], "t-mistakes.png/t.csv", 73),
    ):
        done = ckconv_sweep("predict", "model", "test", *words, cwd=model)
        assert done.returncode == code
        assert done.stdout == ""
        assert f"error: {path}: " in done.stderr
    assert openings(model) == []
    ended(ckconv_sweep("predict", "model", "test", "--force", cwd=model))
    assert len(openings(model)) == 1


def test_a_number_that_was_recorded_is_shown_though_the_disk_is_full(model: Path) -> None:
    (model / "full.csv").symlink_to("/dev/full")
    done = ckconv_sweep("predict", "model", "test", "--out", "full.csv", cwd=model)
    assert done.returncode == 73
    assert "No space left" in done.stderr
    (opening,) = map(json.loads, openings(model))
    assert f"accuracy {opening['scores']['test/accuracy']:.6f}" in done.stdout


def test_another_picture_stays_unless_it_is_forced_and_a_home_folder_is_found(model: Path) -> None:
    (model / "p-confusion.png").write_text("mine")
    words = ["predict", "model", "validation", "--out=~/p.csv", "--pictures=~"]
    done = ckconv_sweep(*words, cwd=model, HOME=str(model))
    assert done.returncode == 2
    assert "p-confusion.png: the file is there and holds something else" in done.stderr
    assert (model / "p.csv").exists()
    assert (model / "p-confusion.png").read_text() == "mine"
    ended(ckconv_sweep(*words, "--force", cwd=model, HOME=str(model)))
    assert (model / "p-mistakes.png").exists()
    assert not (model / "~").exists()


MISTAKES = {
    "another suffix": (["validation", "--out", "p.txt"], "must end with .csv or .parquet"),
    "no file": (["none.npy"], "none.npy: cannot be read: No such file"),
    "another word": (["train"], "for a split of the model's own dataset write validation or test"),
    "other channels": (["three.npy"], "sequence 0: the model takes sequences of 1 channel, got 3"),
    "a missing value": (["gap.npy"], "gap.npy: sequence 1: a value is missing"),
    "another class": (["class.npz"], "a target is '10'; the model's classes are 0, 1, 2"),
    "an address": (["s3://x/y.npy"], "addresses are not supported"),
}


def test_what_is_wrong_is_one_message_and_no_file(model: Path) -> None:
    np.save(model / "three.npy", np.zeros((2, 3, 64)))
    gap = np.zeros((2, 64))
    gap[1, 5] = np.nan
    np.save(model / "gap.npy", gap)
    np.savez(model / "class.npz", X=np.zeros((2, 64)), y=[1, 10])
    for words, message in MISTAKES.values():
        assert message in refused(ckconv_sweep("predict", "model", *words, cwd=model))
    assert not list(model.glob("*.csv"))
    assert "no checkpoint" in refused(ckconv_sweep("predict", ".", "validation", cwd=model))
