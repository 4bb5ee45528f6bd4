"""`-v` and `--log-file`: what a command does, line by line with times, for a night that went wrong.

The rooms log by Python's `logging`, each under its own name; here is decided where it goes. Without
one of the two options it goes nowhere.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO, get_type_hints

import typer

from ckconv_sweep.cli.options import folder_here
from ckconv_sweep.config.names import expanded
from ckconv_sweep.errors import CannotWrite, CkconvSweepError

log = logging.getLogger(__name__)

Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Log what happens, with times, on standard error."),
]
LogFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Append this log to a file.", callback=folder_here),
]


def logged(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the two options, behind its own."""

    @functools.wraps(command)
    def run(*, verbose: bool, log_file: Path | None, **given: Any) -> None:
        with logging_to(log_file, terminal=verbose):
            command(**given)

    types = get_type_hints(command, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [
        p.replace(annotation=types[p.name]) for p in inspect.signature(command).parameters.values()
    ]
    two = [
        inspect.Parameter("verbose", keyword, default=False, annotation=Verbose),
        inspect.Parameter("log_file", keyword, default=None, annotation=LogFile),
    ]
    parameters = [p.replace(kind=keyword) for p in (*own, *two)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@contextlib.contextmanager
def logging_to(file: Path | None, *, terminal: bool) -> Iterator[None]:
    """Log what happens inside, and how it ends. Of other packages only what matters to a reader.

    Raises:
        CannotWrite: the file cannot be opened.
    """
    handlers = [*([_Terminal()] if terminal else []), *([_opened(file)] if file else [])]
    if not handlers:
        yield
        return
    logging.raiseExceptions = False  # a full disk must not end a sweep
    logging.captureWarnings(True)
    logging.getLogger("ckconv_sweep").setLevel(logging.DEBUG)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in handlers:
        handler.setFormatter(_WithoutPasswords("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        root.addHandler(handler)
    try:
        _log_beginning()
        yield
        log.info("done")
    except typer.Exit as end:
        log.info("ends with exit code %s", end.exit_code)
        raise
    except CkconvSweepError as error:
        log.error("ends with exit code %s", error.exit_code, exc_info=True)
        raise
    except BaseException:
        log.critical("ends with an error that nobody expected", exc_info=True)
        raise
    finally:
        for handler in handlers:
            handler.flush()


def _log_beginning() -> None:
    from ckconv_sweep.record.versions import versions

    log.info("%s", shlex.join(["ckconv-sweep", *sys.argv[1:]]))
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    log.info("%s, %s, in %s", told, platform.platform(), Path.cwd())


def _opened(file: Path) -> logging.Handler:
    try:
        return logging.FileHandler(expanded(file), encoding="utf-8")
    except OSError as error:
        raise CannotWrite(f"cannot be written: {error.strerror}", where=str(file)) from error


class _Terminal(logging.StreamHandler[TextIO]):
    """Standard error as it was at the start: in a session of Ray the descriptor 2 leads to
    `ray.log`. While a live view is shown, its own, which writes above the view."""

    def __init__(self) -> None:
        self._before = sys.stderr
        self._own = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        super().__init__(self._own)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = self._own if sys.stderr is self._before else sys.stderr
        super().emit(record)


class _WithoutPasswords(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from ckconv_sweep.tracking.store import without_password

        return without_password(super().format(record))
