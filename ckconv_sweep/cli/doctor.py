"""`doctor`: what is wrong with a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.look import Json
from ckconv_sweep.cli.options import SWEEPS_DIR, DataDir, SweepsDir, TrackingUri, absolute
from ckconv_sweep.cli.run_options import Insecure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckconv_sweep.doctor import Finding
    from ckconv_sweep.record.folder import SweepFolder


def doctor(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A sweep's name; all sweeps if left out.",
            autocompletion=completion.sweeps,
        ),
    ] = None,
    json: Json = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Examine the nodes of this Ray cluster instead: versions, code, GPUs, clock; with "
            "a NAME also whether they have its data and see its folder.",
        ),
    ] = None,
    insecure_cluster: Insecure = False,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    sweeps_dir: SweepsDir = SWEEPS_DIR,
) -> None:
    """Report what is wrong with a sweep and what to do. It changes nothing.

    Exit code 0: nothing, or warnings; 65: damaged data; 1: another problem.
    """
    if address is not None:
        folder = None if name is None else _folders(sweeps_dir, name)[0]
        _nodes(address, folder, json=json, insecure=insecure_cluster, data_dir=absolute(data_dir))
    from dataclasses import asdict
    from json import dumps

    from ckconv_sweep.doctor import examine

    code, said = 0, []
    for folder in _folders(sweeps_dir, name):
        findings = examine(folder, tracking_uri, absolute(data_dir))
        code = max(code, _exit_code(findings))
        said.append({"name": folder.name, "findings": [asdict(finding) for finding in findings]})
        if not json:
            _print(folder.name, findings)
    if json:
        typer.echo(dumps(said[0] if name else said, indent=2))
    elif not said:
        typer.echo(f"no sweeps in {sweeps_dir}")
    raise typer.Exit(code)


def _nodes(
    address: str,
    folder: SweepFolder | None,
    *,
    json: bool,
    insecure: bool,
    data_dir: Path | None,
) -> NoReturn:
    """The nodes of a cluster. `folder`: of the sweep that they are to train, if that is known."""
    from json import dumps

    from ckconv_sweep.cli.cluster_nodes import asked, print_nodes, session_of
    from ckconv_sweep.execution.cluster import Placement

    placement = Placement(address=address, insecure=insecure)
    placement.check()
    rows = asked(placement, session_of(folder, data_dir) if folder else None)
    if json:
        typer.echo(dumps(rows, indent=2))
    else:
        print_nodes(rows)
    raise typer.Exit(int(any(row["unused"] for row in rows)))


def _folders(sweeps_dir: Path, name: str | None) -> list[SweepFolder]:
    """One sweep, or all of a folder; also those whose study is gone."""
    from ckconv_sweep.record.folder import SweepFolder, all_sweeps

    if name is not None:
        folder = SweepFolder.of(sweeps_dir, name)
        whole = folder.records.exists() or not (folder.root / "trials").is_dir()
        return [SweepFolder.existing(sweeps_dir, name) if whole else folder]
    return all_sweeps(sweeps_dir)


def _exit_code(findings: Sequence[Finding]) -> int:
    from ckconv_sweep.errors import CkconvSweepError, DamagedData

    problems = [finding for finding in findings if finding.level == "problem"]
    if any(finding.damaged for finding in problems):
        return DamagedData.exit_code
    return CkconvSweepError.exit_code if problems else 0


def _print(name: str, findings: Sequence[Finding]) -> None:
    from ckconv_sweep.cli.words import count

    amounts = [(level, sum(f.level == level for f in findings)) for level in ("problem", "warning")]
    said = ", ".join(count(amount, level) for level, amount in amounts if amount)
    typer.echo(f"{name}: {said or 'nothing is wrong'}")
    for finding in findings:
        typer.echo(f"  {finding.level:8}{finding.check:12} {finding.message}")
        if finding.todo:
            typer.echo(f"{'':11}-> {finding.todo}")
