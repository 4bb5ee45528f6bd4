"""What a model is made of: the tables of architectures, kernel nets and masks, and those of the
parts that a file names by a word. `config/table.py` says how to add to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ckconv_sweep.config.data import Kind
from ckconv_sweep.config.settings import (
    Depth,
    Fraction,
    NotNegativeReal,
    OpenFraction,
    PositiveReal,
    Width,
)
from ckconv_sweep.config.table import Row, Table, Word, Words

_MODELS = "ckconv_sweep.models"


class KernelConfig(Row):
    """What all kernel nets share: the small network that is the convolution's kernel."""

    hidden_channels: Width = 32
    """Width of the kernel net."""
    layers: Annotated[int, Field(ge=2, le=16)] = 3
    """Linear layers, the first and the last counted."""
    omega_0: PositiveReal = 30.0
    """Frequency of the kernel net: how fast the kernel can vary. What it multiplies is in each
    net's file."""
    learn_omega_0: bool = False
    """Whether omega_0 is trained too, from this value on."""
    omega_0_learning_rate_factor: PositiveReal = 1.0
    """Learning rate of omega_0, as a factor of that of the other weights."""
    normalize_variance: bool = False
    """Divide the last layer's initial weights by the square root of the number of values that the
    convolution sums, so that its output starts with the variance of its input (Romero et al. 2022,
    CCNN, arXiv:2206.03398)."""


KERNEL_NETS: Table[KernelConfig] = Table("kernel net", unnamed="mlp")
"""Makers: a `KernelNet` each."""


@dataclass(frozen=True)
class KernelActivation(Word):
    """Its maker is a function of a layer's values, `(H, P)`, and omega_0, `(1, 1)`."""

    has_omega_0: bool = False
    """Whether it is periodic; then it takes no norm before it, and omega_0 can be learned."""


_MLP = f"{_MODELS}.kernel_nets.mlp"
KERNEL_ACTIVATIONS: Words[KernelActivation] = Words(
    "kernel activation",
    KernelActivation("sine", f"{_MLP}:sine", has_omega_0=True),
    KernelActivation("relu", f"{_MLP}:relu"),
    KernelActivation("leaky_relu", f"{_MLP}:leaky_relu"),
    KernelActivation("swish", f"{_MLP}:swish"),
)
KERNEL_NORMS: Words[Word] = Words(
    "kernel norm",
    Word("none", f"{_MLP}:no_norm"),
    Word("layer", f"{_MLP}:layer"),
    Word("batch", f"{_MLP}:batch"),
)
"""Makers: a function each of the number of channels that gives a module."""
INITIALIZATIONS: Words[Word] = Words(
    "initialization",
    Word("authors_effective", f"{_MLP}:authors_effective"),
    Word("siren", f"{_MLP}:siren"),
)
"""Makers: a function each of the linear layers, the settings and a generator, that sets weights and
biases."""


@KERNEL_NETS.row(f"{_MLP}:MLP")
class MLPConfig(KernelConfig):
    """Linear layers, one activation between them; with sine it is a SIREN (CKConv, sec. 4.1)."""

    name: Literal["mlp"] = "mlp"
    activation: Annotated[str, KERNEL_ACTIVATIONS] = "sine"
    """Between the linear layers."""
    norm: Annotated[str, KERNEL_NORMS] = "none"
    """Between linear layer and activation; not with sine."""
    initialization: Annotated[str, INITIALIZATIONS] = "authors_effective"
    """`siren` is what the papers say; `authors_effective` what the published code trained with
    (docs/decisions.md)."""

    @model_validator(mode="after")
    def _check(self) -> MLPConfig:
        has_omega_0 = KERNEL_ACTIVATIONS[self.activation].has_omega_0
        if has_omega_0 and self.norm != "none":
            raise ValueError(f"norm must be none when activation is {self.activation}")
        if not has_omega_0 and self.initialization == "siren":
            raise ValueError("initialization siren needs activation sine")
        if not has_omega_0 and self.learn_omega_0:
            raise ValueError("learn_omega_0 needs activation sine: the others have no omega_0")
        return self


@KERNEL_NETS.row(f"{_MODELS}.kernel_nets.random_fourier:RandomFourier")
class RandomFourierConfig(KernelConfig):
    """Cosine and sine of fixed random frequencies, then linear layers with ReLU."""

    name: Literal["random_fourier"] = "random_fourier"

    @model_validator(mode="after")
    def _check(self) -> RandomFourierConfig:
        if self.hidden_channels % 2:
            raise ValueError(
                f"hidden_channels must be even (a cosine and a sine for each frequency), got "
                f"{self.hidden_channels}"
            )
        return self


@KERNEL_NETS.row(f"{_MODELS}.kernel_nets.magnet:Magnet")
class MagnetConfig(KernelConfig):
    """A multiplicative network of Gabor filters (FlexConv, arXiv:2110.08059)."""

    name: Literal["magnet"] = "magnet"


class MaskConfig(Row):
    """What all masks share: how far a kernel reaches."""


MASKS: Table[MaskConfig] = Table("mask", unnamed="none")
"""Makers: a `KernelMask` each."""


@MASKS.row(f"{_MODELS}.kernel_masks:Unmasked")
class NoMask(MaskConfig):
    """The kernel reaches back over the whole sequence."""

    name: Literal["none"] = "none"


@MASKS.row(f"{_MODELS}.kernel_masks:Gaussian")
class GaussianMask(MaskConfig):
    """The kernel is multiplied by a Gaussian of learned width around the present (FlexConv)."""

    name: Literal["gaussian"] = "gaussian"
    width: PositiveReal = 0.075
    """Initial standard deviation, where the kernel spans [-1, 1]."""
    learning_rate_factor: PositiveReal = 1.0
    """Learning rate of the width, as a factor of that of the other weights."""
    crop_below: Fraction = 0.1
    """Where the mask is smaller than this the kernel is cut off; 0 cuts nothing."""


@dataclass(frozen=True)
class Readout(Word):
    """Its maker is a function of hidden channels `(B, D, T)`, a weight `(K, D)`, a bias `(K,)` and
    `Sampling.present_B1T` that gives the answer, `(B, K)`, or `(B, K, T)` where every step is
    answered."""

    kinds: tuple[Kind, ...]
    """The kinds of task that it answers."""
    tied: bool = False
    """Whether the weight is the one that embeds characters."""
    of_last_step: bool = False
    """Whether the hidden channels of the last step suffice."""


_OF_SEQUENCE: tuple[Kind, ...] = ("classification", "binary", "regression")
_HEAD = "ckconv_sweep.models.sequence_model"
READOUTS: Words[Readout] = Words(
    "readout",
    Readout("last", f"{_HEAD}:last", _OF_SEQUENCE, of_last_step=True),
    Readout("mean", f"{_HEAD}:mean", _OF_SEQUENCE),
    Readout("every_step", f"{_HEAD}:every_step", ("per_step", "text")),
    Readout("tied", f"{_HEAD}:every_step", ("text",), tied=True),
)


@dataclass(frozen=True)
class Norm(Word):
    """Its maker is a function of the number of channels that gives a module."""

    causal: bool = False
    """Whether each step is normalised without the steps after it."""


NORMS: Words[Norm] = Words(
    "norm",
    Norm("layer", f"{_MODELS}.norms:layer"),
    Norm("instance", f"{_MODELS}.norms:instance"),
    Norm("channel", f"{_MODELS}.norms:channel", causal=True),
    Norm("none", f"{_MODELS}.norms:none", causal=True),
)

BLOCKS: Words[Word] = Words(
    "block",
    Word("residual", f"{_MODELS}.blocks:Residual"),
    Word("preactivation", f"{_MODELS}.blocks:Preactivation"),
    Word("s4", f"{_MODELS}.blocks:S4"),
)
"""Makers: a `Block` each."""

ACTIVATIONS: Words[Word] = Words(
    "activation",
    Word("relu", "torch.nn.functional:relu"),
    Word("gelu", f"{_MODELS}.activations:gelu"),
)
"""Makers: a function of a tensor each."""

DROPOUTS: Words[Word] = Words(
    "dropout",
    Word("element", f"{_MODELS}.blocks:each_element"),
    Word("channel", f"{_MODELS}.blocks:each_channel"),
)
"""Makers: a function each, from the shape `(B, C, T)` of what is dropped from to the shape of the
factors."""


class ModelConfig(Row):
    """What all architectures share."""

    resamples: ClassVar[bool] = False
    """Whether sequences of another sampling rate, or with times of their own, can be read."""
    has_kernel_nets: ClassVar[bool] = False
    """Whether it has CKConvs, whose kernels can be penalised and whose precision can be chosen."""
    vectorizes: ClassVar[bool] = True
    """Whether many models of one shape can be run at once: all parameters and buffers, and the
    input, the times of its steps, the masks, the answers and the penalty with an axis more in front
    (`models/members.py`)."""
    hidden_channels: Width = 30
    """Channels between the blocks or layers: the width of the model."""
    dropout: Fraction = 0.0
    """Share of the hidden values that are dropped in training."""
    input_dropout: Fraction = 0.0
    """Share of the input values that are dropped in training; for text, of the embedded
    characters."""
    readout: Annotated[str, READOUTS] = "last"
    """What becomes the answer. `last`: the last step. `mean`: the mean over steps. `every_step`:
    each step by itself. `tied`: each step by the weights that embed characters (text only)."""

    @property
    def to_be_causal(self) -> str | None:
        """What must hold so that a step sees only the steps before it; None where it holds."""
        return None


ARCHITECTURES: Table[ModelConfig] = Table("model", unnamed="ckcnn")
"""Makers: a `SequenceModel` each."""


@ARCHITECTURES.row(f"{_MODELS}.ckcnn:CKCNN")
class CKCNNConfig(ModelConfig):
    """A CKCNN: blocks of convolutions with continuous kernels."""

    resamples: ClassVar[bool] = True
    has_kernel_nets: ClassVar[bool] = True
    name: Literal["ckcnn"] = "ckcnn"
    blocks: Depth = 2
    """Number of blocks: of two CKConvs each, of one with `block: s4`."""
    block: Annotated[str, BLOCKS] = "residual"
    """What surrounds the CKConvs. `residual` is the published one."""
    norm: Annotated[str, NORMS] = "layer"
    """Over which values of a sequence mean and variance are taken. `layer`: channels and steps
    together, as published. `instance`: the steps of each channel. `channel`: the channels of each
    step."""
    activation: Annotated[str, ACTIVATIONS] = "relu"
    """Of the blocks."""
    dropout_kind: Annotated[str, DROPOUTS] = "element"
    """Whether each value or each channel of a sequence is dropped by itself."""
    bias: bool = True
    """Whether each CKConv adds a learned constant to each output channel."""
    causal: bool = True
    """Whether a step sees only the steps before it. Otherwise the kernel reaches both ways."""
    separable: bool = False
    """One kernel a channel and a linear map among channels, instead of one kernel for each pair."""
    weight_dropout: Fraction = 0.0
    """Share of the sampled kernel's values that are dropped in training."""
    mask: Annotated[MaskConfig, MASKS] = NoMask()
    """How far the kernel reaches."""
    kernel: Annotated[KernelConfig, KERNEL_NETS] = MLPConfig()
    """The kernel net: the small network that is the convolution's kernel."""
    legacy_odd_fft: bool = False
    """Convolve as the published code does, wrongly for an odd length: only for weights that were
    trained so (docs/decisions.md)."""

    @model_validator(mode="after")
    def _check(self) -> CKCNNConfig:
        if self.legacy_odd_fft and not (self.causal and not self.separable):
            raise ValueError("legacy_odd_fft needs causal true and separable false")
        return self

    @property
    def to_be_causal(self) -> str | None:
        if self.causal and NORMS[self.norm].causal:
            return None
        norms = " or ".join(name for name, norm in NORMS.items() if norm.causal)
        return f"model.norm must be {norms} and model.causal true"


@ARCHITECTURES.row(f"{_MODELS}.tcn:TCN")
class TCNConfig(ModelConfig):
    """A temporal convolutional network (Bai et al. 2018, arXiv:1803.01271)."""

    name: Literal["tcn"] = "tcn"
    blocks: Depth = 8
    """Number of blocks; each sees twice as far as the one before."""
    kernel_size: Annotated[int, Field(ge=2)] = 7
    """Weights of a kernel."""


@ARCHITECTURES.row(f"{_MODELS}.recurrent:GRU")
class GRUConfig(ModelConfig):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078)."""

    # aten::gru and aten::lstm take the weights of one model only (torch 2.13).
    vectorizes: ClassVar[bool] = False
    name: Literal["gru"] = "gru"
    layers: Depth = 1
    """Number of recurrent layers."""


@ARCHITECTURES.row(f"{_MODELS}.recurrent:LSTM")
class LSTMConfig(ModelConfig):
    """Long short-term memory (Hochreiter and Schmidhuber 1997)."""

    vectorizes: ClassVar[bool] = False
    name: Literal["lstm"] = "lstm"
    layers: Depth = 1
    """Number of recurrent layers."""


@ARCHITECTURES.row(f"{_MODELS}.lru:LRU")
class LRUConfig(ModelConfig):
    """Linear recurrent units (Orvieto et al. 2023, arXiv:2303.06349)."""

    name: Literal["lru"] = "lru"
    blocks: Depth = 2
    """Number of blocks."""
    state_channels: Width = 64
    """Complex channels of the recurrence."""
    radius_min: Fraction = 0.9
    """Smallest modulus of the initial eigenvalues."""
    radius_max: OpenFraction = 0.999
    """Largest modulus of the initial eigenvalues."""
    phase_max: NotNegativeReal = 6.283185307179586
    """Largest phase of the initial eigenvalues, in radians."""

    @model_validator(mode="after")
    def _check(self) -> LRUConfig:
        if self.radius_min >= self.radius_max:
            raise ValueError(
                f"radius_min < radius_max must hold, got {self.radius_min} and {self.radius_max}"
            )
        return self
