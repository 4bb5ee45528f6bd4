"""What a shell offers when TAB is pressed: names of sweeps, bundled files, settings, pictures.

Nothing heavy may be imported for it, and what goes wrong is an empty answer: the shell then offers
files, as it does for every option that takes one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from ckconv_sweep.errors import CkconvSweepError

Complete = Callable[[typer.Context, str], list[str]]


def offering(find: Callable[[dict[str, Any], str], Iterable[str]]) -> Complete:
    """For Typer's `autocompletion`. `find` gets the options and arguments that are given, and the
    part of the word that is typed."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        given = dict(ctx.params)
        # Behind an option that lacks its value, Click has not come to the arguments.
        arguments = [p.name for p in ctx.command.params if p.param_type_name == "argument"]
        given |= {name: word for name, word in zip(arguments, ctx.args, strict=False) if name}
        with contextlib.suppress(CkconvSweepError, OSError, ValueError):
            return [word for word in find(given, incomplete) if word.startswith(incomplete)]
        return []

    complete.__annotations__ = {"ctx": typer.Context, "incomplete": str}  # Typer goes by them
    return complete


def one_of(*words: str) -> Complete:
    """One of some words."""
    return offering(lambda given, typed: words)


def _sweeps(given: dict[str, Any], typed: str) -> Iterable[str]:
    from ckconv_sweep.config.names import SWEEPS_DIR
    from ckconv_sweep.record.folder import all_sweeps

    named = given.get("names") or ()
    folder = Path(given.get("sweeps_dir") or SWEEPS_DIR)
    return (sweep.name for sweep in all_sweeps(folder) if sweep.name not in named)


def _files(*kinds: Any) -> Complete:
    """Bundled files by name, and those of the current folder."""

    def find(given: dict[str, Any], typed: str) -> Iterable[str]:
        from ckconv_sweep.config.bundled import names

        here = sorted(path.name for path in Path().glob("*.y*ml"))
        return dict.fromkeys([*here, *(name for kind in kinds for name in names(kind))])

    return offering(find)


def _changes(given: dict[str, Any], typed: str) -> Iterable[str]:
    """`model.dropout=`. The last one comes with its values: beside them the shell writes no space
    after the sign."""
    from ckconv_sweep.config.reference import changeable

    file = given.get("space") or given.get("trial") or given.get("file")
    known = changeable(str(file) if file else None)
    key, sign, _ = typed.partition("=")
    matching = [path for path in known if path == key or (path.startswith(key) and not sign)]
    if len(matching) > 1:
        return [f"{path}=" for path in matching]
    return [f"{path}={value}" for path in matching for value in ["", *known[path]]]


def _columns(given: dict[str, Any], typed: str) -> Iterable[str]:
    """What a sweep searches, by short names, and the other columns of its table. Of a list the last
    one."""
    from ckconv_sweep.config.metrics import PARAMETERS
    from ckconv_sweep.config.names import SWEEPS_DIR
    from ckconv_sweep.config.read import parse_space
    from ckconv_sweep.config.settings import short_names
    from ckconv_sweep.record.folder import SweepFolder

    folder = SweepFolder.of(Path(given.get("sweeps_dir") or SWEEPS_DIR), str(given.get("name")))
    space = parse_space(folder.space.read_text(), folder.space.name)
    begun = typed[: typed.rfind(",") + 1]
    metrics = [metric.name for metric in space.metrics]
    others = (*metrics, "trial", "outcome", "epochs", "seconds", PARAMETERS)
    return [begun + name for name in (*short_names(space.parameters()).values(), *others)]


def _datasets(given: dict[str, Any], typed: str) -> Iterable[str]:
    from ckconv_sweep.config.data import DATASETS

    return DATASETS


def _rules(given: dict[str, Any], typed: str) -> Iterable[str]:
    from ckconv_sweep.config.stopping import RULES

    return RULES


def _samplers(given: dict[str, Any], typed: str) -> Iterable[str]:
    from ckconv_sweep.config.sampling import SAMPLERS

    return SAMPLERS


sweeps = offering(_sweeps)
spaces, trials = _files("search_spaces"), _files("trials")
spaces_and_trials = _files("search_spaces", "trials")
changes, columns = offering(_changes), offering(_columns)
datasets, rules, samplers = offering(_datasets), offering(_rules), offering(_samplers)
