"""A trained model from a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ckconv_sweep.config.build import build
from ckconv_sweep.config.data import Description
from ckconv_sweep.config.documents import Document
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.data.preparation import Preparation
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.parameters import without_memory
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.models.state import check_state
from ckconv_sweep.record.blobs import Place
from ckconv_sweep.training import checkpoint, promoted
from ckconv_sweep.training.room import out_of_memory_named


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a checkpoint holds: the trial, and the weights of its best epoch."""

    path: Place
    trial: Trial
    weights: object
    """As they were read: `model` checks them."""
    data: Identity = field(default_factory=dict)
    """Of the data that it was trained on; empty if the file is not of ours."""
    description: Description | None = None
    """Of them, where the file tells it."""
    preparation: Preparation | None = None
    """How their sequences were prepared, where the file tells it."""
    classes: Sequence[str] = ()
    """The names of their classes, where the file tells them."""

    def on(self, dataset: str) -> Trained:
        """The same model, to be scored on another dataset. Raises ConfigError if it cannot be."""
        data = {"name": dataset}
        tree = self.trial.model_dump(mode="json") | {"data": data}
        document = Document(f"--dataset {dataset}", tree)
        return replace(
            self,
            trial=build(Trial, document),
            data={},
            description=None,
            preparation=None,
            classes=(),
        )

    def model(self, description: Description) -> SequenceModel:
        """The model, for the data that are described.

        Raises:
            ConfigError: the weights are of a model of another shape.
            DamagedData: they are no finite real numbers.
            OutOfMemory: there is no room for them.
        """
        with out_of_memory_named():
            like = without_memory(self.trial.model, description).state_dict()
            try:
                weights = check_state(self.weights, like, "is it a model for other data?")
            except ConfigError as error:
                raise ConfigError(
                    f"these weights do not fit {description.name}: {error.message}",
                    where=str(self.path),
                    hint=error.hint,
                ) from None
            except DamagedData as error:
                raise DamagedData(error.message, where=str(self.path)) from None
            model = make_model(self.trial.model, description, None)
            model.load_state_dict(weights)
        return model


def read_trained(given: Place) -> Trained:
    """Read a file that a run wrote (`best-*.pt`, `checkpoint-*.pt`), or the one in a folder:
    the best weights, or where the run has not ended its newest checkpoint; or a folder that
    `promote` wrote.

    Raises:
        ConfigError: there is no such file, or ckconv-sweep did not write it.
        DamagedData: the file cannot be read, or is not what its name says.
    """
    path, is_folder = given, not given.name.endswith(".pt")
    if isinstance(given, Path):
        is_folder = given.is_dir()
        if is_folder and promoted.is_promoted(given):
            return _handed_over(given)
    if is_folder:
        found = [checkpoint.best(given), *(p for _, p in checkpoint.checkpoints(given))]
        path = next((p for p in found if p is not None), given)
        if path is given:
            raise ConfigError("this folder holds no checkpoint", where=str(given))
    state = checkpoint.read_given(path)
    if not {"trial", "best_weights"} <= state.keys():
        raise ConfigError(
            "this is no checkpoint of ckconv-sweep",
            where=str(path),
            hint="the authors' published weights become one by ckconv-sweep import-checkpoint",
        )
    try:
        trial = build(Trial, Document("its trial", state["trial"]))
    except ConfigError as error:
        raise DamagedData(
            f"its trial cannot be read: {error.message}", where=str(path), hint=error.hint
        ) from None
    return Trained(
        path=path, trial=trial, weights=state["best_weights"], data=checkpoint.data_of(state)
    )


def _handed_over(folder: Path) -> Trained:
    found = promoted.read(folder)
    return Trained(
        path=folder / promoted.WEIGHTS,
        trial=found.trial,
        weights=found.weights,
        data=found.data,
        description=found.description,
        preparation=found.preparation,
        classes=found.classes,
    )
