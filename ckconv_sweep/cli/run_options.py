"""The options that `launch` and `resume` have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckconv_sweep.cli.help import BUDGET, CHANGES, RESOURCES
from ckconv_sweep.cli.options import (
    SWEEPS_DIR,
    DataDir,
    OnBest,
    OnFinish,
    RequireTracking,
    SweepsDir,
    TrackingUri,
    absolute,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckconv_sweep.config.space import Space
    from ckconv_sweep.execution.cluster import Placement

Trials = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Total number of trials.", rich_help_panel=BUDGET),
]
Hours = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        min=1e-6,
        help="Total hours, over all sessions of the sweep.",
        rich_help_panel=BUDGET,
    ),
]
GpuHours = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        min=1e-6,
        help="Total hours of GPUs that the trials use.",
        rich_help_panel=BUDGET,
    ),
]
Goal = Annotated[
    str | None,
    typer.Option(
        metavar="BOUND",
        help="Try nothing new once a completed trial reaches it, as in 'val/accuracy >= 0.99'; "
        "none: no goal any more.",
        rich_help_panel=BUDGET,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Number of concurrent trials.",
        show_default="as many as fit",
        rich_help_panel=RESOURCES,
    ),
]
Cpus = Annotated[
    float | None,
    typer.Option(
        metavar="CPUS",
        min=0.001,
        help="CPUs per trial.",
        show_default="training.threads",
        rich_help_panel=RESOURCES,
    ),
]
Gpus = Annotated[
    float | None,
    typer.Option(
        metavar="GPUS",
        min=0.0,
        help="GPUs per trial; at 0.25, four trials share one.",
        rich_help_panel=RESOURCES,
    ),
]
Pack = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Train N trials of equal shapes together, in one process with the CPUs and GPUs of "
        "one trial; auto measures first which N is fastest.",
        show_default="every trial alone",
        rich_help_panel=RESOURCES,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Ray cluster: auto, or host:port.",
        show_default="this machine alone",
        rich_help_panel=RESOURCES,
    ),
]

Ship = Annotated[
    bool,
    typer.Option(
        "--ship",
        help="Send this ckconv-sweep to the nodes of the cluster, in the place of what is "
        "installed there; they need the same Python and PyTorch.",
        rich_help_panel=RESOURCES,
    ),
]

AllowCodeChange = Annotated[
    bool,
    typer.Option(
        "--allow-code-change",
        help="Resume with another major version of ckconv-sweep, torch, Optuna, Ray or NumPy than "
        "the sweep was run with.",
        rich_help_panel=CHANGES,
    ),
]

AllowDataChange = Annotated[
    bool,
    typer.Option(
        "--allow-data-change",
        help="Continue although the data have changed, or a node has other data; table and doctor "
        "show which trials were trained on which.",
        rich_help_panel=CHANGES,
    ),
]

Shared = Annotated[
    bool,
    typer.Option(
        "--shared",
        help="Let the group of the sweep's folder read it, whatever the umask; it stays so.",
    ),
]

Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure-cluster",
        help="Join a Ray cluster even if it has no authentication.",
        rich_help_panel=RESOURCES,
    ),
]


_KEPT = (
    *("address", "insecure_cluster", "ship", "concurrency", "cpus_per_trial", "gpus_per_trial"),
    *("pack", "data_dir", "tracking_uri"),
)
"""The options that the next session of a sweep takes over."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `launch` and `resume` have in common."""

    trials: Trials = None
    hours: Hours = None
    gpu_hours: GpuHours = None
    goal: Goal = None
    concurrency: Concurrency = None
    cpus_per_trial: Cpus = None
    gpus_per_trial: Gpus = None
    pack: Pack = None
    address: Address = None
    insecure_cluster: Insecure = False
    ship: Ship = False
    data_dir: DataDir = None
    tracking_uri: TrackingUri = None
    require_tracking: RequireTracking = False
    sweeps_dir: SweepsDir = SWEEPS_DIR
    shared: Shared = False
    allow_code_change: AllowCodeChange = False
    allow_data_change: AllowDataChange = False
    on_finish: OnFinish = None
    on_best: OnBest = None

    def with_budget(self, space: Space) -> Space:
        """The space with the budget that was requested here. Raises ConfigError if its goal is
        none."""
        from ckconv_sweep.config.constraints import goal_of

        asked = {name: getattr(self, name) for name in ("trials", "hours", "gpu_hours", "goal")}
        changes = {name: value for name, value in asked.items() if value is not None}
        if self.goal == "none":
            changes["goal"] = None
        extended = replace(space, budget=space.budget.model_copy(update=changes))
        if changes.get("goal"):
            goal_of(extended, "--goal")
        return extended

    def kept(self) -> dict[str, Any]:
        """What the next session takes from this one, as plain values; no password."""
        from ckconv_sweep.tracking.store import without_password

        found = {name: getattr(self, name) for name in _KEPT}
        if self.data_dir is not None:
            found["data_dir"] = str(absolute(self.data_dir))
        if self.tracking_uri is not None:
            found["tracking_uri"] = without_password(self.tracking_uri)
        return {name: value for name, value in found.items() if value not in (None, False)}

    def after(self, kept: Mapping[str, Any]) -> tuple[RunOptions, str]:
        """With what an earlier session kept where nothing else is requested now; and a line that
        says so, empty where there is nothing to say."""
        taken = {n: v for n, v in kept.items() if n in _KEPT and getattr(self, n) in (None, False)}
        if self.address is not None:  # what was accepted of one cluster is not of another
            taken.pop("insecure_cluster", None)
            taken.pop("ship", None)
        if ":***@" in taken.get("tracking_uri", ""):  # its password is in nobody's record
            del taken["tracking_uri"]
        told = " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {quote(str(value))}")
            for name, value in taken.items()
        )
        if "data_dir" in taken:
            taken["data_dir"] = Path(taken["data_dir"])
        return replace(self, **taken), f"as in the last session: {told}" if told else ""

    def placement(self, space: Space) -> Placement:
        """Raises ConfigError if no cluster could give this, or a budget of GPU-hours would never be
        spent."""
        from ckconv_sweep.errors import ConfigError
        from ckconv_sweep.execution.cluster import Placement, pack_size

        threads, cpus = space.trial.training.threads, self.cpus_per_trial
        placement = Placement(
            address=self.address,
            insecure=self.insecure_cluster,
            ship=self.ship,
            concurrency=self.concurrency,
            gpus_per_trial=self.gpus_per_trial or 0.0,
            pack=pack_size(self.pack),
            cpus_per_trial=float(threads) if cpus is None else cpus,
        )
        placement.check()
        if space.budget.gpu_hours is not None and not placement.gpus_per_trial:
            raise ConfigError(
                "no trial uses a GPU, so GPU-hours would never be spent",
                where="budget.gpu_hours",
                hint="give each trial one, or a part, as in --gpus-per-trial 0.25; without GPUs "
                "bound the hours of the sweep: --hours",
            )
        return placement
