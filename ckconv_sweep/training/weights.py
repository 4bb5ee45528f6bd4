"""A model with weights from a file."""

from __future__ import annotations

from pathlib import Path

import torch

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import Description
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.authors import from_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.training import checkpoint


def model_with(path: Path, trial: Trial, description: Description) -> CKCNN:
    """The trial's model with the weights of a file: one of ours, or the authors' published ones
    (told by their names).

    Raises:
        ConfigError: there is no such file, or the weights are of another model.
        DamagedData: the file cannot be read, or is not what its name says.
    """
    try:
        state = checkpoint.load(path)
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise DamagedData(f"holds no weights that can be read: {first}", where=str(path)) from None
    if not isinstance(state, dict):
        raise DamagedData("holds no weights by name", where=str(path))
    model = CKCNN(trial.model, description.in_channels, description.classes, None)
    if any(name.startswith("backbone.") for name in state):
        state = from_authors(state, model)
    if "best_weights" in state:  # the checkpoint of a run that has not ended
        state = state["best_weights"]
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        second = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ConfigError(
            f"these weights are of another model: {second}",
            where=str(path),
            hint="take the trial file with which they were trained",
        ) from None
    return model.to(torch.float32)
