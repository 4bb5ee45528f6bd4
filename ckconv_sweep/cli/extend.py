"""`extend`: a sweep over another space that starts with what an earlier one has learnt."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

import typer

from ckconv_sweep.cli.options import Changes, Name, takes
from ckconv_sweep.cli.run import SpaceFile, begin, learning_from
from ckconv_sweep.cli.run_options import RunOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckconv_sweep.config.space import Space
    from ckconv_sweep.record.folder import SweepFolder


@takes(RunOptions)
def extend(name: Name, space: SpaceFile, options: RunOptions, set_: Changes = None) -> None:
    """Search another space, with what a sweep has learnt.

    The new sweep is called NAME-2, or the next number that is free. The same command again resumes
    it.

    Example: ckconv-sweep extend quickstart wider.yaml
    """
    from ckconv_sweep.config.bundled import shown
    from ckconv_sweep.config.read import read_space
    from ckconv_sweep.record.folder import SweepFolder

    before = SweepFolder.existing(options.sweeps_dir, name)
    asked = learning_from(options.with_budget(read_space(space, set_ or ())), [name])
    folder = _next(before, asked)
    typer.echo(f"{folder.name} extends {name}")
    begin(folder, asked, options, shown(space))


def _next(before: SweepFolder, asked: Space) -> SweepFolder:
    """Where the sweep lies that extends another one: the first of the next names that is free, or
    has this space already."""
    from ckconv_sweep.errors import SpaceChanged
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.sweep.driver import check_same_space

    for name in _names(before):
        folder = SweepFolder(before.root.with_name(name), name)
        if not folder.records.exists() and not folder.has_trials():
            return folder
        try:
            with folder.records.open() as study:
                check_same_space(study.space, asked, folder)
            return folder
        except SpaceChanged:
            continue
    raise AssertionError("there is always a next name")


def _names(before: SweepFolder) -> Iterator[str]:
    """`mine-2`, `mine-3`, ... after `mine`; `mine-3` and so on after `mine-2`, if that extends
    another sweep, too."""
    first, number = before.name, 1
    if found := re.fullmatch(r"(.+)-([2-9]|[1-9]\d{1,3})", before.name):
        with before.records.open() as study:
            if study.space.warm_start:
                first, number = found[1], int(found[2])
    return (f"{first}-{i}" for i in itertools.count(number + 1))
