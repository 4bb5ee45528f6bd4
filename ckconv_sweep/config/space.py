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
from typing import Annotated, Any

from pydantic import Field

from ckconv_sweep.config import documents
from ckconv_sweep.config.build import NUMBERS, annotation_at, blocks, build, paths, type_name
from ckconv_sweep.config.constraints import PARAMETERS, Constraint, goal_of, read_constraint
from ckconv_sweep.config.documents import Document, Key
from ckconv_sweep.config.domains import (
    Blocks,
    Choices,
    Domain,
    Interval,
    Scalar,
    corners,
    count,
    extremes,
    put,
    read_domain,
)
from ckconv_sweep.config.first import settings_of
from ckconv_sweep.config.grid import grid_size
from ckconv_sweep.config.sampling import SAMPLERS, Sampler, Tpe
from ckconv_sweep.config.settings import Positive, Settings
from ckconv_sweep.config.stopping import RULES, NoScheduler, StoppingRule
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError

MAX_GRID = 1_000_000
"""A grid of more points is refused: it is kept in memory, and would never be walked to its end."""


class Budget(Settings):
    trials: Positive
    """Number of trials; draws that were rejected do not count."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours for which the sweep runs, all its sessions together; null: without end."""
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours of GPUs that its trials use in all their recorded epochs; of a part of a GPU that part
    of an hour. null: without end."""
    goal: str | None = None
    """A bound such as `val/accuracy >= 0.99`; once a completed trial reaches it nothing new is
    tried. null: none."""


class SpaceFile(Settings):
    """A space as it is written."""

    trial: str | dict[str, Any]
    """The base trial: a file beside this one, a bundled one's name, or its settings themselves.
    What is not searched keeps its value."""
    search: dict[str, Any]
    """What is searched: settings by their paths, each with a range, choices, or whole blocks."""
    budget: Budget
    """When the sweep is done."""
    metric: Metric | None = None
    """What the trials are judged by, in place of the base trial's metric. The short form of
    `metrics` with one."""
    metrics: list[Metric] = Field(default_factory=list)
    """Several metrics. The first one ranks and stops trials and chooses the epoch at which all are
    read."""
    first: list[str | dict[str, Any]] | None = None
    """What is tried before the sampler draws: `base`, the base trial's own settings; changes of
    them, as in {model.kernel.omega_0: 31.09}; a trial's file. null: the base trial's own settings
    if the space has them, but for a grid."""
    warm_start: list[str] = Field(default_factory=list)
    """Earlier sweeps of the same folder, whose completed and pruned trials the sampler learns from
    as far as they are points of this space, on the same data and with the same metrics."""
    constraints: list[str] = Field(default_factory=list)
    """Bounds such as `model.parameters <= 100_000`; draws that violate one are drawn anew."""
    sampler: Annotated[Sampler, SAMPLERS] = Tpe()
    """How the settings of the next trial are drawn."""
    scheduler: Annotated[StoppingRule, RULES] = NoScheduler()
    """Which trials are stopped before their end."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """A space, checked: every combination that it can draw is a trial."""

    trial: Trial
    search: Mapping[str, Domain]
    budget: Budget
    constraints: tuple[Constraint, ...]
    sampler: Sampler
    scheduler: StoppingRule
    further: tuple[Metric, ...] = ()
    """Metrics that count beside the base trial's. They choose no epoch."""
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
    def goal(self) -> Constraint | None:
        """The bound on a metric that ends the sweep once a completed trial keeps it."""
        return None if self.budget.goal is None else goal_of(self, "budget.goal")

    @property
    def beside(self) -> str:
        """The further metrics, to follow the primary one in a sentence; empty without any."""
        told = [f"{metric.name} ({metric.better_is} is better)" for metric in self.further]
        return f", with {' and '.join(told)} at that epoch" if told else ""

    def written(self) -> dict[str, Any]:
        """As plain values, the base trial in full; `space_from` reads it back equal."""
        trial = self.trial.model_dump(mode="json")
        metrics = {}
        if self.further:
            others = [m.model_dump(mode="json", exclude={"at"}) for m in self.further]
            metrics = {"metrics": [trial.pop("metric"), *others]}
        return {
            "trial": trial,
            **metrics,
            "search": {path: domain.written() for path, domain in self.search.items()},
            "first": [settings_of(self, params) for params in self.first],
            **({"warm_start": list(self.warm_start)} if self.warm_start else {}),
            "constraints": [str(constraint) for constraint in self.constraints],
            "sampler": self.sampler.model_dump(mode="json"),
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
        return out

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
        return params

    def resolve(self, params: Mapping[str, Any], number: int = 0) -> Trial:
        """The trial that a study's parameters stand for. Its seed is the base trial's plus its
        number, unless the seed itself is searched.

        Raises:
            ConfigError: the parameters are not of this space, or not those of a trial.
        """
        return build(Trial, Document("the space", self.tree(params, number)))

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
            drawn: dict[str, Any] = {
                name: params[f"{path}.{label}.{name}"] for name in block.search
            }
            # What names a block inside this one comes first: its settings are put into it.
            inner = sorted(
                {**block.fixed, **drawn}.items(), key=lambda i: not i[0].endswith(".name")
            )
            for name, value in inner:
                place = (*key, *name.split("."))
                if place[-1] == "name":
                    _put_block(tree, place[:-1], value)
                else:
                    put(tree, place, value)
        return tree


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
    known = [*_numbers(trial, search), PARAMETERS] if file.constraints else []
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
        further=further,
        warm_start=tuple(dict.fromkeys(file.warm_start)),
    )
    _check_every_end(space, document)
    _check_grid(space, document)
    if file.budget.goal is not None:
        goal_of(space, document.where(("budget", "goal")))
    return space


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
            where = error.where or document.where(place)
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
    return out


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


def _check_grid(space: Space, document: Document) -> None:
    size = grid_size(space)
    if size is None:
        return
    for path, domain in space.search.items():
        place: Key = ("search", path)
        if not isinstance(domain, Blocks):
            _check_counted(path, domain, place, document)
            continue
        for label, block in domain.options.items():
            for key, inner in block.search.items():
                name = f"{path}.{label}.{key}"
                _check_counted(name, inner, (*place, "choices", label, key), document)
    if size > MAX_GRID:
        raise ConfigError(
            f"search: a grid of more than {MAX_GRID:,} points is refused",
            where=document.where(("search",)),
            hint="take larger steps or fewer choices, or another sampler",
        )


def _check_counted(name: str, domain: Interval | Choices, place: Key, document: Document) -> None:
    if count(domain) is None:
        raise ConfigError(
            f"search: {name}: a grid needs steps here",
            where=document.where(place),
            hint="write {low: 0, high: 1, step: 0.1} or {choices: [0.1, 1.0]}, or take another "
            "sampler",
        )
