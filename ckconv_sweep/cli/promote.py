"""`promote`: the winner of a sweep as a folder that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckconv_sweep.cli.options import (
    SWEEPS_DIR,
    DataDir,
    Name,
    SweepsDir,
    TrackingUri,
    absolute,
    folder_here,
)
from ckconv_sweep.config.names import expanded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckconv_sweep.data.task import SequenceTask
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study
    from ckconv_sweep.report.handed_over import Winner
    from ckconv_sweep.training.promoted import Promoted
    from ckconv_sweep.training.weights import Trained


def promote(
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder.",
            show_default="NAME-promoted",
            callback=folder_here,
        ),
    ] = None,
    registry: Annotated[
        bool,
        typer.Option(
            "--registry", help="Also register it in MLflow, as NAME with the alias champion."
        ),
    ] = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Write the winner as a folder to hand over.

    It has the settings, the weights, a model card, and what is needed to score it the same without
    the sweep. After confirm it is the best seed of the setting that is offered.

    Example: ckconv-sweep promote quickstart --out quickstart-model
    """
    from ckconv_sweep import keys
    from ckconv_sweep.record import trained_data
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.report.handed_over import winner_of
    from ckconv_sweep.search.confirmed import confirmed_in
    from ckconv_sweep.tracking.registry import registered_name
    from ckconv_sweep.training import promoted

    folder = SweepFolder.existing(sweeps_dir, name)
    place = expanded(out or Path(f"{name}-promoted")).resolve()
    with folder.records.open() as study:
        where = absolute(data_dir) or trained_data.folder_of(study)
        winner = winner_of(name, study.trials(), study.space, confirmed_in(study, where))
        trained, task = _trained(folder, winner, where)
        model = _promoted(study, winner, trained, task)
        address = registered_name(name, keys.ALIAS) if registry else ""
        card = _card(study, winner, model, task, place.name, address)
        files = promoted.contents(model, _trial_text(study, winner), card)
        uid = study.uid
    changed = promoted.write(place, files, uid)
    typer.echo(f"{'written' if changed else 'unchanged'}: {place} ({winner.name})")
    if promoted.card_is_edited(place):
        typer.echo(f"kept: {place / promoted.CARD}, which was edited; delete it for a new one")
    if winner.setting is None:
        typer.echo(f"not confirmed: train it with fresh seeds first: {folder.command('confirm')}")
    if registry:
        _register(folder, tracking_uri, uid, winner, files)
    what = "FILE" if task.preparation is not None else "validation"
    typer.echo(f"use it: ckconv-sweep predict {quote(str(out or place.name))} {what}")


def _trained(
    folder: SweepFolder, winner: Winner, data_dir: Path | None
) -> tuple[Trained, SequenceTask]:
    """The winner's best weights, and the data that they were trained on.

    Raises:
        NoResult: the weights are gone.
        DataChanged: the data are others now: they would be normalised wrongly.
    """
    from ckconv_sweep.data.datasets import load
    from ckconv_sweep.data.identity import check_same
    from ckconv_sweep.errors import NoResult
    from ckconv_sweep.training import checkpoint
    from ckconv_sweep.training.weights import read_trained

    place = folder.trial(winner.record.number)
    if checkpoint.best(place) is None:
        raise NoResult(
            "the best weights are not there",
            where=str(place),
            hint=f"what is left of the sweep: {folder.command('doctor')}",
        )
    trained = read_trained(place)
    task = load(trained.trial.data, data_dir)
    check_same(
        trained.data,
        task.identity,
        where=str(trained.path),
        hint="put the old data back, or name their folder with --data-dir: the normalisation "
        "is measured on them",
    )
    return trained, task


def _promoted(study: Study, winner: Winner, trained: Trained, task: SequenceTask) -> Promoted:
    from ckconv_sweep.training.predictor import of_task
    from ckconv_sweep.training.promoted import Promoted

    predictor = of_task(trained, task)
    record, metric = winner.record, study.space.metric
    return Promoted(
        trial=trained.trial,
        weights=predictor.model.state_dict(),
        description=task.description,
        classes=predictor.classes,
        preparation=task.preparation,
        data=task.identity,
        origin={
            "sweep": study.folder.name,
            "uid": study.uid,
            "trial": record.number,
            "confirms": record.confirms,
            "seed_index": record.seed_index,
            "weights": trained.path.name,
            metric.name: record.value(metric),
        },
    )


def _trial_text(study: Study, winner: Winner) -> str:
    """The file that `train` reads, with what a continuation was before."""
    from ckconv_sweep.record.lineage import trial_file

    comment = f"# {winner.name} of the sweep {study.folder.name}, as ckconv-sweep promoted it.\n"
    return comment + trial_file(winner.record, study.every_trial(), study.space)


def _card(
    study: Study,
    winner: Winner,
    model: Promoted,
    task: SequenceTask,
    folder: str,
    registered: str,
) -> str:
    from ckconv_sweep.models.parameters import count_parameters
    from ckconv_sweep.record.confirmation import openings
    from ckconv_sweep.record.versions import noted, versions
    from ckconv_sweep.report.card import Card, text

    sessions = noted(study)
    return text(
        Card(
            name=study.folder.name,
            folder=folder,
            uid=study.uid,
            space=study.space,
            records=study.trials(),
            winner=winner,
            trial=model.trial,
            parameters=count_parameters(model.trial.model, task.description),
            description=task.description,
            classes=model.classes,
            normalised_by="" if task.preparation is None else task.preparation.measured_on,
            takes_files=task.preparation is not None,
            data=task.identity,
            versions=sessions[-1] if sessions else versions(),
            openings=openings(study.notes()),
            registered=registered,
        )
    )


def _register(
    folder: SweepFolder,
    tracking_uri: str | None,
    uid: str,
    winner: Winner,
    files: Mapping[str, bytes],
) -> None:
    from ckconv_sweep import keys
    from ckconv_sweep.tracking.registry import register
    from ckconv_sweep.tracking.store import default_uri, without_password

    uri = tracking_uri or default_uri(folder.root.parent)
    tags: dict[str, Any] = {
        keys.TAG_SWEEP: folder.name,
        keys.TAG_UID: uid,
        keys.TAG_TRIAL: str(winner.record.number),
        "confirmed": str(winner.setting is not None).lower(),
    }
    found = register(uri, folder.name, keys.ALIAS, sweep_uid=uid, files=files, tags=tags)
    said = "registered" if found.is_new else "registered already"
    typer.echo(f"{said}: {found.address}, version {found.version}, at {without_password(uri)}")
