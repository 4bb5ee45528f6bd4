"""Builders for the data tests: tiny files in MNIST's format, and a mirror on this machine."""

import gzip
import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ckconv_sweep.data import fetch


@pytest.fixture(autouse=True)
def _away_from_the_users_folders(tmp_path, monkeypatch):
    """No test sees the user's cache or data, waits between rounds, or asks a proxy."""
    monkeypatch.delenv("CKCONV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "WAIT_SECONDS", 0.0)


@pytest.fixture
def idx():
    """`idx(array)`: the bytes of an idx file."""

    def build(array):
        array = np.asarray(array, dtype=np.uint8)
        shape = struct.pack(f">{array.ndim}I", *array.shape)
        return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()

    return build


@pytest.fixture
def tiny_mnist(idx, monkeypatch):
    """Name -> content of four files like MNIST's: 60 images to train with, 20 to test with.

    The loaders take them for the official ones, and know no mirror.
    """
    from ckconv_sweep.data import mnist

    rng = np.random.default_rng(0)
    contents = {
        mnist.TRAIN_IMAGES: idx(rng.integers(0, 256, (60, 28, 28))),
        mnist.TRAIN_LABELS: idx(np.arange(60) % 10),
        mnist.TEST_IMAGES: idx(rng.integers(0, 256, (20, 28, 28))),
        mnist.TEST_LABELS: idx(np.arange(20) % 10),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(mnist, "SHA256", hashes)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return contents


@pytest.fixture
def tiny_mnist_folder(tiny_mnist, tmp_path):
    """A data folder with the tiny files, packed."""
    folder = tmp_path / "data"
    (folder / "mnist").mkdir(parents=True)
    for name, content in tiny_mnist.items():
        (folder / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


class Mirror:
    """A real HTTP server on this machine, told what to do wrong."""

    def __init__(self):
        self.files = {}  # what it serves: name -> bytes
        self.requested = []  # the names it was asked for, in order
        self.cuts = []  # for each next answer: after how many bytes to hang up
        self.statuses = []  # for each next answer: a status to give instead of the file
        self.tells_length = True
        self.redirect_to = None
        self.gate = threading.Event()  # no answer before it is set
        self.gate.set()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.strip("/")
                mirror.requested.append(name)
                mirror.gate.wait(60)
                body = mirror.files.get(name)
                if mirror.redirect_to:
                    self.send_response(302)
                    self.send_header("Location", mirror.redirect_to)
                    self.end_headers()
                elif mirror.statuses or body is None:
                    self.send_error(mirror.statuses.pop(0) if mirror.statuses else 404)
                else:
                    self.send_response(200)
                    if mirror.tells_length:
                        self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body[: mirror.cuts.pop(0)] if mirror.cuts else body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def make_mirror():
    mirrors = []

    def make():
        mirrors.append(Mirror())
        return mirrors[-1]

    yield make
    for mirror in mirrors:
        mirror.close()


@pytest.fixture
def mirror(make_mirror):
    return make_mirror()
