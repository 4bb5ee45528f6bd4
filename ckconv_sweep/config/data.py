"""Which sequences a trial sees, how they are split, and in which form.

What each dataset is, its shape, its source and its split, stands in its file in `data/`.
`config/table.py` says how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ckconv_sweep.config.settings import (
    Fraction,
    ListAsTuple,
    NotNegative,
    OpenFraction,
    Positive,
    Seed,
)
from ckconv_sweep.config.table import Row, Table

Kind = Literal["classification", "binary", "per_step", "regression", "text"]
"""What is asked of a model. `classification`: one class a sequence. `binary`: one yes or no a
sequence. `per_step`: one class a step. `regression`: one number a sequence. `text`: the next
character, at every step."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is known of a dataset before it is read: enough to count a model's parameters."""

    name: str
    kind: Kind = "classification"
    in_channels: int
    """Channels of a sequence; for `text` the number of different characters."""
    length: int
    """Time steps in every sequence of the training and validation splits; where they have times,
    the steps of the whole sequence, in which these are counted."""
    outputs: int
    """Values that a model gives, for a sequence or for a step: one for each class, or one."""


class Data(Row):
    """What all datasets share."""

    kinds: ClassVar[tuple[Kind, ...]] = ("classification",)
    """What may be asked of its sequences; where there are several, a setting says which one is."""
    licence: ClassVar[str] = "not known here; see where the data come from"
    """Under which terms the data may be used, for a model card."""
    split_seed: Seed = 0
    """Decides which sequences are held out for validation: the same for every trial of a sweep."""

    @property
    def kind(self) -> Kind:
        """What is asked of its sequences."""
        return self.kinds[0]

    @property
    def has_times(self) -> bool:
        """Whether every sequence brings the time of each of its steps."""
        return False

    @property
    def is_continuous(self) -> bool:
        """Whether every second step would be the same sequence, seen more coarsely."""
        return True


DATASETS: Table[Data] = Table("dataset")
"""Makers: a module each, or another object, with the two functions of `data.datasets.Dataset`."""


class HeldOut(Data):
    """A dataset without a validation split of its own."""

    validation_fraction: OpenFraction = 0.1
    """Share of the training sequences held out for validation, stratified by class."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Into how many equal parts the training sequences are dealt, stratified by class; one of them
    is held out, in place of `validation_fraction`. null: no parts."""
    fold: NotNegative = 0
    """Which of the `folds` is held out, from 0."""

    @model_validator(mode="after")
    def _check_fold(self) -> Self:
        if self.fold >= (self.folds or 1):
            raise ValueError(f"fold must be < folds, got {self.fold} and {self.folds}")
        return self


class Resampled(Data):
    """Sequences sampled from something continuous: they can be sampled more coarsely, and steps can
    be missing."""

    sampling_rate: Positive = 1
    """Every n-th step is kept, in all splits."""
    test_sampling_rate: Positive | None = None
    """Every n-th step is kept in the test split, where that differs."""
    dropped_fraction: Fraction = 0.0
    """Share of steps that each sequence lacks, drawn once for the dataset."""
    dropped_as: Literal["mask", "times"] = "mask"
    """How a model sees what is missing. `mask`: zeros, and one more channel that is 1 where a step
    is there, as published. `times`: missing steps are left out, and the kernel is sampled at the
    true distances between the others."""
    normalization: Literal["per_channel", "per_time_step"] = "per_channel"
    """Over which values mean and standard deviation are taken. The published code takes them over
    all channels and sequences, for each time step apart."""

    @property
    def has_times(self) -> bool:
        return self.dropped_fraction > 0.0 and self.dropped_as == "times"

    @property
    def is_continuous(self) -> bool:
        return not self.has_times


@DATASETS.row("ckconv_sweep.data.digits")
class DigitsData(HeldOut):
    """scikit-learn's small handwritten digits."""

    licence: ClassVar[str] = "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)"
    name: Literal["digits"] = "digits"


@DATASETS.row("ckconv_sweep.data.mnist")
class SmnistData(HeldOut):
    """MNIST, pixel by pixel."""

    licence: ClassVar[str] = "CC BY-SA 3.0 (MNIST: LeCun, Cortes, Burges)"
    name: Literal["smnist"] = "smnist"


@DATASETS.row("ckconv_sweep.data.mnist")
class PmnistData(HeldOut):
    """MNIST, pixel by pixel, in one fixed shuffled order."""

    licence: ClassVar[str] = "CC BY-SA 3.0 (MNIST: LeCun, Cortes, Burges)"
    name: Literal["pmnist"] = "pmnist"

    @property
    def is_continuous(self) -> bool:
        return False


@DATASETS.row("ckconv_sweep.data.cifar10")
class Scifar10Data(HeldOut):
    """CIFAR-10, pixel by pixel."""

    licence: ClassVar[str] = "none was published with CIFAR-10 (Krizhevsky 2009)"
    name: Literal["scifar10"] = "scifar10"
    normalization: Literal["per_channel", "imagenet"] = "per_channel"
    """Over which values mean and standard deviation are taken. `imagenet`: those of ImageNet's
    colours, as published."""


@DATASETS.row("ckconv_sweep.data.character_trajectories")
class CharacterTrajectoriesData(Resampled):
    """Pen strokes of twenty letters."""

    licence: ClassVar[str] = "CC BY 4.0 (UCI, Character Trajectories: B. H. Williams)"
    name: Literal["character_trajectories"] = "character_trajectories"


TEN_WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@DATASETS.row("ckconv_sweep.data.speech_commands")
class SpeechCommandsData(Resampled):
    """Spoken words of one second."""

    licence: ClassVar[str] = "CC BY 4.0 (Speech Commands 0.02: Warden 2018)"
    name: Literal["speech_commands"] = "speech_commands"
    features: Literal["raw", "mfcc"] = "raw"
    """The samples themselves, or 20 mel frequency cepstral coefficients at 161 steps."""
    words: Annotated[tuple[str, ...], Field(min_length=2), ListAsTuple] = TEN_WORDS
    """The classes, each a folder of the dataset, in the order in which they are numbered."""

    @property
    def is_continuous(self) -> bool:
        return self.features == "raw" and super().is_continuous

    @model_validator(mode="after")
    def _check(self) -> SpeechCommandsData:
        if len(set(self.words)) < len(self.words):
            raise ValueError(f"words lists a word twice: {', '.join(self.words)}")
        if self.features == "mfcc" and (
            self.sampling_rate != 1 or self.test_sampling_rate or self.dropped_fraction
        ):
            raise ValueError(
                "features mfcc are computed from every sample: no sampling_rate, no "
                "test_sampling_rate and no dropped_fraction"
            )
        return self


@DATASETS.row("ckconv_sweep.data.physionet2019")
class PhysioNetData(Data):
    """Intensive care stays: does a sepsis come?"""

    kinds: ClassVar[tuple[Kind, ...]] = ("binary",)
    licence: ClassVar[str] = "that of https://physionet.org/content/challenge-2019/1.0.0/"
    name: Literal["physionet2019"] = "physionet2019"


@DATASETS.row("ckconv_sweep.data.copy_memory")
class CopyMemoryData(Data):
    """Symbols to be repeated after a long pause."""

    kinds: ClassVar[tuple[Kind, ...]] = ("per_step",)
    licence: ClassVar[str] = "none is needed: ckconv-sweep draws the sequences"
    name: Literal["copy_memory"] = "copy_memory"
    blank_steps: Positive = 1000
    """Steps from the last symbol to the signal to repeat them (T in the literature)."""
    memory: Positive = 10
    """Symbols to be remembered."""
    train_sequences: Positive = 10_000
    """Number of generated training sequences."""
    test_sequences: Positive = 1_000
    """Number of generated test sequences; validation has as many."""

    @property
    def is_continuous(self) -> bool:
        return False


@DATASETS.row("ckconv_sweep.data.adding")
class AddingData(Data):
    """Two marked numbers of a long sequence to be added."""

    kinds: ClassVar[tuple[Kind, ...]] = ("regression",)
    licence: ClassVar[str] = "none is needed: ckconv-sweep draws the sequences"
    name: Literal["adding"] = "adding"
    length: Annotated[int, Field(ge=2)] = 1000
    """Steps of a sequence."""
    train_sequences: Positive = 50_000
    """Number of generated training sequences."""
    test_sequences: Positive = 1_000
    """Number of generated test sequences; validation has as many."""

    @property
    def is_continuous(self) -> bool:
        return False


@DATASETS.row("ckconv_sweep.data.penn_treebank")
class PennTreebankData(Data):
    """The characters of the Penn Treebank: the next one is asked for."""

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    licence: ClassVar[str] = "that of the Linguistic Data Consortium (LDC99T42)"
    name: Literal["ptb_characters"] = "ptb_characters"
    sequence_length: Annotated[int, Field(ge=2)] = 400
    """Characters of a sequence."""
    predicted_steps: Positive = 320
    """Only so many of the last steps of a sequence count; those before are context."""

    @property
    def is_continuous(self) -> bool:
        return False

    @model_validator(mode="after")
    def _check(self) -> PennTreebankData:
        if self.predicted_steps > self.sequence_length:
            raise ValueError(
                f"predicted_steps <= sequence_length must hold, got {self.predicted_steps} and "
                f"{self.sequence_length}"
            )
        return self


@DATASETS.row("ckconv_sweep.data.uea")
class UeaData(HeldOut):
    """A time series classification problem in the UEA and UCR archives' format."""

    licence: ClassVar[str] = "that of the problem; see https://www.timeseriesclassification.com"
    name: Literal["uea"] = "uea"
    problem: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")]
    """Name of the problem: `<problem>_TRAIN.ts` and `<problem>_TEST.ts` are its files."""
    normalization: Literal["per_channel", "per_time_step"] = "per_channel"
    """Over which values mean and standard deviation are taken."""


@DATASETS.row("ckconv_sweep.data.arrays")
class ArraysData(HeldOut):
    """Sequences of your own, in one file."""

    kinds: ClassVar[tuple[Kind, ...]] = ("classification", "regression")
    licence: ClassVar[str] = "that of the file"
    name: Literal["arrays"] = "arrays"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """A .npz, .csv or .ts file with all sequences and a target for each; in the data folder, or an
    absolute path."""
    target: Literal["classes", "number"] = "classes"
    """What is asked of a sequence: its class, or a number."""
    sampled: Literal["evenly", "at_times"] = "evenly"
    """Whether steps are equally far apart, or the file has the time of each; then the kernel is
    sampled at the true distances between them."""

    @property
    def kind(self) -> Kind:
        return "classification" if self.target == "classes" else "regression"

    @property
    def has_times(self) -> bool:
        return self.sampled == "at_times"

    @property
    def is_continuous(self) -> bool:
        return not self.has_times
