"""A few steps of a trial, to know what it needs: memory, and the time of an epoch."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import statistics
import sys
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data import fetch
from ckconv_sweep.data.datasets import load
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import CkconvSweepError, ConfigError, TrialFailed
from ckconv_sweep.models.parameters import parameters_of
from ckconv_sweep.training.allocator import keep_pages
from ckconv_sweep.training.evaluation import BATCH, BATCH_STEPS
from ckconv_sweep.training.graphs import LEAST_REPEATED, WARM_UP
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.pack import Outcomes, Pack
from ckconv_sweep.training.room import out_of_memory_named

STEPS = 6
"""Steps of the optimiser in each of the short epochs that are timed."""
EPOCHS = 3
"""Of them the first warms up."""
SECONDS = 20.0
"""After so long no other epoch is begun."""


@dataclass(frozen=True)
class Tried:
    """What a trial needs."""

    steps: int
    """Of the optimiser, in an epoch."""
    epoch_seconds: float
    """All of these, and the scoring of the validation split."""
    memory: int
    """Bytes that the process had at most, with PyTorch and the data."""
    device_memory: int
    """Bytes that PyTorch had of the GPU at most; 0 on a CPU."""


def try_out(trial: Trial, task: SequenceTask, device: str) -> Tried:
    """Train a trial for a few steps, and score it on a batch, as a sweep does it.

    Raises:
        OutOfMemory: there is no room.
        NonFiniteLoss: a loss is not a number.
    """
    size, where = trial.training.batch_size, torch.device(device)
    on_gpu = where.type == "cuda"
    # All of the data lies there while a trial is trained.
    train, validation = task.train.to(where), task.validation.to(where)
    batch = max(1, min(BATCH, BATCH_STEPS // validation.inputs.shape[-1]))
    few = replace(task, train=train.first(STEPS * size), validation=validation.first(2 * batch))
    steps = math.ceil(len(train) / size)
    # Long enough to be recorded where the trial itself is.
    recorded = steps * trial.training.epochs >= WARM_UP + LEAST_REPEATED
    epochs = WARM_UP + LEAST_REPEATED if recorded else EPOCHS + 1
    training = trial.training.model_copy(update={"epochs": epochs, "early_stopping_epochs": 0})
    pack = Pack(few, where)
    member = Member.open(trial.model_copy(update={"training": training}), few)
    pack.join(member)
    start, timed = time.perf_counter(), list[list[float]]()
    while len(timed) < EPOCHS and (not timed or time.perf_counter() - start < SECONDS):
        seconds, outcomes = _epoch(pack, on_gpu=on_gpu)
        if isinstance(outcome := outcomes[member], TrialFailed):
            raise outcome
        member.keep()
        timed.append(seconds)
    warm = timed[1:] or timed
    done = math.ceil(len(few.train) / size)
    step = statistics.median(s for seconds in warm for s in seconds[:done])
    score = statistics.median(s for seconds in warm for s in seconds[done:-1])
    around = statistics.median(seconds[0] + seconds[-1] for seconds in warm) - step
    epoch = steps * step + math.ceil(len(validation) / batch) * score + max(around, 0.0)
    return Tried(
        steps=steps,
        epoch_seconds=epoch,
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        device_memory=torch.cuda.max_memory_reserved() if on_gpu else 0,
    )


def _epoch(pack: Pack, *, on_gpu: bool) -> tuple[list[float], Outcomes]:
    """How long each step took, those of scoring after those of training, and what came of it."""
    # What else runs on the machine must not decide, as far as the process's own time tells.
    alone = not on_gpu and pack.members[0].trial.training.threads == 1
    clock = time.process_time if alone else time.perf_counter
    seconds = []
    while True:
        start = clock()
        outcomes = pack.step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - start)
        if outcomes is not None:
            return seconds, outcomes


def main() -> None:
    """Try trials in a process of their own, the smallest first, so that its memory is theirs.

    On standard input: `trials`, each as JSON, `data_dir` and `device`. On standard output: a line
    of JSON for each, what `Tried` has or an `error`. Data are not downloaded for it.
    """
    keep_pages()
    with contextlib.suppress(OSError):  # where memory ends, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("1000")
    given = json.load(sys.stdin)
    device = given["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    data_dir = Path(given["data_dir"]) if given["data_dir"] else None
    tasks: dict[Any, SequenceTask] = {}
    for text in given["trials"]:
        trial = Trial.model_validate_json(text)
        answer: dict[str, Any] = {"device": device}
        try:
            if trial.data not in tasks:
                tasks.clear()
                with fetch.offline():
                    tasks[trial.data] = load(trial.data, data_dir)
        except ConfigError as error:
            sys.stdout.write(f"{json.dumps({'absent': error.message})}\n")
            return
        try:
            answer["parameters"] = parameters_of(trial, data_dir)
            with out_of_memory_named():
                answer |= asdict(try_out(trial, tasks[trial.data], device))
        except CkconvSweepError as error:
            answer["error"] = error.message
        except Exception as error:
            answer["error"] = traceback.format_exception_only(error)[-1].strip()
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
