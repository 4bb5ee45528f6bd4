"""What the runs of MLflow say of a sweep and of its trials."""

from __future__ import annotations

import colorsys
import contextlib
import html
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config import documents
from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.settings import flat, short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.record.events import Ended, Started
from ckconv_sweep.record.versions import versions
from ckconv_sweep.tracking import note
from ckconv_sweep.tracking.told import Told


@dataclass(frozen=True, kw_only=True)
class RunOfSweep:
    """What the parent run says, or the only run where a trial is trained alone."""

    name: str
    uid: str
    role: str
    params: Mapping[str, Any]
    artifacts: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    space: Space | None = None
    """What is searched, where several trials are."""
    created_ms: int = 0
    versions: Mapping[str, Any] = field(default_factory=versions)
    """What the sweep is run with, as `record.versions` notes it."""
    data_digest: str = ""
    """Of the base trial's sequences; empty where they were not read."""
    count_parameters: Callable[[Trial], int] | None = None
    """The number of trained numbers of a trial's model."""
    told: Told = field(default_factory=Told)
    """Of its confirmation and its test numbers."""


def trial_tags(sweep: RunOfSweep, base: Trial, event: Started) -> dict[str, str]:
    """The tags of a trial's run; `base` is what it is compared with."""
    before, origin = flat(base.model_dump(mode="json")), event.origin
    changed = {
        name: value
        for name, value in flat(event.trial.model_dump(mode="json")).items()
        if before.get(name) != value and name != "training.seed"
    }
    tags = {
        keys.TAG_SWEEP: sweep.name,
        keys.TAG_ROLE: keys.ROLE_TRIAL,
        keys.TAG_TRIAL: str(event.number),
        keys.TAG_PARAMS: json.dumps(dict(event.params)),
        keys.TAG_CHANGED: " ".join(f"{name}={_short(v)}" for name, v in changed.items()),
        "mlflow.runColor": colour_of(event.number),
    }
    tags |= {keys.TAG_ORIGIN: json.dumps(origin)} if origin else {}
    tags |= {keys.TAG_REPEAT_OF: str(origin["repeat_of"])} if "repeat_of" in origin else {}
    if "confirms" in origin:
        tags[keys.TAG_ROLE] = keys.ROLE_CONFIRM
        tags[keys.TAG_CONFIRMS] = keys.setting_name(origin["confirms"])
        tags[keys.TAG_SEED_INDEX] = str(origin["seed_index"])
    if "replaces" in origin:
        name = keys.trial_name(origin["from_trial"])
        tags |= {keys.TAG_FROM: f"{name} epoch {origin['from_epoch']}"}
        tags |= {keys.TAG_REPLACES: keys.trial_name(origin["replaces"])}
    return tags


def end_tags(event: Ended, there: Mapping[str, str]) -> dict[str, str]:
    """What a trial's run says of its end: for programs, and as its description in words, unless
    `there`, the run's tags, have one that a person wrote."""
    tags = {
        keys.TAG_OUTCOME: event.outcome,
        keys.TAG_REASON: event.reason,
        keys.TAG_ERROR: event.error[-5000:],
        keys.TAG_VERDICT: event.verdict,
    }
    if note.TAG not in there:
        tags[note.TAG] = html.escape(event.why, quote=False)  # it is shown as Markdown
    return {name: value for name, value in tags.items() if value}


def trial_params(sweep: RunOfSweep, event: Started) -> list[Any]:
    """Its settings, and what was drawn beside them, as MLflow's parameters."""
    variables = {} if sweep.space is None else sweep.space.variables
    drawn = {name: event.params[name] for name in variables if name in event.params}
    return params(flat(event.trial.model_dump(mode="json")) | drawn)


def params(settings: Mapping[str, Any]) -> list[Any]:
    """MLflow's parameters, which are texts."""
    from mlflow.entities import Param

    return [Param(name, str(value)) for name, value in settings.items()]


def trial_file(trial: Trial) -> Mapping[str, str]:
    """The file of a trial's run, by its name."""
    return {keys.ARTIFACT_TRIAL: documents.write(trial.model_dump(mode="json"))}


def known_before(sweep: RunOfSweep, event: Started) -> Iterator[Any]:
    """What is known of a trial before it begins, for charts. Not only of a new run: the session
    that made it may have been killed before it wrote that."""
    from mlflow.entities import Metric

    known = dict[str, float]()
    if sweep.count_parameters is not None:
        with contextlib.suppress(CkconvSweepError):  # `sync` where a dataset is not
            known[keys.SUMMARY_PARAMETERS] = float(sweep.count_parameters(event.trial))
    domains = {} if sweep.space is None else sweep.space.parameters()
    short = short_names(domains)
    for path, value in event.params.items():
        domain = domains.get(path)
        if isinstance(domain, Interval) and domain.has_logarithms:
            known[keys.log10_of(short[path])] = math.log10(value)
    for key, value in known.items():
        yield Metric(key, value, event.started_ms, 0)


def colour_of(number: int) -> str:
    """Of a trial in MLflow's table and curves: neighbours differ most, and no two of the first
    hundred are alike. By itself MLflow gives trials one of 16."""
    hue = number * 0.618_034 % 1.0
    return "#" + "".join(
        f"{round(255 * part):02x}"
        for part in colorsys.hls_to_rgb(hue, (0.42, 0.62, 0.3)[number % 3], (0.75, 0.6)[number % 2])
    )


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
