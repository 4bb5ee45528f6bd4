"""`show`: what there is to choose from, and what each setting means."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from ckconv_sweep.cli import completion

if TYPE_CHECKING:
    from ckconv_sweep.config.bundled import Kind
    from ckconv_sweep.config.reference import Setting


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One of the things that are listed."""

    name: str
    facts: Mapping[str, str]
    """By the headings of the table that `--markdown` writes; an empty one is left out."""
    text: str
    details: Sequence[tuple[str, str]] = field(default=())
    """What is added where few are listed."""


def show(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help="data, models, spaces, trials, settings, schema, environment, exit-codes, or a "
            "setting or a block of them; short names are enough.",
            autocompletion=completion.offering(lambda given, typed: [*SUBJECTS, *_paths()]),
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="One of them.",
            autocompletion=completion.offering(lambda given, typed: _names(given.get("what"))),
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write a table, as it is in the guide.")
    ] = False,
) -> None:
    """List what there is: data, models, files, settings.

    A setting comes with its type, bounds, default and meaning, a bundled space or trial as the file
    that it is. schema is a JSON Schema of both, with which an editor completes settings.

    Example: ckconv-sweep show omega_0
    """
    from ckconv_sweep.errors import ConfigError

    if what is None:
        for subject, (told, _) in SUBJECTS.items():
            typer.echo(f"{subject:13}{told}")
        return
    if what in SUBJECTS:
        if name is not None and what in _WITHOUT_NAMES:
            raise ConfigError(f"takes no name, got {name!r}", where=what)
        found = SUBJECTS[what][1](name)
    elif name is None:
        found = _settings(what)
    else:
        raise ConfigError(
            f"nothing is called {what!r}", where="WHAT", hint=f"there are: {', '.join(SUBJECTS)}"
        )
    if isinstance(found, str):
        typer.echo(found, nl=False)
    else:
        typer.echo("\n".join(_as_markdown(found) if markdown else _as_text(found)))


def _as_text(entries: Sequence[Entry]) -> Iterator[str]:
    from ckconv_sweep.cli.words import console
    from ckconv_sweep.config.reference import REQUIRED

    width = min(console().width, 100)
    for entry in entries:
        if not any(entry.facts.values()):
            yield from _wrapped(entry.text, width, f"{entry.name}: ", "    ")
            continue
        facts = "; ".join(
            f"{name} {fact}" if name in ("of", "default") and fact != REQUIRED else fact
            for name, fact in entry.facts.items()
            if fact
        )
        yield from _wrapped(facts, width, f"{entry.name}: ", "    ")
        yield from _wrapped(entry.text, width, "    ", "    ")
        if len(entries) <= _FEW:
            for label, text in entry.details:
                yield from _wrapped(text, width, f"    {label:12}", " " * 16)


_FEW = 4
"""So many settings are shown with examples."""


def _wrapped(text: str, width: int, first: str, further: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=further, break_on_hyphens=False
    )


def _as_markdown(entries: Sequence[Entry]) -> Iterator[str]:
    headings = [name for name in entries[0].facts if any(entry.facts[name] for entry in entries)]
    yield f"| name | {' | '.join([*headings, 'meaning'])} |"
    yield "|---" * (len(headings) + 2) + "|"
    for entry in entries:
        cells = [f"`{entry.name}`", *(entry.facts[name] for name in headings), entry.text]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# What can be shown


def _settings(name: str | None) -> list[Entry]:
    """All, or those that a name means: a path or its end, a block, a row of a table."""
    from ckconv_sweep.config.reference import all_settings
    from ckconv_sweep.errors import ConfigError

    known = all_settings()
    if name is None:
        return [_of_setting(setting) for setting in known]
    paths = {setting.path.removesuffix(".name") for setting in known}
    paths |= {path.rpartition(".")[0] for path in paths} - {""}
    wanted = {name} & paths or {path for path in paths if path.endswith(f".{name}")}
    found = [
        setting
        for setting in known
        if any(f"{setting.path}.".startswith(f"{path}.") for path in wanted)
        or any(name in rows for rows in setting.rows)
    ]
    if not found:
        names = {row for setting in known for rows in setting.rows for row in rows}
        names |= paths | {path.rpartition(".")[2] for path in paths}
        near = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(
            f"no setting is called {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else "list them: ckconv-sweep show settings",
        )
    return [_of_setting(setting, in_full=len(found) <= _FEW) for setting in found]


def _of_setting(setting: Setting, *, in_full: bool = False) -> Entry:
    return Entry(
        name=setting.path,
        facts={
            "of": ", ".join(setting.of),
            "type": f"{setting.type}, {setting.bounds}" if setting.bounds else setting.type,
            "default": setting.default,
        },
        text=setting.meaning,
        details=list(_in_full(setting)) if in_full else (),
    )


def _in_full(setting: Setting) -> Iterator[tuple[str, str]]:
    """What each of its words means, how it is changed, and how it is searched."""
    from ckconv_sweep.config.build import NUMBERS, words_of
    from ckconv_sweep.config.reference import REQUIRED, written
    from ckconv_sweep.config.table import Table
    from ckconv_sweep.config.trial import Trial

    path, table = setting.path, setting.kind
    if isinstance(table, Table):
        for name, row in table.items():
            yield name, _in_a_line(row.__doc__)
    of_space = path.split(".")[0] not in Trial.model_fields
    if of_space and "." not in path:
        return
    example = next(iter(table), "") if isinstance(table, Table) else setting.default
    yield "change it", f"--set {path}={'...' if example in (REQUIRED, 'null') else example}"
    if of_space or path.startswith("metric."):
        return
    path = path.removesuffix(".name")
    if isinstance(table, Table):
        form = f"{{choices: {{{', '.join(f'{name}: {{}}' for name in list(table)[:2])}}}}}"
    elif words := words_of(setting.kind):
        form = f"{{choices: {written(words[:3])}}}"
    elif setting.type in NUMBERS:
        form = "{low: ..., high: ...}"
    elif setting.type == "true or false":
        form = "{choices: [false, true]}"
    else:
        return
    forms = _searched(path) or {form: []}
    for form, spaces in forms.items():
        who = ", ".join(spaces[:2]) + (f" and {len(spaces) - 2} more" if len(spaces) > 2 else "")
        yield "search it", f"{path}: {form}" + (f"  ({who})" if spaces else "")


def _searched(path: str) -> dict[str, list[str]]:
    """How bundled spaces search a setting: each range, and who has it."""
    from ckconv_sweep.config.bundled import names
    from ckconv_sweep.config.domains import Blocks
    from ckconv_sweep.config.read import read_space
    from ckconv_sweep.config.reference import written

    out: dict[str, list[str]] = {}
    for name in names("search_spaces"):
        for outer, domain in read_space(name).search.items():
            inside = (
                [
                    (f"{outer}.{key}", inner)
                    for b in domain.options.values()
                    for key, inner in b.search.items()
                ]
                if isinstance(domain, Blocks)
                else [(outer, domain)]
            )
            for key, inner in inside:
                if key == path:
                    form = ", ".join(f"{k}: {written(v)}" for k, v in inner.written().items())
                    out.setdefault(f"{{{form}}}", []).append(name)
    return {form: list(dict.fromkeys(spaces)) for form, spaces in out.items()}


def _rows(root: str) -> Callable[[str | None], list[Entry]]:
    """The rows of all tables in a block; of one row its settings too."""

    def found(name: str | None) -> list[Entry]:
        from ckconv_sweep.config.reference import all_settings
        from ckconv_sweep.config.table import Table, Words
        from ckconv_sweep.errors import UnknownNameError

        known = [s for s in all_settings() if s.path.split(".")[0] == root]
        entries = []
        for setting in known:
            block = setting.path.removesuffix(".name")
            if isinstance(setting.kind, Table):
                for row_name, row in setting.kind.items():
                    facts = {
                        "in": block if block != root else "",
                        "task": " or ".join(getattr(row, "kinds", ())).replace("_", " "),
                    }
                    entries.append(Entry(name=row_name, facts=facts, text=_in_a_line(row.__doc__)))
            elif isinstance(setting.kind, Words) and name is None:
                words = ", ".join(setting.kind)
                entries.append(Entry(name=words, facts={"in": block}, text=setting.meaning))
        if name is None:
            return entries
        of_it = [entry for entry in entries if entry.name == name]
        if not of_it:
            raise UnknownNameError(root, name, [entry.name for entry in entries])
        return of_it + [_of_setting(s) for s in known if any(name in rows for rows in s.rows)]

    return found


def _files(kind: Kind) -> Callable[[str | None], list[Entry] | str]:
    """All bundled files of a kind; the text of one of them."""

    def found(name: str | None) -> list[Entry] | str:
        from ckconv_sweep.config import bundled, documents
        from ckconv_sweep.errors import UnknownNameError

        names = bundled.names(kind)
        if name is not None:
            if name not in names:
                raise UnknownNameError("bundled file", name, names)
            text = (bundled.folder(kind) / f"{name}.yaml").read_text(encoding="utf-8")
            return text.partition("\n")[2]  # the first line says where our schema is
        entries = []
        for file in names:
            document = documents.read(bundled.folder(kind) / f"{file}.yaml")
            entries.append(
                Entry(name=file, facts=_facts(file, kind), text=document.value["description"])
            )
        return entries

    return found


def _facts(file: str, kind: Kind) -> dict[str, str]:
    from ckconv_sweep.cli.words import count
    from ckconv_sweep.config.read import read_space, read_trial

    if kind == "trials":
        trial = read_trial(file)
        return {"data": trial.data.name, "epochs": count(trial.training.epochs, "epoch")}
    space = read_space(file)
    return {
        "data": space.trial.data.name,
        "searched": count(len(space.parameters()), "setting"),
        "trials": count(space.budget.trials, "trial"),
        "sampler": space.sampler.name,
        "scheduler": space.scheduler.name,
    }


def _schema(name: str | None) -> str:
    from json import dumps

    from ckconv_sweep.config.schema import json_schema

    return dumps(json_schema(), indent=1) + "\n"


def _environment(name: str | None) -> list[Entry]:
    from ckconv_sweep.config.environment import GIVEN, READ

    given = {n: f"Given to `--on-best` and `--on-finish`: {text}" for n, text in GIVEN.items()}
    return [Entry(name=n, facts={}, text=text) for n, text in (*READ.items(), *given.items())]


def _exit_codes(name: str | None) -> list[Entry]:
    from ckconv_sweep.errors import exit_codes

    return [
        Entry(name=str(code), facts={}, text=" ".join(meanings))
        for code, meanings in exit_codes().items()
    ]


_WITHOUT_NAMES = ("schema", "environment", "exit-codes")


def _in_a_line(text: str | None) -> str:
    return " ".join((text or "").split())


SUBJECTS: dict[str, tuple[str, Callable[[str | None], list[Entry] | str]]] = {
    "data": ("the datasets, and the settings of each", _rows("data")),
    "models": ("architectures, kernel nets and their parts", _rows("model")),
    "spaces": ("the bundled search spaces", _files("search_spaces")),
    "trials": ("the bundled trials, with the published settings", _files("trials")),
    "settings": ("every setting: type, bounds, default, meaning", _settings),
    "schema": ("a JSON Schema of trials and spaces, for editors", _schema),
    "environment": ("the variables that are read, or given to commands", _environment),
    "exit-codes": ("what each exit code means", _exit_codes),
}


def _paths() -> list[str]:
    """What a setting is called, or a block of them: in full and in short."""
    from ckconv_sweep.config.reference import all_settings
    from ckconv_sweep.config.settings import short_names

    paths = [setting.path.removesuffix(".name") for setting in all_settings()]
    blocks = [path.rpartition(".")[0] for path in paths if "." in path]
    return list(dict.fromkeys([*blocks, *paths, *short_names(dict.fromkeys(paths)).values()]))


def _names(subject: str | None) -> list[str]:
    """What `show SUBJECT` can be followed by."""
    if subject not in SUBJECTS or subject in _WITHOUT_NAMES:
        return []
    if subject == "settings":
        return _paths()
    found = SUBJECTS[subject][1](None)
    return [] if isinstance(found, str) else [entry.name for entry in found]
