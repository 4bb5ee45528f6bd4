"""`predict`: what a trained model answers, sequence by sequence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.device import Device, device_of
from ckconv_sweep.cli.models import Model, read_model
from ckconv_sweep.cli.options import DataDir, Force, absolute, folder_here
from ckconv_sweep.cli.output import check_new, write_new

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckconv_sweep.data.given import Given
    from ckconv_sweep.data.task import SequenceTask
    from ckconv_sweep.training.predictor import Predicted, Predictor
    from ckconv_sweep.training.weights import Trained

SPLITS = ("validation", "test")
PICTURES = ("confusion", "mistakes")


def predict(
    checkpoint: Model,
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="validation, test, or a file of sequences: .npy, .npz, .csv or .ts.",
            autocompletion=completion.one_of(*SPLITS),
            callback=folder_here,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The answers: a .csv or .parquet file.", callback=folder_here
        ),
    ] = Path("predictions.csv"),
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the pictures of mistakes.",
            show_default="that of --out",
            callback=folder_here,
        ),
    ] = None,
    force: Force = False,
    data_dir: DataDir = None,
    device: Device = "auto",
) -> None:
    """Write what a model answers to a split or a file.

    Sequences of a file are normalised as in training. Where their classes are known, the scores
    are shown, and pictures of what is taken for what, and of the worst mistakes.

    Example: ckconv-sweep predict runs/digits validation --out predictions.csv
    """
    import contextlib

    from ckconv_sweep.cli.evaluate import tell_opening
    from ckconv_sweep.data.identity import digest_of_split
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.record.openings import ledger_of
    from ckconv_sweep.report.predictions import SUFFIXES
    from ckconv_sweep.sweep.evaluated import record_opening
    from ckconv_sweep.training.scoring import Scored

    if out.suffix not in SUFFIXES:
        raise ConfigError(f"must end with {' or '.join(SUFFIXES)}, got {out.name!r}", where="--out")
    trained, where = read_model(checkpoint), device_of(device)
    opens = str(data) == "test"
    if opens:  # an opening is recorded, so nothing may keep its number from being shown
        for path in (out, *_pictures(pictures or out.parent, out.stem).values()):
            check_new(path, force=force)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(ledger_of(trained.path)) if opens else None
        predictor, given = _asked(trained, data, absolute(data_dir))
        for note in given.notes:
            typer.echo(f"note: {note}", err=True)
        predicted = predictor.to(where).answered(given, lambda text: typer.echo(text, err=True))
        recorded = None
        if ledger is not None:  # before anybody sees a number
            scored = Scored(
                scores=predicted.scores,
                sequences=len(given),
                data=digest_of_split(given.groups[0].split),
            )
            recorded = record_opening(
                ledger, trained, scored, by="predict", data_dir=absolute(data_dir)
            )
    if recorded is not None:
        tell_opening(recorded, trained.path, absolute(data_dir))
    try:
        _write(predicted, given, out, force=force)
    finally:
        _say(predicted, given)
    if given.labelled and predicted.answers.kind in ("classification", "binary"):
        paths = _pictures(pictures or out.parent, out.stem)
        _draw(predictor, predicted, given, paths, force=force)


def _asked(trained: Trained, data: Path, data_dir: Path | None) -> tuple[Predictor, Given]:
    """The model, and the sequences: of a file, for which the dataset is read only where the model
    does not bring its preparation; or of a split."""
    from ckconv_sweep.data.datasets import load, read_split
    from ckconv_sweep.data.given import of_split
    from ckconv_sweep.data.identity import difference
    from ckconv_sweep.training.predictor import by_itself, of_task

    def look(task: SequenceTask) -> None:
        if why := difference(trained.data, task.identity):
            typer.echo(f"note: it was trained on other data than these: {why}", err=True)

    if str(data) in SPLITS:
        seen: list[SequenceTask] = []
        which = cast(Literal["validation", "test"], str(data))
        _, split = read_split(trained.trial.data, which, None, data_dir, look=seen.append)
        look(seen[0])
        return of_task(trained, seen[0]), of_split(split)
    predictor = by_itself(trained)
    if predictor is None:
        task = load(trained.trial.data, data_dir)
        look(task)
        predictor = of_task(trained, task)
    given = predictor.read(data)
    measured_on = predictor.preparation.measured_on
    typer.echo(
        f"normalised by {measured_on}" if measured_on else "not normalised, as in training",
        err=True,
    )
    return predictor, given


def _write(predicted: Predicted, given: Given, out: Path, *, force: bool) -> None:
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.report.predictions import table, written

    answers = predicted.answers
    write_new(out, written(table(answers), out.suffix), force=force)
    steps = f", {count(len(answers.sequences), 'step')}" if answers.steps is not None else ""
    typer.echo(f"{out}: answers to {count(len(given), 'sequence')}{steps}")


def _say(predicted: Predicted, given: Given) -> None:
    """The scores, where targets are known."""
    from ckconv_sweep.cli.words import score
    from ckconv_sweep.report.predictions import most_confused
    from ckconv_sweep.report.sampling_error import right_in_words

    answers = predicted.answers
    if not predicted.scores:
        return
    words = [f"{name} {score(value, 6)}" for name, value in predicted.scores.items()]
    if answers.kind in ("classification", "binary"):
        words.append(right_in_words(int(answers.right.sum()), len(given)))
    typer.echo(", ".join(words))
    if answers.kind in ("classification", "binary") and (confused := most_confused(answers)):
        said = (f"{true} taken for {taken} ({times:,})" for true, taken, times in confused)
        typer.echo(f"most often confused: {', '.join(said)}")


def _pictures(folder: Path, stem: str) -> dict[str, Path]:
    """Where each picture is written, by its name."""
    return {name: folder / f"{stem}-{name}.png" for name in PICTURES}


def _draw(
    predictor: Predictor,
    predicted: Predicted,
    given: Given,
    paths: Mapping[str, Path],
    *,
    force: bool,
) -> None:
    from ckconv_sweep.report.plots.mistakes import Seen, confusion_picture, mistakes_picture
    from ckconv_sweep.report.plots.style import rendered
    from ckconv_sweep.report.predictions import worst

    answers = predicted.answers
    rows = worst(answers)
    wrong, number = int((~answers.right).sum()), len(given)
    places = {
        int(n): group.split.sequence(i)
        for group in given.groups
        for i, n in enumerate(group.positions)
    }
    seen = [Seen(places[int(answers.sequences[row])].numpy(), predictor.image) for row in rows]
    heading = f"{predictor.description.name}: {wrong:,} of {number:,} wrong"
    for name, figure in (
        ("confusion", confusion_picture(answers, heading)),
        ("mistakes", mistakes_picture(answers, seen, f"{heading}; the most certain mistakes")),
    ):
        write_new(paths[name], rendered(figure, "png"), force=force)
        typer.echo(f"picture: {paths[name]}")
