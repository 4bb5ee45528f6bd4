"""A trained model from a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import ValidationError

from ckconv_sweep.config.build import build
from ckconv_sweep.config.data import Description
from ckconv_sweep.config.documents import Document
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.training import checkpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a checkpoint holds: the trial, and the weights of its best epoch."""

    path: Path
    trial: Trial
    weights: dict[str, torch.Tensor]
    data: Identity = field(default_factory=dict)
    """Of the data that it was trained on; empty if the file is older, or not of ours."""

    def on(self, dataset: str) -> Trained:
        """The same model, to be scored on another dataset. Raises ConfigError if it cannot be."""
        data = {"name": dataset}
        tree = self.trial.model_dump(mode="json") | {"data": data}
        document = Document(f"--dataset {dataset}", tree)
        return replace(self, trial=build(Trial, document), data={})

    def model(self, description: Description) -> SequenceModel:
        """The model, for the data that are described.

        Raises:
            ConfigError: the weights are of a model of another shape.
        """
        model = make_model(self.trial.model, description, None)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            second = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise ConfigError(
                f"these weights do not fit {description.name}: {second}", where=str(self.path)
            ) from None
        return model


def read_trained(given: Path) -> Trained:
    """Read a file that a run wrote (`best-*.pt`, `checkpoint-*.pt`), or the one in a folder:
    the best weights, or where the run has not ended its newest checkpoint.

    Raises:
        ConfigError: there is no such file, or ckconv-sweep did not write it.
        DamagedData: the file cannot be read, or is not what its name says.
    """
    path = given
    if given.is_dir():
        found = [checkpoint.best(given), *(p for _, p in checkpoint.checkpoints(given))]
        path = next((p for p in found if p is not None), given)
        if path is given:
            raise ConfigError("this folder holds no checkpoint", where=str(given))
    try:
        state = checkpoint.load(path)
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path)) from None
    if not isinstance(state, dict) or not {"trial", "best_weights"} <= state.keys():
        raise ConfigError(
            "this is no checkpoint of ckconv-sweep",
            where=str(path),
            hint="the authors' published weights become one by ckconv-sweep import-checkpoint",
        )
    try:
        trial = Trial.model_validate(state["trial"])
    except ValidationError as error:
        first = error.errors()[0]
        raise DamagedData(
            f"its trial cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=str(path),
        ) from None
    return Trained(
        path=path, trial=trial, weights=state["best_weights"], data=checkpoint.data_of(state)
    )
