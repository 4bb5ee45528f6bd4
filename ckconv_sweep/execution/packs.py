"""How many trials of equal shapes a process trains as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.cluster import Placement
from ckconv_sweep.execution.protocol import Signals


def sized(
    placement: Placement,
    trial: Trial,
    data_dir: Path | None,
    interruption: Signals,
    say: Callable[[str], None],
    unused: Collection[str],
) -> Placement:
    """The placement with its packs' size as a number, tried out where it is to be found; None where
    packs are not worth it.

    Args:
        trial: the base trial, which is tried.
        say: is told what was measured.
        unused: the ids of nodes on which nothing may be started.

    Raises:
        ConfigError: such trials cannot be trained together.
        OutOfMemory: not even one of them has room.
    """
    import ray

    from ckconv_sweep.training.shape import why_alone

    if placement.pack is None:
        return placement
    if alone := why_alone(trial):
        raise ConfigError(alone, where="--pack", hint="leave --pack out")
    if placement.pack != "auto":
        return placement
    answer = (
        ray.remote(_best_size)
        .options(
            num_cpus=placement.cpus_per_trial,
            num_gpus=placement.gpus_per_trial,
            label_selector=nodes.without(unused),
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
