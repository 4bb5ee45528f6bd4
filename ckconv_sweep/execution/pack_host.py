"""Holds packs: trials of equal shapes that one process trains as one.

A Ray actor, one for each GPU (or CPU) that a trial without packs would get. Relays bring trials
(`execution.relay`), one each, and carry their epochs away; a thread here trains the packs side by
side, a step each in turn. It does not wait for what is decided about an epoch: by then the next one
is being trained, and is thrown away if the trial has left meanwhile.
"""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.errors import OutOfMemory
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.worker import check_data, device_of, failure_of, said_of, task_of
from ckconv_sweep.record.lease import Lease

if TYPE_CHECKING:
    from ckconv_sweep.training.pack import Member, Pack

SILENT_SECONDS = 60.0
"""A relay that has not asked for so long is dead, and its trial leaves."""


@dataclass(eq=False)
class _Seat:
    """A trial that was brought here, until it leaves."""

    trial: Trial
    folder: Path
    lease: Lease
    key: Hashable
    """Trials with the same one share a pack."""
    data: Identity | None
    """Of what it must be trained on, if that is known."""
    member: Member | None = None
    pack: Pack | None = None
    said: deque[str] = field(default_factory=deque)
    warnings: list[str] = field(default_factory=list)
    digest: str = ""
    """Of the data that it is trained on."""
    asked_at: float = field(default_factory=time.monotonic)
    left: bool = False
    over: bool = False
    """Ended or failed, and it has been said."""
    crowd: int | None = None
    """Found no room beside so many others."""


class PackHost:
    """Relays call it from threads of their own, any number of them at once."""

    def __init__(
        self,
        gpus: float,
        data_dir: str | None,
        versions: Mapping[str, str],
        allow_data_change: bool,
    ) -> None:
        """`versions`: those that this process must have, `record.versions.of_worker()`."""
        from ckconv_sweep.training.allocator import keep_pages

        keep_pages()
        self._gpus, self._data_dir = gpus, data_dir
        self._versions, self._allow_data_change = versions, allow_data_change
        self._seats: dict[str, _Seat] = {}
        self._packs: dict[Hashable, Pack] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="packs", daemon=True).start()

    def join(self, trial: str, folder: str, attempt: str, data: Identity | None) -> str:
        """Bring a trial; returns the ticket with which its epochs are asked for."""
        from ckconv_sweep.training.shape import shape_key

        place, asked = Path(folder), Trial.model_validate_json(trial)
        seat = _Seat(asked, place, Lease(place, attempt), shape_key(asked), data)
        with self._changed:
            for other in self._seats.values():
                other.left |= other.folder == place  # its relay died, and this is another
            ticket = uuid.uuid4().hex
            self._seats[ticket] = seat
            self._changed.notify_all()
        return ticket

    def said(self, ticket: str, within_seconds: float = 10.0) -> list[str]:
        """What has been said of a trial since the last call, as a worker says it, in JSON, and at
        last that it ended. Waits for the first; empty where none came."""
        with self._changed:
            seat = self._seats[ticket]
            self._changed.wait_for(lambda: seat.said, within_seconds)
            seat.asked_at = time.monotonic()
            said = list(seat.said)
            seat.said.clear()
        return said

    def leave(self, ticket: str) -> None:
        """Take a trial away, ended or not."""
        with self._changed:
            if ticket in self._seats:
                self._seats[ticket].left = True
                self._changed.notify_all()

    # The thread that trains

    def _work(self) -> None:
        try:
            while True:
                self._round()
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # Ray starts another, and the relays bring their trials there

    def _round(self) -> None:
        """Each pack is trained a step. Between two epochs of a pack whoever has left goes, and
        whoever has come is let in."""
        with self._changed:
            if not any(pack.running for pack in self._packs.values()):
                self._changed.wait_for(self._has_work, timeout=SILENT_SECONDS / 4)
            seats = dict(self._seats)
        for ticket, seat in seats.items():
            if seat.pack is not None and seat.pack.running:
                continue
            if seat.left or time.monotonic() - seat.asked_at > SILENT_SECONDS:
                with self._changed:
                    del self._seats[ticket]
                self._remove(seat)
            elif seat.pack is None and not seat.over and self._has_room(seat):
                self._welcome(seat)
        for key, pack in list(self._packs.items()):
            if pack.members:
                self._step(pack)
            else:
                del self._packs[key]

    def _has_work(self) -> bool:
        return any(seat.left or not seat.over for seat in self._seats.values())

    def _members(self) -> int:
        return sum(len(pack.members) for pack in self._packs.values())

    def _has_room(self, seat: _Seat) -> bool:
        """Not asked again before one of those has left beside whom there was none."""
        return seat.crowd is None or self._members() < seat.crowd

    def _welcome(self, seat: _Seat) -> None:
        try:
            if seat.member is None:
                seat.member = self._open(seat)
            if seat.member.end is None:
                pack = self._pack(seat)
                if not pack.running:
                    pack.join(seat.member)
                    seat.pack = pack
            else:
                self._finish(seat)
        except OutOfMemory as error:
            self._no_room(seat, error)
        except Exception as error:
            self._fail(seat, error)

    def _open(self, seat: _Seat) -> Member:
        from ckconv_sweep.training.pack import Member

        nodes.check(self._versions, self._gpus)
        task = task_of(seat.trial.data, self._data_dir)
        check_data(task, seat.data)
        seat.lease.take()
        member = Member.open(
            seat.trial,
            task,
            folder=seat.folder,
            warn=seat.warnings.append,
            guard=seat.lease.check,
            allow_data_change=self._allow_data_change,
        )
        seat.digest = task.identity["digest"]
        for epoch in member.history:
            self._say_epoch(seat, epoch)
        return member

    def _pack(self, seat: _Seat) -> Pack:
        from ckconv_sweep.training.pack import Pack

        if seat.key not in self._packs:
            task = task_of(seat.trial.data, self._data_dir)
            self._packs[seat.key] = Pack(task, device_of(self._gpus))
        return self._packs[seat.key]

    def _step(self, pack: Pack) -> None:
        with self._changed:
            here = [seat for seat in self._seats.values() if seat.pack is pack]
        try:
            results = pack.step()
        except Exception as error:
            self._part(here, error)
            return
        if results is None:
            return
        seats = {seat.member: seat for seat in here}
        beside = self._members()
        for member, result in results.items():
            seat = seats[member]
            if isinstance(result, Epoch):
                self._keep(seat)
            elif isinstance(result, OutOfMemory):
                self._no_room(seat, result)
            elif isinstance(result, Exception):
                self._fail(seat, result)
            else:
                seat.pack, seat.crowd = None, beside or None

    def _part(self, seats: list[_Seat], error: Exception) -> None:
        """What nobody foresaw went wrong: each gets a pack of its own, where it fails alone or goes
        on as if nothing had been."""
        for seat in seats:
            self._remove(seat)
            if len(seats) == 1:
                self._fail(seat, error)
            seat.key = seat.lease

    def _keep(self, seat: _Seat) -> None:
        assert seat.member is not None
        if seat.left:
            self._remove(seat)
            return
        try:
            self._say_epoch(seat, seat.member.keep())
            if seat.member.end is not None:
                self._finish(seat)
        except Exception as error:
            self._remove(seat)
            self._fail(seat, error)

    def _finish(self, seat: _Seat) -> None:
        assert seat.member is not None
        seat.member.finish()
        self._remove(seat)
        self._say(seat, {"ended": True})
        seat.over = True

    def _no_room(self, seat: _Seat, error: OutOfMemory) -> None:
        """It failed if there was nobody else; otherwise it starts from its checkpoint later."""
        seat.member = seat.pack = None
        others = self._members()
        if others:
            seat.crowd = others
        else:
            self._fail(seat, error)

    def _fail(self, seat: _Seat, error: Exception) -> None:
        seat.member = seat.pack = None
        seat.over = True
        self._say(seat, failure_of(error))

    def _remove(self, seat: _Seat) -> None:
        if seat.pack is not None and seat.member is not None:
            if seat.member in seat.pack.members:
                seat.pack.leave(seat.member)
            seat.member = seat.pack = None

    def _say_epoch(self, seat: _Seat, epoch: Epoch) -> None:
        self._say(seat, said_of(epoch, list(seat.warnings), seat.digest))
        seat.warnings.clear()

    def _say(self, seat: _Seat, what: dict[str, Any]) -> None:
        with self._changed:
            seat.said.append(json.dumps(what))
            self._changed.notify_all()
