"""Which trials a continuation goes back to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report.records import record

from ckconv_sweep.errors import DamagedData
from ckconv_sweep.record.lineage import broken, in_words, lineage
from ckconv_sweep.record.trials import TrialRecord


def continuation(
    number: int, replaces: int, source: int, epoch: int, values: list[float], **others: object
) -> TrialRecord:
    made = record(number, values)
    history = tuple(replace(e, number=e.number + epoch) for e in made.history)
    return replace(
        made,
        history=history,
        position=None,
        replaces=replaces,
        from_trial=source,
        from_epoch=epoch,
        **others,  # type: ignore[arg-type]
    )


WHOLE = [
    record(0, [0.1, 0.2, 0.3, 0.4]),
    record(1, [0.1, 0.1], "continued"),
    continuation(2, 1, 0, 2, [0.3, 0.5]),
    record(3, [0.1, 0.1, 0.1], "continued"),
    continuation(4, 3, 2, 3, [0.6]),
]


def test_a_lineage_leads_from_new_weights_to_the_trial() -> None:
    links = lineage(WHOLE[4], WHOLE)
    assert [(link.record.number, link.until) for link in links] == [(0, 2), (2, 3), (4, 4)]
    assert [[e.number for e in link.epochs] for link in links] == [[1, 2], [3], [4]]
    assert [link.record.number for link in lineage(WHOLE[0], WHOLE)] == [0]
    assert in_words(WHOLE[4]) == "t002 epoch 3"
    assert in_words(WHOLE[0]) == ""
    assert list(broken(WHOLE)) == []


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (
            [*WHOLE[:4], replace(WHOLE[4], from_trial=7)],
            "trial 4 goes on from epoch 3 of trial 7, which is not there",
        ),
        (
            [*WHOLE[:4], replace(WHOLE[4], from_trial=4)],
            "trial 4 goes on from epoch 3 of trial 4, which is not there",
        ),
        (
            [*WHOLE[:4], replace(WHOLE[4], from_epoch=9)],
            "trial 4 goes on from epoch 9 of trial 2, which is not there",
        ),
        (
            [*WHOLE, continuation(5, 3, 2, 3, [0.6])],
            "trials 4 and 5 both continue trial 3",
        ),
        (WHOLE[:4], "trial 3 was continued, and no trial has its place"),
    ],
)
def test_what_is_not_whole_is_told(records: list[TrialRecord], says: str) -> None:
    assert list(broken(records)) == [says]
    if "not there" in says:
        with pytest.raises(DamagedData, match=says):
            lineage(records[4], records)


def test_a_failed_continuation_and_its_retry_share_a_place() -> None:
    failed = replace(WHOLE[4], outcome="failed", reason="nonfinite")
    again = continuation(5, 3, 2, 3, [0.6], retry_of=4)
    assert list(broken([*WHOLE[:4], failed, again])) == []
