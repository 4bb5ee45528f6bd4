"""The note of a sweep's run: what was requested, and the best trials."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sweep.in_process import make_space

from ckconv_sweep.record.events import Ended, Rejected, Started
from ckconv_sweep.tracking.note import MOST_CHARACTERS, TAG, Standings
from ckconv_sweep.tracking.outbox import events_of

from .mlflow_real import points_of, runs_of
from .tracked import RECORDS, SPACE, make, record

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def ranking(note: str) -> list[list[str]]:
    """The cells of each row below the heading of the ranking."""
    lines = note.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith("| rank")]
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines[start + 2 :]]


def standings(*numbers: int) -> Standings:
    out = Standings(SPACE)
    for number in numbers:
        out.add(record(number, "completed", 3, "epochs"))
    return out


def test_the_note_says_what_was_asked() -> None:
    note = Standings(make_space(scheduler="{name: asha}", trials=7)).note()
    assert note.splitlines()[0] == (
        "A sweep on **digits**: 7 trials requested, sampler random, scheduler asha. Judged by "
        "**val/accuracy** at its best epoch; higher is better."
    )
    assert "| `optimizer.learning_rate` | 0.0001 to 0.1, on a logarithmic scale |" in note
    assert "| `model.dropout` | 0 to 0.3, in steps of 0.1 |" in note
    assert "| `schedule` | constant, plateau |" in note
    assert "| `schedule.plateau.patience` | 1 to 4 |" in note
    assert "rank" not in note


@pytest.mark.fault("grid-smaller-than-budget")
def test_the_note_asks_for_no_more_trials_than_a_grid_can_give() -> None:
    out = Standings(make_space(sampler="grid", trials=50))
    assert ": 6 trials requested (the grid has only 6 points; the budget allows 50 trials)," in (
        out.note()
    )
    rejected = replace(record(0, "failed", 0, "constraint"), history=())
    out.add(rejected)
    out.hear(Rejected(number=1, most=4))
    assert ": 4 trials requested (the grid has only 6 points, 2 of them were rejected; " in (
        out.note()
    )


def test_completed_trials_are_ranked_and_the_others_counted() -> None:
    out = standings(0, 7, 3)
    for r in RECORDS[1:5]:
        if r.number != 3:
            out.add(r)
    note = out.note()
    assert "(3 completed, 1 pruned, 1 failed, 1 unfinished)" in note
    assert ranking(note) == [
        ["1", "t007", "0.87", "3", "0.1", "0.1235"],
        ["2", "t003", "0.83", "3", "0.1", "0.1235"],
        ["3", "t000", "0.8", "3", "0.1", "0.1235"],
    ]


def test_it_is_the_same_whether_trials_were_heard_of_or_are_read_from_the_study() -> None:
    heard, read = Standings(SPACE), Standings(SPACE)
    for r in RECORDS[:5]:
        read.add(r)
        for event in events_of(r, SPACE.resolve(r.params, r.number), SPACE.metrics):
            heard.hear(event)
    assert heard.note() == read.note()


def test_of_equal_trials_the_earlier_one_stands_first() -> None:
    out = Standings(SPACE)
    for number in (1000, 0, 101):
        trial = SPACE.resolve(RECORDS[0].params, number)
        out.hear(
            Started(number=number, trial=trial, params=RECORDS[0].params, started_ms=0),
        )
        out.hear(
            Ended(
                number=number,
                outcome="completed",
                reason="epochs",
                error="",
                epochs=1,
                last_epoch=1,
                values={"val/accuracy": 0.5},
                ended_ms=1,
            )
        )
    assert [row[1] for row in ranking(out.note())] == ["t000", "t101", "t1000"]


def test_only_the_best_twenty_are_listed() -> None:
    rows = ranking(standings(*range(30)).note())
    assert [row[1] for row in rows] == [f"t{number:03d}" for number in range(29, 9, -1)]


def test_a_note_that_would_be_cut_off_has_fewer_rows() -> None:
    """MLflow cuts a tag off after 8,000 characters, in the middle of a line."""
    out = standings(*range(20))
    for row in out.rows.values():
        row.params = dict.fromkeys(SPACE.parameters(), "y" * 300)
    note = out.note()
    assert len(note) <= MOST_CHARACTERS
    assert 0 < len(ranking(note)) < 20
    assert note.endswith("|")


def test_a_bar_in_a_value_breaks_no_table() -> None:
    out = standings(0)
    out.rows[0].params = {"model.dropout": "a|b\nc", "optimizer.learning_rate": 0.5}
    assert out.note().splitlines()[-1] == r"| 1 | t000 | 0.8 | 3 | a\|b c | 0.5 |"


def test_the_best_so_far_grows_in_the_order_in_which_trials_ended() -> None:
    out = Standings(SPACE)
    for r in (record(3, "completed", 3, "epochs"), *RECORDS[1:3], record(7, "completed", 1)):
        out.add(r)
    out.add(record(0, "running", 3))
    at = {number: 1_700_000_000_500 + 1000 * number for number in (3, 7)}
    top = 0.8 + 0.03
    assert out.best_so_far() == [(3, top, at[3]), (4, top, at[7])]


# In a real MLflow


def told(uri: str, name: str, records: list[object]) -> None:
    tracker, said = make(uri, name, more={"space": SPACE, "created_ms": 7})
    tracker.catch_up(records, lambda r: SPACE.resolve(r.params, r.number))  # type: ignore[arg-type]
    tracker.start()
    assert tracker.close("KILLED") == 0
    assert said == []


def test_the_note_grows_with_the_sweep_and_names_the_saved_charts(database: str) -> None:
    told(database, "noted", [RECORDS[0]])
    first = runs_of(database, "noted")["noted"].data.tags[TAG]
    assert [row[1] for row in ranking(first)] == ["t000"]
    assert "[All trials as charts](#/experiments/" in first
    told(database, "noted", [RECORDS[0], record(7, "completed", 3, "epochs")])
    run = runs_of(database, "noted")["noted"]
    assert [row[1] for row in ranking(run.data.tags[TAG])] == ["t007", "t000"]


def test_the_sweeps_run_has_the_same_best_values_however_often_it_was_told(database: str) -> None:
    last = record(7, "completed", 3, "epochs")
    told(database, "often", [RECORDS[0]])
    told(database, "often", [RECORDS[0], last])
    told(database, "once", [RECORDS[0], last])
    often, once = (
        points_of(database, runs_of(database, name)[name])["val/accuracy_best"]
        for name in ("often", "once")
    )
    assert often == once
    assert [(step, value) for step, value, _ in once] == [(1, 0.8), (2, 0.8 + 0.07)]


def test_what_a_person_wrote_in_its_place_stays(database: str) -> None:
    from mlflow import MlflowClient

    told(database, "theirs", [RECORDS[0]])
    run = runs_of(database, "theirs")["theirs"]
    MlflowClient(tracking_uri=database).set_tag(run.info.run_id, TAG, "my conclusion")
    told(database, "theirs", RECORDS[:2])
    assert runs_of(database, "theirs")["theirs"].data.tags[TAG] == "my conclusion"
