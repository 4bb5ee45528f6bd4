"""What the names and sizes of the authors' files tell.

The names are those of the folder `saved/` of github.com/dwromero/ckconv.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ckconv_sweep.config import bundled
from ckconv_sweep.config.read import read_trial, trial_from
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.models.authors import to_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.models.parameters import without_memory
from ckconv_sweep.training.published import recognized

# The bundled trial -> dataset in the file's name, width, omega_0, and what follows it.
SAVED = {
    "smnist_98k": ("MNIST_perm_False", 30, "31.09"),
    "smnist_1m": ("MNIST_perm_False", 100, "30.5"),
    "pmnist_98k": ("MNIST_perm_True", 30, "43.46"),
    "pmnist_1m": ("MNIST_perm_True", 100, "42.16"),
    "scifar10_100k": ("CIFAR10", 30, "25.7"),
    "scifar10_1m": ("CIFAR10", 100, "25.7"),
    "character_trajectories_sr1": ("CharTrajectories_srtr_1_drop_0", 30, "21.45"),
    "character_trajectories_sr2": ("CharTrajectories_srtr_2_drop_0", 30, "21.45"),
    "character_trajectories_sr4": ("CharTrajectories_srtr_4_drop_0", 30, "21.45"),
    "character_trajectories_sr8": ("CharTrajectories_srtr_8_drop_0", 30, "12.59"),
    "character_trajectories_drop30": ("CharTrajectories_srtr_1_drop_30", 30, "17.24"),
    "character_trajectories_drop50": ("CharTrajectories_srtr_1_drop_50", 30, "12.0"),
    "character_trajectories_drop70": ("CharTrajectories_srtr_1_drop_70", 30, "4.24"),
    "speech_commands_mfcc": ("SpeechCommands_mfcc_True", 30, "30.9"),
    "speech_commands_raw_sr1": ("SpeechCommands_mfcc_False_srtr_1_drop_0", 30, "39.45"),
    "speech_commands_raw_sr2": ("SpeechCommands_mfcc_False_srtr_2_drop_0", 30, "39.45"),
    "speech_commands_raw_sr4": ("SpeechCommands_mfcc_False_srtr_4_drop_0", 30, "39.45"),
    "speech_commands_raw_sr8": ("SpeechCommands_mfcc_False_srtr_8_drop_0", 30, "39.45"),
    "speech_commands_raw_drop30": ("SpeechCommands_mfcc_False_srtr_1_drop_30", 30, "35.66"),
    "speech_commands_raw_drop50": ("SpeechCommands_mfcc_False_srtr_1_drop_50", 30, "31.7"),
    "speech_commands_raw_drop70": ("SpeechCommands_mfcc_False_srtr_1_drop_70", 30, "23.29"),
    "physionet2019": ("PhysioNet", 30, "9.78"),
}


def named(dataset: str, width: int, omega_0: str) -> str:
    return (
        f"{dataset}_model_CKCNN_blcks_2_nohid_{width}_kernnohid_32_kernact_Sine_kernomega0_"
        f"{omega_0}_bs_64_optim_Adam_lr_0.001_ep_200_dpin_0.1_dp_0.1_wd_0.0_seed_0_sched_plateau_"
        "schdec_5.0_pat_20.pt"
    )


def saved(path: Path, trial: str) -> Path:
    """Weights with the sizes of a published network."""
    settings = read_trial(trial)
    model = without_memory(settings.model, describe(settings.data))
    assert isinstance(model, CKCNN)
    torch.save(to_authors(model), path)
    return path


def test_every_published_trial_is_here() -> None:
    published = {n for n in bundled.names("trials") if "authors_effective" in text_of(n)}
    assert published == SAVED.keys()


def text_of(trial: str) -> str:
    return bundled.locate(trial, "trials").read_text()


@pytest.mark.parametrize("trial", SAVED)
def test_the_name_of_a_file_tells_which_network_it_is(trial: str, tmp_path: Path) -> None:
    _, (known,) = recognized(saved(tmp_path / named(*SAVED[trial]), trial))
    settings = read_trial(trial)
    assert (known.name, known.dataset) == (trial, settings.data.name)
    assert f"omega_0: {known.omega_0}\n" in text_of(trial)
    changed = [change for change in known.changes if change.startswith("data.")]
    untouched = trial_from(
        {"data": {"name": known.dataset}, "training": {"epochs": 1}}, "x", changed
    )
    assert untouched.data == settings.data
    assert ("model.legacy_odd_fft=true" in known.changes) == (trial in WRONG)


WRONG = ("character_trajectories_sr2", "character_trajectories_sr8", "speech_commands_mfcc")
"""Their weights were trained with the FFT that is wrong for odd lengths."""


def test_the_name_of_a_trial_tells_it_too(tmp_path: Path) -> None:
    _, (known,) = recognized(saved(tmp_path / "pmnist_1m.pt", "pmnist_1m"))
    assert known.name == "pmnist_1m"


def test_another_name_leaves_all_of_these_sizes(tmp_path: Path) -> None:
    there, found = recognized(saved(tmp_path / "a.pt", "smnist_98k"))
    assert (there.in_channels, there.outputs, there.hidden_channels) == (1, 10, 30)
    raw = {f"speech_commands_raw_sr{rate}" for rate in (1, 2, 4, 8)}
    assert {known.name for known in found} == {"smnist_98k", "pmnist_98k"} | raw


@pytest.mark.parametrize(
    ("trial", "name"),
    [
        # Drafts that the authors left in the folder, or in its history.
        ("character_trajectories_sr1", named("CharTrajectories_srtr_1_drop_30", 30, "11.46")),
        ("physionet2019", named("PhysioNet", 30, "50.0")),
        # The weights of one network under the name of another.
        ("smnist_1m", named("MNIST_perm_False", 30, "31.09")),
        ("adding", "adding.pt"),
    ],
)
def test_what_nobody_knows_is_not_guessed(trial: str, name: str, tmp_path: Path) -> None:
    assert recognized(saved(tmp_path / name, trial))[1] == []
