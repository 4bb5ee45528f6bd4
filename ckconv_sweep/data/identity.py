"""Which data a task holds: enough to tell whether two processes, or two sessions, read the same.

An identity is a flat mapping of plain values, so that a study, a checkpoint and a message can hold
it: `{"digest": "...", "content": "...", "classes": 2, "training sequences": 40, ...}`. `digest` is
that of everything that a trial trains on, `content` that of the sequences alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ckconv_sweep.errors import DataChanged

if TYPE_CHECKING:
    from torch import Tensor

    from ckconv_sweep.data.task import SequenceTask, Split

Identity = Mapping[str, Any]
PUT_BACK = (
    "put the old data back, take another --out, or continue on these knowingly: --allow-data-change"
)


def identity_of(task: SequenceTask) -> dict[str, Any]:
    """The identity of the training and validation sequences, to the last bit."""
    described = task.description
    classes = "outputs" if described.kind == "regression" else "classes"
    facts: dict[str, Any] = {classes: described.outputs, "steps": described.length}
    contents: dict[str, str] = {}
    content = blake2b(digest_size=16)
    for name, split in (("training", task.train), ("validation", task.validation)):
        facts[f"{name} sequences"] = len(split)
        if split.inputs.ndim == 3:  # a text has none
            facts[f"{name} channels"] = split.inputs.shape[1]
        facts[f"{name} steps"] = split.inputs.shape[-1]
        targets = blake2b(digest_size=8)
        _update(targets, split.targets)
        contents[f"{name} targets"] = targets.hexdigest()
        for tensor in split.tensors.values():
            _update(content, tensor)
        contents[f"{name} values"] = content.copy().hexdigest()[:16]
    facts = {"content": content.hexdigest(), **facts, **contents}
    return {"digest": blake2b(repr(facts).encode(), digest_size=16).hexdigest(), **facts}


def digest_of_split(split: Split) -> str:
    """32 hexadecimal digits of the sequences of one split and their targets, to the last bit."""
    digest = blake2b(digest_size=16)
    for tensor in split.tensors.values():
        _update(digest, tensor)
    return digest.hexdigest()


def _update(digest: blake2b, tensor: Tensor) -> None:
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(tensor.detach().cpu().contiguous().numpy().data.cast("B"))


def difference(before: Identity, now: Identity) -> str:
    """The first difference and both digests, in words; empty if there is none. What `before` does
    not know (the digest alone may be known, or nothing) is not compared."""
    for key in (key for key in now if key not in ("digest", "content")):
        if key in before and before[key] != now[key]:
            first = f"{key}: {before[key]}, now {now[key]}; "
            if isinstance(now[key], str):
                first = f"the {key} differ; "
            break
    else:
        first = ""
    if not first and before.get("digest", now["digest"]) == now["digest"]:
        return ""
    return f"{first}digest {before.get('digest')}, now {now['digest']}"


def check_same(before: Identity, now: Identity, *, where: str, hint: str) -> None:
    """Raises DataChanged if the data are not those of before."""
    if why := difference(before, now):
        raise DataChanged(f"the data have changed: {why}", where=where, hint=hint)
