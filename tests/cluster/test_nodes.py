"""Nodes that are broken on purpose: what is said of each, and that no trial fails by it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import sklearn

import ckconv_sweep
from ckconv_sweep.record import versions

from .conftest import Cluster, ended

PACKAGE = Path(ckconv_sweep.__file__).parent
DIGITS = Path(sklearn.__file__).parent / "datasets" / "data" / "digits.csv.gz"
MISSING = "No module named 'ckconv_sweep'"
AHEAD = "import time; now = time.time; time.time = lambda: now() + 3600"


@dataclass(frozen=True)
class Broken:
    """A fault: shell commands that change a node's mounts, files before everything else that
    Python imports there, how many GPUs Ray is told of, and what is said of the node."""

    said: str
    mounts: tuple[str, ...] = ()
    python: tuple[tuple[str, str], ...] = ()
    copies: bool = False
    """Whether the node has a copy of the package, of another version."""


def broken(cluster: Cluster) -> dict[str, Broken]:
    """What is wrong with a node."""
    ours = versions.of_worker()
    other = cluster.folder.parent / "digits.csv.gz"
    other.write_bytes(DIGITS.read_bytes()[:-200])
    return {
        "version": Broken(
            f"ckconv-sweep 0.9.9, code {{code}}; here {ours['ckconv-sweep']}, {ours['code'][:8]}",
            copies=True,
        ),
        "no package": Broken(
            f"ckconv-sweep is not installed: {MISSING}",
            python=(
                (
                    "ckconv_sweep.py",
                    "raise ModuleNotFoundError(\"No module named 'ckconv_sweep'\")",
                ),
            ),
        ),
        "data": Broken("its data cannot be read: ", mounts=(f"mount --bind {other} {DIGITS}",)),
        "folder": Broken(
            f"it does not see {cluster.sweeps}/small, which all nodes must share",
            mounts=(f"mount -t tmpfs none {cluster.folder}",),
        ),
        "read-only": Broken(
            f"it cannot write to {cluster.sweeps}/small: Read-only file system",
            mounts=(
                f"mount --bind {cluster.folder} {cluster.folder}",
                f"mount -o remount,ro,bind {cluster.folder}",
            ),
        ),
        "clock": Broken(
            "its clock is 3",
            python=(
                (
                    "sitecustomize.py",
                    "import time; now = time.time; time.time = lambda: now() + 3600",
                ),
            ),
        ),
    }


def add(cluster: Cluster, name: str, fault: Broken) -> str:
    """A node with a fault; returns what is to be said of it."""
    own = cluster.folder.parent / name.replace(" ", "-")
    own.mkdir()
    for file, text in fault.python:
        (own / file).write_text(text + "\n")
    code = ""
    if fault.copies:
        copy = shutil.copytree(PACKAGE, own / PACKAGE.name)
        changed = copy / "models" / "ckconv.py"
        changed.write_text(changed.read_text() + "# another\n")
        init = copy / "__init__.py"
        init.write_text(init.read_text().replace(ckconv_sweep.__version__, "0.9.9"))
        code = versions._code(copy)[:8]
    path = f"{own}:{cluster.environment()['PYTHONPATH']}"
    host = cluster.add(*fault.mounts, PYTHONPATH=path)
    return f"{host.address}: {fault.said.format(code=code)}"


@pytest.mark.fault("node-unfit")
def test_nodes_that_differ_are_not_used_and_each_is_named_with_what_differs(
    cluster: Cluster,
) -> None:
    expected = [add(cluster, name, fault) for name, fault in broken(cluster).items()]
    doctor = ("doctor", "--address", "auto")
    table = ended(cluster.start(*doctor))
    assert table.code == 1, table.complaint
    assert max(map(len, table.lines("10.77.0."))) < 80
    without_sweep = [line for line in expected if re.search("0.9.9|not installed|clock", line)]
    said = sorted(table.lines("not used: "))
    assert len(said) == len(without_sweep)
    assert all(map(str.startswith, said, (f"not used: {line}" for line in without_sweep)))
    done = ended(cluster.launch("small"))
    assert done.code == 0, done.out + done.complaint
    for line in expected:
        assert f"this node is not used: {line}" in done.out
    assert "trials at a time: 1\n" in done.out
    status = cluster.status("small")
    assert (status["completed"], status["failed"]) == (6, 0)
    table = ended(cluster.start(*doctor, "small", "--sweeps-dir", cluster.sweeps, "--json"))
    rows = json.loads(table.out)
    assert [not row["unused"] for row in rows] == [True] + [False] * len(expected)
    said = [f"{row['node']}: {row['unused']}" for row in rows if row["unused"]]
    assert all(map(str.startswith, said, expected))
