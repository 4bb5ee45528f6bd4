"""What `benchmarks/step.py` compares: training steps of a CKCNN, each made as its code makes it.

`ours` and `plain` run `ckconv_sweep.training` from the order of the sequences to the optimiser;
`plain` convolves with sampled kernels (`CKConv.by_its_kernel`), `called` repeats no recorded step.
`authors` and `einsum` run the loop body of the published code, dwromero/ckconv, on its own modules;
in `einsum` one line of it is replaced, the product over channels. Only what today's PyTorch or a
machine without a GPU asks for is patched, at run time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import drawn
from ckconv_sweep.config.data import Description
from ckconv_sweep.config.metrics import scored_by
from ckconv_sweep.config.model import CKCNNConfig
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.task import SequenceTask, Split
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.training import steps as training_steps
from ckconv_sweep.training.pack import Member, Pack
from ckconv_sweep.training.steps import train_epoch
from ckconv_sweep.training.stepwise import to_the_end

TRIALS = Path(__file__).parents[1] / "trials"
SIZES = {"98K": "smnist_98k", "1M": "smnist_1m"}
CLASSES = 10

Prepared = Callable[[], float]
"""Makes the steps that were prepared and returns their mean loss."""
Side = Callable[[int], Prepared]
"""Prepares so many steps."""


def published(size: str, batch: int) -> tuple[Trial, CKCNNConfig]:
    """A published trial with batches of another size, and its model."""
    trial = read_trial(TRIALS / f"{SIZES[size]}.yaml", [f"training.batch_size={batch}"])
    assert isinstance(trial.model, CKCNNConfig)
    return trial, trial.model


def sequences(batch: int, length: int, steps: int) -> Split:
    shape = Description(name="smnist", in_channels=1, length=length, outputs=CLASSES)
    return drawn.split(shape, steps * batch, torch.Generator().manual_seed(0))


def ours(size: str, batch: int, length: int, device: torch.device) -> Side:
    """Whole steps of `training.steps.train_epoch`."""
    trial, _ = published(size, batch)
    description = Description(name="smnist", in_channels=1, length=length, outputs=CLASSES)

    def prepare(steps: int) -> Prepared:
        split = sequences(batch, length, steps)
        task = SequenceTask(
            description=description, train=split, validation=split, test_reader=lambda: split
        )
        pack, member = Pack(task, device), Member.open(trial, task)
        pack.join(member)
        training = pack.training_of([member])

        def run() -> float:
            tally = to_the_end(train_epoch(training, [member], [1e-3]))
            return tally.scores(scored_by("classification"))[0]["loss"]

        return run

    return prepare


def plain(size: str, batch: int, length: int, device: torch.device) -> Side:
    """The same by sampled kernels."""
    CKConv._plain_positions = lambda *_: None  # type: ignore[method-assign, assignment, return-value]
    return ours(size, batch, length, device)


def called(size: str, batch: int, length: int, device: torch.device) -> Side:
    """The same as ours, without a recording."""
    training_steps.repeated = lambda step, *_: step
    return ours(size, batch, length, device)


def authors(size: str, batch: int, length: int, device: torch.device, folder: Path) -> Side:
    """The body of the loop of the published `_train_classif`, on the published modules."""
    if device.type == "cpu":
        Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    sys.path.insert(0, str(folder))
    network: Any = __import__("models.ckcnn", fromlist=["seqImg_CKCNN"]).seqImg_CKCNN
    _, settings = published(size, batch)
    torch.manual_seed(0)
    model = network(
        in_channels=1,
        out_channels=CLASSES,
        hidden_channels=settings.hidden_channels,
        num_blocks=settings.blocks,
        kernelnet_hidden_channels=settings.kernel.hidden_channels,
        kernelnet_activation_function="Sine",
        kernelnet_norm_type="",
        dim_linear=1,
        bias=True,
        omega_0=settings.kernel.omega_0,
        dropout=settings.dropout,
        weight_dropout=0.0,
        pool=False,
    ).to(device)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()

    def prepare(steps: int) -> Prepared:
        split = sequences(batch, length, steps)
        batches = zip(split.inputs.split(batch), split.targets.split(batch), strict=True)

        def run() -> float:
            running_loss, running_corrects = 0.0, 0
            for inputs, labels in batches:
                inputs, labels = inputs.to(device), labels.to(device)
                optimizer.zero_grad()
                outputs = model(torch.dropout(inputs, settings.input_dropout, True))
                _, predictions = torch.max(outputs, 1)
                loss = criterion(outputs, labels)
                loss.backward()
                optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += int((predictions == labels).sum().item())
            return running_loss / len(split)

        return run

    return prepare


def einsum(size: str, batch: int, length: int, device: torch.device, folder: Path) -> Side:
    """The same with its product over channels left to one einsum, which never makes a
    (batch, out, in, frequency) tensor."""
    side = authors(size, batch, length, device, folder)
    theirs: Any = sys.modules["ckconv.nn.functional"]

    def causal_fftconv(
        x: Tensor, kernel: Tensor, bias: Tensor | None = None, double_precision: bool = False
    ) -> Tensor:
        time = x.shape[-1]
        x, kernel = theirs.causal_padding(x, kernel)
        kernel = torch.nn.functional.pad(kernel, [0, x.size(-1) - kernel.size(-1)])
        x_fr, kernel_fr = torch.fft.rfft(x), torch.conj(torch.fft.rfft(kernel))
        output_fr = torch.einsum("bcf,dcf->bdf", x_fr, kernel_fr)
        out = torch.fft.irfft(output_fr)[:, :, :time]
        return out if bias is None else out + bias.view(1, -1, 1)

    theirs.causal_fftconv = causal_fftconv
    return side
