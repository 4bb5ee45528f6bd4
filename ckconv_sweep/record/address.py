"""Whether an address can be that of a database."""

from __future__ import annotations

import sqlalchemy


def check(address: str) -> None:
    """Connects to nothing. Raises what SQLAlchemy raises where its form is wrong, its kind is
    unknown, or the driver for it is not installed."""
    url = sqlalchemy.make_url(address)
    kind = url.get_dialect()
    kind.import_dbapi()
    kind().create_connect_args(url)
