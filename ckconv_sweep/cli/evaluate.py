"""`evaluate`: the score of one model on a split, with a record of each look at the test split."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.device import Device, device_of
from ckconv_sweep.cli.models import Model, read_model
from ckconv_sweep.cli.options import DataDir, absolute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckconv_sweep.data.task import SequenceTask
    from ckconv_sweep.sweep.evaluated import Recorded
    from ckconv_sweep.training.scoring import Scored
    from ckconv_sweep.training.weights import Trained


class SplitName(StrEnum):
    """Which sequences a model is scored on."""

    validation = "validation"
    test = "test"


def evaluate(
    checkpoint: Model,
    split: Annotated[
        SplitName, typer.Option(metavar="SPLIT", help="Which sequences: validation or test.")
    ] = SplitName.test,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="Dataset to score on, if not the one that it was trained on.",
            autocompletion=completion.datasets,
        ),
    ] = None,
    sampling_rate: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep every N-th step, without training again."),
    ] = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, in full precision.")] = False,
) -> None:
    """Score a trained model on the test split, and record that.

    Each opening of the test split is recorded: of a trial in its sweep, of a single run beside its
    checkpoint. Of anything but the winner that confirm has fixed it is marked as exploratory.

    Example: ckconv-sweep evaluate runs/digits
    """
    import contextlib

    from ckconv_sweep.data.identity import difference
    from ckconv_sweep.record.openings import ledger_of
    from ckconv_sweep.sweep.evaluated import record_opening
    from ckconv_sweep.training.scoring import Scorer

    trained = read_model(checkpoint)
    own = trained.trial.data.name
    if dataset is not None:
        trained = trained.on(dataset)

    def look(task: SequenceTask) -> None:
        if why := difference(trained.data, task.identity):
            typer.echo(f"note: it was trained on other data than these: {why}", err=True)

    scorer = Scorer(
        split.value,
        device=device_of(device),
        sampling_rate=sampling_rate,
        data_dir=absolute(data_dir),
        look=look,
    )
    recorded = None
    with contextlib.ExitStack() as stack:
        opens = split is SplitName.test
        ledger = stack.enter_context(ledger_of(trained.path)) if opens else None
        scored = scorer.score(trained)
        if ledger is not None:  # before anybody sees a number
            recorded = record_opening(
                ledger,
                trained,
                scored,
                sampling_rate=sampling_rate,
                elsewhere=trained.trial.data.name != own,
                data_dir=absolute(data_dir),
            )
    if json:
        _print_json(trained, scored, split, sampling_rate, recorded)
    else:
        typer.echo(", ".join(_words(scored, split, trained.trial.data.kind)))
    if recorded is not None:
        tell_opening(recorded, trained.path, absolute(data_dir))


def tell_opening(recorded: Recorded, path: Path, data_dir: Path | None) -> None:
    """What the user must know of an opening of the test split; MLflow hears of it, too."""
    for line in _opening_in_words(recorded, path):
        typer.echo(line, err=True)
    if recorded.of == "sweep":
        _tell_mlflow(path, data_dir)


def _words(scored: Scored, split: SplitName, kind: str) -> Iterator[str]:
    from ckconv_sweep.cli.words import score
    from ckconv_sweep.report.sampling_error import right_in_words

    for name, value in scored.scores.items():
        yield f"{split.value}/{name} {score(value, 6)}"
    if kind in ("classification", "binary"):
        right = round(scored.scores["accuracy"] * scored.sequences)
        yield right_in_words(right, scored.sequences)


def _opening_in_words(recorded: Recorded, path: Path) -> Iterator[str]:
    """Which opening it is and what came before; of the first one of a single run nothing."""
    from ckconv_sweep.keys import setting_name
    from ckconv_sweep.record.confirmation import times
    from ckconv_sweep.record.openings import sweep_of
    from ckconv_sweep.report.openings import before_in_words

    if recorded.why_not:
        yield f"note: this opening of the test split is not recorded: {recorded.why_not}"
    number = times(recorded.before) + 1
    if recorded.of and recorded.opening.elsewhere:
        other = f"the test split of {recorded.opening.dataset} was scored"
        yield f"recorded: {other}; that of this {recorded.of} was not"
    elif recorded.of and (number > 1 or recorded.of == "sweep"):
        told = f"opening {number} of the test split of this {recorded.of}"
        yield f"{told}; {before_in_words(recorded.before)}"
    found = sweep_of(path)
    if found is None or not recorded.opening.exploratory or recorded.why_not:
        return
    if recorded.opening.elsewhere:
        why = f"{recorded.opening.dataset} is not the dataset of this sweep"
    elif recorded.winner is None:
        why = f"no winner is fixed yet, which {found[0].command('confirm')} does"
    else:
        why = f"the fixed winner is {setting_name(recorded.winner)}"
    yield f"exploratory: {why}; choose no setting by this number"


def _tell_mlflow(path: Path, data_dir: Path | None) -> None:
    from ckconv_sweep.record.openings import sweep_of
    from ckconv_sweep.sweep.opening import tell_mlflow

    found = sweep_of(path)
    assert found is not None
    tell_mlflow(found[0], say=lambda line: typer.echo(line, err=True), data_dir=data_dir)


def _print_json(
    trained: Trained,
    scored: Scored,
    split: SplitName,
    sampling_rate: int | None,
    recorded: Recorded | None,
) -> None:
    from json import dumps

    from ckconv_sweep.record.confirmation import times

    said: dict[str, object] = {f"{split.value}/{n}": v for n, v in scored.scores.items()}
    said |= {"dataset": trained.trial.data.name, "sampling_rate": sampling_rate}
    said |= {"sequences": scored.sequences, "checkpoint": str(trained.path)}
    if recorded is not None:
        elsewhere = recorded.opening.elsewhere
        said["opening"] = {
            "number": times(recorded.before) + 1 if recorded.of and not elsewhere else None,
            "before": times(recorded.before),
            "recorded": recorded.of or None,
            "why_not": recorded.why_not or None,
            "exploratory": recorded.opening.exploratory,
            "winner": recorded.winner,
        }
    typer.echo(dumps(said))
