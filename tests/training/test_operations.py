"""Each operation that packs make for several members at once gives a member its bits alone, also
with other values than those of a run: where a value is rounded otherwise only now and then, whole
curves are the same by luck."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from models.test_architectures import ckcnn, with_dropout
from models.test_vectorized import VECTORIZING, OfMembers, changed, inputs_of, models_of, result
from thinned import each_second
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from ckconv_sweep.config.model import MLPConfig, ModelConfig
from ckconv_sweep.config.optimization import OPTIMIZERS
from ckconv_sweep.models.sequence_model import EVENLY, Sampling
from ckconv_sweep.training.pack import Member, Pack

from .test_every_task import DATA, task_of
from .tiny import make_trial

slow = pytest.mark.slow

E = 17
"""Members. No other size is a multiple of it, FFTs included."""
SOME = (0, E - 1)
DRAWS = 2
NOT_BY_MEMBER = {
    "aten.embedding.default": "copies rows of one table for all",
    "aten.embedding_dense_backward.default": "adds to the rows of one table, in order",
}


def of_members(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) > 0 and len(value) % E == 0


def copied(tensor: Tensor, rng: Generator | None = None) -> Tensor:
    """In fresh memory, laid out as the original; with drawn numbers where there is a generator."""
    once = tensor.detach()[tuple(slice(None, 1 if s == 0 else None) for s in tensor.stride())]
    fresh = torch.empty_strided(once.shape, once.stride(), dtype=once.dtype)
    if rng is not None and (once.is_floating_point() or once.is_complex()):
        once = torch.randn(once.shape, generator=rng, dtype=once.dtype)
    return fresh.copy_(once).expand(tensor.shape)


class Differing(TorchDispatchMode):
    """Repeats each operation of a new kind, of new sizes or on other layouts, with drawn numbers
    for all members and for one at a time. One that another test has seen is not repeated again."""

    _seen: ClassVar[dict[str, bool]] = {}
    """Each operation, with its sizes and layouts, and whether it gave the same bits."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.checked: set[str] = set()
        self._rng = Generator().manual_seed(0)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self._check(operation, args, kwargs)
        return operation(*args, **kwargs)

    def _check(self, operation: Any, args: Any, kwargs: Any) -> None:
        leaves = tree_leaves((args, kwargs))
        aliases = [returned.alias_info for returned in operation._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return  # only looks at a tensor in another way
        if not any(of_members(leaf) and leaf.dtype.is_floating_point for leaf in leaves):
            return
        key = str([operation, *map(_described, leaves)])
        if str(operation) in NOT_BY_MEMBER:
            return
        self.checked.add(str(operation))
        if key not in self._seen:
            self._seen[key] = self._is_same(operation, args, kwargs)
        if not self._seen[key]:
            self.found.add(key)

    def _is_same(self, operation: Any, args: Any, kwargs: Any) -> bool:
        for rng in [None] + [self._rng] * DRAWS:
            drawn_args, drawn_kwargs = tree_map_only(
                Tensor, lambda leaf, rng=rng: copied(leaf, rng), (args, kwargs)
            )
            own = [tree_map(partial(_part, e=e), (drawn_args, drawn_kwargs)) for e in SOME]
            together = tree_leaves(operation(*drawn_args, **drawn_kwargs))
            for e, (own_args, own_kwargs) in zip(SOME, own, strict=True):
                alone = tree_leaves(operation(*own_args, **own_kwargs))
                for of_all, of_one in zip(together, alone, strict=True):
                    if of_members(of_all) and not _same_bits(_part(of_all, e=e), of_one):
                        return False
        return True


def _described(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return tuple(leaf.shape), leaf.stride(), leaf.dtype
    return leaf


def _part(leaf: Any, *, e: int) -> Any:
    """What is member e's of a tensor, and of a number that counts all members' rows."""
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        return leaf // E if leaf % E == 0 else leaf
    if not of_members(leaf):
        return copied(leaf) if isinstance(leaf, Tensor) else leaf
    return copied(leaf[len(leaf) // E * e :][: len(leaf) // E])


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.numpy().tobytes() == b.numpy().tobytes():
        return True
    return torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)  # what is no number has no bits


SETTINGS: dict[str, ModelConfig] = {n: c for n, c in VECTORIZING.items() if n != "tcn-wide"} | {
    "ckcnn-swish-kernel": ckcnn(kernel=MLPConfig(hidden_channels=5, activation="swish"))
}


@pytest.mark.fault("other-processor")
@pytest.mark.parametrize("length", [pytest.param(9, marks=slow), 40])
@pytest.mark.parametrize(
    ("kind", "readout"),
    [("classification", "last"), pytest.param("text", "tied", marks=slow)],
)
@pytest.mark.parametrize("config", each_second(SETTINGS.values()), ids=SETTINGS)
def test_every_operation_of_a_model_rounds_a_member_as_alone(
    config: ModelConfig, kind: Any, readout: str, length: int
) -> None:
    config = changed(with_dropout(config), readout=readout)
    models = models_of([config] * E, kind, length)
    state = torch.func.stack_module_state(models)  # type: ignore[arg-type]
    skeleton = copy.deepcopy(models[0]).to("meta")
    inputs = inputs_of(kind, length, 3, 6 if kind == "text" else 2, E)
    others = [Sampling(rate=2.0)]
    if config.resamples:
        rng = Generator().manual_seed(4)
        others.append(Sampling(times_BT=torch.rand(E, 3, length, generator=rng).cumsum(-1)))
    with Differing() as differing:
        result(skeleton, *state, inputs, OfMembers([config] * E), EVENLY)
        for sampling in others:
            result(skeleton, *state, inputs, None, sampling)
    assert not differing.found
    assert len(differing.checked) > 10


@pytest.mark.fault("other-processor")
@pytest.mark.parametrize("batch_size", [pytest.param(8, marks=slow), 22])
@pytest.mark.parametrize(
    ("name", "optimizer"), [*((name, "adam") for name in DATA), *(("times", o) for o in OPTIMIZERS)]
)
def test_every_operation_of_a_step_rounds_a_member_as_alone(
    name: str, optimizer: str, batch_size: int
) -> None:
    trials = [
        make_trial(
            data=DATA[name],
            model={"readout": "every_step" if name in ("per_step", "text") else "last"}
            | {"norm": "channel", "dropout": 0.2},
            optimizer={"name": optimizer, "learning_rate": 0.01},
            training={"seed": number, "epochs": 1, "batch_size": batch_size, "clip_norm": 1.0}
            | {"kernel_penalty": 1e-3},
            metric={"name": "val/loss", "mode": "min"},
        )
        for number in range(E)
    ]
    task = task_of(name, trials[0].data.kind)
    pack = Pack(task)
    for trial in trials:
        pack.join(Member.open(trial, task))
    with Differing() as differing:
        pack.epoch()
    assert not differing.found
    assert len(differing.checked) > 20
