"""One training run, from the first epoch or from a checkpoint, to its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ckconv_sweep.config.history import Epoch, Source
from ckconv_sweep.config.segments import Segments
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import TrialFailed
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.member import Member
from ckconv_sweep.training.pack import Pack

Reporter = Callable[[Epoch], None]
"""Called at the end of every epoch, in order, from the first; what it raises ends the run."""


def train(
    trial: Trial,
    task: SequenceTask,
    report: Reporter,
    *,
    folder: Path | None = None,
    device: str | torch.device = "cpu",
    warn: Callable[[str], None] = lambda message: None,
    guard: Callable[[], None] = lambda: None,
    allow_data_change: bool = False,
    source: Source | None = None,
    until: int | None = None,
) -> SequenceModel:
    """Train one trial to its end; returns the model with the weights of the epoch that counts.

    It is a pack of one. With a `folder`, each epoch is safe in a checkpoint there before it is
    reported, and a run that finds one goes on after it: the epochs before are reported again, not
    trained again. On the same CPU the numbers are those of an uninterrupted run, bit for bit. The
    number of CPU threads of this process becomes the trial's. `guard` is called before anything is
    written; what it raises ends the run. A continuation begins with its `source`, see
    `Member.open`, and reports its own epochs. `until`: the number of the last epoch, where that is
    before the trial's end; then no best weights are written.

    Raises:
        NonFiniteLoss: a loss is infinite or not a number. That epoch is not reported.
        OutOfMemory: the device or the host has no room.
        ConfigError: the checkpoint is of another trial.
        DataChanged: it was trained on other data, and that was not allowed.
        DamagedData: it is whole, but not one of a training run.
        CannotWrite: a checkpoint cannot be written.
    """
    member = Member.open(
        trial,
        task,
        folder=folder,
        warn=warn,
        guard=guard,
        allow_data_change=allow_data_change,
        source=source,
    )
    for epoch in member.own:
        report(epoch)
    pack = Pack(task, device)
    pack.join(member)
    while member.end is None and len(member.history) != until:
        outcome = pack.epoch()[member]
        if isinstance(outcome, TrialFailed):
            raise outcome
        report(member.keep())
    if member.end is not None:
        member.finish()
    return member.model().to(device)


def train_in_segments(
    segments: Segments,
    trial: Trial,
    task: SequenceTask,
    report: Reporter,
    *,
    folder: Path,
    device: str | torch.device = "cpu",
    warn: Callable[[str], None] = lambda message: None,
    allow_data_change: bool = False,
    until: int | None = None,
) -> SequenceModel:
    """`train` for a trial whose settings were others before its own epochs; with no segments it is
    the same.

    Args:
        segments: what it was before: each is trained in a folder of its own in `folder`, and the
            next one begins with its last checkpoint.
    """
    run = partial(
        train,
        task=task,
        report=report,
        device=device,
        warn=warn,
        allow_data_change=allow_data_change,
    )
    source: Source | None = None
    for number, (segment, last) in enumerate(segments, start=1):
        place = folder / f"segment-{number}"
        run(segment, folder=place, source=source, until=last)
        source = Source(path=str(checkpoint.checkpoints(place)[0][1]), epoch=last)
    return run(trial, folder=folder, source=source, until=until)
