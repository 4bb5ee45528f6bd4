"""What people ask of a sweep, from where they ask it: requests are put into its folder, and the
driver's answers awaited. `sweep.control` is the driver's side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.confirmation import is_confirming
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.requests import Answer, Request, Requests, answers
from ckconv_sweep.sweep.control import WAITS_FOR_THE_SEARCH
from ckconv_sweep.sweep.interruption import Interrupted

WAIT_SECONDS = 60.0
"""How long an answer is waited for."""
_LOOK_SECONDS = 0.2


def ask(
    folder: SweepFolder,
    requests: Sequence[Request],
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Let requests wait in a sweep's folder, and whoever asks as long as a driver is there to
    answer.

    Args:
        say: hears each answer, and what becomes of a request that has none.
        check: raises Interrupted if the waiting is to end. The requests stay.

    Raises:
        ConfigError: one is refused.
        CannotWrite: the folder cannot be written.
    """
    start, box = time.monotonic(), Requests(folder)
    waiting = {box.put(request): request for request in requests}
    told: set[Answer] = set()
    with folder.records.open() as study:
        while waiting:
            holder = folder.records.holder()  # asked first: its last answers are read
            held = holder is not None
            seconds, found = time.monotonic() - start, answers(study.notes())
            for name in [name for name in waiting if name in found]:
                if (answer := found[name]) not in told and not answer.refused:
                    say(f"{answer} · {seconds:.1f} s")
                told.add(answer)
                if answer.done:
                    del waiting[name]
            if is_confirming(study.notes(), holder):
                _tell_what_waits(waiting, folder, say)
            if waiting and (not held or seconds > WAIT_SECONDS):
                break
            try:
                check()
                time.sleep(_LOOK_SECONDS if waiting else 0)
            except (Interrupted, KeyboardInterrupt):
                for request in waiting.values():
                    say(f"{request}: not done yet; it still takes effect{_undo(request, folder)}")
                raise
    for name, request in waiting.items():
        if request.kind in ("pause", "continue", "stop") and not held:
            box.take_away(name)
            say(f"{request}: the session has ended before that")
        else:
            say(f"{request}: {_not_yet(folder, held=held)}")
    for answer in told:
        if answer.refused:
            raise ConfigError(answer.said, where=answer.asked)


def _tell_what_waits(
    waiting: dict[str, Request], folder: SweepFolder, say: Callable[[str], None]
) -> None:
    """Of what a driver that confirms leaves to the search; it is waited for no longer."""
    for name, request in list(waiting.items()):
        if request.kind == "add":
            del waiting[name]
            say(f"{request}: {WAITS_FOR_THE_SEARCH}: {folder.command('resume')}")


def _not_yet(folder: SweepFolder, *, held: bool) -> str:
    if held:
        return f"not done after {WAIT_SECONDS:.0f} s; it waits: {folder.command('status')}"
    return f"no driver runs {folder.name}; it waits for: {folder.command('resume')}"


def _undo(request: Request, folder: SweepFolder) -> str:
    """How to take back what will be done; nothing where it is for good."""
    by = {
        "pause": f"{folder.command('pause')} --off",
        "continue": folder.command("pause"),
        "stop": folder.command("resume"),
        "concurrency": f"{folder.command('concurrency')} N",
        "add": f"{folder.command('stop')} TRIAL",
    }
    return f"; to take it back: {by[request.kind]}" if request.kind in by else ""
