"""What a person should know of a space before it is launched, a line each."""

from __future__ import annotations

from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.grid import grid_note
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.stopping import NoScheduler


def notes(space: Space, rejected: int = 0) -> list[str]:
    """The lines, none where all is as one would think; `rejected` as in `most_trials`."""
    found = [_base_note(space), _repeats_note(space), grid_note(space, rejected), _rule_note(space)]
    found += [_metrics_note(space), _auto_note(space), _warm_note(space)]
    found += [_range_note(name, domain) for name, domain in space.parameters().items()]
    return [note for note in found if note]


def _base_note(space: Space) -> str:
    why = space.why_not_base
    return f"the base trial's own settings are not tried first: {why}" if why else ""


def _repeats_note(space: Space) -> str:
    repeats = space.repeats
    if repeats is None:
        return ""
    which = "each setting is"
    if repeats.top:
        several = f"the best {repeats.top} settings are"
        which = "the best setting is" if repeats.top == 1 else several
    pruned = not repeats.top and not isinstance(space.scheduler, NoScheduler)
    unless = ", unless it is pruned" if pruned else ""
    return (
        f"{which} trained {'with' if repeats.seeds else 'on'} {repeats.times} "
        f"{'seeds' if repeats.seeds else 'folds'}{unless}; "
        f"the budget's {space.budget.trials} trials are settings"
    )


def _rule_note(space: Space) -> str:
    rule, computed = space.scheduler, "training.epochs" in space.derived
    note = "" if computed else rule.note(space.most_epochs())
    return f"scheduler {rule.name} {note}" if note else ""


def _auto_note(space: Space) -> str:
    why = space.sampler.taken_by_auto
    return f"sampler {space.sampler.name}, taken by auto: {why}" if why else ""


def _metrics_note(space: Space) -> str:
    if not space.further or isinstance(space.scheduler, NoScheduler):
        return ""
    return f"scheduler {space.scheduler.name} looks at {space.metric.name} alone"


def _warm_note(space: Space) -> str:
    if not space.warm_start or space.sampler.learns:
        return ""
    return f"warm_start changes no draw: the sampler {space.sampler.name} learns from no trial"


def _range_note(name: str, domain: object) -> str:
    if not isinstance(domain, Interval) or domain.unreached is None:
        return ""
    last = domain.written()["high"]
    return f"{name}: its steps do not reach {domain.unreached:g}; the largest value is {last:g}"
