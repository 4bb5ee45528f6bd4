"""A checkpoint of the published code, https://github.com/dwromero/ckconv, made one of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ckconv_sweep.config import documents
from ckconv_sweep.config.read import trial_from
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData
from ckconv_sweep.models.authors import described_by, from_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.parameters import without_memory
from ckconv_sweep.record.blobs import Blobs
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.weights import Trained


def import_published(
    source: Path,
    out: Path,
    *,
    omega_0: float,
    dataset: str,
    changes: Sequence[str] = (),
    data_dir: Path | None = None,
) -> Trained:
    """Read the authors' weights, of any width and depth, and write them with their trial.

    Args:
        source: a file that the published code saved.
        out: a folder for `trial.yaml` and `best-*.pt`; made if need be.
        omega_0: with all its digits; the file does not hold it.
        dataset: on what it was trained.
        changes: as of `--set`: what else the file does not hold, such as `data.sampling_rate=2`.

    Raises:
        ConfigError: there is no such file, it is no such checkpoint, or it is one for other data.
        DamagedData: the file cannot be read.
        CannotWrite: the folder cannot be written.
    """
    state = checkpoint.read_given(source)
    if checkpoint.best(out) is not None or checkpoint.checkpoints(out):
        raise ConfigError("this folder holds a checkpoint already", where=str(out))
    try:
        there = described_by(state)
        tree = {
            "data": {"name": dataset},
            "model": {
                "hidden_channels": there.hidden_channels,
                "blocks": there.blocks,
                "bias": there.bias,
                "kernel": {
                    "hidden_channels": there.kernel_hidden_channels,
                    "layers": there.kernel_layers,
                    "omega_0": omega_0,
                },
            },
            "training": {"epochs": 200},  # the published default; the file does not say
        }
        places: dict[documents.Key, str] = {
            ("data",): f"--dataset {dataset}",
            ("data", "name"): f"--dataset {dataset}",
            ("model", "kernel", "omega_0"): f"--omega-0 {omega_0}",
        }
        trial = trial_from(tree, str(source), changes, places)
        description = describe(trial.data, data_dir)
        for what, theirs, ours in (
            ("input channels", there.in_channels, description.in_channels),
            ("outputs", there.outputs, description.outputs),
            ("steps", there.length or description.length, description.length),
        ):
            if theirs != ours:
                raise ConfigError(
                    f"its model is for {theirs} {what}, and {dataset} with these settings has "
                    f"{ours}",
                    hint="say with --set how its data were prepared, as in data.sampling_rate=2 "
                    "or data.dropped_fraction=0.3",
                )
        model = without_memory(trial.model, description)
        if not isinstance(model, CKCNN):
            raise ConfigError("the published checkpoints are CKCNNs", where="--set model.name")
        weights = from_authors(state, model)
    except (ConfigError, DamagedData) as error:
        raise type(error)(
            error.message, where=error.where or str(source), hint=error.hint
        ) from None
    plain = trial.model_dump(mode="json")
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot be made: {error.strerror}", where=str(out)) from None
    Blobs(out).put("trial.yaml", documents.write(plain))
    return Trained(
        path=out / checkpoint.save_best(out, plain, weights), trial=trial, weights=weights
    )
