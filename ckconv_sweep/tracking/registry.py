"""MLflow's model registry: what a sweep hands over, under a name, with versions and an alias.

A version's files are artifacts of the sweep's run, in a folder named by their digest, so that a
later version changes none of an earlier one. A version that holds the same files is not made again.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.config.names import REGISTRY
from ckconv_sweep.errors import CkconvSweepError, ConfigError, DamagedData, TrackingError
from ckconv_sweep.record.blobs import digest_of_files
from ckconv_sweep.tracking.answers import check_address, check_answers, problem
from ckconv_sweep.tracking.marks import find
from ckconv_sweep.tracking.store import (
    artifact_location,
    experiment,
    first_to_open,
    local_database,
    quiet_client,
    without_password,
)

_NAMED = re.compile(REGISTRY + r"(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    name: str
    version: str
    alias: str
    is_new: bool

    @property
    def address(self) -> str:
        """By which it is loaded."""
        return registered_name(self.name, self.alias)


def registered_name(name: str, alias: str) -> str:
    """By which the version that an alias points at is loaded."""
    return f"{REGISTRY}{name}@{alias}"


def register(
    uri: str,
    name: str,
    alias: str,
    *,
    sweep_uid: str,
    files: Mapping[str, bytes],
    tags: Mapping[str, str],
) -> Registered:
    """Make a version of these files, unless the newest one holds them already, and point the alias
    at it.

    Args:
        sweep_uid: the files become artifacts of this sweep's run, which is there.
        files: by name.
        tags: of the version.

    Raises:
        ConfigError: the sweep has no run there.
        TrackingError: MLflow cannot be used, or refuses.
    """
    check_answers(uri)
    digest = digest_of_files(files)
    with _errors_named(uri), first_to_open(uri):
        client = quiet_client(uri)
        with contextlib.suppress(Exception):  # it is there; if not, what follows fails
            client.create_registered_model(name)
        versions = client.search_model_versions(f"name = '{name}'")
        newest = max(versions, key=lambda one: int(one.version), default=None)
        is_new = newest is None or newest.tags.get(keys.TAG_MODEL_DIGEST) != digest
        if newest is None or is_new:
            run = _run(client, uri, sweep_uid)
            source = _with_files(client, run, files, digest)
            all_tags = {**tags, keys.TAG_MODEL_DIGEST: digest}
            newest = client.create_model_version(
                name, source, run_id=run.info.run_id, tags=all_tags
            )
        client.set_registered_model_alias(name, alias, newest.version)
    return Registered(name, str(newest.version), alias, is_new)


def _run(client: Any, uri: str, sweep_uid: str) -> Any:
    experiment_id = experiment(client, artifact_location(uri), lambda line: None)
    run = find(client, experiment_id, sweep_uid)
    if run is None:
        raise ConfigError(
            "MLflow has no run of this sweep",
            where=without_password(uri),
            hint="deliver it first: ckconv-sweep sync",
        )
    return run


def _with_files(client: Any, run: Any, files: Mapping[str, bytes], digest: str) -> str:
    """Give the run the files; returns where they are."""
    place = f"promoted/{digest}"
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run.info.run_id, folder, place)
    return f"runs:/{run.info.run_id}/{place}"


@contextlib.contextmanager
def fetched(given: str, uri: str) -> Iterator[Path]:
    """A folder with the files of `models:/NAME@ALIAS` or `models:/NAME/VERSION`, while it is used.

    Raises:
        ConfigError: there is no such model, or none that ckconv-sweep registered.
        DamagedData: its files are not those that were registered.
        TrackingError: MLflow cannot be used.
    """
    match = _NAMED.fullmatch(given)
    if match is None:
        raise ConfigError(
            "must be models:/NAME@ALIAS or models:/NAME/VERSION",
            where=given,
            hint="as in models:/quickstart@champion",
        )
    check_address(uri, "tracking_uri")
    database = local_database(uri)
    if database is not None and not database.exists():  # a look must make none
        raise ConfigError(
            "there is no MLflow database",
            where=without_password(uri),
            hint="name the MLflow that has the model with MLFLOW_TRACKING_URI",
        )
    check_answers(uri)
    with tempfile.TemporaryDirectory() as folder:
        with _errors_named(uri), first_to_open(uri):
            client = quiet_client(uri)
            version = _version(client, match, given, uri)
            digest = version.tags.get(keys.TAG_MODEL_DIGEST)
            if digest is None:
                raise ConfigError("ckconv-sweep promote did not register this model", where=given)
            path = client.download_artifacts(version.run_id, f"promoted/{digest}", folder)
            _check_digest(Path(path), digest, given)
        yield Path(path)


def _check_digest(folder: Path, digest: str, given: str) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    if digest_of_files(files) != digest:
        raise DamagedData(
            "its files are not those that were registered: they were changed or damaged",
            where=given,
            hint="put the artifacts back from a copy, or delete this version in MLflow and "
            "register it again: ckconv-sweep promote NAME --registry",
        )


def _version(client: Any, match: re.Match[str], given: str, uri: str) -> Any:
    from mlflow.exceptions import MlflowException

    name, alias, number = match["name"], match["alias"], match["version"]
    try:
        if number is not None:
            return client.get_model_version(name, number)
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
    raise ConfigError(
        f"MLflow at {without_password(uri)} has no such model",
        where=given,
        hint="register it with ckconv-sweep promote NAME --registry, or name another MLflow with "
        "MLFLOW_TRACKING_URI",
    )


@contextlib.contextmanager
def _errors_named(uri: str) -> Iterator[None]:
    try:
        yield
    except CkconvSweepError:
        raise
    except Exception as error:
        found = problem(error, uri)
        raise TrackingError(
            f"MLflow {found.what}", where=without_password(uri), hint=found.todo or None
        ) from error
