"""A space: a base trial, what to search around it, and how long.

A searched setting is a parameter of the study, named by its path. A choice among whole blocks is
one parameter with the block's path, and the block's own searched settings are parameters below it
that exist only where it is chosen: `schedule` = `plateau`, then `schedule.plateau.patience`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ckconv_sweep.config import documents
from ckconv_sweep.config.arithmetic import Expression
from ckconv_sweep.config.build import NUMBERS, annotation_at, blocks, build, paths, type_name
from ckconv_sweep.config.changeable import check_changeable
from ckconv_sweep.config.constraints import Bound, Constraint, goal_of, read_constraint
from ckconv_sweep.config.data import HeldOut
from ckconv_sweep.config.derived import check_used, put_derived, read_derived, read_variables
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import (
    Blocks,
    Choices,
    Domain,
    Interval,
    Scalar,
    corners,
    extremes,
    put,
)
from ckconv_sweep.config.first import settings_of
from ckconv_sweep.config.grid import check_grid
from ckconv_sweep.config.metrics import PARAMETERS
from ckconv_sweep.config.ranges import read_domain
from ckconv_sweep.config.sampling import Sampler
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space_file import Budget, Repeats, SpaceFile
from ckconv_sweep.config.stopping import StoppingRule
from ckconv_sweep.config.suitable import check_sampler, taken
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Space:
    """A space, checked: every combination that it can draw is a trial."""

    trial: Trial
    search: Mapping[str, Domain]
    budget: Budget
    constraints: tuple[Constraint, ...]
    sampler: Sampler
    scheduler: StoppingRule
    repeats: Repeats | None = None
    further: tuple[Metric, ...] = ()
    """Metrics that count beside the base trial's. They choose no epoch."""
    variables: Mapping[str, Interval | Choices] = field(default_factory=dict)
    """What is searched beside settings."""
    derived: Mapping[str, Expression] = field(default_factory=dict)
    """The settings that are computed."""
    first: tuple[Mapping[str, Scalar], ...] = ()
    """The parameters of trials that are tried before the sampler draws."""
    asks_for_first: bool = field(default=False, compare=False)
    """Whether a file names them."""
    why_not_base: str = field(default="", compare=False)
    """Why the base trial's own settings are not among them, where a file leaves that open."""
    warm_start: tuple[str, ...] = ()
    """The earlier sweeps whose trials the sampler is shown, too."""

    @property
    def metric(self) -> Metric:
        """The primary one: it ranks the trials, and chooses of each the epoch that counts."""
        return self.trial.metric

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The primary one, then those that are read at the epoch that it chooses."""
        return (self.metric, *self.further)

    @functools.cached_property
    def goal(self) -> Bound | None:
        """The bound on a metric that ends the sweep once a completed trial keeps it."""
        return None if self.budget.goal is None else goal_of(self, "budget.goal")

    @property
    def all_repeated(self) -> bool:
        """Whether each setting is trained several times at once."""
        return self.repeats is not None and self.repeats.top is None

    @property
    def beside(self) -> str:
        """The further metrics, to follow the primary one in a sentence; empty without any."""
        told = [f"{metric.name} ({metric.better_is} is better)" for metric in self.further]
        return f", with {' and '.join(told)} at that epoch" if told else ""

    def written(self) -> dict[str, Any]:
        """As plain values, the base trial in full; `space_from` reads it back equal."""
        trial = self.trial.model_dump(mode="json")
        metrics, derived = {}, {}
        if self.further:
            others = [m.model_dump(mode="json", exclude={"at"}) for m in self.further]
            metrics = {"metrics": [trial.pop("metric"), *others]}
        if self.derived:
            derived = {
                "variables": {name: domain.written() for name, domain in self.variables.items()},
                "derived": {path: str(expression) for path, expression in self.derived.items()},
            }
        return {
            "trial": trial,
            **metrics,
            "search": {path: domain.written() for path, domain in self.search.items()},
            **derived,
            "first": [settings_of(self, params) for params in self.first],
            **({} if self.repeats is None else {"repeats": self.repeats.model_dump(mode="json")}),
            **({"warm_start": list(self.warm_start)} if self.warm_start else {}),
            "constraints": [str(constraint) for constraint in self.constraints],
            "sampler": self.sampler.written(),
            "scheduler": self.scheduler.model_dump(mode="json"),
            "budget": self.budget.model_dump(mode="json", exclude_none=True),
        }

    def to_yaml(self) -> str:
        return documents.write(self.written())

    def parameters(self) -> dict[str, Interval | Choices]:
        """Every parameter that a study of this space can hold, conditional ones included."""
        out: dict[str, Interval | Choices] = {}
        for path, domain in self.search.items():
            if isinstance(domain, Blocks):
                out[path] = Choices(options=tuple(domain.options))
                for label, block in domain.options.items():
                    out |= {f"{path}.{label}.{key}": inner for key, inner in block.search.items()}
            else:
                out[path] = domain
        return out | dict(self.variables)

    def most_epochs(self) -> int:
        """How long a trial can be."""
        ends = self.parameters().get("training.epochs")
        return max(map(int, corners(ends))) if ends else self.trial.training.epochs  # type: ignore[arg-type]

    def draw(self, suggest: Callable[[str, Interval | Choices], Scalar]) -> dict[str, Scalar]:
        """Ask `suggest` for each parameter that the earlier answers make exist, in order."""
        params: dict[str, Scalar] = {}
        for path, domain in self.search.items():
            if isinstance(domain, Blocks):
                label = str(suggest(path, Choices(options=tuple(domain.options))))
                params[path] = label
                for key, inner in domain.options[label].search.items():
                    params[f"{path}.{label}.{key}"] = suggest(f"{path}.{label}.{key}", inner)
            else:
                params[path] = suggest(path, domain)
        for name, variable in self.variables.items():
            params[name] = suggest(name, variable)
        return params

    def resolve(
        self,
        params: Mapping[str, Any],
        number: int = 0,
        changes: Mapping[str, Any] = MappingProxyType({}),
    ) -> Trial:
        """The trial that a study's parameters stand for. Its seed is the base trial's plus its
        number, unless the seed itself is searched. `changes`: settings that it has beside the
        space, by path.

        Raises:
            ConfigError: the parameters are not of this space, or not those of a trial.
        """
        tree = self.tree(params, number)
        put_settings(tree, changes)
        return build(Trial, Document("the space", tree))

    def base(self, number: int, changes: Mapping[str, Any] = MappingProxyType({})) -> Trial:
        """The base trial with a trial's number and changes, as in `resolve`, whether or not the
        space has its settings. Raises ConfigError if the changes make no trial."""
        tree = self.trial.model_dump()
        tree["training"]["seed"] += number
        put_settings(tree, changes)
        return build(Trial, Document("the base trial", tree))

    def tree(self, params: Mapping[str, Any], number: int = 0) -> dict[str, Any]:
        """What `resolve` checks and makes a trial of. Raises as it does."""
        try:
            params = self.draw(lambda name, _: params[name])
        except KeyError as missing:
            raise ConfigError(
                f"these are not parameters of this space: {missing} is missing"
            ) from None
        tree = self.trial.model_dump()
        tree["training"]["seed"] += number
        for path, domain in self.search.items():
            key = tuple(path.split("."))
            if not isinstance(domain, Blocks):
                put(tree, key, params[path])
                continue
            label = str(params[path])
            block = domain.options[label]
            _put_block(tree, key, block.name)
            drawn = {name: params[f"{path}.{label}.{name}"] for name in block.search}
            inner = {**block.fixed, **drawn}
            put_settings(tree, {f"{path}.{name}": value for name, value in inner.items()})
        if self.derived:
            put_derived(tree, self.derived, {name: params[name] for name in self.variables})
        return tree

    def values_of(self, trial: Trial, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a constraint may name of a trial that parameters stand for, but for its size."""
        return flat(trial.model_dump()) | {name: params[name] for name in self.variables}


def space_from(
    file: SpaceFile, trial: Trial, further: tuple[Metric, ...], document: Document
) -> Space:
    """Check what is searched against the base trial; `further` are metrics beside its own.

    Raises:
        ConfigError: a searched setting does not exist, or a part of its range is none of its
            values; a constraint cannot be read; the data have no such metric.
    """
    if not file.search:
        raise ConfigError(
            "search: at least one setting must be searched", where=document.where(("search",))
        )
    search: dict[str, Domain] = {
        path: read_domain(path, written, trial, document) for path, written in file.search.items()
    }
    asked = file.constraints or file.variables or file.derived
    numbers = _numbers(trial, search) if asked else []
    variables = read_variables(file.variables, numbers, document)
    derived = read_derived(file.derived, numbers, list(variables), document)
    check_used(variables, derived, document)
    if file.repeats is not None and file.repeats.folds is not None:
        trial = _in_folds(trial, file.repeats.folds, document)
    known = [*numbers, *variables, PARAMETERS]
    space = Space(
        trial=trial,
        # Whole blocks first: what is searched inside one is put into the block that was chosen.
        search=dict(sorted(search.items(), key=lambda item: not isinstance(item[1], Blocks))),
        budget=file.budget,
        constraints=tuple(
            read_constraint(text, known, document.where(("constraints", i)))
            for i, text in enumerate(file.constraints)
        ),
        sampler=file.sampler,
        scheduler=file.scheduler,
        repeats=file.repeats,
        further=further,
        variables=variables,
        derived=derived,
        warm_start=tuple(dict.fromkeys(file.warm_start)),
    )
    for path in (*search, *file.derived) if file.repeats is not None else ():
        if path in ("training.seed", "data.fold", "data.folds"):
            raise ConfigError(
                f"repeats: each repeat has a {path} of its own, and it is searched",
                where=document.where(("repeats",)),
                hint="remove one of the two",
            )
    if why := space.scheduler.unfit(space.metric):
        raise ConfigError(f"scheduler: {why}", where=document.where(("scheduler",)))
    space = taken(space)
    _check_every_end(space, document)
    check_grid(space, document)
    check_sampler(space, document)
    check_changeable(space, document)
    if file.budget.goal is not None:
        goal_of(space, document.where(("budget", "goal")))
    return space


def _in_folds(trial: Trial, folds: int, document: Document) -> Trial:
    """The base trial with the first of so many folds held out."""
    if not isinstance(trial.data, HeldOut):
        raise ConfigError(
            f"repeats: {trial.data.name} has a validation split of its own",
            where=document.where(("repeats", "folds")),
            hint="repeat with seeds: {seeds: 3}",
        )
    data = trial.data.model_copy(update={"folds": folds, "fold": 0})
    return trial.model_copy(update={"data": data})


def put_settings(tree: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """By their paths. What names a block comes first: its settings are put into it."""
    for path, value in sorted(settings.items(), key=lambda i: not i[0].endswith(".name")):
        key: Key = tuple(path.split("."))
        if key[-1] == "name":
            _put_block(tree, key[:-1], value)
        else:
            put(tree, key, value)


def _put_block(tree: dict[str, Any], key: Key, name: Any) -> None:
    """Put the named block where another may be. What has the same name in both is kept."""
    options = blocks(annotation_at(Trial, tree, key))
    block: Any = tree
    for word in key:
        block = block.get(word) if isinstance(block, dict) else None
    fields = options[name].model_fields if isinstance(name, str) and name in options else {}
    kept = {k: v for k, v in (block or {}).items() if k in fields}
    put(tree, key, kept | {"name": name})


def _numbers(trial: Trial, search: Mapping[str, Domain]) -> list[str]:
    """The settings that are numbers: of the base trial, and of each block that is searched."""
    trees = [trial.model_dump()]
    for path, domain in search.items():
        for block in domain.options.values() if isinstance(domain, Blocks) else ():
            tree = trial.model_dump()
            _put_block(tree, tuple(path.split(".")), block.name)
            trees.append(tree)
    return sorted(
        {
            path
            for tree in trees
            for path in paths(Trial, tree)
            if type_name(annotation_at(Trial, tree, tuple(path.split(".")))) in NUMBERS
        }
    )


def _check_every_end(space: Space, document: Document) -> None:
    """Every choice and both ends of every range must make a trial: each with the rest at its first
    value, and each with each other one, as a rule of `Trial` ties two settings together at most.
    Mistakes are told where the range stands."""
    first = {name: corners(domain)[0] for name, domain in space.parameters().items()}
    pairs = (
        (place, one | other)
        for (_, one), (place, other) in itertools.combinations(_moves(space, extremes), 2)
        if one.keys() != other.keys()
    )
    # The bound is above what a person writes; it keeps a hostile file from taking hours.
    for place, change in itertools.chain(_moves(space, corners), itertools.islice(pairs, 5_000)):
        params = first | change
        try:
            trial = build(Trial, Document("", space.tree(params), _places(space, params, document)))
        except ConfigError as error:
            derived = ("derived", error.message.partition(":")[0])
            at = derived if derived[1] in space.derived else place
            where = error.where or document.where(at)
            raise ConfigError(f"search: {error.message}", where=where, hint=error.hint) from None
        for i, metric in enumerate(space.further, start=1):
            if why := trial.unscored(metric):
                raise ConfigError(f"metrics: {why}", where=document.where(("metrics", i, "name")))


def _places(space: Space, params: Mapping[str, Scalar], document: Document) -> dict[Key, str]:
    """Where in the space's file a setting of a drawn trial stands."""
    out: dict[Key, str] = {}
    for path, domain in space.search.items():
        key, place = tuple(path.split(".")), ("search", path)
        if not isinstance(domain, Blocks):
            out[key] = document.where(place)
            continue
        label = str(params[path])
        for name in [*domain.options[label].fixed, *domain.options[label].search]:
            out[(*key, *name.split("."))] = document.where((*place, "choices", label, name))
    return out | {tuple(p.split(".")): document.where(("derived", p)) for p in space.derived}


def _moves(
    space: Space, values: Callable[[Interval | Choices], tuple[Scalar, ...]]
) -> Iterator[tuple[Key, dict[str, Scalar]]]:
    """Each of the values of each parameter, with the block to be chosen for it to exist, and its
    place in the file."""
    for path, domain in space.search.items():
        if not isinstance(domain, Blocks):
            for value in values(domain):
                yield ("search", path), {path: value}
            continue
        for label, block in domain.options.items():
            place: Key = ("search", path, "choices", label)
            yield place, {path: label}
            for key, inner in block.search.items():
                for value in values(inner):
                    yield (*place, key), {path: label, f"{path}.{label}.{key}": value}
    for name, variable in space.variables.items():
        for value in values(variable):
            yield ("variables", name), {name: value}
