"""Addresses of an object store: what they may be, and the places below them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from ckconv_sweep.errors import ConfigError

_QUERY = {"endpoint_override", "scheme", "region"}


@dataclass(frozen=True)
class Remote:
    """An object, or a prefix of many: `s3://bucket/prefix`. `query` is what follows a question
    mark: where the store is, if not at Amazon."""

    address: str
    query: str = ""

    @classmethod
    def of(cls, uri: str, where: str | None = None) -> Remote:
        """Raises ConfigError for what was not tried. `where`: the option that gave it."""
        address, _, query = uri.partition("?")
        scheme, _, rest = address.partition("://")
        if scheme != "s3":
            raise ConfigError(
                f"{scheme}:// was not tried, so it is refused: {uri}",
                where=where,
                hint="take s3://bucket/prefix, or a folder that all nodes share",
            )
        if "@" in rest.partition("/")[0]:
            raise ConfigError(
                "an address with a password would be written to the sweep's folder",
                where=where,
                hint="leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, here and "
                "on the nodes",
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]+(/+[^/\s]+)*/*", rest):
            raise ConfigError(
                f"no address of an object store: {uri}", where=where, hint="as in s3://bucket/mine"
            )
        unknown = {name for name, _ in parse_qsl(query, keep_blank_values=True)} - _QUERY
        if unknown:
            raise ConfigError(
                f"unknown after the question mark: {', '.join(sorted(unknown))}",
                where=where,
                hint=f"there are: {', '.join(sorted(_QUERY))}",
            )
        parts = [part for part in rest.split("/") if part]
        return cls(f"s3://{'/'.join(parts)}", query)

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.address}/{name}", self.query)

    def __str__(self) -> str:
        return self.address + f"?{self.query}" * bool(self.query)

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.address.rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """What it lies in. Of a bucket there is none."""
        return Remote(self.address.rpartition("/")[0], self.query)
