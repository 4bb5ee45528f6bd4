"""A real study whose search and confirmation nobody trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.confirmation import Confirmation, note
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.study import Study
from ckconv_sweep.record.trials import BASE
from ckconv_sweep.search.confirmed import Confirmed, confirmed
from ckconv_sweep.search.samplers import distribution
from tests.report.records import space as make_space

PARAMETERS = {0: 5_000, 1: 11_234, 2: 3_000, BASE: 8_000}
"""What the models of the search's trials have, if they were counted."""


def confirmed_study(
    root: Path,
    searched: Sequence[float],
    reached: Mapping[int, Sequence[float | None]],
    *,
    space: Space | None = None,
    seconds: Mapping[int, float] | None = None,
    seeds: int = 5,
    control: int | None = BASE,
    data: Callable[[int], str] = lambda index: "",
) -> SweepFolder:
    """A sweep whose trials reached `searched`, and whose settings, by number, reached `reached`
    with fresh seeds; None is a seed that failed. `data`: the digest of those of a seed."""
    space = space or make_space(trials=len(searched))
    folder = SweepFolder.of(root, "mine")
    folder.make()
    with folder.records.create(space) as study:
        study.set_note("sessions", [])
        for number, value in enumerate(searched):
            _add(study, 1e-3 * (2 + number), value, 1.0, position=number)
        best = max if space.metric.mode == "max" else min
        order = sorted(range(len(searched)), key=lambda n: searched[n], reverse=best is max)
        settings = tuple(number for number in order if number in reached)
        note(study, Confirmation(settings=settings, control=control, seeds=seeds, begun_ms=1))
        for index in range(seeds):
            for number, values in reached.items():
                if index < len(values):
                    took = (seconds or {}).get(number, 1.0)
                    origin = {"confirms": number, "seed_index": index}
                    rate, value = 1e-3 * (2 + number), values[index]
                    _add(study, rate, value, took, data(index), **origin)
    return folder


def _add(
    study: Study,
    rate: float,
    value: float | None,
    seconds: float,
    data: str = "",
    **origin: int,
) -> None:
    name = "optimizer.learning_rate"
    domain = study.space.parameters()[name]
    record = study.create({name: rate}, {name: distribution(domain)}, **origin)
    if value is None:
        study.end(record.number, "failed", reason="nonfinite", error="the loss became nan")
        return
    metric = study.space.metric.name
    metrics = {metric: value, "time/epoch_seconds": seconds}
    epoch = Epoch(number=1, metrics=metrics, timestamp_ms=1)
    study.add_epoch(record.number, epoch, value, data=data)
    study.end(record.number, "completed")


def found_in(folder: SweepFolder, parameters: Mapping[int, int] = PARAMETERS) -> Confirmed:
    """What the confirmation says; the size of a model is found by its learning rate."""

    def count(trial: object) -> int:
        rate = trial.optimizer.learning_rate  # type: ignore[attr-defined]
        return parameters[round(rate / 1e-3) - 2]  # the base trial has 1e-3

    with folder.records.open() as study:
        found = confirmed(study, count)
    assert found is not None
    return found
