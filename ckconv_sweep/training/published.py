"""A checkpoint of the published code, https://github.com/dwromero/ckconv, made one of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ckconv_sweep.config import bundled, documents
from ckconv_sweep.config.data import CharacterTrajectoriesData, Data, SpeechCommandsData
from ckconv_sweep.config.model import CKCNNConfig, MLPConfig
from ckconv_sweep.config.read import read_trial, trial_from
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.errors import CannotWrite, ConfigError, DamagedData
from ckconv_sweep.models.authors import Published, described_by, from_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.parameters import without_memory
from ckconv_sweep.record.blobs import FolderBlobs
from ckconv_sweep.training import checkpoint
from ckconv_sweep.training.weights import Trained


@dataclass(frozen=True, kw_only=True)
class Known:
    """A network that the authors published: how its weights are imported."""

    name: str
    """Of the bundled trial with its settings."""
    dataset: str
    omega_0: float
    """As in `runs/README.md` of the published code; the names of its files have two decimals."""
    changes: tuple[str, ...]
    """As of `--set`: how its data were prepared, and whether its convolution was the wrong one."""


def recognized(source: Path) -> tuple[Published, list[Known]]:
    """What a file of the authors' weights tells by itself, and which published network it is: the
    one that its name says, or else all that have its sizes.

    Raises:
        ConfigError, DamagedData: it is no such file.
    """
    state = checkpoint.read_given(source)
    try:
        there = described_by(state)
    except ConfigError as error:
        raise ConfigError(error.message, where=str(source), hint=error.hint) from None
    alike, named = list[Known](), list[Known]()
    said = re.search(r"_kernomega0_([0-9.]+)_", source.name)
    for name in bundled.names("trials"):
        trial = read_trial(name)
        start = _file_name(trial)
        if start is None or not _has_sizes(trial, there):
            continue
        known = _known(name, trial)
        if source.name.startswith(start) or source.stem == name:
            named.append(known)
        elif said is None or float(said[1]) == round(known.omega_0, 2):
            alike.append(known)
    return there, named or alike


def _file_name(trial: Trial) -> str | None:
    """How the name of the authors' file of a trial begins; None if they published none."""
    data, model = trial.data, trial.model
    if not isinstance(model, CKCNNConfig) or not isinstance(model.kernel, MLPConfig):
        return None
    match data:
        case SpeechCommandsData(features="mfcc"):
            sequences = "SpeechCommands_mfcc_True"
        case SpeechCommandsData() | CharacterTrajectoriesData():
            sequences = f"srtr_{data.sampling_rate}_drop_{100 * data.dropped_fraction:.0f}"
            raw = isinstance(data, SpeechCommandsData)
            sequences = f"{'SpeechCommands_mfcc_False' if raw else 'CharTrajectories'}_{sequences}"
        case Data(name="smnist" | "pmnist"):
            sequences = f"MNIST_perm_{data.name == 'pmnist'}"
        case Data(name="scifar10"):
            sequences = "CIFAR10"
        case Data(name="physionet2019"):
            sequences = "PhysioNet"
        case _:
            return None
    return (
        f"{sequences}_model_CKCNN_blcks_{model.blocks}_nohid_{model.hidden_channels}_kernnohid_"
        f"{model.kernel.hidden_channels}_kernact_Sine_kernomega0_{round(model.kernel.omega_0, 2)}_"
    )


def _has_sizes(trial: Trial, there: Published) -> bool:
    model, data = trial.model, describe(trial.data)
    assert isinstance(model, CKCNNConfig)
    return there == Published(
        in_channels=data.in_channels,
        outputs=data.outputs,
        length=there.length and data.length,
        hidden_channels=model.hidden_channels,
        blocks=model.blocks,
        bias=model.bias,
        kernel_hidden_channels=model.kernel.hidden_channels,
        kernel_layers=model.kernel.layers,
    )


def _known(name: str, trial: Trial) -> Known:
    assert isinstance(trial.model, CKCNNConfig)
    ours, default = trial.data, type(trial.data)(name=trial.data.name)
    usual = flat(default.model_dump(mode="json"))
    changes = [
        f"data.{key}={value}"
        for key, value in flat(ours.model_dump(mode="json")).items()
        if value != usual[key]
    ]
    if describe(ours).length % 2:  # their FFT was wrong for odd lengths
        changes.append("model.legacy_odd_fft=true")
    return Known(
        name=name,
        dataset=ours.name,
        omega_0=trial.model.kernel.omega_0,
        changes=tuple(changes),
    )


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
    FolderBlobs(out).put("trial.yaml", documents.write(plain))
    return Trained(
        path=out / checkpoint.save_best(out, plain, weights), trial=trial, weights=weights
    )
