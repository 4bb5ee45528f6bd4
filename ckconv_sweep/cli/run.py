"""`launch` and `resume`: the commands that run a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli.options import (
    SWEEPS_DIR,
    Changes,
    DataDir,
    Name,
    OnBest,
    OnFinish,
    RequireTracking,
    SweepsDir,
    TrackingUri,
    absolute,
    command,
)

if TYPE_CHECKING:
    from ckconv_sweep.config.space import Space
    from ckconv_sweep.execution.cluster import Placement
    from ckconv_sweep.record.folder import SweepFolder

Trials = Annotated[int | None, typer.Option(min=1, help="How many trials the sweep has in all.")]
Hours = Annotated[
    float | None,
    typer.Option(min=1e-6, help="Hours after which the sweep ends, all its sessions together."),
]
Concurrency = Annotated[
    int | None,
    typer.Option(min=1, help="Trials at a time.", show_default="as many as there is room for"),
]
Cpus = Annotated[
    float | None,
    typer.Option(min=0.001, help="CPUs that a trial gets.", show_default="training.threads"),
]
Gpus = Annotated[float, typer.Option(min=0.0, help="GPUs that a trial gets; 0.25 shares one.")]
Pack = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Train so many trials of equal shapes as one, in one process with the CPUs and GPUs "
        "of a trial; auto: as many as are fastest, which is measured first.",
        show_default="every trial alone",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="A Ray cluster: auto, or host:port.", show_default="this machine alone"),
]

AllowCodeChange = Annotated[
    bool,
    typer.Option(
        "--allow-code-change",
        help="Go on with another major version of ckconv-sweep, torch, Optuna, Ray or NumPy than "
        "the sweep was run with.",
    ),
]

AllowDataChange = Annotated[
    bool,
    typer.Option(
        "--allow-data-change",
        help="Continue on other data than the sweep was trained on, or let a node have others; "
        "table and doctor tell which trials were trained on which.",
    ),
]

Insecure = Annotated[
    bool,
    typer.Option("--insecure-cluster", help="Join a Ray cluster also where it lets everybody in."),
]


def launch(
    space: Annotated[str, typer.Argument(help="A space: a file, or the name of a bundled one.")],
    name: Annotated[
        str | None, typer.Option(help="The sweep's name.", show_default="the file's")
    ] = None,
    trials: Trials = None,
    hours: Hours = None,
    concurrency: Concurrency = None,
    cpus_per_trial: Cpus = None,
    gpus_per_trial: Gpus = 0.0,
    pack: Pack = None,
    address: Address = None,
    insecure_cluster: Insecure = False,
    set_: Changes = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    require_tracking: RequireTracking = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
    allow_code_change: AllowCodeChange = False,
    allow_data_change: AllowDataChange = False,
    on_finish: OnFinish = None,
    on_best: OnBest = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and touch nothing.")
    ] = False,
) -> None:
    """Start a sweep, or go on with one that was interrupted.

    The same command again resumes it; for a finished sweep it shows the table.

        ckconv-sweep launch quickstart
    """
    from ckconv_sweep.config.read import read_space
    from ckconv_sweep.record.folder import SweepFolder

    asked = _with_budget(read_space(space, set_ or ()), trials, hours)
    folder = SweepFolder.of(sweeps_dir, Path(space).stem if name is None else name)
    if dry_run:
        from ckconv_sweep.cli.plan import show_plan

        show_plan(asked, folder, absolute(data_dir))
        return
    if folder.study.exists():
        asked = _extended(folder, asked, trials, hours)
    placement = _placement(
        asked, address, insecure_cluster, concurrency, cpus_per_trial, gpus_per_trial, pack
    )
    _run(
        folder,
        asked,
        placement,
        tracking_uri,
        absolute(data_dir),
        allow_code_change,
        allow_data_change,
        require_tracking,
        on_finish,
        on_best,
    )


def resume(
    name: Name,
    trials: Trials = None,
    hours: Hours = None,
    concurrency: Concurrency = None,
    cpus_per_trial: Cpus = None,
    gpus_per_trial: Gpus = 0.0,
    pack: Pack = None,
    address: Address = None,
    insecure_cluster: Insecure = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    require_tracking: RequireTracking = False,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
    allow_code_change: AllowCodeChange = False,
    allow_data_change: AllowDataChange = False,
    on_finish: OnFinish = None,
    on_best: OnBest = None,
) -> None:
    """Go on with a sweep; with more --trials also with a finished one.

    ckconv-sweep resume quickstart --trials 40
    """
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.record.study import Study

    folder = SweepFolder.existing(sweeps_dir, name)
    with Study.open(folder) as study:
        asked = study.space
    asked = _extended(folder, _with_budget(asked, trials, hours), trials, hours)
    placement = _placement(
        asked, address, insecure_cluster, concurrency, cpus_per_trial, gpus_per_trial, pack
    )
    _run(
        folder,
        asked,
        placement,
        tracking_uri,
        absolute(data_dir),
        allow_code_change,
        allow_data_change,
        require_tracking,
        on_finish,
        on_best,
    )


def _with_budget(space: Space, trials: int | None, hours: float | None) -> Space:
    from dataclasses import replace

    changes = {k: v for k, v in (("trials", trials), ("hours", hours)) if v is not None}
    return replace(space, budget=space.budget.model_copy(update=changes))


def _extended(folder: SweepFolder, asked: Space, trials: int | None, hours: float | None) -> Space:
    """A sweep keeps the budget to which it was extended, unless an option says another."""
    from ckconv_sweep.errors import ConfigError
    from ckconv_sweep.record.study import Study

    with Study.open(folder) as study:
        stored, count = study.space.budget, sum(r.counts for r in study.trials())
    if trials is not None and trials < count:
        raise ConfigError(
            f"the sweep has {count} trials already, so it cannot have {trials}",
            where="--trials",
            hint=f"ask for {count} or more, or leave it out",
        )
    kept = {} if trials is not None else {"trials": max(stored.trials, asked.budget.trials)}
    if hours is None and asked.budget.hours is None:
        kept["hours"] = stored.hours  # type: ignore[assignment]
    from dataclasses import replace

    return replace(asked, budget=asked.budget.model_copy(update=kept))


def _placement(
    space: Space,
    address: str | None,
    insecure: bool,
    concurrency: int | None,
    cpus: float | None,
    gpus: float,
    pack: str | None,
) -> Placement:
    from ckconv_sweep.execution.cluster import Placement, pack_size

    threads = space.trial.training.threads
    placement = Placement(
        address=address,
        insecure=insecure,
        concurrency=concurrency,
        gpus_per_trial=gpus,
        pack=pack_size(pack),
        cpus_per_trial=float(threads) if cpus is None else cpus,
    )
    placement.check()
    return placement


def _run(
    folder: SweepFolder,
    space: Space,
    placement: Placement,
    tracking_uri: str | None,
    data_dir: Path | None,
    allow_code_change: bool,
    allow_data_change: bool,
    require_tracking: bool,
    on_finish: str | None,
    on_best: str | None,
) -> None:
    from ckconv_sweep.cli.hooks import at_each_best, at_the_end
    from ckconv_sweep.cli.progress import progress
    from ckconv_sweep.cli.result import show_result
    from ckconv_sweep.config.grid import grid_note
    from ckconv_sweep.errors import ClusterLost
    from ckconv_sweep.record.study import Study, TrialRecord, is_finished, rejected
    from ckconv_sweep.tracking.store import default_uri

    records, stored = list[TrialRecord](), None
    uri = tracking_uri or default_uri(folder.root.parent)
    if folder.study.exists():
        with Study.open(folder) as study:
            records, stored = study.trials(), study.space
    if note := grid_note(space, rejected(records)):
        typer.echo(note)
    if stored is not None and is_finished(records, space):
        from ckconv_sweep.sweep.driver import check_same_space, deliver_rest

        check_same_space(stored, space, folder.name)
        # A driver may have been killed after the last trial, and MLflow may have been down.
        show_result(folder, records, space, tracking_uri, deliver_rest(folder, uri))
        return

    from ckconv_sweep.execution.executor import RayExecutor
    from ckconv_sweep.sweep.driver import run_sweep
    from ckconv_sweep.tracking.store import check_answers

    if require_tracking:
        check_answers(uri)
    with at_the_end(on_finish, folder, space.metric) as finish:
        try:
            with (
                progress(folder.name, space, rejected(records)) as view,
                at_each_best(on_best, folder, space.metric, view) as best,
            ):
                session = run_sweep(
                    folder,
                    space,
                    RayExecutor(placement),
                    tracking_uri=uri,
                    data_dir=data_dir,
                    listeners=(view, finish, best),
                    allow_code_change=allow_code_change,
                    allow_data_change=allow_data_change,
                )
        except ClusterLost as lost:
            lost.hint = f"go on when it is back, or on another: {command('resume', folder)}"
            raise
        show_result(folder, session.records, space, tracking_uri, session)
