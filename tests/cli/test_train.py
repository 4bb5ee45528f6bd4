from __future__ import annotations

import io
import json
import math
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from data.small_files import write_uea

from ckconv_sweep.config.read import read_trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.models.sequence_model import Sampling
from ckconv_sweep.report.sampling_error import wilson
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.weights import read_trained

from .commands import NOBODY, PROGRAM, ckconv_sweep, ended, environment, files_in, refused


def epochs_executed(folder: Path) -> list[int]:
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def curve(folder: Path) -> list[dict[str, float]]:
    """The metrics of each epoch, without those that tell of time."""
    state, damaged = checkpoint.newest(folder)
    assert state is not None
    assert damaged == []
    return [
        {k: v for k, v in e["metrics"].items() if not k.startswith("time/")}
        for e in state["history"]
    ]


def weights_of(folder: Path) -> Path:
    (path,) = folder.glob("best-*.pt")
    return path


def test_train_says_every_epoch_then_the_best_one_and_where_its_weights_are(trained: Path) -> None:
    said = (trained / "said").read_text()
    folder = trained / "runs" / "trial"
    for number, metrics in enumerate(curve(folder), start=1):
        value = metrics["val/accuracy"]
        assert re.search(rf"epoch {number}/3: val/accuracy {value:.4f} \(best 0\.\d+\)", said)
    best = max(curve(folder), key=lambda metrics: metrics["val/accuracy"])
    scores = f"val/loss {best['val/loss']:.4f}, val/accuracy {best['val/accuracy']:.4f}"
    assert f"best epoch {curve(folder).index(best) + 1}: {scores} (validation" in said
    assert "the test split was not touched" in said
    assert f"weights: {weights_of(folder)}\n" in said
    assert epochs_executed(folder) == [1, 2, 3]


def test_what_a_tracking_server_misses_is_counted_and_stops_nothing(trained: Path) -> None:
    # That it does not answer is said while the trial runs; this one may be over before.
    said = (trained / "said").read_text()
    assert re.search(r"^7 records not delivered to MLflow", said, re.M)
    assert "completed after 3 epochs" in said


def test_the_same_command_again_trains_nothing(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    folder = tmp_path / "copy" / "runs" / "trial"
    before = curve(folder), weights_of(folder).read_bytes()
    said = ended(
        ckconv_sweep("train", "trial.yaml", "--tracking-uri", NOBODY, cwd=tmp_path / "copy")
    )
    assert "best epoch" in said
    assert epochs_executed(folder) == [1, 2, 3]
    assert (curve(folder), weights_of(folder).read_bytes()) == before


def test_another_trial_in_the_same_folder_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    folder = tmp_path / "copy" / "runs" / "trial"
    before = files_in(folder)
    done = ckconv_sweep(
        *("train", "trial.yaml", "--set", "model.dropout=0.1", "--tracking-uri", NOBODY),
        cwd=tmp_path / "copy",
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"error: {folder}: the checkpoint here is of a trial with other settings" in done.stderr
    after = files_in(folder)
    assert [after[k] for k in before if k.endswith((".pt", ".jsonl"))] == [
        content for k, content in before.items() if k.endswith((".pt", ".jsonl"))
    ]


DATA_CHANGE = """\
data: {name: uea, problem: Tiny, validation_fraction: 0.25}
model: {hidden_channels: 4, blocks: 1, kernel: {hidden_channels: 8}}
training: {epochs: 2}
"""


@pytest.mark.fault("data-changed")
def test_train_refuses_other_data_than_its_checkpoints_and_evaluate_says_that_they_are_others(
    tmp_path: Path,
) -> None:
    write_uea(tmp_path)
    file = tmp_path / "uea" / "Tiny" / "Tiny_TRAIN.ts"
    (tmp_path / "trial.yaml").write_text(DATA_CHANGE)
    data = ("--data-dir", tmp_path)
    train = ("train", "trial.yaml", "--out", "run", "--tracking-uri", NOBODY, *data)
    ended(ckconv_sweep(*train, cwd=tmp_path))
    same = ckconv_sweep("evaluate", "run", *data, cwd=tmp_path)
    assert same.stderr == ""
    file.write_text(file.read_text().replace("true b a", "true a b"))  # the classes are swapped
    before = files_in(tmp_path / "run")
    before.pop("lock")
    said = refused(ckconv_sweep(*train, cwd=tmp_path))
    assert "the data have changed: the training targets differ; digest " in said
    assert "--allow-data-change" in said
    assert files_in(tmp_path / "run").items() >= before.items()
    other = ckconv_sweep("evaluate", "run", *data, cwd=tmp_path)
    note = "note: it was trained on other data than these: the training targets differ; digest "
    assert (other.returncode, other.stderr.startswith(note)) == (0, True)
    assert other.stdout != same.stdout
    ended(ckconv_sweep(*train, "--allow-data-change", cwd=tmp_path))


def test_ctrl_c_in_the_middle_and_the_same_command_again_give_the_same_numbers(here: Path) -> None:
    command = [
        *("train", "trial.yaml", "--set", "training.epochs=20", "--set", "model.dropout=0.1"),
        *("--tracking-uri", NOBODY, "--out"),
    ]
    ended(ckconv_sweep(*command, "whole", cwd=here))
    process = subprocess.Popen(
        [PROGRAM, *command, "broken"],
        cwd=here,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    while "epoch 2/20" not in said:
        line = process.stdout.readline()
        assert line, "it ended too early"
        said += line
    process.send_signal(signal.SIGINT)
    rest, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert complaint == ""
    last = rest.splitlines()[-1]
    assert last == (
        f"stopped: every finished epoch is kept in {here / 'broken'}; to continue, run again: "
        "ckconv-sweep train trial.yaml --set training.epochs=20 --set model.dropout=0.1 "
        f"--out broken --tracking-uri {NOBODY}"
    )
    assert 2 <= len(epochs_executed(here / "broken")) < 20

    ended(ckconv_sweep(*command, "broken", cwd=here))
    assert epochs_executed(here / "broken") == list(range(1, 21))
    assert curve(here / "broken") == curve(here / "whole")
    one, other = (checkpoint.load(weights_of(here / name)) for name in ("broken", "whole"))
    assert one["trial"] == other["trial"]
    one, other = one["best_weights"], other["best_weights"]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_evaluate_scores_the_test_split(trained: Path) -> None:
    said = ended(ckconv_sweep("evaluate", "runs/trial", cwd=trained))
    found = read_trained(trained / "runs" / "trial")
    assert found.path == weights_of(trained / "runs" / "trial")
    assert found.trial == read_trial(str(trained / "trial.yaml"))
    task = load(found.trial.data)
    model, test = found.model(task.description), task.read_test()
    with torch.no_grad():
        logits = model(test.inputs)
    right = int((logits.argmax(dim=1) == test.targets).sum())
    loss = torch.nn.functional.cross_entropy(logits, test.targets).item()
    form = (
        r"test/loss (\S+), test/accuracy (\S+), (\d+) of (\d+) right "
        r"\(95 % interval (\S+) to (\S+), Wilson\)\n"
    )
    match = re.fullmatch(form, said)
    assert match is not None, said
    assert (int(match[3]), int(match[4])) == (right, len(test))
    assert match[2] == f"{right / len(test):.6f}"
    assert (match[5], match[6]) == tuple(
        f"{end:.4f}" for end in wilson(right / len(test), len(test))
    )
    assert float(match[1]) == pytest.approx(loss, abs=1e-5)

    as_json = json.loads(ended(ckconv_sweep("evaluate", found.path, "--json", cwd=trained)))
    assert as_json["test/accuracy"] == right / len(test)
    assert as_json["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert (as_json["sequences"], as_json["dataset"]) == (len(test), "digits")


def test_evaluate_scores_every_second_step_as_the_model_reads_it_at_rate_two(
    trained: Path,
) -> None:
    command = ["evaluate", "runs/trial", "--sampling-rate", 2, "--split", "validation", "--json"]
    said = json.loads(ended(ckconv_sweep(*command, cwd=trained)))
    found = read_trained(trained / "runs" / "trial")
    task = load(found.trial.data)
    with torch.no_grad():
        logits = found.model(task.description)(
            task.validation.inputs[..., ::2], sampling=Sampling(rate=2.0)
        )
    right = (logits.argmax(dim=1) == task.validation.targets).sum().item()
    assert said["validation/accuracy"] == right / len(task.validation)


@pytest.mark.fault("no-weights")
@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (math.nan, 65, "must hold finite real numbers"),
        (1e38, 3, "the model answers these sequences with numbers that are not finite: loss nan"),
    ],
)
def test_there_is_no_accuracy_of_weights_that_are_no_numbers(
    value: float, code: int, message: str, trained: Path, tmp_path: Path
) -> None:
    state = torch.load(weights_of(trained / "runs" / "trial"), weights_only=True)
    for weight in state["best_weights"].values():
        weight.fill_(value)
    torch.save(state, path := tmp_path / "a.pt")
    said = refused(ckconv_sweep("evaluate", path, cwd=tmp_path), code)
    assert f"error: {path}: " in said
    assert message in said


def damaged(content: bytes) -> bytes:
    return content[:-100] + bytes(100)


def foreign(content: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"backbone.0.cconv1.bias": torch.ones(1)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("options", "name", "change", "code", "message"),
    [
        (["--dataset", "scifar10"], "{}", None, 2, ""),
        ([], "{}", damaged, 65, "{copy}: damaged: its SHA-256 begins with "),
        ([], "other.pt", foreign, 2, "{copy}: this is no checkpoint of ckconv-sweep\n  the auth"),
        (["--dataset", "smnits"], "{}", None, 2, "--dataset smnits: data: no dataset is called"),
        (["--dataset", "adding"], "{}", None, 2, "--dataset adding: metric.name: adding is not"),
    ],
    ids=["without the data", "damaged", "not ours", "no such data", "another kind of data"],
)
def test_evaluate_refuses_weights_that_are_wrong(
    options: list[str],
    name: str,
    change: Any,
    code: int,
    message: str,
    trained: Path,
    tmp_path: Path,
) -> None:
    path = weights_of(trained / "runs" / "trial")
    copy = tmp_path / name.format(path.name)
    copy.write_bytes(change(path.read_bytes()) if change else path.read_bytes())
    done = ckconv_sweep("evaluate", copy, *options, "--data-dir", "none", cwd=trained)
    said = refused(done, code)
    assert f"error: {message.format(copy=copy)}" in said
    assert len(said.splitlines()) <= 2
