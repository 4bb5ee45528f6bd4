"""A trial between two epochs: what it was, what it has become, and how that is kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.history import Epoch, Source, best, end_reason
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.crash_points import crash_point
from ckconv_sweep.data.identity import PUT_BACK, Identity, difference
from ckconv_sweep.data.task import SequenceTask
from ckconv_sweep.errors import ConfigError, DamagedData, DataChanged, SourceLost, TrialFailed
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.record.blobs import Place, blobs_at, place_of
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.optimizers import rule_of
from ckconv_sweep.training.room import out_of_memory_named
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.vectorized import Layout

Rows = dict[str, Tensor]
"""`weights` `(E, P)`, `buffers` `(E, Q)` and the optimiser's moments, each `(E, P)`, of E trials;
of one member E is 1."""


@dataclass(frozen=True, eq=False)
class Trained:
    """An epoch that is not kept yet."""

    epoch: Epoch
    rows: Rows


class Member:
    """One trial. A pack trains it; it keeps its own history, best weights and checkpoints.

    Made by `open`. `trial`, `folder`, `history` (the epochs that are kept), `own` and `end` are to
    be read.
    """

    def __init__(
        self,
        trial: Trial,
        description: Description,
        model: SequenceModel,
        folder: Place | None,
        guard: Callable[[], None],
        data: Identity,
        warn: Callable[[str], None],
        recorded: Sequence[Epoch],
        checkpoint_seconds: float,
        after: int,
        kept_epochs: int,
    ) -> None:
        """The model gives the weights to begin with; the other arguments: see `open`."""
        self.trial, self.folder, self.history = trial, folder, list[Epoch]()
        self._data, self._warn = data, warn
        self._recorded = {epoch.number: epoch for epoch in recorded}
        self._after, self._kept_epochs = after, kept_epochs
        self._differing = set[int]()
        """Epochs whose weights here are not those of which the record tells."""
        self._checkpoint_seconds = checkpoint_seconds
        self._kept_at = self._saved_at = time.monotonic()
        self.trained: Trained | None = None
        """What a pack has made of it and nobody has kept yet."""
        self._description, self._guard = description, guard
        self._weights = Layout(dict(model.named_parameters()))
        self._buffers = Layout(dict(model.named_buffers()))
        self._state_names = list(model.state_dict())
        self._best_weights: dict[str, Tensor] = {}
        self.rows: Rows = {
            "weights": self._weights.row(dict(model.named_parameters())),
            "buffers": self._buffers.row(dict(model.named_buffers())),
        }
        for name in self._moments:
            self.rows[name] = torch.zeros_like(self.rows["weights"])
        factors = model.learning_rate_factors()
        self.factors = self._weights.factors(factors) if factors else None
        """Learning rates of the weights in learning rates of the trial, `(1, P)`; None: all 1."""

    @classmethod
    @out_of_memory_named()
    def open(
        cls,
        trial: Trial,
        task: SequenceTask,
        *,
        folder: Place | None = None,
        warn: Callable[[str], None] = lambda message: None,
        guard: Callable[[], None] = lambda: None,
        allow_data_change: bool = False,
        recorded: Sequence[Epoch] = (),
        checkpoint_seconds: float = 0.0,
        source: Source | None = None,
        kept_epochs: int = 0,
    ) -> Member:
        """A trial at its beginning, or after the newest whole checkpoint in its folder. A
        continuation, which needs a folder, begins with a copy of its source there.

        Args:
            trial: the settings.
            task: what it will be trained on.
            folder: of its checkpoints; made if need be. Without one nothing is written.
            warn: hears of each checkpoint that is damaged, and of an epoch that differs from the
                recorded one.
            guard: called before anything is written; what it raises ends that.
            allow_data_change: also continue from a checkpoint that was trained on other data.
            recorded: its own epochs that somebody has recorded, from the first. Those after the
                checkpoint are trained again, and stay what was recorded.
            checkpoint_seconds: how long epochs may go on without a checkpoint; 0: each has one.
            source: another trial's checkpoint, with which it begins.
            kept_epochs: each so many epochs there is a checkpoint, which is kept.

        Raises:
            OutOfMemory: the host has no room.
            ConfigError: the checkpoint is of another trial.
            DataChanged: the checkpoint was trained on other data.
            TrialFailed: the same, which is allowed, but the model has another shape for these.
            SourceLost: the source is gone or damaged.
            DamagedData: it is whole, but not one of a training run.
        """
        model = make_model(trial.model, task.description, generator(trial.training.seed, "init"))
        state = None
        if folder is not None:
            blobs_at(folder).make()
            state, damaged = checkpoint.newest(folder)
            for message in damaged:
                warn(message)
            if state is None and source is not None:
                _copy(source, folder)
                state, _ = checkpoint.newest(folder)
            if state is not None:
                _check(state, trial, folder, after=source.epoch if source else 0)
                _check_data(checkpoint.data_of(state), task, folder, warn, allow_data_change)
                try:
                    model.load_state_dict(state["model"])
                except RuntimeError as error:
                    if not allow_data_change:
                        raise
                    raise TrialFailed(f"its checkpoint does not fit these data: {error}") from None
        member = cls(
            trial,
            task.description,
            model,
            folder,
            guard,
            task.identity if folder else {},
            warn,
            recorded,
            checkpoint_seconds,
            source.epoch if source else 0,
            kept_epochs,
        )
        if state is not None:
            member._restore(state)
        return member

    @property
    def _moments(self) -> tuple[str, ...]:
        """Names of what the optimiser remembers."""
        return rule_of(self.trial.optimizer).moments

    @property
    def end(self) -> str | None:
        """Why the trial has ended (`epochs`, `early_stopping`), or None while it goes on."""
        return end_reason(self.trial, self.own)

    @property
    def own(self) -> list[Epoch]:
        """The epochs of its history that are its own: those before are of the trials that it
        continues."""
        return self.history[self._after :]

    def keep(self) -> Epoch:
        """Make the epoch that was trained part of the trial; returns it as it is to be reported.

        With a folder it is safe in a checkpoint there first, if one is due.

        Raises:
            CannotWrite: the checkpoint cannot be written.
        """
        assert self.trained is not None
        epoch, self.rows, self.trained = self.trained.epoch, self.trained.rows, None
        self.history.append(self._as_recorded(epoch))
        rows = {name: row.cpu() for name, row in self.rows.items()}
        own = [e for e in self.own if e.number not in self._differing]
        if own and best(own, self.trial.metric).number == epoch.number:
            self._best_weights = self._state_dict(rows)
        if self.folder is not None:
            self._guard()
            checkpoint.note_in_ledger(self.folder, epoch)
            crash_point("epoch.trained")
            if self._is_due(epoch.number):
                name = checkpoint.save(
                    self.folder, epoch.number, self._state(rows), self._kept_epochs
                )
                self.history[-1] = replace(self.history[-1], checkpoint=name)
                self._saved_at = time.monotonic()
                crash_point("epoch.saved")
            self._kept_at = time.monotonic()
        return self.history[-1]

    def _as_recorded(self, epoch: Epoch) -> Epoch:
        """An epoch that was trained again stays what was recorded of it."""
        recorded = self._recorded.get(epoch.number)
        if recorded is None:
            return epoch
        if differing := [
            name
            for name, value in epoch.metrics.items()
            if not name.startswith("time/") and recorded.metrics.get(name) != value
        ]:
            if not self._differing:
                name = differing[0]
                self._warn(
                    f"epoch {epoch.number}, trained again, is not the recorded one: {name} "
                    f"{epoch.metrics[name]!r}, recorded {recorded.metrics.get(name)!r}; the record "
                    "stays, and these weights are not kept as the best"
                )
            self._differing.add(epoch.number)
        return replace(recorded, checkpoint="")

    def _is_due(self, epoch: int) -> bool:
        """Whether the checkpoint after an epoch is kept, or one more epoch as long as this might be
        one without a checkpoint for too long."""
        if self._kept_epochs and epoch % self._kept_epochs == 0:
            return True
        now = time.monotonic()
        return (now - self._saved_at) + (now - self._kept_at) >= self._checkpoint_seconds

    def finish(self) -> None:
        """Once it has ended: write its best weights, if there are any of a recorded epoch.

        Raises:
            CannotWrite: they cannot be written.
        """
        if self.folder is not None:
            self._guard()
            if self._best_weights:
                checkpoint.save_best(
                    self.folder, self.trial.model_dump(mode="json"), self._best_weights, self._data
                )

    def model(self) -> SequenceModel:
        """With its best weights, on the CPU."""
        model = make_model(self.trial.model, self._description, None)
        model.load_state_dict(self._best_weights)
        return model

    def _state_dict(self, rows: Rows) -> dict[str, Tensor]:
        """Copies, as of `torch.nn.Module.state_dict`."""
        named = self._weights.named(rows["weights"]) | self._buffers.named(rows["buffers"])
        return {name: named[name] for name in self._state_names}

    def _state(self, rows: Rows) -> dict[str, Any]:
        """Everything that the next epoch depends on and that does not follow from the trial."""
        state = {
            "trial": self.trial.model_dump(mode="json"),
            "data": dict(self._data),
            "model": self._state_dict(rows),
            "optimizer": {name: self._weights.named(rows[name]) for name in self._moments},
            "best_weights": self._best_weights,
            "history": [
                {"number": e.number, "metrics": dict(e.metrics), "timestamp_ms": e.timestamp_ms}
                for e in self.history
            ],
        }
        return state | ({"differing": sorted(self._differing)} if self._differing else {})

    def _restore(self, state: dict[str, Any]) -> None:
        optimizer = state["optimizer"]
        try:
            for name in self._moments:
                self.rows[name] = self._weights.row(optimizer[name])
        except KeyError as error:
            raise DamagedData(
                f"the checkpoint's optimizer lacks {error}", where=str(self.folder)
            ) from None
        except RuntimeError as error:
            raise DamagedData(
                f"the checkpoint's optimizer does not fit the model: {error}",
                where=str(self.folder),
            ) from None
        assert self.folder is not None
        if len(state["history"]) > self._after:  # else they are those of its source
            self._best_weights = state["best_weights"]
            self._differing = set(state.get("differing", ()))
        names = {number: path.name for number, path in checkpoint.checkpoints(self.folder)}
        epochs = [Epoch(**epoch) for epoch in state["history"]]
        self.history = [replace(e, checkpoint=names.get(e.number, "")) for e in epochs]


def _copy(source: Source, folder: Place) -> None:
    """Put a continuation's first checkpoint into its folder."""
    path = place_of(source.path)
    try:
        blobs_at(folder).put(path.name, blobs_at(path.parent).get(path.name))
    except (OSError, DamagedData) as error:
        gone = isinstance(error, FileNotFoundError)
        why = "gone" if gone else str(getattr(error, "strerror", "damaged"))
        raise SourceLost(f"the checkpoint that it begins with is lost: {path}: {why}") from None


def _check(state: dict[str, Any], trial: Trial, folder: Place, *, after: int) -> None:
    """`after`: the epoch of the checkpoint with which a continuation begins, and which is of
    another trial."""
    if missing := {"trial", "model", "optimizer", "best_weights", "history"} - state.keys():
        raise DamagedData(
            f"the checkpoint is none of a training run: it lacks {', '.join(sorted(missing))}",
            where=str(folder),
        )
    if len(state["history"]) == after > 0:
        return
    if not trial.is_meant_by(state["trial"]):
        raise ConfigError(
            "the checkpoint here is of a trial with other settings",
            where=str(folder),
            hint="take another folder, or delete this one",
        )


def _check_data(
    before: Identity,
    task: SequenceTask,
    folder: Place,
    warn: Callable[[str], None],
    allow_change: bool,
) -> None:
    if not (why := difference(before, task.identity)):
        return
    if not allow_change:
        raise DataChanged(
            f"the checkpoint here was trained on other data: {why}",
            where=str(folder),
            hint=PUT_BACK,
        )
    warn(f"continues on other data than before: {why}")
