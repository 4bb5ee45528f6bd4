"""`delete` and `gc`: what is not needed any more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli.options import SWEEPS_DIR, Name, SweepsDir

if TYPE_CHECKING:
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study


def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_best: Annotated[
        bool,
        typer.Option("--keep-best", help="Keep the best trial's file and weights in NAME-best."),
    ] = False,
    keep_runs: Annotated[
        bool, typer.Option("--keep-runs", help="Leave the runs in MLflow as they are.")
    ] = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Delete a sweep: its study, checkpoints, weights and runs.

    MLflow keeps deleted runs, out of sight, until `mlflow gc`. The copies that promote made stay.

    Example: ckconv-sweep delete quickstart --keep-best
    """
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.removal import check_owned, delete_all
    from ckconv_sweep.tracking.store import tracked_at

    folder = SweepFolder.existing(sweeps_dir, name)
    with folder.records.lock():
        check_owned(folder)
        with folder.records.open() as study:
            uri = None if keep_runs else tracked_at(study.notes(), folder.root.parent)
            kept = _best(study, folder) if keep_best else None
            uid, told = study.uid, _in_words(study, folder, uri)
        typer.echo(told)
        if kept is not None:
            typer.echo(f"the best trial is kept in {kept[0]}")
        _ask(yes=yes)
        if kept is not None:
            _keep(*kept)
        runs = ""
        if uri is not None:
            from ckconv_sweep.cli.words import count
            from ckconv_sweep.tracking.removal import delete_runs

            runs = f", and {count(delete_runs(uri, uid), 'run')} in MLflow"
        delete_all(folder)
    typer.echo(f"deleted {name}{runs}")


def gc(
    name: Name,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the files, and delete nothing.")
    ] = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Delete files of a sweep that nobody needs.

    That is what killed processes left, files of trials that the study does not know, checkpoints of
    ended trials that no other may begin with, and all but the two newest snapshots. Best weights of
    completed trials stay.

    Example: ckconv-sweep gc quickstart --dry-run
    """
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.doctor.finding import size
    from ckconv_sweep.record import removal
    from ckconv_sweep.record.folder import SweepFolder

    folder = SweepFolder.existing(sweeps_dir, name)
    with folder.records.lock():
        removal.check_owned(folder)
        with folder.records.open() as study:
            kept_epochs = study.space.scheduler.kept_epochs
            found = removal.unneeded(folder, study.every_trial(), kept_epochs)
        for place, files in found:
            for path, bytes_ in files.items() if dry_run else ():
                typer.echo(f"{place / path}  {size(bytes_)}")
        if not dry_run:
            removal.delete(found)
    every = [bytes_ for _, files in found for bytes_ in files.values()]
    done = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{count(len(every), 'file')}, {size(sum(every))}, {done}")


def _in_words(study: Study, folder: SweepFolder, uri: str | None) -> str:
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.doctor.finding import size
    from ckconv_sweep.record.blobs import blobs_at
    from ckconv_sweep.record.removal import places
    from ckconv_sweep.tracking.store import without_password

    trials = sum(record.counts for record in study.every_trial())
    lines = [f"this deletes {folder.name} and its {count(trials, 'trial')}:"]
    for place in places(folder):
        files = blobs_at(place).sizes()
        lines.append(f"  {place}: {count(len(files), 'file')}, {size(sum(files.values()))}")
    lines += [f"  its runs in MLflow at {without_password(uri)}"] if uri is not None else []
    return "\n".join(lines)


def _ask(*, yes: bool) -> None:
    """Raises typer.Exit if the user does not want it, ConfigError where nobody can be asked."""
    from ckconv_sweep.errors import ConfigError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here", where="delete", hint="do not ask: --yes")
    if not typer.confirm("Delete all this?"):
        typer.echo("nothing was deleted")
        raise typer.Exit


def _best(study: Study, folder: SweepFolder) -> tuple[Path, dict[str, bytes]]:
    """Where the best trial is kept, and its files. Raises NoResult, ConfigError."""
    from ckconv_sweep.errors import ConfigError, NoResult
    from ckconv_sweep.record.blobs import blobs_at
    from ckconv_sweep.record.lineage import trial_file
    from ckconv_sweep.record.seeds import trained_one
    from ckconv_sweep.report.summary import winner

    records, space = study.trials(), study.space
    record = winner(records, space)
    if record is None:
        raise NoResult("no trial has completed, so there is no best one", where="--keep-best")
    one = trained_one(record)
    out = folder.root.with_name(f"{folder.name}-best")
    if out.exists():
        raise ConfigError("is there already", where=str(out), hint="give it another name first")
    blobs = blobs_at(folder.trial(one.number))
    files = {name: blobs.get(name) for name in blobs.list("best-*.pt")}
    return out, files | {"trial.yaml": trial_file(one, records, space).encode()}


def _keep(out: Path, files: dict[str, bytes]) -> None:
    from ckconv_sweep.record.blobs import FolderBlobs

    blobs = FolderBlobs(out)
    blobs.make()
    for name, content in files.items():
        blobs.put(name, content)
