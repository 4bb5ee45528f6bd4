"""`doctor --address`: the nodes of a Ray cluster, and which of them may train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ckconv_sweep.execution.cluster import Placement
    from ckconv_sweep.execution.protocol import Session
    from ckconv_sweep.record.folder import SweepFolder

COLUMNS = ("node", "host", "CPUs", "GPUs", "ckconv-sweep", "code", "python", "torch", "CUDA")


def asked(placement: Placement, session: Session | None) -> list[dict[str, Any]]:
    """What each node has, with `unused`: why it may not train, empty where it may; best first.

    Args:
        session: of the sweep whose data and folder they need; None: of none.

    Raises:
        ConfigError, ClusterLost: the cluster cannot be asked.
    """
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from ckconv_sweep.execution.cluster import connected
    from ckconv_sweep.execution.nodes import Census

    with TemporaryDirectory() as own, connected(placement, log=Path(own) / "ray.log"):
        census = Census(placement, session, everybody=True)
        try:
            census.wait(lambda: None)
        finally:
            census.end()
    rows = [_row(answer.node, answer.said or {}, answer.why) for answer in census.answers.values()]
    silent = [
        {"node": name, "unused": "it has not answered"} for name in census.roster.asked.values()
    ]
    return sorted(rows + silent, key=lambda row: (bool(row["unused"]), row["node"]))


def _row(node: Any, said: Mapping[str, Any], why: str) -> dict[str, Any]:
    has, versions = node["Resources"], said.get("versions", {})
    row = {
        "node": node["NodeManagerAddress"],
        "host": said.get("host", ""),
        "CPUs": has.get("CPU", 0.0),
        "GPUs": has.get("GPU", 0.0),
        **{name: versions.get(name, "") for name in ("ckconv-sweep", "code", "python", "torch")},
        "CUDA": said.get("cuda", ""),
    }
    if not why and row["GPUs"] > said["gpus"]:
        why = f"Ray counts {row['GPUs']:g} GPUs, and PyTorch sees {said['gpus']}"
    return row | {"unused": why}


def print_nodes(rows: Sequence[dict[str, Any]]) -> None:
    """As a table, and below it what is wrong with which node."""
    cells = [COLUMNS, *(tuple(_cell(row, name) for name in COLUMNS) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    for line in cells:
        typer.echo("  ".join(map(str.ljust, line, widths)).rstrip())
    for row in rows:
        if row["unused"]:
            typer.echo(f"not used: {row['node']}: {row['unused']}")


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name, "")
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)[:8] if name == "code" else str(value)


def session_of(folder: SweepFolder, data_dir: Path | None) -> Session:
    """What the nodes need for a sweep that is there."""
    from ckconv_sweep.execution.protocol import Session
    from ckconv_sweep.record import trained_data

    with folder.records.open() as study:
        data = trained_data.noted(study.notes())
        trial = study.space.trial
    return Session(folder=folder.root, trial=trial, data_dir=data_dir, data=data or None)
