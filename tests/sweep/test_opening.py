"""The test split of a sweep: opened once, for the fixed winner and its control, and recorded before
anybody sees a number. Real studies, real models with weights that nobody trained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ckconv_sweep.cli.evaluate import _opening_in_words
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.crash_points import VARIABLE
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import ConfigError, DataChanged, SweepBusy
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.record.confirmation import Opening, openings
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.openings import ledger_of
from ckconv_sweep.record.trials import BASE, trial_of
from ckconv_sweep.report.openings import before_in_words, heading, in_words, lines
from ckconv_sweep.sweep.evaluated import Recorded, record_opening
from ckconv_sweep.sweep.opening import open_test
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.evaluation import evaluate
from ckconv_sweep.training.scoring import Scored
from ckconv_sweep.training.weights import read_trained
from tests.report.confirmations import confirmed_study

REPOSITORY = Path(__file__).parents[2]
TEXT = """
trial:
  data: {name: digits}
  model: {hidden_channels: 4, blocks: 1, kernel: {hidden_channels: 4}}
  training: {epochs: 1}
search:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
budget: {trials: 2}
"""
SPACE: Space = parse_space(TEXT, "space.yaml")
REACHED = {0: [0.5, 0.6, 0.7], 1: [0.1, 0.1, 0.1], BASE: [0.4, 0.4, 0.5]}


def with_weights(root: Path, **changes: object) -> SweepFolder:
    """A confirmation that has ended, whose trials have weights of their own."""
    options = {"reached": REACHED, "seeds": 3} | changes
    folder = confirmed_study(root, [0.6, 0.5], space=SPACE, **options)  # type: ignore[arg-type]
    with folder.records.open() as study:
        records = study.confirmations()
    task = load(SPACE.trial.data)
    for record in records:
        trial = trial_of(record, SPACE)
        generator = torch.Generator().manual_seed(record.number)
        weights = make_model(trial.model, task.description, generator).state_dict()
        place = folder.trial(record.number)
        place.mkdir(parents=True)
        checkpoint.save_best(place, trial.model_dump(mode="json"), weights, task.identity)
    return folder


def recorded(folder: SweepFolder) -> list[Opening]:
    with folder.records.open() as study:
        return openings(study.notes())


def score_written_out(folder: SweepFolder, number: int) -> float:
    trained = read_trained(folder.trial(number))
    task = load(trained.trial.data)
    return evaluate(trained.model(task.description), task.read_test(), "classification")["accuracy"]


def test_the_winners_seeds_and_the_controls_are_scored_and_recorded_once(tmp_path: Path) -> None:
    folder = with_weights(tmp_path)
    found = open_test(folder)
    assert found is not None
    winner, control = found.test
    with folder.records.open() as study:
        of = {n: [r.number for r in study.confirmations() if r.confirms == n] for n in (0, BASE)}
    assert (winner.confirms, winner.trials) == (0, of[0])
    assert (control.confirms, control.trials) == (BASE, of[BASE])
    plain = [score_written_out(folder, number) for number in of[0]]
    assert winner.each["test/accuracy"] == plain
    assert winner.scores["test/accuracy"] == pytest.approx(sum(plain) / 3)
    assert not winner.exploratory
    assert (winner.by, winner.dataset, winner.sequences) == ("confirm", "digits", 360)
    assert len(winner.data) == 32
    assert winner.code.startswith("0.1.0 ")
    for place in folder.root.glob("trials/*/best-*.pt"):
        place.unlink()  # nothing is scored again
    again = open_test(folder)
    assert again is not None
    assert again.openings == found.openings
    assert again.winner == 0


def test_a_winner_that_is_the_base_trial_is_scored_once(tmp_path: Path) -> None:
    folder = with_weights(tmp_path, reached={0: REACHED[0], 1: REACHED[1]}, control=0)
    found = open_test(folder)
    assert found is not None
    assert [opening.confirms for opening in found.test] == [0]


def test_nothing_is_scored_before_the_confirmation_has_ended(tmp_path: Path) -> None:
    folder = with_weights(tmp_path, seeds=4)
    found = open_test(folder)
    assert found is not None
    assert not found.finished
    assert found.openings == ()
    assert recorded(folder) == []


def test_without_a_confirmation_nothing_is_opened(tmp_path: Path) -> None:
    folder = SweepFolder.of(tmp_path, "plain")
    folder.make()
    with folder.records.create(SPACE):
        pass
    assert open_test(folder) is None


def test_weights_that_are_gone_are_told_and_nothing_is_recorded(tmp_path: Path) -> None:
    folder = with_weights(tmp_path)
    with folder.records.open() as study:
        last = study.confirmations()[-1].number
    (lost,) = folder.trial(last).glob("best-*.pt")
    lost.unlink()
    with pytest.raises(ConfigError, match="no checkpoint"):
        open_test(folder)
    assert recorded(folder) == []


@pytest.mark.parametrize("last", [True, False])
def test_other_data_than_those_of_training_are_refused_before_anything_is_recorded(
    tmp_path: Path, last: bool
) -> None:
    """Also if only the last seed was trained on others."""
    folder = with_weights(tmp_path)
    with folder.records.open() as study:
        numbers = [record.number for record in study.confirmations()]
    for number in numbers[-1:] if last else numbers:
        (path,) = folder.trial(number).glob("best-*.pt")
        state = checkpoint.load(path)
        other = {**state["data"], "training targets": "others", "digest": "0" * 32}
        checkpoint.save_best(path.parent, state["trial"], state["best_weights"], other)
    with pytest.raises(DataChanged, match="training targets"):
        open_test(folder)
    assert recorded(folder) == []


def test_a_score_on_another_dataset_is_exploratory_and_names_it(tmp_path: Path) -> None:
    folder = with_weights(tmp_path)
    with folder.records.open() as study:
        winner = next(r.number for r in study.confirmations() if r.confirms == 0)
    trained = read_trained(folder.trial(winner))
    scored = Scored(scores={"loss": 1.0, "accuracy": 0.5}, sequences=4, data="")
    for elsewhere in (False, True):
        with ledger_of(trained.path) as ledger:
            one = record_opening(ledger, trained, scored, elsewhere=elsewhere)
        assert one.of == "sweep"
        assert one.opening.exploratory is elsewhere
        assert in_words(one.opening).endswith("on digits, exploratory") is elsewhere


def test_a_score_on_another_dataset_is_listed_and_is_no_opening_of_the_sweeps_split() -> None:
    scores = {"test/accuracy": 0.5}
    other = Opening(scores=scores, trials=[3], elsewhere=True, dataset="mnist", at_ms=0)
    own = Opening(scores=scores, trials=[3], at_ms=0)
    assert heading([other]).startswith("test split, not opened (")
    assert [line[:3] for line in lines([other, own, other, own])] == ["-  ", "1. ", "-  ", "2. "]
    assert heading([other, own, other]).startswith("test split, opened once (")
    assert before_in_words([other]) == "none before"
    recorded = Recorded(opening=other, before=(own,), of="sweep")
    told = [*_opening_in_words(recorded, Path("best.pt"))]
    assert told == ["recorded: the test split of mnist was scored; that of this sweep was not"]


def test_while_a_driver_holds_the_sweep_nothing_is_opened(tmp_path: Path) -> None:
    folder = with_weights(tmp_path)
    with folder.records.lock(), pytest.raises(SweepBusy):
        open_test(folder)
    assert recorded(folder) == []


@pytest.mark.fault("test-once")
@pytest.mark.parametrize("point", ["test.scored", "test.recorded"])
def test_a_kill_beside_the_record_neither_hides_nor_repeats_an_opening(
    tmp_path: Path, point: str
) -> None:
    folder = with_weights(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from ckconv_sweep.record.folder import SweepFolder\n"
        "from ckconv_sweep.sweep.opening import open_test\n"
        "open_test(SweepFolder.existing(Path(sys.argv[1]), 'mine')); print('shown')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env=os.environ | {VARIABLE: point, "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout == ""
    killed = recorded(folder)
    assert len(killed) == (0 if point == "test.scored" else 2)
    found = open_test(folder)
    assert found is not None
    assert len(found.openings) == 2
    if killed:
        assert list(found.openings) == killed


def test_an_opening_comes_back_from_the_study_as_it_was_written(tmp_path: Path) -> None:
    folder = with_weights(tmp_path)
    found = open_test(folder)
    assert found is not None
    assert recorded(folder) == list(found.openings)
    with folder.records.open() as study:
        json.dumps(study.note("openings"), allow_nan=False)
