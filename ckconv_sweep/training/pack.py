"""Many trials trained as one: one set of operations for all of them.

    pack = Pack(task)
    pack.join(Member.open(trial, task, folder=folder))      # as often as there is room
    for member, outcome in pack.epoch().items(): ...        # Epoch, TrialFailed or Waits
        member.keep()                                       # or pack.leave(member)

A trial's numbers are those that it has alone, on the same CPU bit for bit: nothing is summed over
trials, and every random number follows from the trial's own seed. Trials join and leave between
epochs.

Packs of several shapes go on side by side if each is asked for a step in turn, `pack.step()`. On a
GPU each has a stream of its own, and nothing is waited for before the end of an epoch.

Shapes: E members.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.metrics import scored_by
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import ConfigError, NonFiniteLoss, OutOfMemory, TrialFailed
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.precision import products_in
from ckconv_sweep.training.evaluation import evaluate_all
from ckconv_sweep.training.member import Member, Trained
from ckconv_sweep.training.room import out_of_memory_named
from ckconv_sweep.training.schedules import learning_rate
from ckconv_sweep.training.seeding import Rates
from ckconv_sweep.training.shape import why_alone, why_apart
from ckconv_sweep.training.steps import Training, train_epoch
from ckconv_sweep.training.stepwise import Stepwise
from ckconv_sweep.training.vectorized import Vectorized

__all__ = ["Member", "Pack", "Waits"]


@dataclass(frozen=True)
class Waits:
    """There was no room for the member: it is as it was, and out of the pack."""

    message: str


Outcomes = dict[Member, "Epoch | TrialFailed | Waits"]
"""What became of each member in one more epoch."""


class Pack:
    """Trials of one shape on one device. `members` are those in it, in the order in which they
    joined."""

    def __init__(self, task: SequenceTask, device: str | torch.device = "cpu") -> None:
        """Raises OutOfMemory where the device has no room for the data."""
        self.members: list[Member] = []
        self._device = torch.device(device)
        self._description = task.description
        self._prepared: tuple[list[Member], Training] | None = None
        self._running: Generator[Outcomes | None] | None = None
        self._stream = None
        with out_of_memory_named():
            if self._device.type == "cuda":
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            self.train = task.train.to(self._device)
            self.validation = task.validation.to(self._device)

    def join(self, member: Member) -> None:
        """Take a trial in, from the next epoch on. No room is taken before that.

        Raises:
            ConfigError: it cannot be trained together with those that are here.
        """
        self._check_between_epochs()
        if self.members and (apart := why_apart(self.members[0].trial, member.trial)):
            raise ConfigError(f"two trials cannot be trained as one: {apart}")
        self.members.append(member)

    def leave(self, member: Member) -> None:
        """Take a trial out, if it is here. An epoch of it that was not kept never was."""
        if member not in self.members:
            return
        self._check_between_epochs()
        self.members.remove(member)
        member.trained = self._prepared = None  # with its room on the device
        member.rows = {name: row.to("cpu") for name, row in member.rows.items()}

    def abandon(self) -> None:
        """Give up the epoch that is running, for all members: it never was."""
        if self._running is not None:
            self._running.close()
            self._running = None

    @property
    def running(self) -> bool:
        """Whether it is in the midst of an epoch."""
        return self._running is not None

    def _check_between_epochs(self) -> None:
        if self.running:
            raise RuntimeError("members come and go between epochs only")

    def epoch(self) -> Outcomes:
        """Train each member that has not ended over all its training sequences once, and score it.

        Those that have ended are taken out of the pack, and so are those that failed or must wait.
        The epoch of each other is in memory only, until it is kept (`Member.keep`) or the member
        leaves.
        """
        while (outcomes := self.step()) is None:
            pass
        return outcomes

    def step(self) -> Outcomes | None:
        """A batch of an `epoch`, to train or to score, with which the epoch begins if none is
        running; None before its end."""
        if not self.members:
            return {}
        running, self._running = self._running or self._steps(), None
        training = self.members[0].trial.training
        torch.set_num_threads(training.threads)
        with products_in(training.precision), torch.cuda.stream(self._stream):
            outcomes = next(running)
        if outcomes is None:
            self._running = running
        return outcomes

    def _steps(self) -> Generator[Outcomes | None]:
        if unkept := [member for member in self.members if member.trained is not None]:
            raise RuntimeError(f"{len(unkept)} epochs were neither kept nor left")
        for member in [member for member in self.members if member.end is not None]:
            self.leave(member)
        outcomes: Outcomes = {}
        while self.members:
            try:
                with out_of_memory_named():
                    outcomes |= yield from self._one_epoch(list(self.members))
                break
            except OutOfMemory as error:
                said = OutOfMemory(error.message, hint=error.hint)
            # Only now, and with another exception, because that one held the tensors.
            last = self.members[-1]
            self.leave(last)
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            outcomes[last] = Waits(said.message) if self.members else said
        for member, outcome in outcomes.items():
            if isinstance(outcome, TrialFailed) and member in self.members:
                self.leave(member)
        yield outcomes

    def _one_epoch(self, members: Sequence[Member]) -> Stepwise[Outcomes]:
        """What becomes of each in one more epoch. Their own rows stay as they are."""
        start, kind = time.perf_counter(), members[0].trial.data.kind
        rates = [learning_rate(member.trial, member.history) for member in members]
        training = self.training_of(members)
        tally = yield from train_epoch(training, members, rates)
        scored = yield from evaluate_all(training.vectorized, len(members), self.validation, kind)
        trained = tally.scores(scored_by(kind, in_training=True))
        ended_ms, seconds = time.time_ns() // 1_000_000, time.perf_counter() - start

        outcomes: Outcomes = {}
        for e, member in enumerate(members):
            number = len(member.history) + 1
            metrics = {f"train/{name}": value for name, value in trained[e].items()}
            metrics |= {f"val/{name}": value for name, value in scored[e].items()}
            metrics |= {"train/learning_rate": rates[e], "time/epoch_seconds": seconds}
            wrong = next((n for n, value in metrics.items() if not math.isfinite(value)), None)
            if wrong is not None:
                outcomes[member] = NonFiniteLoss(
                    f"{wrong} became {metrics[wrong]} in epoch {number}"
                )
                continue
            epoch = Epoch(number=number, metrics=metrics, timestamp_ms=ended_ms)
            member.trained = Trained(
                epoch, {n: row[e : e + 1].clone() for n, row in training.rows.items()}
            )
            outcomes[member] = epoch
        return outcomes

    def training_of(self, members: Sequence[Member]) -> Training:
        """What trains them, with the model that stands for all of them; made anew for others."""
        if self._prepared is None or self._prepared[0] != members:
            self._prepared = None  # so that there is room
            configs = [member.trial.model for member in members]
            rates = {
                name: Rates(getattr(config, name) for config in configs)
                for name in ("dropout", "input_dropout", "weight_dropout")
                if hasattr(configs[0], name)
            }
            together = configs[0].model_copy(update=rates)
            with torch.device("meta" if why_alone(members[0].trial) is None else self._device):
                model = make_model(together, self._description, None)
            self._prepared = list(members), Training(Vectorized(model), members, self.train)
        return self._prepared[1]
