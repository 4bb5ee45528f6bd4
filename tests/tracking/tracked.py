"""What a tracker is given in these tests, what MLflow must hold then, and what can stand between
the two."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from sweep.in_process import make_space

from ckconv_sweep import keys
from ckconv_sweep.config.history import Epoch, best, objective
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.record.events import Event
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking.outbox import Mark, RunOfSweep, Tracker, events_of, uid

from .mlflow_real import points_of, runs_of

SPACE = make_space(
    search="  model.dropout: {choices: [0.0, 0.1, 0.2, 0.3]}\n  optimizer.learning_rate: "
    "{choices: [0.001, 0.1234567891]}",
)


def record(
    number: int, outcome: Any, epochs: int, reason: str = "", error: str = ""
) -> TrialRecord:
    history = tuple(
        Epoch(
            number=i,
            metrics={"val/accuracy": [0.5, 0.8, 0.7][i - 1] + number / 100, "train/loss": 1.0 / i},
            timestamp_ms=1_700_000_000_000 + 1000 * number + i,
        )
        for i in range(1, epochs + 1)
    )
    return TrialRecord(
        number=number,
        outcome=outcome,
        params={"model.dropout": 0.1, "optimizer.learning_rate": 0.1234567891},
        history=history,
        reason=reason,
        error=error,
        started_ms=1_700_000_000_000 + 1000 * number,
        ended_ms=None if outcome == "running" else 1_700_000_000_500 + 1000 * number,
    )


RECORDS = [
    record(0, "completed", 3, "epochs"),
    record(1, "pruned", 1),
    record(2, "failed", 2, "nonfinite", "val/loss became nan in epoch 3"),
    record(3, "failed", 0, "error", "a traceback"),
    record(4, "running", 2),
    record(5, "failed", 0, "constraint", "outside the budget and outside MLflow"),
]


def make(
    uri: str, name: str, *, space: Space = SPACE, more: Any = None, **others: Any
) -> tuple[Tracker, list[str]]:
    """`more` of the sweep's run, as a dict."""
    said: list[str] = []
    tracker = Tracker(
        uri,
        RunOfSweep(
            name=name,
            uid=uid(name),
            role=keys.ROLE_SWEEP,
            params=flat(space.trial.model_dump(mode="json")),
            artifacts={"space.yaml": space.to_yaml()},
            **(more or {}),
        ),
        base=space.trial,
        say=said.append,
        **others,
    )
    return tracker, said


def deliver(
    uri: str,
    name: str,
    records: list[TrialRecord],
    status: str = "KILLED",
    marks: dict[int, Mark] | None = None,
    *,
    lost: bool = False,
) -> Tracker:
    """`lost`: MLflow lacks something of what is marked."""
    tracker, said = make(uri, name, marks=marks)
    tracker.catch_up(records, lambda r: SPACE.resolve(r.params, r.number))
    tracker.start()
    assert tracker.close(status) == 0
    assert len(said) == lost, said
    return tracker


def check(uri: str, name: str, records: list[TrialRecord], status: str = "KILLED") -> None:
    """MLflow holds these records, each of their points once, and nothing else of the sweep."""
    runs = runs_of(uri, name)
    counted = [r for r in records if r.counts]
    assert sorted(runs) == sorted([name, *(keys.trial_name(r.number) for r in counted)])
    parent = runs[name]
    assert parent.info.status == status
    assert parent.data.tags["role"] == "sweep"
    base = {k: str(v) for k, v in flat(SPACE.trial.model_dump(mode="json")).items()}
    assert parent.data.params == base
    for r in counted:
        run = runs[keys.trial_name(r.number)]
        tags = run.data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert (tags["role"], tags["trial"], tags["sweep"]) == ("trial", str(r.number), name)
        assert tags["changed"] == "model.dropout=0.1 optimizer.learning_rate=0.123457"
        assert run.info.start_time == r.started_ms
        changed = {"model.dropout": "0.1", "optimizer.learning_rate": "0.1234567891"}
        assert run.data.params == base | changed | {"training.seed": str(5 + r.number)}
        expected: dict[str, list[tuple[int, float, int]]] = {}
        top = -1.0
        for e in r.history:
            top = max(top, e.metrics["val/accuracy"])
            for key, value in {**e.metrics, "val/accuracy_best": top}.items():
                expected.setdefault(key, []).append((e.number, value, e.timestamp_ms))
        if r.outcome == "running":
            assert run.info.status == "RUNNING"
            assert "outcome" not in tags
        else:
            assert r.ended_ms is not None
            assert run.info.status == ("FAILED" if r.outcome == "failed" else "FINISHED")
            assert run.info.end_time == r.ended_ms
            assert tags["outcome"] == r.outcome
            assert tags.get("reason", "") == r.reason
            assert tags.get("error", "") == r.error
            expected["summary/epochs"] = [(0, len(r.history), r.ended_ms)]
            if r.history:
                value = objective(r.history, SPACE.metric)
                assert value == best(r.history, SPACE.metric).metrics["val/accuracy"]
                expected["summary/val_accuracy"] = [(0, value, r.ended_ms)]
        assert points_of(uri, run) == expected


def wait_until(done: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def all_events(records: list[TrialRecord]) -> list[Event]:
    return [
        e for r in records for e in events_of(r, SPACE.resolve(r.params, r.number), SPACE.metrics)
    ]


class Gate:
    """A proxy that drops every connection while it is shut.

    Args:
        watched: part of a request's address.
        nth: how manyeth request of that kind is meant.
        at_request: called before that request is passed on; without it the answer is swallowed.
    """

    def __init__(
        self,
        port: int,
        *,
        is_open: bool = True,
        watched: str = "",
        nth: int = 1,
        at_request: Callable[[], None] | None = None,
    ) -> None:
        self.open, self.met = is_open, threading.Event()
        self._target, self._watched, self._left = port, watched.encode(), nth
        self._at_request = at_request
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._connections: set[socket.socket] = set()
        threading.Thread(target=self._serve, daemon=True).start()

    def shut(self) -> None:
        """Drop what is open, and all that comes."""
        self.open = False
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if not self.open:
                client.close()
                continue
            behind = socket.create_connection(("127.0.0.1", self._target))
            self._connections |= {client, behind}
            due = threading.Event()  # the next answer is to be swallowed
            for ways in ((client, behind, True), (behind, client, False)):
                threading.Thread(target=self._carry, args=(*ways, due), daemon=True).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, asks: bool, due: threading.Event
    ) -> None:
        with source, target, contextlib.suppress(OSError):
            while part := source.recv(1_000_000):
                if asks and self._watched and self._watched in part:
                    self._left -= 1
                    if self._left == 0 and self._at_request is not None:
                        self._at_request()
                        self.met.set()
                    elif self._left == 0:
                        due.set()
                elif not asks and due.is_set():
                    self.met.set()
                    target.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(part)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.shut()
