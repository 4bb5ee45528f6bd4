"""The tables: every name that a file may give at a setting, each kind of thing in one of them.

To add a row with settings of its own (a kernel net, a dataset, ...), write its settings as a
subclass of the kind's base class, and register it with its maker, the code that carries it out:

    @KERNEL_NETS.row("my_package.wavelet:Wavelet")
    class WaveletConfig(KernelConfig):
        name: Literal["wavelet"] = "wavelet"

To add one without (a norm, a block, ...):

    NORMS.add(Norm("mine", "my_package.mine:mine"))

Nothing else names the rows. A file may use a row from the moment it is registered, and
`tests/contracts/test_tables.py` runs over it.
"""

from __future__ import annotations

import contextlib
import importlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from ckconv_sweep.config.settings import Settings

R = TypeVar("R", bound="type[Row] | Word")
S = TypeVar("S", bound="Row")
W = TypeVar("W", bound="Word")


class Row(Settings):
    """A row with settings of its own; `name` is one of them."""

    maker: ClassVar[Any]
    """What carries the row out, or where it is: `package.module:name`, or a module. It is imported
    at its first use, so that reading a file does not load PyTorch."""
    if TYPE_CHECKING:  # each row has it as a field, after those of its base class
        name: str


@dataclass(frozen=True)
class Word:
    """A row without settings of its own."""

    name: str
    maker: Any
    """As of `Row`."""


class Names(dict[str, R]):
    """The rows of one kind, by name. `Annotated[Base, TABLE]` is the type of a setting that takes
    one of them, also one that is registered later."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        """What the kind is called in messages."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # annotations are hashed

    def maker(self, name: str) -> Any:
        """The code that carries a row out."""
        maker = self[name].maker
        if not isinstance(maker, str):
            return maker
        module, _, attribute = maker.partition(":")
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found

    def register(self, name: str, row: R) -> R:
        """Raises ValueError where the name is taken."""
        if name in self:
            raise ValueError(f"there is a {self.word} {name!r} already")
        self[name] = row
        return row

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """For tests: what is registered inside is gone afterwards."""
        before = dict(self)
        try:
            yield
        finally:
            self.clear()
            self.update(before)

    @abstractmethod
    def read(self, value: Any, base: type) -> Any:
        """The setting that a value of a file stands for. Raises PydanticKnownError."""

    def __get_pydantic_core_schema__(self, base: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda value: self.read(value, base))

    @abstractmethod
    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """What a language server may know of `read`."""


class Table(Names[type[S]]):
    """A kind whose rows have settings of their own: a file gives a block of them, with `name`.

    Args:
        unnamed: the row that is meant where a file leaves `name` out; None: it must not.
    """

    def __init__(self, word: str, *, unnamed: str | None = None) -> None:
        super().__init__(word)
        self._unnamed = {} if unnamed is None else {"name": unnamed}
        self._open: list[str] = []
        """The rows whose schemas are being written: one may have a setting that takes another."""

    def row(self, maker: Any) -> Callable[[type[S]], type[S]]:
        """Registers the settings class that it decorates, with its maker."""

        def register(row: type[S]) -> type[S]:
            row.maker = maker
            return self.register(row.model_fields["name"].default, row)

        return register

    def read(self, value: Any, base: type) -> Any:
        if isinstance(value, base):
            return value
        if not isinstance(value, dict):
            raise PydanticKnownError("dict_type")
        named = self._unnamed | value
        if "name" not in named:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'name'"})
        name = named["name"]
        if not isinstance(name, str) or name not in self:
            context = {"tag": str(name), "expected_tags": ", ".join(self)}
            raise PydanticKnownError("union_tag_invalid", {"discriminator": "'name'"} | context)
        return self[name].model_validate(named)

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        rows = []
        for name, row in self.items():
            if name in self._open:
                continue
            self._open.append(name)
            schema = row.model_json_schema()  # `handler` would leave out what the settings mean
            self._open.pop()
            if name != self._unnamed.get("name"):
                schema["required"] = ["name", *schema.get("required", ())]
            rows.append(schema)
        return {"anyOf": rows}


class Words(Names[W]):
    """A kind whose rows have no settings of their own: a file gives the name alone."""

    def __init__(self, word: str, *rows: W) -> None:
        super().__init__(word)
        for row in rows:
            self.add(row)

    def add(self, row: W) -> W:
        """Register a row."""
        return self.register(row.name, row)

    def read(self, value: Any, base: type) -> str:
        if isinstance(value, str) and value in self:
            return value
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, self))})

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": list(self)}
