"""From a file and `--set` options to a trial or a space."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Annotated, Any

from ckconv_sweep.config import bundled, documents
from ckconv_sweep.config.build import annotation_at, blocks, build, paths, short, type_of
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.first import BASE, with_base, with_first
from ckconv_sweep.config.overlaps import check_change, check_set_once
from ckconv_sweep.config.sampling import SAMPLERS, Sampler, Tpe
from ckconv_sweep.config.segments import SEGMENTS, Segments, earlier_segments
from ckconv_sweep.config.settings import Settings
from ckconv_sweep.config.space import Space, space_from
from ckconv_sweep.config.space_file import SpaceFile
from ckconv_sweep.config.stopping import RULES, NoScheduler, StoppingRule
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError, nearest_or_all

log = logging.getLogger(__name__)

_OF_THE_SPACE = ("sampler", "scheduler", "budget")


NOTES = {"$schema", "description"}
"""What a file may have at its top for an editor and for people. It changes nothing."""


def read_trial(given: str, changes: Sequence[str] = ()) -> Trial:
    """A trial, by file or bundled name, with `--set` changes.

    Raises:
        ConfigError: the file or a change is wrong.
    """
    return build(Trial, _changed(_as_trial(_document(bundled.locate(given, "trials"))), changes))


def read_segments(given: str, changes: Sequence[str] = ()) -> tuple[Trial, Segments]:
    """A trial, and the segments before its own in which its settings were others; none of most.

    Raises:
        ConfigError: as `read_trial`; or there are segments and changes.
    """
    return _in_segments(_document(bundled.locate(given, "trials")), changes)


def trial_from(
    tree: dict[str, Any],
    where: str,
    changes: Sequence[str] = (),
    places: Mapping[documents.Key, str] = MappingProxyType({}),
) -> Trial:
    """A trial of plain values, with `--set` changes. `places`: of values that are not from `where`.
    Raises as `read_trial`."""
    return build(Trial, _changed(Document(where, tree, dict(places)), changes))


def read_space(given: str, changes: Sequence[str] = ()) -> Space:
    """A space, by file or bundled name. A change of `sampler.*`, `scheduler.*` or `budget.*` is
    one of the space; any other is one of its base trial.

    Raises:
        ConfigError: the file, its base trial or a change is wrong.
    """
    path = bundled.locate(given, "search_spaces")
    return _space(_document(path), _folder(path), changes)


def parse_space(text: str, name: str) -> Space:
    """A space that a sweep wrote down, with its base trial inside. Raises as `read_space`."""
    # It was small enough when a person had written it, without every default.
    return _space(documents.parse(text, name, max_values=2 * documents.MAX_VALUES), None, ())


def read_file(given: str, changes: Sequence[str] = ()) -> Space | Trial:
    """A space or a trial, by file or bundled name, whichever it is. Raises as `read_space`."""
    path = bundled.locate(given, "search_spaces", "trials")
    document = _document(path)
    if isinstance(document.value, dict) and {"search", "trial"} & document.value.keys():
        return _space(document, _folder(path), changes)
    return _in_segments(document, changes)[0]


def _in_segments(document: Document, changes: Sequence[str]) -> tuple[Trial, Segments]:
    document = _as_trial(document, segments=True)
    if document.value.get(SEGMENTS) and changes:
        raise ConfigError(
            f"{document.name} is trained in segments, and only as it is",
            where=f"--set {changes[0]}",
            hint=f"edit a copy of it, or remove {SEGMENTS} there",
        )
    value = {name: part for name, part in document.value.items() if name != SEGMENTS}
    trial = build(Trial, _changed(replace(document, value=value), changes))
    return trial, earlier_segments(document, trial)


def _document(path: Path) -> Document:
    log.debug("reading %s", path)
    return documents.read(path, bundled.shown(path))


def _without_notes(document: Document) -> Document:
    if not isinstance(document.value, dict):
        return document
    for name in NOTES & document.value.keys():
        if not isinstance(text := document.value[name], str):
            raise ConfigError(
                f"{name}: expected a text, got {short(text)}", where=document.where((name,))
            )
    value = {name: part for name, part in document.value.items() if name not in NOTES}
    return replace(document, value=value)


def _typed(document: Document) -> str:
    """The file as an argument of a command."""
    return "-" if document.name == bundled.shown("-") else quote(document.name)


def _folder(path: Path) -> Path:
    """Where the base trial of a space is looked for."""
    return Path() if bundled.is_stream(path) else path.parent


def _space(document: Document, folder: Path | None, changes: Sequence[str]) -> Space:
    document = _without_notes(document)
    if not isinstance(document.value, dict):
        raise ConfigError("a space must be a block of settings", where=document.where())
    if not {"search", "trial"} & document.value.keys() and "data" in document.value:
        raise ConfigError(
            "this is a trial, not a search space",
            where=document.name,
            hint=f"train it: ckconv-sweep train {_typed(document)}",
        )
    of_space = [c for c in changes if c.split("=")[0].split(".")[0].strip() in _OF_THE_SPACE]
    of_trial = [c for c in changes if c not in of_space]
    file = build(SpaceFile, _changed(document, of_space, SpaceFile))
    if isinstance(file.trial, str):
        if folder is None:
            raise ConfigError(
                "trial: the base trial must stand here in full", where=document.where(("trial",))
            )
        base = _trial_document(file.trial, folder, document, ("trial",))
    else:
        base = _without_notes(document.below("trial"))
    metric = _primary_metric(file, document)
    if metric:
        if folder is not None and isinstance(file.trial, dict) and "metric" in base.value:
            raise _set_twice(document, metric, ("trial", "metric"))
        base = _judged_by(base, document.below(*metric))
    base = _changed(base, of_trial)
    trial = build(Trial, base)
    space = space_from(file, trial, _further(file.metrics, trial, document), document)
    check_set_once(space, document)
    for change in of_trial:
        key, value = _read_change(change)
        check_change(space, key, value, f"--set {change}", document)
    if file.first is None:
        return with_base(space)
    trials = [
        _first_trial(_without(entry, space.variables), ("first", i), base, document, folder)
        for i, entry in enumerate(file.first)
    ]
    return with_first(space, trials, lambda i: document.where(("first", i)), file.first)


def _without(entry: str | dict[str, Any], names: Iterable[str]) -> str | dict[str, Any]:
    if isinstance(entry, str):
        return entry
    return {path: value for path, value in entry.items() if path not in names}


def _first_trial(
    entry: str | dict[str, Any], place: Key, base: Document, document: Document, folder: Path | None
) -> Trial:
    """What an entry of `first` stands for."""
    if entry == BASE:
        return build(Trial, base)
    if isinstance(entry, str):
        if folder is None:
            raise ConfigError("first: the settings must stand here", where=document.where(place))
        return build(Trial, _trial_document(entry, folder, document, place))
    changes = [
        (tuple(path.split(".")), value, document.where((*place, path)))
        for path, value in sorted(entry.items(), key=lambda item: not item[0].endswith(".name"))
    ]
    return build(Trial, _with(base, changes, Trial))


def _primary_metric(file: SpaceFile, document: Document) -> Key:
    """Where the space's file says what its trials are judged by; empty where only the base trial
    does."""
    if "metrics" not in document.value:
        return ("metric",) if file.metric else ()
    if file.metric:
        raise _set_twice(document, ("metric",), ("metrics",))
    if not file.metrics:
        raise ConfigError(
            "metrics: at least one metric must stand here", where=document.where(("metrics",))
        )
    return "metrics", 0


def _further(metrics: list[Metric], trial: Trial, document: Document) -> tuple[Metric, ...]:
    """All but the first, which is the trial's."""
    names = [trial.metric.name]
    for i, metric in enumerate(metrics[1:], start=1):
        place: Key = ("metrics", i)
        if metric.name in names:
            raise ConfigError(
                f"metrics: {metric.name} is named twice",
                where=document.where((*place, "name")),
                hint="remove one of the two",
            )
        if "at" in metric.model_fields_set:
            raise ConfigError(
                "metrics: only the first metric has `at`: it chooses the epoch at which all are "
                "read",
                where=document.where((*place, "at")),
                hint="remove it here",
            )
        names.append(metric.name)
    return tuple(metrics[1:])


def _set_twice(document: Document, here: Key, there: Key) -> ConfigError:
    return ConfigError(
        f"metric is set in two places, here and at {document.where(there)}",
        where=document.where(here),
        hint="remove one of the two",
    )


def _judged_by(base: Document, metric: Document) -> Document:
    """The base trial with the space's metric in place of its own."""
    places = {k: v for k, v in base.places.items() if k[:1] != ("metric",)}
    places |= {("metric", *k): where for k, where in metric.places.items()}
    return Document(base.name, base.value | {"metric": metric.value}, places)


def _trial_document(given: str, folder: Path, space: Document, place: Key) -> Document:
    """A trial that a space names at `place`: a file beside it, or a bundled one."""
    path = folder / given
    if os.path.isfile(path):
        return _as_trial(_document(path))
    if given in bundled.names("trials"):
        return _as_trial(_document(bundled.folder("trials") / f"{given}.yaml"))
    kind = "base trial" if place == ("trial",) else "trial"
    raise ConfigError(
        f"{place[0]}: there is no {kind} {given!r}",
        where=space.where(place),
        hint=f"looked at {path}; bundled trials: {', '.join(bundled.names('trials'))}",
    )


def _as_trial(document: Document, *, segments: bool = False) -> Document:
    """Without notes. Raises ConfigError where it cannot be a trial's, or, unless they are allowed,
    has segments."""
    document = _without_notes(document)
    if not isinstance(document.value, dict):
        raise ConfigError("a trial must be a block of settings", where=document.where())
    if "search" in document.value:
        raise ConfigError(
            "this is a search space, not a trial",
            where=document.name,
            hint=f"launch it: ckconv-sweep launch {_typed(document)}",
        )
    if SEGMENTS in document.value and not segments:
        raise ConfigError(
            f"{SEGMENTS}: the settings of this trial changed while it was trained; here they must "
            "be the same in all its epochs",
            where=document.where((SEGMENTS,)),
            hint=f"train it: ckconv-sweep train {_typed(document)}; or remove {SEGMENTS}",
        )
    return document


def _changed(
    document: Document, changes: Sequence[str], kind: type[Trial] | type[SpaceFile] = Trial
) -> Document:
    """The document with `--set` changes put in."""
    return _with(document, [(*_read_change(c), f"--set {c}") for c in changes], kind)


def _with(
    document: Document,
    changes: Iterable[tuple[Key, Any, str]],
    kind: type[Trial] | type[SpaceFile],
) -> Document:
    """The document with settings changed: of each its place, its new value, and where that
    stands."""
    value, places = document.value, dict(document.places)
    for key, new, where in changes:
        value = _with_default_block(kind, value, key)
        of_several = key[-1] == "name" and len(blocks(annotation_at(kind, value, key[:-1]))) > 1
        if annotation_at(kind, value, key) is None and not of_several:
            raise ConfigError(
                f"no setting is called {'.'.join(map(str, key))!r}",
                where=where,
                hint=nearest_or_all(".".join(map(str, key)), paths(kind, value)),
            )
        value = _put(value, key, new)
        if key[-1] == "name":
            value = _drop_settings_of_another_block(kind, value, key[:-1])
        places[key] = where
    return Document(document.name, value, places)


def _read_change(change: str) -> tuple[tuple[str, ...], Any]:
    where = f"--set {change}"
    path, equals, text = change.partition("=")
    key = tuple(path.strip().split("."))
    if not equals or not all(key):
        raise ConfigError("a change is written key=value, as in model.dropout=0.1", where=where)
    return key, documents.parse(text, where).value


class _Chosen(Settings):
    scheduler: Annotated[StoppingRule, RULES] = NoScheduler()
    sampler: Annotated[Sampler, SAMPLERS] = Tpe()


def read_rule(given: str | Mapping[str, Any] | StoppingRule, where: str) -> StoppingRule:
    """A stopping rule by its name, or with settings as in `{name: asha, grace_epochs: 3}`, as text
    or as a dict. `where`: the option that gives it.

    Raises:
        ConfigError: there is no such rule, or a setting is wrong.
    """
    if isinstance(given, StoppingRule):
        return given
    return _read_chosen("scheduler", given, where).scheduler


def read_sampler(given: str | Mapping[str, Any] | Sampler, where: str) -> Sampler:
    """A sampler, as `read_rule` reads a rule."""
    return given if isinstance(given, Sampler) else _read_chosen("sampler", given, where).sampler


def _read_chosen(kind: str, given: str | Mapping[str, Any], where: str) -> _Chosen:
    value = documents.parse(given, where).value if isinstance(given, str) else given
    if not isinstance(value, (str, Mapping)):
        raise ConfigError(
            f"expected a {kind}, got {short(value)}",
            where=where,
            hint="write its name, or with settings {name: NAME, SETTING: VALUE}",
        )
    chosen = {"name": value} if isinstance(value, str) else value
    return build(_Chosen, Document(where, {kind: chosen}))


def changes_by_path(changes: Iterable[str]) -> dict[str, Any]:
    """What `--set` options say, by path. Raises ConfigError if one cannot be read."""
    return {".".join(key): value for key, value in map(_read_change, changes)}


def _with_default_block(kind: type[Trial] | type[SpaceFile], tree: Any, key: Key) -> Any:
    """`--set optimizer.learning_rate=0.1` changes Adam where no optimizer is written."""
    field = kind.model_fields.get(str(key[0]))
    if len(key) == 1 or field is None or key[0] in tree or len(blocks(type_of(field))) < 2:
        return tree
    return _put(tree, key[:1], {"name": field.default.name})


def _put(tree: Any, key: Key, new: Any) -> Any:
    """A copy of the tree with one value changed."""
    if not key:
        return new
    tree = tree if isinstance(tree, dict) else {}
    return tree | {key[0]: _put(tree.get(key[0]), key[1:], new)}


def _drop_settings_of_another_block(
    kind: type[Trial] | type[SpaceFile], tree: Any, key: Key
) -> Any:
    """`--set schedule.name=cosine` must not fail over the patience of the plateau before it."""
    options = blocks(annotation_at(kind, tree, key))
    block = tree
    for word in key:
        block = block[word]
    chosen = options.get(block["name"]) if isinstance(block["name"], str) else None
    if len(options) < 2 or chosen is None:
        return tree
    return _put(tree, key, {k: v for k, v in block.items() if k in chosen.model_fields})
