"""Whether the data that lie here are those of the sweep, and which trials had others."""

from __future__ import annotations

from collections.abc import Iterator

from ckconv_sweep.data import fetch
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.identity import difference
from ckconv_sweep.doctor.finding import Examined, Finding, ok, problem, warning
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.record import trained_data


def same_data(sweep: Examined) -> Iterator[Finding]:
    """Nothing is downloaded or unpacked for it."""
    for line in trained_data.in_words(trained_data.on_other_data(sweep.records)):
        todo = "compare trials of the same data only"
        yield warning(line, todo)
    before = trained_data.noted(sweep.notes)
    if not before or sweep.space is None:
        return
    try:
        with fetch.offline():
            now = load(sweep.space.trial.data, sweep.data_dir).identity
    except CkconvSweepError as error:
        yield warning(
            f"not compared with the sweep's: {str(error).splitlines()[0]}",
            "name the folder that holds them with --data-dir",
        )
        return
    if why := difference(before, now):
        yield problem(
            f"the data here are not those of the sweep: {why}",
            "put the old data back, or train on both and mark each trial with its own: "
            f"{sweep.folder.command('resume')} --allow-data-change",
        )
    else:
        yield ok(f"those of the sweep: digest {before['digest']}")
