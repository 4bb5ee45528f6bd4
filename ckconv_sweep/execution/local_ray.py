"""A Ray of our own on this machine: where its files lie, how it starts, whether it still runs.

Ray makes its session folder writable by everybody (0777, whatever the umask) and keeps it for ever.
So it gets a folder inside a private one, which is deleted at the end; what a killed driver left is
deleted at the next start. The path is short because the names of Unix sockets are limited.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ckconv_sweep.config.names import expanded
from ckconv_sweep.errors import ClusterLost, ConfigError

log = logging.getLogger(__name__)

TRIES = 2
"""How often Ray is started before it is given up: on a busy machine one try may be too slow."""
_PREFIX = "ckconv-"
_CONTENT = {f"ray{attempt}" for attempt in range(1, TRIES + 1)}
"""What such a folder may hold; one with anything else is somebody's."""
_LONGEST_PLACE = 20
"""Bytes. A socket's name may have 107; Ray adds up to 66 to its folder's, and that 20 to this."""
_SESSION_BYTES = 8 * 2**20
"""What a session may write there, with room to spare."""
_NEEDED = {"raylet", "gcs_server"}
"""The processes without which nothing is trained, in Ray's words."""


@contextlib.contextmanager
def started(check: Callable[[], None]) -> Iterator[None]:
    """A local Ray, ended on exit with all its processes and files.

    Args:
        check: asked all the time while Ray starts; may raise to end the start.

    Raises:
        ConfigError: it cannot be started here.
        ClusterLost: it could not be started this time.
    """
    _check_loopback()
    with _private_folder() as folder:
        done = threading.Event()
        try:
            with _private_token(), _own_environment(), away_from_here(folder):
                log.debug("starting Ray in %s", folder)
                _start(folder, done, check)
                log.debug("Ray runs")
            with shut_down_at_the_end():
                yield
        finally:
            done.set()
            _end_processes(folder)


@contextlib.contextmanager
def shut_down_at_the_end() -> Iterator[None]:
    """Leave Ray at the end, unless it is lost: it would wait for it for a minute, and then end the
    process by itself."""
    import ray

    lost = False
    try:
        yield
    except ClusterLost:
        lost = True
        raise
    finally:
        if not lost:
            ray.shutdown()


@contextlib.contextmanager
def away_from_here(folder: Path) -> Iterator[None]:
    """In another current folder, which is empty: Ray lets every worker import from it, and a
    `numpy.py` that lies beside the user's files would be run in each trial."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)


_NOT_FOR_RAY = ("MLFLOW_TRACKING_", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT")
"""Beginnings of variables that Ray's processes do not inherit: they do not need the tracking
server's password, and fail by the others."""


@contextlib.contextmanager
def _own_environment() -> Iterator[None]:
    """Without the variables that are not for Ray's processes, which are started inside."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_NOT_FOR_RAY)}
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def _check_loopback() -> None:
    """Raises ConfigError where Ray's processes could not reach each other, and would wait for
    ever."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise ConfigError(
            f"this machine cannot reach itself at 127.0.0.1: {error.strerror or error}",
            where="Ray",
            hint="it needs the loopback network: ip link set lo up",
        ) from None


def dead_processes() -> list[str]:
    """Which of the processes that training needs have ended, in Ray's words. None where Ray has not
    been started by this process."""
    # Ray has no public word for them, and itself notices after a minute, or never.
    from ray._private import worker

    node = worker._global_node
    return [] if node is None else sorted(_NEEDED & {kind for kind, _ in node.dead_processes()})


def _start(folder: Path, done: threading.Event, check: Callable[[], None]) -> None:
    """Start Ray in a thread that ends after `done`: Ray's processes end with the thread that
    started them, and this one stays free to hear signals."""
    import ray

    for attempt in range(1, TRIES + 1):
        starter = _Starter(folder / f"ray{attempt}", done)
        starter.start()
        while not starter.answered.wait(0.1):
            check()
        if starter.error is None:
            return
        ray.shutdown()
        _end_processes(folder)
    assert starter.error is not None
    raise _not_started(starter.error, folder) from None


class _Starter(threading.Thread):
    def __init__(self, folder: Path, done: threading.Event) -> None:
        super().__init__(name="ray-start", daemon=True)
        self._folder, self._done = folder, done
        self.answered = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        import ray

        try:
            with bare():
                ray.init(
                    address="local",
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    include_dashboard=False,
                    # Nothing is passed through the object store but small results.
                    object_store_memory=200 * 2**20,
                    _temp_dir=str(self._folder),
                )
        except BaseException as error:  # also one that is to end the process
            self.error = error
        self.answered.set()
        self._done.wait()


_NOT_NEEDED = ("start_api_server", "start_monitor", "start_log_monitor")
"""What Ray's head starts besides: a dashboard's server (also without a dashboard), an autoscaler
and a reader of the workers' logs. They take a second of a CPU and 0.2 GiB, and the end waits for
them for another second."""


@contextlib.contextmanager
def bare() -> Iterator[None]:
    """Within it, a Ray of this machine starts with no process that training does not need. Ray has
    no public word for this; where its own names are others, all of them start."""
    from ray._private.node import Node

    own = {name: vars(Node)[name] for name in _NOT_NEEDED if name in vars(Node)}
    for name in own:
        setattr(Node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, start in own.items():
            setattr(Node, name, start)


def _not_started(error: BaseException, folder: Path) -> ConfigError | ClusterLost:
    said = str(error).strip().splitlines() or [type(error).__name__]
    where, what = "Ray", f"it could not be started on this machine: {said[0]}"
    if isinstance(error, (ValueError, PermissionError)):  # of what it was given
        return ConfigError(what, where=where, hint="is one of the variables RAY_... set?")
    words = _last_words(folder)
    return ClusterLost(
        what,
        where=where,
        hint="nothing was begun. Is the machine very busy, or short of memory? Then run the same "
        "command again later" + (f"; Ray's last line: {words}" if words else ""),
    )


def _last_words(folder: Path) -> str:
    """The last line that one of Ray's processes wrote as it failed; empty where none did."""
    for name in ("gcs_server.err", "raylet.err", "gcs_server.out", "raylet.out"):
        for path in sorted(folder.glob(f"ray{TRIES}/session_2*/logs/{name}")):
            lines = path.read_text(errors="replace").split("\n")
            told = [line for line in lines if line.strip() and not line.startswith((" ", "*"))]
            if told:
                return told[-1][:300]
    return ""


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A new folder that only its owner can enter, locked as long as it is used."""
    place = _place()
    _delete_leftovers(place)
    folder, descriptor = _locked_folder(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _locked_folder(place: Path) -> tuple[Path, int]:
    """A new folder, and what holds its lock. Until it is locked another driver that starts may take
    it for a leftover."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _place() -> Path:
    """The folder of temporary files whose path is short enough; first what is set for Ray."""
    usual = ("/tmp", os.environ.get("TMPDIR"), "/var/tmp", "/dev/shm")
    named = (os.environ.get("RAY_TMPDIR"), *usual)
    there = dict.fromkeys(Path(path) for path in named if path)
    for place in there:
        short = len(os.fsencode(place)) <= _LONGEST_PLACE
        if short and os.access(place, os.W_OK | os.X_OK) and _has_room(place):
            return place
    raise ConfigError(
        f"Ray needs a folder for its sockets that can be written, with {_SESSION_BYTES >> 20} MiB "
        f"free and a path of at most {_LONGEST_PLACE} bytes, and there is none: "
        f"{', '.join(map(str, there))}",
        where="TMPDIR",
        hint="set TMPDIR to such a folder",
    )


def _has_room(place: Path) -> bool:
    return shutil.disk_usage(place).free >= _SESSION_BYTES


def _delete_leftovers(place: Path) -> None:
    """Delete what drivers left here that were killed, and end what is left of their Rays, which
    lives on for up to a minute."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            ours = folder.lstat().st_uid == os.geteuid() and folder.is_dir()
            if not ours or {path.name for path in folder.iterdir()} - _CONTENT:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_processes(folder)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _end_processes(folder: Path) -> None:
    """Kill the processes that were started with this private folder in their command line. Where
    there is no /proc they end by themselves, within minutes."""
    wanted = os.fsencode(folder) + b"/"
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            pid = int(line.parent.name)
            if wanted in line.read_bytes() and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)


TOKEN = Path("~/.ray/auth_token")
"""Where Ray keeps the token that it makes."""


@contextlib.contextmanager
def _private_token() -> Iterator[None]:
    """A Ray of our own asks for a token, whatever the environment says of other clusters, and
    nobody else can read it: Ray itself makes the file as readable as the umask lets it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        os.environ.pop("RAY_AUTH_MODE", None)  # without it, Ray's own default is a token
    path = expanded(TOKEN)
    _only_for_owner(path)
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
        _only_for_owner(path)


def _only_for_owner(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.stat().st_uid == os.geteuid():
            path.chmod(0o600)
