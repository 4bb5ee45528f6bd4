"""What every block of settings is made of: frozen, closed, and its numbers bounded."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema


class Settings(BaseModel):
    """Frozen and closed: an unknown key is refused, and `1` is not `"1"` nor `1.5`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        described = meanings(cls)
        for name, inner in handler.resolve_ref_schema(schema).get("properties", {}).items():
            if name in described:
                inner["description"] = described[name]
        return schema


@functools.cache
def meanings(kind: type[Settings]) -> dict[str, str]:
    """What stands below each setting of a class and of its base classes, as one line. Pydantic can
    keep it (`use_attribute_docstrings`), but would read the sources at every start."""
    import ast
    import inspect
    import textwrap
    from itertools import pairwise

    found = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, Settings):
            continue
        try:
            source = inspect.getsource(base)
        except OSError:  # a class that was made in a console
            continue
        (tree,) = ast.parse(textwrap.dedent(source)).body
        assert isinstance(tree, ast.ClassDef)
        for one, below in pairwise(tree.body):
            match one, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


ListAsTuple = BeforeValidator(_as_tuple)
"""A YAML list becomes a tuple, so that settings can be compared and hashed."""

UNOFFERED = Field(repr=False)
"""Of a setting that only ckconv-sweep writes: no hint names it, and no table."""

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1, le=65_536)]
"""Channels of a network."""
Depth = Annotated[int, Field(ge=1, le=1_000)]
"""Blocks or layers of a network, each made one by one, also where a model is only counted."""
PositiveReal = Annotated[float, Field(gt=0.0)]
NotNegativeReal = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


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
