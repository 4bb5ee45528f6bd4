"""One training run in full: every setting that its result depends on.

A trial file (`trials/*.yaml`) is this tree written out. Each field is one searchable setting, named
by its path: `model.kernel.omega_0`. What only says where and how a run is placed (device, data
folder, cluster) is no setting of a trial and stays out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ckconv_sweep.config.data import DATASETS, Data
from ckconv_sweep.config.metrics import METRICS, scored_by
from ckconv_sweep.config.model import ARCHITECTURES, READOUTS, CKCNNConfig, ModelConfig
from ckconv_sweep.config.optimization import (
    OPTIMIZERS,
    SCHEDULES,
    Adam,
    Constant,
    Optimizer,
    Schedule,
)
from ckconv_sweep.config.settings import (
    NotNegative,
    NotNegativeReal,
    Positive,
    Seed,
    Settings,
)

Precision = Literal["float32", "tf32", "bfloat16"]


class Training(Settings):
    epochs: Positive
    """How often the training sequences are gone through, at most."""
    batch_size: Positive = 64
    """Training sequences of a step."""
    seed: Seed = 0
    """Initial weights, order of the data and dropout masks all follow from it. In a sweep the
    number of the trial is added."""
    kernel_penalty: NotNegativeReal = 0.0
    """Factor of the sum over all CKConvs of the L2 norms (not squared) of sampled kernel and
    bias, as in the published code (`LnLoss`)."""
    clip_norm: NotNegativeReal = 0.0
    """Largest norm of the gradient; 0 switches clipping off."""
    early_stopping_epochs: NotNegative = 0
    """End after so many epochs without a better metric; 0 never ends early."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of the run. A setting, because sums are rounded in another order with another
    number of threads."""
    precision: Precision = "float32"
    """Of the products of spectra over channels, in dense CKConvs by FFT. All else (kernel nets,
    FFTs, sums, norms, optimisers) stays in float32. `tf32` changes numbers on NVIDIA GPUs since
    Ampere only, `bfloat16` everywhere; what they cost: docs/performance.md."""


class Metric(Settings):
    """What a trial is judged by: model selection, plateau, early stopping and the sweep."""

    name: Annotated[str, METRICS] = "val/accuracy"
    """A score of the validation split (`val/`) or of the training split (`train/`); after the first
    metric of a space also a cost, `model.parameters` or `time/epoch_seconds`."""
    mode: Literal["max", "min"] = "max"
    """Which direction is better: where it is left out, the one of the name."""
    at: Literal["best", "last"] = "best"
    """The best epoch (the earlier of equal ones), or the last."""

    @model_validator(mode="before")
    @classmethod
    def _with_mode(cls, value: Any) -> Any:
        if isinstance(value, dict) and "mode" not in value and value.get("name") in [*METRICS]:
            return value | {"mode": METRICS[value["name"]].mode}
        return value

    @model_validator(mode="after")
    def _check(self) -> Metric:
        if self.mode != METRICS[self.name].mode:
            raise ValueError(f"mode must be {METRICS[self.name].mode} for {self.name}")
        return self

    @property
    def better_is(self) -> str:
        """`higher` or `lower`."""
        return "higher" if self.mode == "max" else "lower"

    def better(self, new: float, old: float) -> bool:
        """Whether `new` is strictly better than `old`."""
        return new > old if self.mode == "max" else new < old


class Trial(Settings):
    """One training run in full."""

    data: Annotated[Data, DATASETS]
    """Which sequences it sees, how they are split, and in which form."""
    model: Annotated[ModelConfig, ARCHITECTURES] = CKCNNConfig()
    """The network."""
    optimizer: Annotated[Optimizer, OPTIMIZERS] = Adam()
    """How the weights are changed in a step."""
    schedule: Annotated[Schedule, SCHEDULES] = Constant()
    """How the learning rate changes from epoch to epoch."""
    training: Training
    """How long and with what else it is trained."""
    metric: Metric = Metric()
    """What it is judged by."""

    def is_meant_by(self, plain: object) -> bool:
        """Whether plain values, which an earlier version with fewer settings may have written, are
        this trial."""
        try:
            return Trial.model_validate(plain) == self
        except ValidationError:
            return False

    @model_validator(mode="after")
    def _check(self) -> Trial:
        self.schedule.check_epochs(self.training.epochs)
        if not METRICS[self.metric.name].chooses:
            raise ValueError(
                f"metric.name: {self.metric.name} chooses no epoch: name a score first, then it"
            )
        if why := self.unscored(self.metric):
            raise ValueError(f"metric.name: {why}")
        self._check_model_fits_data()
        return self

    def unscored(self, metric: Metric) -> str:
        """Why the data have no such metric; empty where they have it."""
        split, _, score = metric.name.partition("/")
        scores = scored_by(self.data.kind)
        if score in scores or not METRICS[metric.name].chooses:
            return ""
        there = ", ".join(f"{split}/{name}" for name in scores)
        return f"{self.data.name} is not scored by {metric.name}; there are: {there}"

    def _check_model_fits_data(self) -> None:
        kind, readout = self.data.kind, self.model.readout
        fitting = [name for name, row in READOUTS.items() if kind in row.kinds]
        if readout not in fitting:
            raise ValueError(
                f"model.readout must be {' or '.join(fitting)} for {self.data.name}, got {readout}"
            )
        if kind == "text" and (must := self.model.to_be_causal):
            raise ValueError(
                f"{must} for {self.data.name}: otherwise a step sees the characters that it is to "
                "predict"
            )
        if self.training.kernel_penalty and not self.model.has_kernel_nets:
            raise ValueError(
                f"training.kernel_penalty must be 0 for a {self.model.name}: it has no kernel net"
            )
        if self.training.precision != "float32" and not self.model.has_kernel_nets:
            raise ValueError(
                f"training.precision must be float32 for a {self.model.name}: it has no FFT "
                f"convolution"
            )
        if self.data.has_times and not self.model.resamples:
            raise ValueError(
                f"model: a {self.model.name} cannot use time stamps; take a ckcnn, or data without "
                f"them (dropped_as: mask, sampled: evenly)"
            )
        if (
            self.data.has_times
            and isinstance(self.model, CKCNNConfig)
            and self.model.weight_dropout > 0.0
        ):
            raise ValueError(
                "model.weight_dropout must be 0 where steps have times of their own: there is no "
                "one sampled kernel whose values could be dropped"
            )
