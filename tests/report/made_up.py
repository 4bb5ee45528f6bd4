"""A sweep that nobody trained: the records of many trials whose metric is a formula of their
settings, and a real study that holds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from ckconv_sweep.config.history import Epoch, objective
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.keys import Outcome
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.scale import Scale
from ckconv_sweep.search.samplers import distribution

_SPACE = """
trial:
  data: {{name: digits}}
  model: {{hidden_channels: 8, blocks: 1}}
  training: {{epochs: {epochs}}}
search:
  optimizer.learning_rate: {{low: 1.0e-4, high: 1.0e-1, log: true}}
  model.hidden_channels: {{low: 4, high: 32, step: 4}}
  model.dropout: {{low: 0.0, high: 0.5}}
  model.norm: {{choices: [layer, channel, none]}}
  schedule:
    choices:
      constant: {{}}
      cosine: {{warmup_epochs: {{low: 0, high: 2}}}}
      plateau: {{factor: 0.3, patience: {{low: 1, high: 6}}}}
sampler: {{name: random, seed: 0}}
scheduler: {scheduler}
budget: {{trials: {trials}}}
"""
ASHA = "{name: asha, grace_epochs: 5, reduction_factor: 3}"
NOTHING = "model.dropout"
"""The only setting that the formula does not look at, of those that all trials have."""

START_MS = 1_760_000_000_000
_STATES: dict[Outcome, TrialState] = {
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "continued": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


@dataclass(frozen=True)
class MadeUp:
    """Its records and its space."""

    records: tuple[TrialRecord, ...]
    space: Space


def made_up(
    trials: int, *, epochs: int = 30, stopping: bool = False, failing: float = 0.0, seed: int = 0
) -> MadeUp:
    """Trials at random points of a space. Accuracy follows the learning rate most, whose best value
    is 1e-2, then the channels, the more the better, then the norm; it wobbles by 0.005.

    Args:
        stopping: whether trials below the median of the formula stop at a third of their epochs.
        failing: the share of trials that fail in their second epoch.
    """
    space = parse_space(
        _SPACE.format(
            epochs=epochs, trials=max(trials, 1), scheduler=ASHA if stopping else "{name: none}"
        ),
        "space.yaml",
    )
    rng = np.random.default_rng(seed)
    clock_ms = [START_MS] * 4  # four trials at a time
    records = []
    for number in range(trials):
        params = space.draw(lambda _, domain: _drawn(domain, rng))
        good = _formula(space, params)
        fails = rng.random() < failing
        stops = stopping and good < 0.5
        length = 1 if fails else max(2, epochs // 3) if stops else epochs
        outcome: Outcome = "failed" if fails else "pruned" if stops else "completed"
        worker = int(np.argmin(clock_ms))
        started_ms = clock_ms[worker]
        seconds = 2.0 + float(rng.random())
        # The second half ran the next day.
        session = 1 if number < trials // 2 else 2
        if session == 2 and started_ms < START_MS + 86_400_000:
            started_ms += 86_400_000
        history = tuple(
            Epoch(
                number=epoch,
                metrics={
                    "val/accuracy": good * (1 - 0.7**epoch) + 0.005 * float(rng.normal()),
                    "train/loss": 1 - good * (1 - 0.7**epoch),
                    "time/epoch_seconds": seconds,
                },
                timestamp_ms=int(started_ms + 500 + epoch * (1000 * seconds + 100)),
            )
            for epoch in range(1, length + 1)
        )
        clock_ms[worker] = history[-1].timestamp_ms
        records.append(
            TrialRecord(
                number=number,
                outcome=outcome,
                params=params,
                history=history,
                reason="nonfinite" if fails else "",
                error="NonFiniteLoss: the loss became nan" if fails else "",
                started_ms=started_ms,
                ended_ms=history[-1].timestamp_ms,
                sessions=(session,) * length,
            )
        )
    return MadeUp(tuple(records), space)


def _drawn(domain: Any, rng: np.random.Generator) -> Any:
    if hasattr(domain, "options"):
        return domain.options[int(rng.integers(len(domain.options)))]
    value = Scale(domain).at(float(rng.random()))
    if domain.step is not None:
        value = domain.low + round((value - domain.low) / domain.step) * domain.step
    return round(value) if domain.whole else value


def _formula(space: Space, params: dict[str, Any]) -> float:
    """From 0 to 1."""
    rate = 1 - abs(math.log10(params["optimizer.learning_rate"]) + 2) / 2
    channels = Scale(space.parameters()["model.hidden_channels"]).fraction(
        params["model.hidden_channels"]
    )
    norm = {"layer": 1.0, "channel": 0.6, "none": 0.0}[params["model.norm"]]
    return 0.15 + 0.45 * rate + 0.2 * channels + 0.1 * norm


def recorded(folder: SweepFolder, records: Sequence[TrialRecord], space: Space) -> None:
    """Write a study that reads back as these records."""
    folder.make()
    distributions = {name: distribution(domain) for name, domain in space.parameters().items()}
    with folder.records.create(space) as study:
        study._study.add_trials([_frozen(r, space, distributions) for r in records])
        study.set_note("sessions", [])


def _frozen(record: TrialRecord, space: Space, distributions: Any) -> optuna.trial.FrozenTrial:
    attributes: dict[str, Any] = {"reason": record.reason, "error": record.error}
    for place, epoch in enumerate(record.history):
        attributes[f"epoch:{epoch.number}"] = {
            "metrics": dict(epoch.metrics),
            "timestamp_ms": epoch.timestamp_ms,
            "checkpoint": epoch.checkpoint,
            "session": record.sessions[place] if record.sessions else 1,
            "spent_seconds": 0.0,
        }
    name = space.metric.name
    trial = create_trial(
        state=_STATES[record.outcome],
        value=objective(record.history, space.metric) if record.outcome == "completed" else None,
        params=dict(record.params),
        distributions={name: distributions[name] for name in record.params},
        user_attrs={key: value for key, value in attributes.items() if value},
        intermediate_values={epoch.number: epoch.metrics[name] for epoch in record.history},
    )
    trial.datetime_start = datetime.fromtimestamp(record.started_ms / 1000)
    if record.ended_ms is not None:
        trial.datetime_complete = datetime.fromtimestamp(record.ended_ms / 1000)
    return trial
