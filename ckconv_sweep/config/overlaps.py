"""Each setting of a space is set in one place: otherwise one value would be drawn, recorded and
ranked, and another one trained.

A value of the base trial is no second place, since a search is there to change it. Below a choice
among blocks a setting may be searched outside, as long as no block sets it too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ckconv_sweep.config.build import annotation_at, blocks
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import Block, Blocks, put
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A place of a space's file that sets something."""

    at: Key
    """`("search", path)`, `("search", path, "choices", label, key)` or `("derived", path)`."""
    setting: Key
    """What it sets. A choice among blocks sets the whole block."""
    is_choice: bool = False

    @property
    def path(self) -> str:
        """What is searched or computed, as the file names it."""
        return str(self.at[1])


def check_set_once(space: Space, document: Document) -> None:
    """Raises ConfigError, naming both lines, where two places of a space set one setting."""
    for one, other in _overlaps(space):
        raise ConfigError(
            f"{other.at[0]}: {_dotted(other.setting)} is set in two places, here and at "
            f"{document.where(one.at)}",
            where=document.where(other.at),
            hint="remove one of the two",
        )
    for path, outer, label in _absent(space):
        raise ConfigError(
            f"search: {path} is searched, but the block {label!r} of {outer}, at "
            f"{document.where(('search', outer, 'choices', label))}, has no such setting",
            where=document.where(("search", path)),
            hint=f"remove that block, or search inside the blocks of {outer} that have it",
        )


def check_change(space: Space, key: Key, value: Any, where: str, document: Document) -> None:
    """Raises ConfigError where a `--set` change of the base trial would have no effect, because the
    space sets the same setting or replaces its block."""
    names = [_dotted(key)] if not isinstance(value, dict) else flat(value, f"{_dotted(key)}.")
    for name in names:
        setting = _key(name)
        for place in _places(space):
            whole = (*place.setting, "name") if place.is_choice else place.setting
            if setting[: len(whole)] == whole:
                there = document.where(place.at)
                raise _without_effect(f"{name} is set by the search, at {there}", where)
        for path, domain in space.search.items():
            if not isinstance(domain, Blocks) or not (rest := _below(setting, _key(path))):
                continue
            if not any(_has(space, path, block, rest) for block in domain.options.values()):
                there = document.where(("search", path))
                raise _without_effect(
                    f"no block of {path} at {there} has the setting {_dotted(rest)}", where
                )


def _without_effect(reason: str, where: str) -> ConfigError:
    return ConfigError(
        f"{reason}, so this value would have no effect",
        where=where,
        hint="edit the space there, or choose another setting",
    )


def _places(space: Space) -> Iterator[_Place]:
    for path, domain in space.search.items():
        at: Key = ("search", path)
        yield _Place(at=at, setting=_key(path), is_choice=isinstance(domain, Blocks))
        if isinstance(domain, Blocks):
            for label, block in domain.options.items():
                for key in (*block.fixed, *block.search):
                    setting = _key(f"{path}.{key}")
                    yield _Place(at=(*at, "choices", label, key), setting=setting)
    for path in space.derived:
        yield _Place(at=("derived", path), setting=_key(path))


def _overlaps(space: Space) -> Iterator[tuple[_Place, _Place]]:
    """Pairs of places that set one setting, or one the block in which the other sets something."""
    # One for each entry of the file: the labels of one exclude each other.
    of_setting: dict[Key, dict[Key, _Place]] = {}
    for place in _places(space):
        of_setting.setdefault(place.setting, {}).setdefault(place.at[:2], place)
    seen: set[tuple[Key, frozenset[Key]]] = set()
    for place in _places(space):
        for end in range(1, len(place.setting) + 1):
            for entry, outer in of_setting.get(place.setting[:end], {}).items():
                # Around a setting that is searched outside, a choice of blocks sets only the rest.
                around = outer.is_choice and _key(place.path)[:end] == outer.setting
                pair = (place.setting, frozenset((entry, place.at[:2])))
                if entry != place.at[:2] and not around and pair not in seen:
                    seen.add(pair)
                    yield outer, place


def _absent(space: Space) -> Iterator[tuple[str, str, str]]:
    """Searched blocks below a choice of blocks, one of which has no such block: path, that of the
    choice, label."""
    for path, domain in space.search.items():
        for outer, choice in space.search.items():
            rest = _below(_key(path), _key(outer))
            if isinstance(domain, Blocks) and isinstance(choice, Blocks) and rest:
                for label, block in choice.options.items():
                    if not _has(space, outer, block, rest):
                        yield path, outer, label


def _has(space: Space, path: str, block: Block, rest: Key) -> bool:
    """Whether a block, put over the base trial's, has the setting."""
    base = space.trial.model_dump()
    option = blocks(annotation_at(Trial, base, _key(path))).get(block.name)
    tree: Any = base
    for word in _key(path):
        tree = tree.get(word) if isinstance(tree, dict) else None
    tree = copy.deepcopy(tree) if isinstance(tree, dict) else {}
    for key, value in block.fixed.items():
        put(tree, _key(key), value)
    return option is None or annotation_at(option, tree, rest) is not None


def _below(key: Key, outer: Key) -> Key:
    """The part of a key below another one; empty where it is not below it."""
    return key[len(outer) :] if key[: len(outer)] == outer else ()


def _key(path: str) -> Key:
    return tuple(path.split("."))


def _dotted(key: Key) -> str:
    return ".".join(map(str, key))
