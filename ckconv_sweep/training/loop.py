"""One training run, from the first epoch or from a checkpoint, to its end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ckconv_sweep.config.history import Epoch, best, end_reason
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.errors import ConfigError, DamagedData, NonFiniteLoss, OutOfMemory
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import Sampling, SequenceModel
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.batches import batch
from ckconv_sweep.training.evaluation import evaluate
from ckconv_sweep.training.objectives import OBJECTIVES, Tally, counted
from ckconv_sweep.training.optimizers import optimizer_of
from ckconv_sweep.training.schedules import learning_rate
from ckconv_sweep.training.seeding import DropoutMasks, generator

Reporter = Callable[[Epoch], None]
"""Called at the end of every epoch, in order, from the first; what it raises ends the run."""


@contextlib.contextmanager
def _out_of_memory_named() -> Iterator[None]:
    """PyTorch says in three ways that there is no room."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).partition("\n")[0]
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said
        ):
            raise
        raise OutOfMemory(
            said or "the host has no memory left",
            hint="a smaller training.batch_size or model takes less",
        ) from None


@_out_of_memory_named()
def train(
    trial: Trial,
    task: SequenceTask,
    report: Reporter,
    *,
    folder: Path | None = None,
    device: str | torch.device = "cpu",
    warn: Callable[[str], None] = lambda message: None,
    guard: Callable[[], None] = lambda: None,
) -> SequenceModel:
    """Train one trial to its end; returns the model with the weights of the epoch that counts.

    With a `folder`, each epoch is safe in a checkpoint there before it is reported, and a run that
    finds one goes on after it: the epochs before are reported again, not trained again. On a CPU
    the numbers are those of an uninterrupted run, bit for bit. The number of CPU threads of this
    process becomes the trial's. `guard` is called before anything is written; what it raises ends
    the run.

    Raises:
        NonFiniteLoss: a loss is infinite or not a number. That epoch is not reported.
        OutOfMemory: the device or the host has no room.
        ConfigError: the checkpoint is of another trial.
        DamagedData: it is whole, but not one of a training run.
        CannotWrite: a checkpoint cannot be written.
    """
    torch.set_num_threads(trial.training.threads)
    device = torch.device(device)
    run = _Run.first(trial, task, device)
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state, damaged = checkpoint.newest(folder)
        for message in damaged:
            warn(message)
        if state is not None:
            run.restore(state, folder)
    for epoch in run.history:
        report(epoch)

    data = task.train.to(device), task.validation.to(device)
    while end_reason(trial, run.history) is None:
        run.next_epoch(*data)
        if folder is not None:
            guard()
            checkpoint.note_in_ledger(folder, len(run.history))
            crash_point("epoch.trained")
            name = checkpoint.save(folder, len(run.history), run.state())
            run.history[-1] = replace(run.history[-1], checkpoint=name)
            crash_point("epoch.saved")
        report(run.history[-1])

    if folder is not None:
        guard()
        checkpoint.save_best(folder, trial.model_dump(mode="json"), run.best_weights)
    run.model.load_state_dict(run.best_weights)
    return run.model


@dataclass
class _Run:
    """A trial between two epochs."""

    trial: Trial
    model: SequenceModel
    optimizer: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def first(cls, trial: Trial, task: SequenceTask, device: torch.device) -> _Run:
        model = make_model(
            trial.model, task.description, generator(trial.training.seed, "init")
        ).to(device)
        return cls(trial, model, optimizer_of(model, trial.optimizer))

    def next_epoch(self, train: Split, validation: Split) -> None:
        """Train over all training sequences once, in an order that follows from seed and epoch."""
        trial, start = self.trial, time.perf_counter()
        rate = learning_rate(trial, self.history)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["learning_rate_factor"]
        number = len(self.history) + 1
        order = torch.randperm(
            len(train), generator=generator(trial.training.seed, "order", number)
        )
        batches = torch.split(order.to(train.inputs.device), trial.training.batch_size)
        tally = Tally(OBJECTIVES[trial.data.kind], train.inputs.device)
        for i, chosen in enumerate(batches):
            self._step(*batch(train, chosen), (number - 1) * len(batches) + i, tally)

        metrics = {f"train/{name}": value for name, value in tally.scores().items()}
        scores = evaluate(self.model, validation, trial.data.kind)
        metrics |= {f"val/{name}": value for name, value in scores.items()}
        metrics["train/learning_rate"] = rate
        metrics["time/epoch_seconds"] = time.perf_counter() - start
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise NonFiniteLoss(f"{name} became {value} in epoch {number}")
        self.history.append(
            Epoch(number=number, metrics=metrics, timestamp_ms=time.time_ns() // 1_000_000)
        )
        if best(self.history, trial.metric).number == number:
            self.best_weights = {k: v.clone() for k, v in self.model.state_dict().items()}

    def _step(
        self, inputs: Tensor, targets: Tensor, sampling: Sampling, step: int, tally: Tally
    ) -> None:
        """One step of the optimiser."""
        settings, objective = self.trial.training, OBJECTIVES[self.trial.data.kind]
        masks = DropoutMasks(settings.seed, step, inputs.device)
        answers, penalty = self.model.forward_with_penalty(inputs, masks, sampling)
        loss = objective.loss(answers, targets, "mean")
        total = loss + settings.kernel_penalty * penalty if settings.kernel_penalty else loss
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        tally.add(loss.detach() * counted(targets), answers.detach(), targets)

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on and that does not follow from the trial."""
        return {
            "trial": self.trial.model_dump(mode="json"),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
            "history": [
                {"number": e.number, "metrics": dict(e.metrics), "timestamp_ms": e.timestamp_ms}
                for e in self.history
            ],
        }

    def restore(self, state: dict[str, Any], folder: Path) -> None:
        if missing := {"trial", "model", "optimizer", "best_weights", "history"} - state.keys():
            raise DamagedData(
                f"the checkpoint is none of a training run: it lacks {', '.join(sorted(missing))}",
                where=str(folder),
            )
        if state["trial"] != self.trial.model_dump(mode="json"):
            raise ConfigError(
                "the checkpoint here is of a trial with other settings",
                where=str(folder),
                hint="take another folder, or delete this one",
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = next(self.model.parameters()).device
        self.best_weights = {k: v.to(device) for k, v in state["best_weights"].items()}
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        names = {number: path.name for number, path in checkpoint.checkpoints(folder)}
        self.history = [replace(e, checkpoint=names.get(e.number, "")) for e in self.history]
