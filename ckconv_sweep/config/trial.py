"""One training run in full: every setting that its result depends on.

A trial file (`trials/*.yaml`) is this tree written out. Each field is one searchable setting, named
by its path: `model.kernel.omega_0`. What only says where and how a run is placed (device, data
folder, cluster) is no setting of a trial and stays out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

METRICS = {"val/accuracy": "max", "val/loss": "min", "train/accuracy": "max", "train/loss": "min"}
"""What a trial can be judged by, with the direction that is better."""


class Settings(BaseModel):
    """Frozen and closed: an unknown key is refused, and `1` is not `"1"` nor `1.5`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Data(Settings):
    """Which sequences, and how they are split."""

    name: Literal["digits", "smnist", "pmnist"]
    """A name in the table `data.datasets.DATASETS`."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the training sequences held out for validation, stratified by class."""
    split_seed: Seed = 0
    """Decides which sequences are held out: the same for every trial of a sweep."""


class Kernel(Settings):
    """The small network that is the convolution's kernel (CKConv, sec. 4.1)."""

    hidden_channels: Positive = 32
    layers: Annotated[int, Field(ge=2, le=16)] = 3
    """Linear layers, the first and the last counted."""
    activation: Literal["sine", "relu", "leaky_relu", "swish"] = "sine"
    omega_0: Annotated[float, Field(gt=0.0)] = 30.0
    """Frequency by which the argument of every sine is multiplied (SIREN, sec. 3.2).
    The other activations do not use it."""
    norm: Literal["none", "layer", "batch"] = "none"
    """Between linear layer and activation; not with sine."""
    initialization: Literal["authors_effective", "siren"] = "authors_effective"
    """`siren` is what the papers say; `authors_effective` what the published code trained with
    (docs/decisions.md)."""

    @model_validator(mode="after")
    def _check(self) -> Kernel:
        if self.activation == "sine" and self.norm != "none":
            raise ValueError("norm must be none when activation is sine")
        if self.activation != "sine" and self.initialization == "siren":
            raise ValueError("initialization siren needs activation sine")
        return self


class Model(Settings):
    """A CKCNN: blocks of two CKConvs each."""

    hidden_channels: Positive
    blocks: Positive = 2
    dropout: Fraction = 0.0
    input_dropout: Fraction = 0.0
    bias: bool = True
    """Whether each CKConv adds a learned constant to each output channel."""
    kernel: Kernel = Kernel()


class Optimizer(Settings):
    """What all optimisers share."""

    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3


Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Decay = Annotated[float, Field(ge=0.0)]


class Adam(Optimizer):
    name: Literal["adam"] = "adam"
    beta_1: Beta = 0.9
    beta_2: Beta = 0.999


class AdamW(Optimizer):
    name: Literal["adamw"] = "adamw"
    beta_1: Beta = 0.9
    beta_2: Beta = 0.999
    weight_decay: Decay = 0.01


class SGD(Optimizer):
    name: Literal["sgd"] = "sgd"
    momentum: Beta = 0.9
    weight_decay: Decay = 0.0


class RMSprop(Optimizer):
    name: Literal["rmsprop"] = "rmsprop"
    alpha: Beta = 0.99
    momentum: Beta = 0.0


AnyOptimizer = Annotated[Adam | AdamW | SGD | RMSprop, Field(discriminator="name")]

Factor = Annotated[float, Field(gt=0.0, lt=1.0)]


class Constant(Settings):
    name: Literal["constant"] = "constant"


class Plateau(Settings):
    """Multiply the learning rate by `factor` when the metric has not improved for more than
    `patience` epochs."""

    name: Literal["plateau"] = "plateau"
    factor: Factor = 0.2
    patience: NotNegative = 20


class MultiStep(Settings):
    """Multiply the learning rate by `factor` after each epoch of `milestones`."""

    name: Literal["multistep"] = "multistep"
    factor: Factor = 0.1
    milestones: Annotated[tuple[Positive, ...], BeforeValidator(_as_tuple)] = ()

    @model_validator(mode="after")
    def _check(self) -> MultiStep:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {list(self.milestones)}")
        return self


class Cosine(Settings):
    """A linear warm-up, then half a cosine down towards zero at the last epoch."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: NotNegative = 0


AnySchedule = Annotated[Constant | Plateau | MultiStep | Cosine, Field(discriminator="name")]


class Training(Settings):
    epochs: Positive
    batch_size: Positive = 64
    seed: Seed = 0
    """Initial weights, order of the data and dropout masks all follow from it."""
    kernel_penalty: Annotated[float, Field(ge=0.0)] = 0.0
    """Factor of the sum over all CKConvs of the L2 norms (not squared) of sampled kernel and
    bias, as in the published code (`LnLoss`)."""
    clip_norm: Annotated[float, Field(ge=0.0)] = 0.0
    """Largest norm of the gradient; 0 switches clipping off."""
    early_stopping_epochs: NotNegative = 0
    """End after so many epochs without a better metric; 0 never ends early."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of the run. A setting, because sums are rounded in another order with another
    number of threads."""


class Metric(Settings):
    """What a trial is judged by: model selection, plateau, early stopping and the sweep."""

    name: Literal["val/accuracy", "val/loss", "train/accuracy", "train/loss"] = "val/accuracy"
    mode: Literal["max", "min"] = "max"
    at: Literal["best", "last"] = "best"
    """The best epoch (the earlier of equal ones), or the last."""

    @model_validator(mode="after")
    def _check(self) -> Metric:
        if self.mode != METRICS[self.name]:
            raise ValueError(f"mode must be {METRICS[self.name]} for {self.name}")
        return self

    def better(self, new: float, old: float) -> bool:
        """Whether `new` is strictly better than `old`."""
        return new > old if self.mode == "max" else new < old


class Trial(Settings):
    """One training run in full."""

    data: Data
    model: Model
    optimizer: AnyOptimizer = Adam()
    schedule: AnySchedule = Constant()
    training: Training
    metric: Metric = Metric()

    @model_validator(mode="after")
    def _check(self) -> Trial:
        if (
            isinstance(self.schedule, Cosine)
            and self.schedule.warmup_epochs >= self.training.epochs
        ):
            raise ValueError(
                f"schedule.warmup_epochs must be < training.epochs, got "
                f"{self.schedule.warmup_epochs} and {self.training.epochs}"
            )
        return self


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model": {"dropout": 0.1}}` -> `{"model.dropout": 0.1}`."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Each path's shortest ending that no other path has: `model.kernel.omega_0` -> `omega_0`."""
    paths = list(paths)
    endings = {
        path: [path.split(".", skip)[-1] for skip in range(path.count("."), -1, -1)]
        for path in paths
    }
    all_endings = Counter(ending for several in endings.values() for ending in several)
    return {path: next((e for e in endings[path] if all_endings[e] == 1), path) for path in paths}
