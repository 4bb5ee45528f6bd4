"""For the data tests: tiny files in MNIST's format, and a mirror on this machine."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ckconv_sweep.data import fetch

from .small_files import mnist_contents, write_mnist


@pytest.fixture(autouse=True)
def _away_from_the_users_folders(tmp_path, monkeypatch):
    """No test sees the user's cache or data, waits between rounds, or asks a proxy."""
    monkeypatch.delenv("CKCONV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetch, "WAIT_SECONDS", 0.0)


@pytest.fixture
def tiny_mnist(monkeypatch):
    """Name -> content of four files like MNIST's, which the loaders take for the official ones."""
    return mnist_contents(monkeypatch)


@pytest.fixture
def tiny_mnist_folder(tmp_path, monkeypatch):
    """A data folder with the tiny files, packed."""
    write_mnist(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


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
