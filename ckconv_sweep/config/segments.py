"""A trial that was trained in segments: between two epochs its settings changed, not its weights.

In the file of such a trial stand, beside its own settings, which are those of the last segment, the
earlier ones: up to which epoch each goes, and what it had otherwise.

    segments:
    - until: 3
      settings: {optimizer.learning_rate: 0.01, training.seed: 2}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from ckconv_sweep.config.build import build
from ckconv_sweep.config.changeable import is_changeable
from ckconv_sweep.config.documents import Document
from ckconv_sweep.config.settings import Positive, Settings, flat
from ckconv_sweep.config.space import put_settings
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import ConfigError

SEGMENTS = "segments"

Segments = Sequence[tuple[Trial, int]]
"""Trials, each with the number of its last epoch, in order."""


class Segment(Settings):
    """The epochs before a change of settings."""

    until: Positive
    """Its last epoch."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it had otherwise than the trial, by path."""


class _Listed(Settings):
    segments: list[Segment]


def written(trials: Segments) -> dict[str, Any]:
    """As plain values; the last one in full."""
    *earlier, (last, _) = [(trial.model_dump(mode="json"), until) for trial, until in trials]
    own = flat(last)
    told = [
        {"until": until, "settings": {k: v for k, v in flat(tree).items() if own.get(k) != v}}
        for tree, until in earlier
    ]
    return {SEGMENTS: told, **last}


def earlier_segments(document: Document, trial: Trial) -> Segments:
    """The segments of a trial's file before its last one; none in most files.

    Raises:
        ConfigError: they cannot be read, do not follow each other, or change what cannot change.
    """
    if SEGMENTS not in document.value:
        return ()
    listed = build(_Listed, replace(document, value={SEGMENTS: document.value[SEGMENTS]}))
    found, before = list[tuple[Trial, int]](), 0
    for i, segment in enumerate(listed.segments):
        if not before < segment.until < trial.training.epochs:
            raise ConfigError(
                f"segments: until must be > {before} and < {trial.training.epochs} "
                f"(training.epochs), got {segment.until}",
                where=document.where((SEGMENTS, i, "until")),
            )
        before = segment.until
        tree = trial.model_dump()
        for path in segment.settings:
            if not (is_changeable(path) or path == "training.seed"):
                raise ConfigError(
                    f"segments: {path} cannot change while a trial is trained",
                    where=document.where((SEGMENTS, i, "settings", path)),
                )
        put_settings(tree, segment.settings)
        found.append((build(Trial, Document(document.where((SEGMENTS, i)), tree)), before))
    return found
