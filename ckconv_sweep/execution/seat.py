"""A process that trains. It has one or more places, with a trial in each.

Trials of equal shapes are trained as one, a pack; a thread here trains the packs side by side, a
step each in turn. It does not wait for what is decided about an epoch: by then the next one is
being trained, and it is thrown away if the trial has left meanwhile.

A seat opens neither the study nor MLflow. It writes checkpoints into the trials' folders, and
reports epochs, ends and failures. When a trial has failed, it takes the next one.
"""

from __future__ import annotations

import gc
import os
import threading
import traceback
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckconv_sweep.config.history import Epoch, Source
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.errors import CkconvSweepError, NodeFault, NodeUnfit, OutOfMemory
from ckconv_sweep.execution import nodes
from ckconv_sweep.execution.worker import (
    check_data,
    device_of,
    failure_of,
    said_of,
    task_of,
    where,
)
from ckconv_sweep.record.blobs import Place, place_of
from ckconv_sweep.record.lease import Lease

if TYPE_CHECKING:
    from ckconv_sweep.data.task import SequenceTask
    from ckconv_sweep.training.pack import Member, Pack

IDLE_SECONDS = 0.5
"""How often a seat with an empty place asks whether there is a trial for it."""

BUSY_SECONDS = 10.0
"""How often one without asks whether it shall go on, where no epoch ends meanwhile."""

CHECKPOINT_SECONDS = 1.0
"""How much of a trial may be lost with its process, beside the epoch that is being trained. Each
checkpoint is synced to the disk, which costs 10 to 25 ms: too much after every short epoch."""


@dataclass(eq=False)
class _Place:
    """A trial that is here, until it leaves."""

    attempt: str
    trial: Trial
    folder: Place
    lease: Lease
    key: Hashable
    """Trials with the same one share a pack."""
    data: Identity | None
    """Of what it must be trained on, if that is known."""
    readable: bool
    """Whether its data were read elsewhere."""
    recorded: list[Epoch]
    """What the study has of it, or is told."""
    source: Source | None
    kept_epochs: int
    """As of `Assignment`."""
    member: Member | None = None
    pack: Pack | None = None
    warnings: list[str] = field(default_factory=list)
    digest: str = ""
    """Of the data that it is trained on."""
    left: bool = False
    crowd: int | None = None
    """Found no room beside so many others."""


class Seat:
    """Places, and the thread that trains in them. The methods are for another thread. Where there
    are more trials than places the later ones wait until one has left.

    Args:
        places: how many trials are here at a time.
        gpus: how many GPUs the process has been given; a share of one is 0.25, say.
        data_dir: where data sets are looked for first.
        versions: those that this process must have, `record.versions.of_worker()`.
        marker: a file that it must see (`nodes.check`).
        allow_data_change: also continue from checkpoints that were trained on other data.
    """

    def __init__(
        self,
        places: int,
        gpus: float,
        data_dir: str | None,
        versions: Mapping[str, str],
        marker: str = "",
        *,
        allow_data_change: bool,
    ) -> None:
        from ckconv_sweep.training.allocator import keep_pages

        keep_pages()
        self._count, self._gpus, self._data_dir = places, gpus, data_dir
        self._allow_data_change = allow_data_change
        self._places: dict[str, _Place] = {}
        self._packs: dict[Hashable, Pack] = {}
        try:
            nodes.check(versions, gpus, marker)
            self._said: list[dict[str, Any]] = [{"ready": os.getpid(), **where()}]
        except NodeUnfit as error:
            self._said = [dict(failure_of(error))]
        self._littered = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="seat", daemon=True).start()

    def take(self, orders: Mapping[str, Any]) -> None:
        """What the driver answers: attempts that are `gone`, ended or not, and `new` ones, each
        with its trial as JSON, its folder, the identity of its data and whether they were read
        before, its recorded epochs, and what it begins with."""
        new = [self._place(**asked) for asked in orders["new"]]
        with self._changed:
            for attempt in orders["gone"]:
                if attempt in self._places:
                    self._places[attempt].left = True
            self._places |= {place.attempt: place for place in new}
            self._changed.notify_all()

    def said(self) -> list[dict[str, Any]]:
        """What has been said since the last call, in order, each with the attempt that it is of:
        an epoch, that the trial ended, or why it failed. Waits for the first, but not long: what
        is empty asks for orders."""
        with self._changed:
            stay = sum(not place.left for place in self._places.values())
            seconds = IDLE_SECONDS if stay < self._count else BUSY_SECONDS
            self._changed.wait_for(lambda: self._said, seconds)
            said, self._said = self._said, []
        return said

    def _place(
        self,
        attempt: str,
        trial: str,
        folder: str,
        data: Identity | None,
        recorded: Iterable[Mapping[str, Any]],
        readable: bool = False,
        source: Mapping[str, Any] | None = None,
        kept_epochs: int = 0,
    ) -> _Place:
        from ckconv_sweep.training.shape import shape_key

        asked, there = Trial.model_validate_json(trial), place_of(folder)
        epochs = [Epoch(**epoch) for epoch in recorded]
        begin = None if source is None else Source(**source)
        lease, key = Lease(there, attempt), shape_key(asked)
        known = (data, readable, epochs)
        return _Place(attempt, asked, there, lease, key, *known, begin, kept_epochs)

    # The thread that trains

    def _work(self) -> None:
        try:
            import ckconv_sweep.training.pack  # noqa: F401  # while the first trial is drawn

            while True:
                self._round()
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # the driver puts another seat in its place, and its trials there

    def _round(self) -> None:
        """Each pack is trained a step. Between two epochs of a pack whoever has left goes, and
        whoever has come is let in."""
        with self._changed:
            if not any(pack.running for pack in self._packs.values()):
                self._changed.wait_for(self._has_work)
            places = list(self._places.values())
        self._tidy()
        for place in places:
            if place.pack is not None and place.pack.running:
                if not place.left or len(place.pack.members) > 1:
                    continue
                place.pack.abandon()
            if place.left:
                self._remove(place)
            elif place.pack is None and self._members() < self._count and self._has_room(place):
                self._welcome(place)
        for key in list(self._packs):
            if self._packs[key].members:
                self._step(self._packs[key])
            if not self._packs[key].members:  # it holds a model all the same
                del self._packs[key]

    def _has_work(self) -> bool:
        return bool(self._places)

    def _tidy(self) -> None:
        """After a failure, when nothing holds its exception any more, which held the model."""
        if self._littered:
            import torch

            self._littered = False
            gc.collect()
            torch.cuda.empty_cache()

    def _members(self) -> int:
        return sum(len(pack.members) for pack in self._packs.values())

    def _has_room(self, place: _Place) -> bool:
        """Not asked again before one of those has left beside whom there was none."""
        return place.crowd is None or self._members() < place.crowd

    def _welcome(self, place: _Place) -> None:
        try:
            if place.member is None:
                place.member = self._open(place)
            if place.member.end is None:
                pack = self._pack(place)
                if not pack.running:
                    pack.join(place.member)
                    place.pack = pack
            else:
                self._finish(place)
        except OutOfMemory as error:
            self._no_room(place, error)
        except Exception as error:
            self._fail(place, error)

    def _open(self, place: _Place) -> Member:
        from ckconv_sweep.training.pack import Member

        task = self._task(place)
        check_data(task, place.data)
        place.lease.check()
        member = Member.open(
            place.trial,
            task,
            folder=place.folder,
            warn=place.warnings.append,
            guard=place.lease.check,
            allow_data_change=self._allow_data_change,
            recorded=place.recorded,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            source=place.source,
            kept_epochs=place.kept_epochs,
        )
        place.digest = task.identity["digest"]
        self._say(place, *(self._told(place, epoch) for epoch in member.own))
        return member

    def _task(self, place: _Place) -> SequenceTask:
        """Its data. Raises NodeFault where they cannot be read here, but were elsewhere."""
        try:
            task: SequenceTask = task_of(place.trial.data, self._data_dir)
            return task
        except (CkconvSweepError, OSError) as error:
            if not place.readable:
                raise
            raise NodeFault(f"its data cannot be read: {str(error).splitlines()[0]}") from error

    def _pack(self, place: _Place) -> Pack:
        from ckconv_sweep.training.pack import Pack

        if place.key not in self._packs:
            task = task_of(place.trial.data, self._data_dir)
            self._packs[place.key] = Pack(task, device_of(self._gpus))
        return self._packs[place.key]

    def _step(self, pack: Pack) -> None:
        with self._changed:
            here = [place for place in self._places.values() if place.pack is pack]
        try:
            results = pack.step()
        except Exception as error:
            self._part(here, error)
            return
        if results is None:
            return
        places = {place.member: place for place in here}
        beside = self._members()
        for member, result in results.items():
            place = places[member]
            if isinstance(result, Epoch):
                self._keep(place)
            elif isinstance(result, OutOfMemory):
                self._no_room(place, result)
            elif isinstance(result, Exception):
                self._fail(place, result)
            else:
                place.pack, place.crowd = None, beside or None

    def _part(self, places: list[_Place], error: Exception) -> None:
        """What nobody foresaw went wrong: each gets a pack of its own, where it fails alone or goes
        on as if nothing had been."""
        for place in places:
            self._leave_pack(place)
            if len(places) == 1:
                self._fail(place, error)
            place.key = place.lease

    def _keep(self, place: _Place) -> None:
        assert place.member is not None
        if place.left:
            self._remove(place)
            return
        try:
            told = self._told(place, place.member.keep())
        except Exception as error:
            self._fail(place, error)
            return
        if place.member.end is None:
            self._say(place, told)
            return
        try:
            self._finish(place, told)
        except Exception as error:
            self._say(place, told)
            self._fail(place, error)

    def _finish(self, place: _Place, *told: Mapping[str, Any]) -> None:
        assert place.member is not None
        place.member.finish()
        self._remove(place)
        self._say(place, *told, {"ended": True})

    def _no_room(self, place: _Place, error: OutOfMemory) -> None:
        """It failed if there was nobody else; otherwise it starts from its checkpoint later."""
        place.member = place.pack = None
        others = self._members()
        if others:
            place.crowd = others
        else:
            self._fail(place, error)

    def _fail(self, place: _Place, error: Exception) -> None:
        self._littered = True
        self._remove(place)
        self._say(place, failure_of(error))

    def _remove(self, place: _Place) -> None:
        self._leave_pack(place)
        with self._changed:
            if self._places.get(place.attempt) is place:
                del self._places[place.attempt]

    def _leave_pack(self, place: _Place) -> None:
        if place.pack is not None and place.member is not None:
            place.pack.leave(place.member)
        place.member = place.pack = None

    def _told(self, place: _Place, epoch: Epoch) -> dict[str, Any]:
        if epoch.number > max((known.number for known in place.recorded), default=0):
            place.recorded.append(epoch)
        told = said_of(epoch, list(place.warnings), place.digest)
        place.warnings.clear()
        return told

    def _say(self, place: _Place, *told: Mapping[str, Any]) -> None:
        with self._changed:
            self._said += [{"attempt": place.attempt, **one} for one in told]
            self._changed.notify_all()
