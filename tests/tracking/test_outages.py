"""A server that is down, that hangs, whose answer is lost: nobody waits, all arrives once."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from benchmarks.chaos.ports import free_port
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.tracking import outbox

from .mlflow_real import Server
from .tracked import RECORDS, SPACE, Gate, all_events, check, deliver, make, wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.usefixtures("impatient"),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def hanging(server: Server) -> Iterator[Server]:
    """A real server that is stopped, as by Ctrl-Z; it goes on after the test."""
    server.pause()
    try:
        yield server
    finally:
        server.go_on()


@pytest.fixture(
    params=[
        pytest.param("closed", marks=pytest.mark.fault("tracking-down-at-start")),
        pytest.param("silent", marks=pytest.mark.fault("tracking-hangs")),
        pytest.param("stopped", marks=pytest.mark.fault("tracking-hangs")),
    ]
)
def unanswering(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address where nobody listens, where somebody accepts and never answers, and that of a
    real server that is stopped."""
    if request.param == "closed":
        yield f"127.0.0.1:{free_port()}"
    elif request.param == "stopped":
        yield request.getfixturevalue("hanging").uri.removeprefix("http://")
    else:
        with socket.create_server(("127.0.0.1", 0), backlog=50) as listening:
            yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_does_not_answer_holds_nobody_up_and_is_told_of_once(
    unanswering: str,
) -> None:
    tracker, said = make(f"http://user:S3CR3T@{unanswering}", "down")
    events = all_events(RECORDS[:5])
    tracker.start()
    for _ in range(100):
        for event in events:
            tracker.hear(event)
    assert tracker.waiting == 100 * len(events) + 1  # all was taken, nothing was delivered
    wait_until(lambda: said)
    before = time.perf_counter()
    assert tracker.close("KILLED", patience_seconds=20.0) == 100 * len(events) + 2
    assert time.perf_counter() - before < 10.0
    assert len(said) == 1
    assert "does not answer" in said[0]
    assert "user:***@127.0.0.1" in said[0]
    assert "S3CR3T" not in str(said)
    assert tracker.marks == {}


@pytest.mark.fault("tracking-down-midway")
def test_while_a_server_is_down_it_is_tried_at_growing_distances_and_not_at_every_epoch() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(2.5)
        tracker, said = make(f"http://127.0.0.1:{listening.getsockname()[1]}", "patient")
        tracker.start()
        tries, until = 0, time.monotonic() + 2.5
        events = iter(all_events(RECORDS[:5]) * 10_000)
        while time.monotonic() < until:
            try:
                listening.settimeout(0.01)
                listening.accept()[0].close()
                tries += 1
            except TimeoutError:
                tracker.hear(next(events))
        assert 1 <= tries <= 3  # at 0, 1 and 3 seconds, more or less
        assert len(said) == 1
    tracker.close("KILLED", patience_seconds=1.0)


@pytest.mark.fault("tracking-down-at-end")
def test_what_a_server_missed_while_it_was_down_is_delivered_later_exactly_once(
    server: Server,
) -> None:
    with Gate(server.port) as gate:
        tracker, _ = make(gate.uri, "later")
        tracker.start()
        events = all_events(RECORDS[:3])
        for event in events[:4]:
            tracker.hear(event)
        wait_until(lambda: tracker.waiting == 0)
        gate.shut()
        for event in events[4:]:
            tracker.hear(event)
        assert tracker.close("KILLED", patience_seconds=5.0) == len(events) - 4 + 1  # its own end
    for _ in range(2):
        marks = deliver(server.uri, "later", RECORDS, marks=tracker.marks).marks
        check(server.uri, "later", RECORDS)
    assert marks[0].ended


@pytest.mark.slow  # a server starts twice
@pytest.mark.fault("tracking-down-midway")
def test_of_a_long_outage_the_queue_remembers_numbers_and_reads_their_records_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 4)
    monkeypatch.setattr(outbox, "_MOST_TOGETHER", 3)
    read: list[int] = []

    def read_again(number: int) -> TrialRecord:
        read.append(number)
        return RECORDS[number]

    events = all_events(RECORDS[:4])
    with Gate(server.port, is_open=False) as gate:
        tracker, said = make(gate.uri, "long", read=read_again)
        tracker.catch_up([], lambda r: SPACE.resolve(r.params, r.number))
        tracker.start()
        wait_until(lambda: said)
        for event in events:
            tracker.hear(event)
        assert [item for item in tracker._queue if isinstance(item, int)] == [1, 2, 3]
        assert tracker.waiting == 1 + len(events)
        gate.open = True
        assert tracker.close("KILLED") == 0
    assert read == [1, 2, 3]
    check(server.uri, "long", RECORDS[:4])


@pytest.mark.fault("tracking-down-midway")
def test_a_server_that_is_killed_and_comes_back_gets_everything_once(server: Server) -> None:
    tracker, said = make(server.uri, "restart")
    tracker.start()
    events = all_events(RECORDS[:3])
    for event in events[:3]:
        tracker.hear(event)
    wait_until(lambda: tracker.waiting == 0)
    server.kill()
    for event in events[3:]:
        tracker.hear(event)
    wait_until(lambda: said)
    server.start()
    assert tracker.close("FINISHED", patience_seconds=60.0) in range(len(events))
    if len(said) == 1:  # it was closed before it saw that the server is back
        deliver(server.uri, "restart", RECORDS[:3], "FINISHED", marks=tracker.marks)
    else:
        assert said[1] == "MLflow answers again"
    check(server.uri, "restart", RECORDS[:3], "FINISHED")


@pytest.mark.fault("tracking-down-at-start")
@pytest.mark.fault("tracking-down-midway")
@pytest.mark.parametrize(
    "before",
    [0, pytest.param(1, marks=pytest.mark.slow), 4],
    ids="{} events before it is cut off".format,
)
def test_a_tracker_notices_by_itself_that_the_server_answers_again(
    before: int, server: Server
) -> None:
    name = f"gate-{before}"
    with Gate(server.port, is_open=before > 0) as gate:
        tracker, said = make(gate.uri, name)
        tracker.start()
        events = all_events(RECORDS[:3])
        for event in events[:before]:
            tracker.hear(event)
        wait_until(lambda: tracker.waiting == 0 or not before)
        gate.shut()
        for event in events[before:]:
            tracker.hear(event)
        wait_until(lambda: said)
        gate.open = True
        wait_until(lambda: tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
    assert said[1:] == ["MLflow answers again"]
    check(server.uri, name, RECORDS[:3], "FINISHED")


@pytest.mark.fault("tracking-hangs")
def test_a_server_that_hangs_in_the_middle_gets_everything_once_when_it_goes_on(
    server: Server,
) -> None:
    tracker, said = make(server.uri, "hangs")
    tracker.start()
    events = all_events(RECORDS[:3])
    for event in events[:3]:
        tracker.hear(event)
    wait_until(lambda: tracker.waiting == 0)
    server.pause()
    try:
        for event in events[3:]:
            tracker.hear(event)
        wait_until(lambda: said)
    finally:
        server.go_on()
    wait_until(lambda: tracker.waiting == 0)
    assert tracker.close("FINISHED") == 0
    assert said[1:] == ["MLflow answers again"]
    check(server.uri, "hangs", RECORDS[:3], "FINISHED")


@pytest.mark.fault("tracking-hangs")
@pytest.mark.fault("tracking-reply-lost")
@pytest.mark.parametrize("nth", [1, 2], ids=["the sweep's run", "a trial's run"])
def test_a_server_that_hangs_before_it_reads_a_creation_makes_one_run(
    nth: int, server: Server
) -> None:
    """It finds the request where it left off, and beside it the question whether it was done."""
    name = f"wakes-{nth}"
    with Gate(server.port, watched="/runs/create", nth=nth, at_request=server.pause) as gate:
        tracker, said = make(gate.uri, name)
        tracker.start()
        for event in all_events(RECORDS[:2]):
            tracker.hear(event)
        try:
            assert gate.met.wait(30)
            wait_until(lambda: said)
            time.sleep(1.5)  # the next try hangs too
        finally:
            server.go_on()
        wait_until(lambda: tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
    check(server.uri, name, RECORDS[:2], "FINISHED")


@pytest.mark.fault("tracking-reply-lost")
@pytest.mark.parametrize(
    ("call", "nth"),
    [
        ("/runs/create", 1),
        ("/runs/create", 2),
        ("/runs/search", 1),
        ("/runs/update", 1),
        ("/runs/log-batch", 1),  # the sweep's settings
        ("/runs/log-batch", 2),  # a trial's settings
        ("/runs/log-batch", 3),  # its epochs
        ("/runs/log-batch", 4),  # its end
    ],
)
def test_what_was_done_and_answered_to_nobody_is_there_once(
    call: str, nth: int, server: Server
) -> None:
    name = f"lost{call.replace('/', '-')}-{nth}"
    with Gate(server.port, watched=call, nth=nth) as gate:
        tracker, _ = make(gate.uri, name)
        tracker.start()
        for event in all_events(RECORDS[:2]):
            tracker.hear(event)
        wait_until(lambda: gate.met.is_set() and tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
    check(server.uri, name, RECORDS[:2], "FINISHED")


@pytest.mark.fault("tracking-reply-lost")
def test_epochs_that_were_heard_one_by_one_and_sent_twice_are_there_once(server: Server) -> None:
    """As a driver does that is killed between the delivery and its mark."""
    for tracker, _ in (make(server.uri, "again"), make(server.uri, "again")):
        tracker.start()
        for event in all_events(RECORDS[:1]):
            tracker.hear(event)
            wait_until(lambda tracker=tracker: tracker.waiting == 0)
        assert tracker.close("FINISHED") == 0
    check(server.uri, "again", RECORDS[:1], "FINISHED")
