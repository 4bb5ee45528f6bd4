"""How large the tensors become that something makes on its way."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    """Of all tensors that any operation returns, the most values, and the most bytes that lie
    behind one."""

    values = nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, Tensor):
                self.values = max(self.values, tensor.numel())
                self.nbytes = max(self.nbytes, tensor.untyped_storage().nbytes())
        return out
