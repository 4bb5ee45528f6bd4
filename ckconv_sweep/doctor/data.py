"""Whether the data that lie here are those of the sweep, and which trials had others."""

from __future__ import annotations

from collections.abc import Iterator

from ckconv_sweep.data import fetch
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.identity import difference
from ckconv_sweep.doctor.finding import Examined, Finding
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.record import trained_data


def same_data(sweep: Examined) -> Iterator[Finding]:
    """Nothing is downloaded or unpacked for it."""
    for line in trained_data.in_words(trained_data.on_other_data(sweep.records)):
        todo = "compare trials of the same data only"
        yield Finding(check="data", level="warning", message=line, todo=todo)
    before = trained_data.noted(sweep.notes)
    if not before or sweep.space is None:
        return
    try:
        with fetch.offline():
            now = load(sweep.space.trial.data, sweep.data_dir).identity
    except CkconvSweepError as error:
        yield Finding(
            check="data",
            level="warning",
            message=f"not compared with the sweep's: {str(error).splitlines()[0]}",
            todo="name the folder that holds them with --data-dir",
        )
        return
    if why := difference(before, now):
        yield Finding(
            check="data",
            level="problem",
            message=f"the data here are not those of the sweep: {why}",
            todo="put the old data back, or train on both and mark each trial with its own: "
            f"{sweep.command('resume')} --allow-data-change",
        )
    else:
        digest = before["digest"]
        yield Finding(check="data", level="ok", message=f"those of the sweep: digest {digest}")
