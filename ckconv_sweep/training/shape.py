"""Which trials can be trained as one: those whose tensors have the same shapes and whose code takes
the same path. What may differ is named here; a setting that is not must agree."""

from __future__ import annotations

from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial

FREE_BLOCKS = ("optimizer", "schedule", "metric")
"""Blocks of which nothing must agree but the optimiser's name."""
FREE = frozenset(
    {
        "training.epochs",
        "training.seed",
        "training.kernel_penalty",
        "training.clip_norm",
        "training.early_stopping_epochs",
        "model.dropout",
        "model.input_dropout",
        "model.kernel.omega_0",
        "model.kernel.omega_0_learning_rate_factor",
        "model.mask.width",
        "model.mask.learning_rate_factor",
        # These decide initial values only.
        "model.kernel.initialization",
        "model.kernel.normalize_variance",
        "model.radius_min",
        "model.radius_max",
        "model.phase_max",
    }
)

ShapeKey = tuple[tuple[str, object], ...]


def shape_key(trial: Trial) -> ShapeKey:
    """The settings that trials of one pack must share, by name; hashable."""
    settings = flat(trial.model_dump())
    shared = {
        name: value
        for name, value in settings.items()
        if name not in FREE and name.partition(".")[0] not in FREE_BLOCKS
    }
    shared["optimizer.name"] = trial.optimizer.name
    # Not how much is dropped of a kernel matters, but that there must be one to drop it from.
    if "model.weight_dropout" in shared:
        shared["model.weight_dropout"] = settings["model.weight_dropout"] > 0.0
    return tuple(sorted(shared.items()))


def why_alone(trial: Trial) -> str | None:
    """Why a trial cannot be trained together with any other, or None."""
    if trial.model.vectorizes:
        return None
    return f"a {trial.model.name} is trained alone: PyTorch cannot run several of them as one"


def why_apart(one: Trial, other: Trial) -> str | None:
    """Why two trials cannot be trained as one, or None: each setting that must agree and does not,
    with both values."""
    if alone := why_alone(one) or why_alone(other):
        return alone
    if one.model.name != other.model.name:  # their other settings have other names
        return f"model.name must agree, got {one.model.name} and {other.model.name}"
    keys = dict(shape_key(one)), dict(shape_key(other))
    values = flat(one.model_dump()), flat(other.model_dump())
    return (
        "; ".join(
            f"{name} must {MUST.get(name, 'agree')}, got "
            + " and ".join(str(settings.get(name, "none")) for settings in values)
            for name in sorted(keys[0].keys() | keys[1].keys())
            if keys[0].get(name) != keys[1].get(name)
        )
        or None
    )


MUST = {"model.weight_dropout": "be 0 for both or for none"}
