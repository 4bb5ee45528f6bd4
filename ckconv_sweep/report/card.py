"""The model card of what a sweep hands over: what it is, how it was found, how good it is, and how
to load it. Markdown; the same record gives the same text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ckconv_sweep.config.data import Data, Description
from ckconv_sweep.config.history import best
from ckconv_sweep.config.settings import flat, short_names
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.record.confirmation import Opening
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.confirmed import sentences
from ckconv_sweep.report.handed_over import Winner
from ckconv_sweep.report.numbers import score
from ckconv_sweep.report.openings import heading, lines
from ckconv_sweep.report.page import duration
from ckconv_sweep.report.spent import spent


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says."""

    name: str
    """The sweep's."""
    folder: str
    """What the folder is called that it lies in."""
    uid: str
    space: Space
    records: Sequence[TrialRecord]
    """The search's trials."""
    winner: Winner
    trial: Trial
    parameters: int
    """Trained numbers of the model."""
    description: Description
    classes: Sequence[str]
    normalised_by: str
    """In words; empty where nothing is normalised, or files cannot be prepared."""
    takes_files: bool
    """Whether sequences can be prepared one by one, as a file brings them."""
    data: Mapping[str, Any]
    """The identity of the data."""
    versions: Mapping[str, Any]
    """That the search was run with."""
    openings: Sequence[Opening]
    registered: str = ""
    """Its name in MLflow's registry, where it is to be registered."""


def text(card: Card) -> str:
    """The whole card."""
    sections = [
        (f"# {card.name}", _what(card)),
        ("## How it was found", _search(card)),
        ("## How good it is", _scores(card)),
        ("## Data", _data(card)),
        ("## Load it", _loading(card)),
        ("## Limits", _limits(card)),
        ("## Settings", _settings(card)),
        ("## Versions", _versions(card)),
    ]
    return "\n".join("\n".join([heading, "", *lines, ""]) for heading, lines in sections)


_ASKED = {
    "classification": "one class for each sequence",
    "binary": "yes or no for each sequence",
    "per_step": "one class for each step of a sequence",
    "regression": "one number for each sequence",
    "text": "the next character, at every step",
}


def _what(card: Card) -> Iterator[str]:
    described = card.description
    yield (
        f"A `{card.trial.model.name}` with {card.parameters:,} parameters, trained on "
        f"`{described.name}`: {_ASKED[described.kind]}. The weights are those of "
        f"{card.winner.name} of the sweep `{card.name}` (`{card.uid}`)."
    )


def _search(card: Card) -> Iterator[str]:
    took = spent(card.records, card.space)
    ended = [record for record in card.records if record.counts and record.outcome != "running"]
    counts = [
        f"{sum(r.outcome == outcome for r in ended):,} {outcome}"
        for outcome in ("completed", "pruned", "continued", "failed")
        if any(r.outcome == outcome for r in ended)
    ]
    metric = card.space.metric
    yield f"- {_count(len(ended), 'trial')}: {', '.join(counts)}"
    yield (
        f"- {_count(sum(took.epochs.values()), 'epoch')}, {duration(took.wall_seconds)} of "
        f"running, {duration(took.training)} of training"
        + (f", {took.gpu_seconds / 3600:.3g} GPU-hours" if took.gpu_seconds else "")
    )
    yield f"- sampler `{card.space.sampler.name}`, stopping rule `{card.space.scheduler.name}`"
    yield f"- judged by `{metric.name}` ({metric.better_is} is better), on the validation split"
    yield f"- searched: {', '.join(f'`{path}`' for path in card.space.parameters())}"
    confirmed = card.winner.confirmed
    if confirmed is None:
        return
    trained = sum(len(setting.records) for setting in confirmed.settings)
    if confirmed.control is not None and confirmed.control not in confirmed.settings:
        trained += len(confirmed.control.records)
    yield (
        f"- then {_count(len(confirmed.settings), 'setting')} and the base trial as the control "
        f"were trained again with up to {confirmed.plan.seeds} fresh seeds each: "
        f"{_count(trained, 'trial')}" + ("" if confirmed.finished else ", not finished yet")
    )


def _scores(card: Card) -> Iterator[str]:
    yield from _validation(card)
    yield from _test(card)


def _validation(card: Card) -> Iterator[str]:
    metric, record = card.space.metric, card.winner.record
    epoch = best(record.history, metric).number
    own = ", ".join(f"`{n}` {score(v)}" for n, v in record.values(card.space.metrics).items())
    yield (
        f"- **these weights, validation**: {own} at epoch {epoch} of {record.last_epoch}. They "
        "were chosen by this number, so it is too good."
    )
    setting, confirmed = card.winner.setting, card.winner.confirmed
    if setting is None or confirmed is None:
        completed = sum(r.outcome == "completed" for r in card.records)
        yield (
            f"- **not confirmed**: the luckiest of {_count(completed, 'completed trial')}; run "
            "`ckconv-sweep confirm` on the sweep, and promote it again"
        )
        return
    yield (
        f"- **this setting, validation**: `{metric.name}` {score(setting.mean)}, the mean of "
        f"{_count(len(setting.values), 'fresh seed')}, 95 % interval {score(setting.low)} to "
        f"{score(setting.high)} (Student t). The interval is over all seeds, not of these weights."
    )
    yield from (f"- {sentence}" for sentence in sentences(confirmed))


def _test(card: Card) -> Iterator[str]:
    if not card.openings:
        yield "- **test**: never opened"
        return
    yield f"- {heading(card.openings)}"
    yield from (f"    {line}" for line in lines(card.openings))


def _data(card: Card) -> Iterator[str]:
    data, described, identity = card.trial.data, card.description, card.data
    licence = type(data).licence if isinstance(data, Data) else Data.licence
    yield f"- dataset `{described.name}`, licence: {licence}"
    yield f"- digest `{identity.get('digest', 'not noted')}`"
    sizes = [
        f"{identity[key]:,} {key}"
        for key in ("training sequences", "validation sequences")
        if key in identity
    ]
    yield f"- {', '.join([*sizes, _count(described.length, 'step')])}, " + _count(
        described.in_channels, "channel"
    )
    if card.classes:
        shown = ", ".join(f"`{name}`" for name in card.classes[:50])
        yield f"- {len(card.classes)} classes: {shown}" + ", ..." * (len(card.classes) > 50)
    if card.normalised_by:
        yield f"- values are normalised by {card.normalised_by}; `model.json` has the numbers"


def _loading(card: Card) -> Iterator[str]:
    if card.takes_files:
        yield from _in_python(card)
    else:
        yield (
            f"It answers the splits of `{card.description.name}`, which are read for it: of this "
            "dataset no file of sequences can be prepared one by one."
        )
    yield ""
    what = "sequences.npy" if card.takes_files else "validation"
    yield "```console"
    yield f"ckconv-sweep predict {card.folder} {what} --out predictions.csv"
    yield f"ckconv-sweep evaluate {card.folder} --split validation"
    yield "```"


def _in_python(card: Card) -> Iterator[str]:
    yield "```python"
    yield "import numpy as np"
    yield "from ckconv_sweep import load"
    yield ""
    yield f'model = load("{card.folder}")'
    if card.registered:
        yield f'# or load("{card.registered}"), from the MLflow that MLFLOW_TRACKING_URI names'
    yield 'answers = model.predict(np.load("sequences.npy"))  # raw: (sequences, channels, steps)'
    what = "classes; answers.values has their probabilities"
    if card.description.kind == "regression":
        what = "numbers"
    yield f"print(answers.predicted)  # {what}"
    yield "```"


def _limits(card: Card) -> Iterator[str]:
    resamples, timed = card.trial.model.resamples, card.trial.data.has_times
    how = "each with the times of the steps that are there" if timed else "sampled alike"
    yield (
        f"- It was trained on sequences of {card.description.length:,} steps, {how}. "
        + (
            "Its kernels are functions of time, and can be sampled at another rate: "
            "`evaluate --sampling-rate` says how well that goes."
            if resamples
            else "It reads other sampling rates as if they were that one."
        )
    )
    if card.description.kind != "regression":
        which = "the sigmoid of one output" if card.description.kind == "binary" else "a softmax"
        yield f"- Probabilities are {which}, and were not calibrated."
    yield "- It knows nothing of sequences that are unlike its training data, and does not say so."
    yield "- Another processor or a GPU rounds differently: scores may differ in the last digits."


def _settings(card: Card) -> Iterator[str]:
    params = card.winner.record.params
    if not params:
        yield "Those of the base trial; `trial.yaml` has every setting."
        return
    names, base = short_names(params), flat(card.space.trial.model_dump(mode="json"))
    yield "What was searched; `trial.yaml` has every setting."
    yield ""
    yield "| setting | value | base trial |"
    yield "|---|---|---|"
    for path, value in params.items():
        before = base.get(path, base.get(f"{path}.name", ""))
        yield f"| {names[path]} | {_value(value)} | {_value(before)} |"


def _versions(card: Card) -> Iterator[str]:
    yield ", ".join(
        f"{name} {version}" for name, version in card.versions.items() if name != "session"
    )


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
