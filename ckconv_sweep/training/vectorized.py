"""One forward pass for many models of one shape.

The weights of each model are a row of one flat tensor, so that whoever changes them needs a few
operations for all. The model's own code runs once, with an axis E in front of all tensors
(`models.members`). One model takes the same path, so that its numbers do not depend on whether
others are there.

Shapes: E models, P weights of a model, Q values of its buffers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ckconv_sweep.models.masks import Masks
from ckconv_sweep.models.sequence_model import EVENLY, Sampling, SequenceModel


class Layout:
    """Named tensors, one after the other in a row."""

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        self._shapes = {name: value.shape for name, value in named.items()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]

    def row(self, named: Mapping[str, Tensor]) -> Tensor:
        """The tensors as `(1, P)`, a copy. Raises KeyError if one is missing."""
        parts = [named[name].detach().reshape(shape) for name, shape in self._shapes.items()]
        return torch.cat([part.reshape(1, -1) for part in parts], 1) if parts else torch.empty(1, 0)

    def split(self, rows_EP: Tensor) -> list[Tensor]:
        """The tensors, each `(E, *shape)`: views."""
        parts = torch.split(rows_EP, self._sizes, dim=1)
        shapes = self._shapes.values()
        return [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]

    def named(self, row_1P: Tensor) -> dict[str, Tensor]:
        """The tensors of one row by name, copied."""
        return {
            name: value[0].clone()
            for name, value in zip(self._shapes, self.split(row_1P), strict=True)
        }

    def factors(self, factor_of: Mapping[str, float]) -> Tensor:
        """A number for each tensor, 1 where none is given, at each of its values: `(1, P)`."""
        return self.row(
            {n: torch.full(shape, factor_of.get(n, 1.0)) for n, shape in self._shapes.items()}
        )


class Vectorized:
    """A model that is called with the weights of E others of its shape.

    Where it says that it does not vectorize there is one row, and the model is called as it is.
    """

    def __init__(self, model: SequenceModel) -> None:
        """The model gives the code and the shapes. One that vectorizes is left as it is, and may be
        on the meta device; the parameters of another are put into the rows."""
        self.model = model
        self.weights = Layout(dict(model.named_parameters()))
        self.buffers = Layout(dict(model.named_buffers()))
        modules = list(model.modules())
        tables = [m._parameters for m in modules] + [m._buffers for m in modules]
        self._slots: list[tuple[dict[str, Any], str]] = [
            (table, name) for table in tables for name, value in table.items() if value is not None
        ]

    @classmethod
    def of(cls, model: SequenceModel) -> Vectorized:
        """One model with its own weights, as they are, to be asked only."""
        vectorized = cls(model)
        weights = vectorized.weights.row(dict(model.named_parameters()))
        buffers = vectorized.buffers.row(dict(model.named_buffers()))
        vectorized.put(weights, buffers, trained=False)
        return vectorized

    def put(self, weights_EP: Tensor, buffers_EQ: Tensor, *, trained: bool) -> None:
        """The rows to run with, until others are put. They may be changed in place afterwards.

        Args:
            trained: whether `gradients` will be asked for.
        """
        weights = self.weights.split(weights_EP.detach())
        self._buffers = self.buffers.split(buffers_EQ)
        if self.model.vectorizes:
            self._weights = [value.requires_grad_(trained) for value in weights]
            return
        self._weights = list(self.model.parameters())
        for parameter, value in zip(self._weights, weights, strict=True):
            parameter.data = value[0]
        for (owner, name), value in zip(self._slots[len(weights) :], self._buffers, strict=True):
            owner[name] = value[0]

    def __call__(
        self,
        inputs: Tensor,
        sampling: Sampling = EVENLY,
        masks: Masks | None = None,
        *,
        penalized: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Answers `(E, B, ...)`, and where they are wanted the penalties `(E,)`, which take time;
        see `SequenceModel.forward_with_penalty`.

        Args:
            inputs: `(E, B, ...)`.
            sampling: when the steps were, each tensor with the axis E in front.
            masks: gives the factors of all models, `(E, *shape)`.
            penalized: whether the penalties are wanted.
        """
        if not self.model.vectorizes:  # nor does it have a penalty
            one = None if masks is None else (lambda *place: masks(*place)[0])
            return self.model.forward(inputs[0], one, sampling.of_one())[None], None
        with _put(self._slots, [*self._weights, *self._buffers]):
            if penalized:
                return self.model.forward_with_penalty(inputs, masks, sampling)
            return self.model.forward(inputs, masks, sampling), None

    def gradients(self, total: Tensor) -> Tensor:
        """The gradient of a scalar for all weights, `(E, P)`; zero where a weight is not used."""
        gradients = torch.autograd.grad(
            total, self._weights, allow_unused=True, materialize_grads=True
        )
        models = len(self._weights[0]) if self.model.vectorizes else 1
        return torch.cat([gradient.reshape(models, -1) for gradient in gradients], dim=1)


class _put:  # noqa: N801
    """Within it, these tensors stand in the place of a model's own. What
    `torch.func.functional_call` does, at a twentieth of its time: where they are is found once."""

    def __init__(self, slots: list[tuple[dict[str, Any], str]], tensors: Sequence[Tensor]) -> None:
        self._slots, self._tensors = slots, tensors
        self._own = [owner[name] for owner, name in slots]

    def __enter__(self) -> None:
        for (owner, name), tensor in zip(self._slots, self._tensors, strict=True):
            owner[name] = tensor

    def __exit__(self, *_: object) -> None:
        for (owner, name), tensor in zip(self._slots, self._own, strict=True):
            owner[name] = tensor
