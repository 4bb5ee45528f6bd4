"""An object store on this machine, for tests: `moto_server`, if there is one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = os.environ.get("CKCONV_MOTO") or shutil.which("moto_server")
needs_moto = pytest.mark.skipif(
    SERVER is None,
    reason="no object store to try: pip install 'ckconv-sweep[cluster-dev]', or name a moto_server "
    "in CKCONV_MOTO",
)


@contextlib.contextmanager
def object_store(log: Path) -> Iterator[dict[str, str]]:
    """A store with an empty bucket called `bucket`; yields the environment by which it is found."""
    assert SERVER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _make_bucket(f"{address}/bucket", log)
        yield {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": address,
        }
    finally:
        server.kill()
        server.wait()


def _make_bucket(address: str, log: Path) -> None:
    deadline = time.monotonic() + 120.0
    while True:
        try:
            urllib.request.urlopen(
                urllib.request.Request(address, method="PUT"), timeout=10
            ).close()
            return
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                pytest.fail(f"moto_server does not answer: {log.read_text()}")
            time.sleep(0.2)
