"""Where MLflow keeps its runs, and how to point at them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from ckconv_sweep import keys
from ckconv_sweep.record.filesystem import is_local


def default_uri(sweeps_dir: Path) -> str:
    """`MLFLOW_TRACKING_URI`, or a database beside the sweeps."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{sweeps_dir.resolve()}/mlflow.db"


def without_password(uri: str) -> str:
    """The address as it may be printed."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def comparison_path(experiment_id: str, sweep: str, metric: str) -> str:
    """The part of an address after the server's: the sweep's trials, best first. The page needs
    `workflowType`, or MLflow opens its pages for language models."""
    searched = quote(f"tags.{keys.TAG_SWEEP} = '{sweep}' and tags.{keys.TAG_ROLE} = 'trial'")
    order = quote(f"metrics.`{keys.best_of(metric)}`")
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&searchFilter={searched}&orderByKey={order}&orderByAsc=false"
    )


def artifact_location(uri: str) -> str | None:
    """Beside a local database; never the current folder, which is MLflow's default."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()


@contextlib.contextmanager
def first_to_open(uri: str) -> Any:
    """Two processes that open a new MLflow database at once break it for good: one at a time.
    A local one gets write-ahead logging, so that the pages can be read while a sweep writes."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() and is_local(path.parent):
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        yield
