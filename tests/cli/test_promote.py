"""`promote`: what a sweep found, as a folder and a version in MLflow that need nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.training.promoted import ABOUT, CARD, TRIAL, WEIGHTS

from .commands import REPOSITORY, ckconv_sweep, copied, ended, environment, refused


@pytest.fixture(scope="module")
def promoted(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished sweep of three trials, promoted as `small-promoted` and registered."""
    folder = tmp_path_factory.mktemp("promoted")
    copied(finished / "sweeps", folder / "sweeps")
    said = ended(ckconv_sweep("promote", "small", "--registry", cwd=folder))
    (folder / "said").write_text(said)
    return folder


def best_of(folder: Path) -> tuple[int, dict[str, object]]:
    """The number and the settings of the best trial."""
    listed = json.loads(ended(ckconv_sweep("table", "small", "--format", "json", cwd=folder)))
    text = ended(ckconv_sweep("best", "small", cwd=folder))
    from ckconv_sweep.config.documents import parse

    return int(listed[0]["trial"]), flat(parse(text, "best").value)


def score(folder: Path, model: str, **more: str) -> dict[str, object]:
    words = ["evaluate", model, "--split", "validation", "--json"]
    found = json.loads(ended(ckconv_sweep(*words, cwd=folder, **more)))
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if name != "checkpoint"}


def test_the_folder_has_the_best_trial_its_weights_and_a_card(promoted: Path) -> None:
    folder = promoted / "small-promoted"
    assert {path.name for path in folder.iterdir()} == {TRIAL, WEIGHTS, ABOUT, CARD}
    number, settings = best_of(promoted)
    said = (promoted / "said").read_text()
    assert f"(t{number:03d})" in said
    assert "not confirmed: train it with fresh seeds first: ckconv-sweep confirm small" in said
    from ckconv_sweep.config.documents import parse

    assert flat(parse((folder / TRIAL).read_text(), TRIAL).value) == settings
    Trial.model_validate(parse((folder / TRIAL).read_text(), TRIAL).value)
    card = (folder / CARD).read_text()
    for words in (
        f"those of t{number:03d} of the sweep `small`",
        "3 trials: 3 completed",
        "9 epochs",
        "sampler `random`",
        "**not confirmed**: the luckiest of 3 completed trials",
        "**test**: never opened",
        "licence: CC BY 4.0",
        json.loads((folder / ABOUT).read_text())["data"]["digest"],
        "1,293 training sequences",
        "| learning_rate |",
    ):
        assert words in card
    assert max(map(len, card.split("```python")[1].split("```")[0].splitlines())) <= 88


def test_it_scores_as_the_trial_does_to_the_last_bit(promoted: Path) -> None:
    number, _ = best_of(promoted)
    folder = f"sweeps/small/trials/{number:04d}"
    assert score(promoted, "small-promoted") == score(promoted, folder)


ALONE = """
import json, sys
import numpy as np
from ckconv_sweep import load
model = load(sys.argv[1])
answers = model.predict(np.load("x.npy"), np.load("y.npy"))
found = [answers.predicted, answers.values.tolist(), float(answers.right.mean())]
print(json.dumps([*found, str(model.trained.path)]))
"""


def alone(folder: Path, model: str, **more: str) -> list[object]:
    """What it answers in a process that has nothing else: no home, no sweep, no data."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    given = environment(HOME=str(home), PYTHONPATH=str(REPOSITORY), **more)
    command = [sys.executable, "-c", ALONE, model]
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def test_it_loads_with_nothing_else_there_by_path_and_by_name(
    promoted: Path, tmp_path: Path
) -> None:
    import numpy as np

    from .test_predict import validation_digits

    x, y = validation_digits()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    shutil.copytree(promoted / "small-promoted", tmp_path / "elsewhere")
    by_path = alone(tmp_path, "elsewhere")
    assert by_path[2] == score(promoted, "small-promoted")["validation/accuracy"]
    uri = f"sqlite:///{promoted}/sweeps/mlflow.db"
    by_name = alone(tmp_path, "models:/small@champion", MLFLOW_TRACKING_URI=uri)
    assert by_name[:3] == by_path[:3]
    assert by_path[3] == f"elsewhere/{WEIGHTS}"
    assert by_name[3] == "models:/small@champion"  # no folder that is gone again
    assert not (tmp_path / "sweeps").exists()


def test_the_same_again_is_no_second_version(promoted: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{promoted}/sweeps/mlflow.db"
    before = (promoted / "small-promoted" / CARD).stat().st_ino
    said = ended(ckconv_sweep("promote", "small", "--registry", cwd=promoted))
    assert "unchanged: " in said
    assert "registered already: models:/small@champion, version 1" in said
    assert (promoted / "small-promoted" / CARD).stat().st_ino == before
    client = MlflowClient(tracking_uri=uri)
    (version,) = client.search_model_versions("name = 'small'")
    number, _ = best_of(promoted)
    assert version.tags["sweep"] == "small"
    assert version.tags["trial"] == str(number)
    assert version.tags["confirmed"] == "false"
    assert client.get_model_version_by_alias("small", "champion").version == version.version
    run = client.get_run(version.run_id)
    assert run.info.run_name == "small"
    assert score(promoted, "models:/small@champion", MLFLOW_TRACKING_URI=uri) == score(
        promoted, "small-promoted"
    )
    words = ["promote", "small", "--registry", "--out", str(tmp_path / "other")]
    changed = ended(ckconv_sweep(*words, cwd=promoted))  # the card names its folder
    assert "registered: models:/small@champion, version 2" in changed
    assert client.get_model_version("small", "1").tags == version.tags


def test_files_that_are_not_those_that_were_registered_are_refused(promoted: Path) -> None:
    uri = f"sqlite:///{promoted}/sweeps/mlflow.db"
    noted = json.loads((promoted / "small-promoted" / ABOUT).read_text())["sha256"][WEIGHTS]
    paths = [
        path
        for path in promoted.rglob(f"promoted/*/{WEIGHTS}")
        if hashlib.sha256(path.read_bytes()).hexdigest() == noted
    ]
    cards = [path.with_name(CARD) for path in paths]  # which nothing in the folder protects
    kept = [path.read_bytes() for path in cards]
    assert cards
    try:
        for path in cards:
            path.write_text("test accuracy: 1.0")
        done = ckconv_sweep("evaluate", "models:/small/1", cwd=promoted, MLFLOW_TRACKING_URI=uri)
    finally:
        for path, content in zip(cards, kept, strict=True):
            path.write_bytes(content)
    assert done.returncode == 65
    assert "models:/small/1: its files are not those that were registered" in done.stderr


def test_an_edited_card_is_kept_and_that_is_said(promoted: Path, tmp_path: Path) -> None:
    sweeps = ["--sweeps-dir", str(promoted / "sweeps"), "--out=~/mine"]
    said = ended(ckconv_sweep("promote", "small", *sweeps, cwd=tmp_path, HOME=str(tmp_path)))
    assert "kept: " not in said
    (tmp_path / "mine" / CARD).write_text("my own words")
    said = ended(ckconv_sweep("promote", "small", *sweeps, cwd=tmp_path, HOME=str(tmp_path)))
    assert f"kept: {tmp_path}/mine/{CARD}, which was edited; delete it for a new one" in said
    assert (tmp_path / "mine" / CARD).read_text() == "my own words"
    assert f"predict {tmp_path}/mine FILE" in said


def test_what_is_wrong_is_one_message(promoted: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    sweeps = ["--sweeps-dir", str(promoted / "sweeps")]
    said = refused(ckconv_sweep("promote", "small", "--out", "mine", *sweeps, cwd=tmp_path))
    assert "something else is there already" in said
    assert "there is no sweep 'smal'" in refused(
        ckconv_sweep("promote", "smal", *sweeps, cwd=tmp_path)
    )
    empty = f"sqlite:///{tmp_path}/none.db"
    for name, message in {
        "models:/small": "must be models:/NAME@ALIAS or models:/NAME/VERSION",
        "models:/small@champion": "there is no MLflow database",
    }.items():
        done = ckconv_sweep("evaluate", name, cwd=tmp_path, MLFLOW_TRACKING_URI=empty)
        assert message in refused(done)
    assert not (tmp_path / "none.db").exists()
    uri = f"sqlite:///{promoted}/sweeps/mlflow.db"
    for name in ("models:/small@king", "models:/large@champion", "models:/small/77"):
        done = ckconv_sweep("predict", name, "test", cwd=tmp_path, MLFLOW_TRACKING_URI=uri)
        assert "has no such model" in refused(done)


def test_weights_that_are_gone_are_told(promoted: Path, tmp_path: Path) -> None:
    copied(promoted / "sweeps", tmp_path / "sweeps")
    number, _ = best_of(tmp_path)
    for path in (tmp_path / "sweeps/small/trials" / f"{number:04d}").glob("best-*.pt"):
        path.unlink()
    done = ckconv_sweep("promote", "small", cwd=tmp_path)
    assert done.returncode == 3
    assert "the best weights are not there" in done.stderr
    assert not (tmp_path / "small-promoted").exists()
