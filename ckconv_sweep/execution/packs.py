"""The processes that hold packs, while a session lasts, and how many trials each of them takes."""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.cluster import Placement, processes
from ckconv_sweep.execution.pack_host import PackHost
from ckconv_sweep.execution.protocol import Signals
from ckconv_sweep.record import versions

SPARE_CALLS = 16
"""Beside one waiting relay a place: joins and leaves."""


@dataclass(frozen=True, kw_only=True)
class Packs:
    """Actors, by name, and how many trials each of them trains at a time."""

    hosts: tuple[str, ...]
    places: int


def sized(
    placement: Placement,
    trial: Trial,
    data_dir: Path | None,
    interruption: Signals,
    say: Callable[[str], None],
    unfit: Mapping[str, str],
) -> Placement:
    """The placement with its packs' size as a number, tried out where it is to be found; None where
    packs are not worth it.

    Args:
        trial: the base trial, which is tried.
        say: is told what was measured.
        unfit: the nodes that may not train (`execution.nodes`).

    Raises:
        ConfigError: such trials cannot be trained together.
        OutOfMemory: not even one of them has room.
        ResourcesMissing: no node can hold one.
    """
    import ray

    from ckconv_sweep.training.shape import why_alone

    if placement.pack is None:
        return placement
    if alone := why_alone(trial):
        raise ConfigError(alone, where="--pack", hint="leave --pack out")
    if placement.pack != "auto":
        return placement
    processes(placement, unfit)  # a task that no node can hold would wait for ever
    answer = (
        ray.remote(_best_size)
        .options(
            num_cpus=placement.cpus_per_trial,
            num_gpus=placement.gpus_per_trial,
            label_selector=nodes.without(unfit),
        )
        .remote(trial.model_dump_json(), str(data_dir) if data_dir else None, placement)
    )
    while not ray.wait([answer], timeout=0.5)[0]:
        interruption.check()
    members, gain = ray.get(answer)
    if members == 1:
        say("packs: none, because two of these trials together are not faster here (measured)")
        return replace(placement, pack=None)
    say(f"packs of {members}: {gain:.1f} times the steps a second of one trial (measured)")
    return replace(placement, pack=members)


def _best_size(trial: str, data_dir: str | None, placement: Placement) -> tuple[int, float]:
    """Number of members, and the steps a second in those of one trial."""
    from ckconv_sweep.execution.worker import device_of, task_of
    from ckconv_sweep.training.allocator import keep_pages
    from ckconv_sweep.training.pack_size import best_size

    keep_pages()
    tried = Trial.model_validate_json(trial)
    task = task_of(tried.data, data_dir)
    device = device_of(placement.gpus_per_trial)
    if device == "cuda":
        share = min(1.0, placement.gpus_per_trial)
    else:
        share = min(1.0, placement.cpus_per_trial / (os.cpu_count() or 1))
    found = best_size(tried, task, device, share)
    return found[-1].members, found[-1].steps_a_second / found[0].steps_a_second


@contextlib.contextmanager
def started(
    placement: Placement,
    at_a_time: int,
    data_dir: Path | None,
    unfit: Mapping[str, str],
    *,
    allow_data_change: bool,
) -> Iterator[Packs | None]:
    """Hosts for the packs that a placement asks for, None where it asks for none.

    Args:
        at_a_time: how many trials are trained at a time in all of them.
        unfit: the nodes that may not train (`execution.nodes`).
        allow_data_change: also continue from checkpoints that were trained on other data.
    """
    import ray

    places = placement.pack
    if places is None:
        yield None
        return
    assert places != "auto"
    session = uuid.uuid4().hex[:8]
    actors: dict[str, Any] = {
        name: ray.remote(PackHost)
        .options(
            name=name,
            num_cpus=placement.cpus_per_trial,
            num_gpus=placement.gpus_per_trial,
            max_restarts=-1,
            max_concurrency=places + SPARE_CALLS,
            label_selector=nodes.without(unfit),
        )
        .remote(
            placement.gpus_per_trial,
            str(data_dir) if data_dir else None,
            versions.of_worker(),
            allow_data_change,
        )
        for name in (f"packs-{session}-{n}" for n in range(math.ceil(at_a_time / places)))
    }
    try:
        yield Packs(hosts=tuple(actors), places=places)
    finally:
        for actor in actors.values():
            ray.kill(actor)
