"""How many trials of one shape a device trains fastest as one: tried out, on a few batches."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import OutOfMemory, TrialFailed
from ckconv_sweep.training.evaluation import BATCH
from ckconv_sweep.training.graphs import LEAST_REPEATED, WARM_UP
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.pack import Pack, Waits

MOST_MEMBERS = 64
STEPS = 4
"""Steps of the optimiser that are timed."""
REPEATS = 3
WORTH = 1.1
"""Twice as many members must give so many times the steps a second."""
MOST_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Measured:
    """A pack of so many `members`: the steps of all of them together in a second, and the share of
    the device's memory that was in use."""

    members: int
    steps_a_second: float
    memory: float


def best_size(trial: Trial, task: SequenceTask, device: str, share: float) -> list[Measured]:
    """Packs of 1, 2, 4, ... members, as long as each is worth it; the last one is the best.

    Args:
        share: of the device that one pack may have; its memory is shared among several then.

    Raises:
        OutOfMemory: not even one member has room.
        NonFiniteLoss: the trial's first loss is not a number.
    """
    chosen: list[Measured] = []
    for measured in _measured(trial, task, device):
        if chosen and measured.steps_a_second < WORTH * chosen[-1].steps_a_second:
            break
        chosen.append(measured)
        if measured.memory > share * MOST_OF_MEMORY / 2:  # twice as many have no room
            break
    return chosen


def _measured(trial: Trial, task: SequenceTask, device: str) -> Iterator[Measured]:
    few = replace(
        task,
        train=task.train.first(STEPS * trial.training.batch_size),
        validation=task.validation.first(BATCH),  # scoring takes memory, too
    )
    steps = -(-len(few.train) // trial.training.batch_size)
    # However short the trial itself is; long enough to be recorded, where steps are.
    long_enough = {"epochs": WARM_UP + LEAST_REPEATED, "early_stopping_epochs": 0}
    # So that none of its seeds diverges.
    still = trial.optimizer.model_copy(update={"learning_rate": 0.0})
    # What else runs on the machine must not decide; a GPU's work is not in the process's time.
    clock = time.perf_counter if device == "cuda" else time.process_time
    members = 1
    while members <= MOST_MEMBERS:
        pack = Pack(few, device)
        for number in range(members):
            changes = {"seed": trial.training.seed + number, **long_enough}
            training = trial.training.model_copy(update=changes)
            tried = trial.model_copy(update={"training": training, "optimizer": still})
            pack.join(Member.open(tried, few))
        seconds = []
        for _ in range(1 + REPEATS):
            start = clock()
            outcomes = pack.epoch()
            seconds.append(clock() - start)
            if members > 1 and any(isinstance(o, (Waits, OutOfMemory)) for o in outcomes.values()):
                return
            for member, outcome in outcomes.items():
                if isinstance(outcome, TrialFailed):
                    raise outcome
                member.keep()
        best = min(seconds[1:])  # the first one warms up
        yield Measured(members, members * steps / best, _memory(device))
        members *= 2


def _memory(device: str) -> float:
    """The share of the device's memory that was in use at most."""
    if device == "cuda":
        _, total = torch.cuda.mem_get_info()
        return torch.cuda.max_memory_allocated() / total
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return used / (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
