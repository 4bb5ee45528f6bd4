"""One session of a sweep as a person sees it: its lock, the view, the commands that it runs, and
how to continue after an error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from ckconv_sweep.cli.options import absolute
from ckconv_sweep.signals import LATER_EXIT_CODE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ckconv_sweep.cli.run_options import RunOptions
    from ckconv_sweep.config.space import Space
    from ckconv_sweep.execution.cluster import Placement
    from ckconv_sweep.execution.surveyor import Surveyor
    from ckconv_sweep.record.confirmation import Confirmation
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.trials import TrialRecord
    from ckconv_sweep.sweep.delivery import Session


@contextlib.contextmanager
def lock_of(folder: SweepFolder) -> Iterator[AbstractContextManager[object] | None]:
    """The lock of a sweep that is there, held before the seconds of imports: whoever looks now is
    told that it runs. None of a new sweep, and where it cannot be held, which is an error of who
    needs it: a finished sweep is also shown without."""
    from ckconv_sweep.errors import CannotWrite, SweepBusy

    with contextlib.ExitStack() as stack:
        held = folder.records.exists()
        if held:
            try:
                stack.enter_context(folder.records.lock())
            except (CannotWrite, SweepBusy):
                held = False
        yield stack if held else None


def check_lock(folder: SweepFolder) -> None:
    """Raises SweepBusy or CannotWrite if the lock of a sweep cannot be held, before anything is
    shown."""
    with folder.records.lock():
        pass


def load(surveyor: Surveyor) -> None:
    """Import what a session and its end need, while the surveyor imports PyTorch."""
    surveyor.start()
    from ckconv_sweep.cli import progress, result  # noqa: F401
    from ckconv_sweep.execution import executor
    from ckconv_sweep.sweep import driver  # noqa: F401

    executor.load()


def run_session(
    folder: SweepFolder,
    space: Space,
    options: RunOptions,
    placement: Placement,
    lock: AbstractContextManager[object] | None,
    records: Sequence[TrialRecord],
    surveyor: Surveyor,
    *,
    show: Callable[[Session], None],
    plan: Confirmation | None = None,
) -> None:
    """Run a session, then show how it ended.

    Args:
        lock: the sweep's, where it is held already; it is released at the end.
        records: what the sweep, or its confirmation, has already.
        surveyor: counts parameters and reads the data; it is closed before the end is shown.
        plan: what is confirmed; None: the sweep is searched.
    """
    load(surveyor)
    from ckconv_sweep.cli.ending import Ending
    from ckconv_sweep.cli.events_log import Log
    from ckconv_sweep.cli.hooks import at_each_best, at_the_end
    from ckconv_sweep.cli.progress import CountsConfirmed, PlainLines, view_of
    from ckconv_sweep.cli.session_hours import ends_at
    from ckconv_sweep.errors import CannotWrite, ClusterLost
    from ckconv_sweep.execution.executor import RayExecutor
    from ckconv_sweep.record.confirmation import command
    from ckconv_sweep.sweep.driver import run_sweep
    from ckconv_sweep.tracking.answers import check_takes_runs
    from ckconv_sweep.tracking.store import default_uri

    until = ends_at(options.session_hours)
    uri = options.tracking_uri or default_uri(folder.root.parent)
    again = folder.command("resume") if plan is None else command(folder, plan, ())
    if options.require_tracking:
        check_takes_runs(uri)
    confirms = plan is not None
    with at_the_end(options.on_finish, folder, space.metric, confirms=confirms) as finish:
        try:
            with (
                view_of(folder.name, space.metrics, space, records, plan=plan) as view,
                at_each_best(options.on_best, folder, space.metric, view) as best,
            ):
                if isinstance(view, PlainLines):  # the live view shows it by itself
                    own = placement.address in (None, "local")
                    ray = "starting Ray" if own else "joining the Ray cluster"
                    typer.echo(f"reading the data and {ray}", err=True)
                of_search = () if plan else (Ending(space, records),)
                session = run_sweep(
                    folder,
                    space,
                    RayExecutor(placement, surveyor),
                    tracking_uri=uri,
                    data_dir=absolute(options.data_dir),
                    listeners=(view, finish, best, Log(), CountsConfirmed(view, plan), *of_search),
                    allow_code_change=options.allow_code_change,
                    allow_data_change=options.allow_data_change,
                    options=options.kept(),
                    shared=options.shared,
                    lock=lock,
                    plan=plan,
                    ends_at=until,
                    blobs=options.blobs,
                )
        except CannotWrite as full:
            if folder.records.exists() and full.hint is None:
                full.hint = (
                    f"every recorded epoch is kept; to continue when it can be written: {again}"
                )
            raise
        except ClusterLost as lost:
            if folder.records.exists():
                hints = [lost.hint, f"to continue: {again}"]
                hints += [f"what Ray wrote: {folder.ray_log}"] * folder.ray_log.exists()
                lost.hint = "\n  ".join(hint for hint in hints if hint)
            raise
        show(session)
        if session.continue_later:
            typer.echo(f"{session.continue_later}; continue later: {again}")
            raise typer.Exit(LATER_EXIT_CODE)
