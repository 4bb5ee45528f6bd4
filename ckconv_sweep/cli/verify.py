"""`verify`: resume, proved on the trials of a sweep."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import verified as says
from ckconv_sweep.cli.device import Device, device_of
from ckconv_sweep.cli.options import (
    SWEEPS_DIR,
    DataDir,
    Name,
    SweepsDir,
    absolute,
    folder_here,
    trial_number,
)

if TYPE_CHECKING:
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study


def verify(
    name: Name,
    trials: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of trials, those of --trial included.")
    ] = 3,
    trial: Annotated[
        list[int] | None,
        typer.Option(
            metavar="TRIAL",
            parser=trial_number,
            help="A trial to verify, as t017 or 17. May be given several times.",
            show_default="one of each kind, at random",
        ),
    ] = None,
    kills: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="How often each one is killed, in different epochs."),
    ] = 2,
    seed: Annotated[
        int,
        typer.Option(metavar="SEED", min=0, help="Of the choice of trials and of the kills."),
    ] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Train in this new folder, and keep it.",
            show_default="a temporary folder",
            callback=folder_here,
        ),
    ] = None,
    device: Device = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    data_dir: DataDir = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Prove that trials resume exactly.

    Some are trained again, each in a process of its own, which is killed (SIGKILL) at random epochs
    and started again by the same command. The metrics of every epoch and the kept weights must be
    those of the record to the last bit, and the sampler must draw the same settings when it is
    shown the trials as they were then. The sweep is only read, and no test split is opened. Exit
    code 4 if something differs.

    Example: ckconv-sweep verify quickstart --trial t004 --kills 3
    """
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.errors import CkconvSweepError, NoResult, NotReproduced
    from ckconv_sweep.keys import trial_name
    from ckconv_sweep.record import trained_data
    from ckconv_sweep.record.folder import SweepFolder

    folder = SweepFolder.existing(sweeps_dir, name)
    where = device_of(device)

    from ckconv_sweep.sweep.interruption import Interruption, ended_by_signal
    from ckconv_sweep.sweep.verified import Verification, Verified, chosen

    found, exit_codes = list[Verified](), list[int]()
    with (
        ended_by_signal(exit_codes),
        Interruption().caught(),
        _study(folder) as study,
        _scratch(keep) as scratch,
    ):
        picked = chosen(study.every_trial(), trials, trial or (), seed)
        if not picked:
            raise NoResult("no trial has ended yet", where=name)
        if not json:
            typer.echo(says.beginning(picked), err=True)
        verification = Verification(
            folder=folder,
            scratch=scratch,
            kills=kills,
            seed=seed,
            data_dir=absolute(data_dir) or trained_data.folder_of(study),
            device=where,
            say=lambda message: None if json else typer.echo(message, err=True),
        )
        try:
            for record in picked:
                found.append(verification.verified(record, study))
        except CkconvSweepError as error:
            if error.where != trial_name(record.number):
                error.message += f" ({trial_name(record.number)} was to be trained again)"
            raise
        finally:  # also where a trial cannot be trained here, or a signal ends it
            if json:
                says.print_json(found)
            elif found:
                says.print_table(found)
    if differing := [one for one in found if one.differs]:
        raise NotReproduced(
            f"{count(len(differing), 'trial')} of {len(found)} "
            f"{'is' if len(differing) == 1 else 'are'} not as recorded: "
            + ", ".join(trial_name(one.number) for one in differing),
            where=name,
        )
    if exit_codes:
        typer.echo(f"stopped: {count(len(found), 'trial')} verified before", err=True)
        raise typer.Exit(exit_codes[0])
    if not json:
        typer.echo(says.compared(found))


@contextlib.contextmanager
def _study(folder: SweepFolder) -> Iterator[Study]:
    """A copy of the sweep's study: whoever opens a database file writes beside it."""
    from ckconv_sweep.errors import CannotWrite
    from ckconv_sweep.record import snapshot
    from ckconv_sweep.record.folder import SweepFolder

    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(snapshot.copied(folder.records.path))
        except OSError as error:
            raise CannotWrite(
                f"the study cannot be copied to be read: {error.strerror}", where=error.filename
            ) from None
        yield stack.enter_context(SweepFolder(copy.parent, folder.name).records.open())


@contextlib.contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    """Where trials are trained. A folder that is kept must be new: what is in it would be gone on
    with."""
    from ckconv_sweep.errors import CannotWrite, ConfigError

    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ckconv-sweep-verify-") as name:
            yield Path(name)
        return
    folder = absolute(keep)
    assert folder is not None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            "must be a new folder, or an empty one",
            where=f"--keep {keep}",
            hint="a trial in it would go on from its checkpoint instead of from the first epoch",
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot be made: {error.strerror}", where=str(folder)) from None
    yield folder
    typer.echo(f"kept: {folder}", err=True)
