from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest

from ckconv_sweep.config import documents
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space, trial_from
from ckconv_sweep.keys import REASON_CONSTRAINT, trial_name
from ckconv_sweep.record.trials import BASE, TrialRecord, trial_of
from ckconv_sweep.record.why import why
from ckconv_sweep.report.page import ROWS, breakable, duration, failures, page, template, visible
from ckconv_sweep.report.results import Results
from tests.report.confirmations import confirmed_study, found_in

from .attack import BREAKOUT, LABEL, SCRIPT, attacking
from .made_up import made_up
from .records import GRID, record, space


def results(records: list[TrialRecord] | tuple[TrialRecord, ...], of: Any, **more: Any) -> Results:
    given = {"name": "sweep", "uid": "0" * 32, "state": "finished", "source": "somewhere"}
    return Results(**{**given, "space": of, "records": tuple(records), **more})


class Parsed(HTMLParser):
    """The elements of a page, the addresses that they name, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pres: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)
        self.text += " "
        if tag == "pre":
            self.pres.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self.text += data
        if "pre" in self._inside:
            self.pres[-1] += data

    def addresses(self) -> Iterator[str]:
        for _, attributes in self.elements:
            for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
                if attributes.get(name):
                    yield str(attributes[name])


without_drawing = pytest.mark.usefixtures("nothing_drawn")


@pytest.fixture(scope="module")
def sweep() -> Results:
    made = made_up(70, epochs=6, stopping=True, failing=0.1, seed=2)
    return results(made.records, made.space)


@pytest.fixture(scope="module")
def text(sweep: Results) -> str:
    versions = [{"session": 1, "torch": "2.13.0"}, {"session": 2, "torch": "2.13.1"}]
    sizes = {r.number: 100 + r.number for r in sweep.records}
    return page(
        replace(sweep, versions=versions),
        parameters=sizes,
        again=lambda command: f"ckconv-sweep {command} sweep --sweeps-dir 'my sweeps'",
    )


@pytest.fixture(scope="module")
def parsed(text: str) -> Parsed:
    return Parsed(text)


@pytest.mark.parametrize("searched", [[0.95, 0.93, 0.99], [0.99, 0.93, 0.95]])
def test_the_page_of_a_confirmed_sweep_says_beside_the_best_trial_what_fresh_seeds_say(
    searched: list[float], tmp_path: Path
) -> None:
    close = {
        0: [0.90, 0.92, 0.91],
        1: [0.91, 0.91, 0.92],
        2: [0.50, 0.51, 0.52],
        BASE: [0.5, 0.6, 0.7],
    }
    folder = confirmed_study(tmp_path, searched, close, seeds=3)
    with folder.records.open() as study:
        swept = results(study.trials(), study.space)
    said = " ".join(
        Parsed(page(swept, again="X {}".format, confirmed=found_in(folder))).text.split()
    )
    assert "0.9100 ± 0.0248 val/accuracy of t000 with 3 fresh seeds" in said
    best_is_offered = searched[0] == 0.99
    of = "the same settings" if best_is_offered else "t000, whose settings are offered"
    assert f"best trial. Fresh seeds say 0.9100 ± 0.0248 of {of}; X promote hands it over" in said
    assert "to the same numbers on the same CPU machine." in said
    assert "The best settings, trained again with seeds that the search did not have, and" in said


def test_a_page_asks_for_nothing_from_anywhere(parsed: Parsed) -> None:
    assert {a.split(",")[0].split("#")[0] for a in parsed.addresses()} == {
        "data:image/svg+xml;base64",
        "",
    }
    assert not {"script", "link", "iframe", "object", "embed"} & {t for t, _ in parsed.elements}
    (policy,) = [str(a["content"]) for _, a in parsed.elements if a.get("http-equiv") is not None]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_no_picture_names_another_file(parsed: Parsed) -> None:
    pictures = [a for a in parsed.addresses() if a.startswith("data:")]
    # Of each kind one, and three contours; each once more for a phone.
    assert len(pictures) == len(set(pictures)) == 20
    for address in pictures:
        svg = base64.b64decode(address.partition(",")[2]).decode()
        named = re.findall(r"""(?:href|src)="([^"]*)"|url\(([^)]*)\)""", svg)
        assert all((a or b).startswith(("#", "data:image/png;base64,")) for a, b in named)


def test_every_picture_is_described_in_words(parsed: Parsed) -> None:
    described = [str(a["alt"]) for tag, a in parsed.elements if tag == "img"]
    assert all(len(words) > 20 for words in described)
    assert len(set(described)) == len(described)


def test_the_page_says_what_came_out(parsed: Parsed, sweep: Results) -> None:
    summary = sweep.summary()
    said = re.sub(r"\s+", " ", parsed.text)
    assert f"{summary.best_value:.4g}" in said
    assert f"t{summary.best_trial:03d} at epoch {summary.best_epoch}" in said
    for amount, word in (
        (summary.completed, "completed"),
        (summary.pruned, "pruned"),
        (summary.failed, "failed"),
    ):
        assert f"{amount} {word}" in said
    assert "No trial saw the test split" in said
    assert "NonFiniteLoss: the loss became nan" in said
    assert "Pruning saved" in said
    assert "from session 1 2" in said
    assert "2.13.1" in said
    assert "ckconv-sweep best sweep --sweeps-dir 'my sweeps' --out sweep_best.yaml" in said
    assert f"and {len(sweep.records) - ROWS} more" in said


@without_drawing
@pytest.mark.parametrize("seconds", [{}, {"time/epoch_seconds": 0.0}], ids=["none", "zero"])
def test_where_no_epoch_tells_its_time_the_page_tells_what_was_saved_in_epochs_alone(
    seconds: dict[str, float],
) -> None:
    untimed = [
        replace(r, history=tuple(replace(e, metrics=scores(e) | seconds) for e in r.history))
        for r in [record(0, [0.5] * 9), record(1, [0.1], "pruned")]
    ]
    said = re.sub(r"\s+", " ", Parsed(page(results(untimed, space()))).text)
    assert "Pruning saved 8 epochs. " in said
    # So it does where there are times, with them.
    timed = page(results([record(0, [0.5] * 9), record(1, [0.1], "pruned")], space()))
    said = re.sub(r"\s+", " ", Parsed(timed).text)
    assert "Pruning saved 8 epochs, about 4 s of training (44 % of what" in said


def scores(epoch: Epoch) -> dict[str, float]:
    """What an epoch scored, without how long it took."""
    return {name: v for name, v in epoch.metrics.items() if not name.startswith("time/")}


def test_the_page_says_why_trials_ended_early(parsed: Parsed, sweep: Results) -> None:
    early = [r for r in sweep.records if r.outcome not in ("completed", "running") and r.counts]
    assert {r.outcome for r in early} == {"pruned", "failed"}
    said = re.sub(r"\s+", " ", parsed.text)
    for one in early[:ROWS]:
        assert f"{trial_name(one.number)} {why(one, trial_of(one, sweep.space))}" in said


def test_the_best_trial_can_be_copied_from_the_page(parsed: Parsed, sweep: Results) -> None:
    number = sweep.summary().best_trial
    assert number is not None
    trial = next(t for t in parsed.pres if t.startswith("data:"))
    again = trial_from(documents.parse(trial, "page").value, "page")
    assert again == sweep.space.resolve(sweep.records[number].params, number)


def test_the_space_can_be_copied_from_the_page(parsed: Parsed, sweep: Results) -> None:
    assert parse_space(parsed.pres[-1], "page") == sweep.space


def test_the_leaderboard_has_a_row_for_each_of_the_best_trials(parsed: Parsed) -> None:
    headings = [i for i, (tag, _) in enumerate(parsed.elements) if tag == "h2"]
    start = next(i for i in headings if parsed.elements[i][1].get("id") == "trials")
    end = headings[headings.index(start) + 1]
    rows = [tag for tag, _ in parsed.elements[start:end] if tag == "tr"]
    assert len(rows) == 1 + ROWS


def test_the_same_sweep_gives_the_same_page() -> None:
    made = made_up(8, epochs=3)
    assert page(results(made.records, made.space)) == page(results(made.records, made.space))


def different(number: int) -> TrialRecord:
    rate = 1e-4 * 1.1**number
    return record(number, [rate], params={"optimizer.learning_rate": rate})


SECTIONS: dict[str, tuple[list[TrialRecord], str]] = {
    "no trial": ([], "asked"),
    "begun": ([record(0, [], "running")], "advice trials asked"),
    "running": ([record(0, [0.5], "running")], "advice progress time trials asked"),
    "one": ([record(0, [0.5])], "advice best progress time trials asked"),
    "pruned": (
        [record(i, [0.1], "pruned") for i in range(3)],
        "advice progress settings time why trials asked",
    ),
    "failed": (
        [record(i, [], "failed", reason="error") for i in range(3)],
        "advice failures why trials asked",
    ),
    "rejected": ([record(0, [], "failed", reason=REASON_CONSTRAINT)], "failures asked"),
    "equal": (
        [record(i, [0.5]) for i in range(30)],
        "advice best progress settings time trials asked",
    ),
    "told": (
        [different(number) for number in range(40)],
        "advice best progress settings time trials asked",
    ),
}


@without_drawing
@pytest.mark.parametrize("case", SECTIONS)
def test_a_section_that_has_nothing_to_say_is_left_out(case: str) -> None:
    records, sections = SECTIONS[case]
    parsed = Parsed(page(results(records, space(), state="running")))
    assert [a["id"] for tag, a in parsed.elements if tag == "h2"] == sections.split()
    assert [f"#{s}" for s in sections.split()] == [
        a["href"] for tag, a in parsed.elements if tag == "a"
    ]


@without_drawing
def test_what_cannot_be_compared_has_no_picture() -> None:
    """Contours of three points, and importances of which none could be estimated."""

    def kinds(trials: int) -> set[str]:
        said = Parsed(page(results([different(i) for i in range(trials)], space())))
        alts = [str(a["alt"]).split(" ")[0] for tag, a in said.elements if tag == "img"]
        return {alt for alt in alts if alt in ("Importance", "Every")}

    assert kinds(1) == set()
    assert kinds(19) == {"Every"}
    assert kinds(20) == {"Every", "Importance"}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("warmup_epochs", ["warmup_", "epochs"]),
        ("val/accuracy", ["val/", "accuracy"]),
        ("model.kernel.omega_0", ["model.", "kernel.", "omega_", "0"]),
        ("at epoch", ["at epoch"]),
    ],
)
def test_a_name_is_broken_between_its_words_only(name: str, parts: list[str]) -> None:
    assert str(breakable(name)) == "<wbr>".join(f"<span>{part}</span>" for part in parts)


def test_a_name_that_no_paper_has_room_for_may_be_broken_and_stays_a_text() -> None:
    assert str(breakable("<b>" + "x" * 30)) == "&lt;b&gt;" + "x" * 30


@without_drawing
@pytest.mark.fault("grid-smaller-than-budget")
def test_the_page_asks_for_no_more_trials_than_a_grid_has_points() -> None:
    of = space(search=GRID, trials=100, sampler="grid")
    params = {"model.dropout": 0.1, "model.norm": "none"}
    said = Parsed(page(results([record(i, [0.5], params=params) for i in range(6)], of))).text
    assert "6 trials requested" in said
    assert "100 trials (the grid has only 6 points; the budget allows 100 trials)" in said


@without_drawing
def test_a_sweep_judged_by_training_data_says_that_it_tells_nothing_of_new_data() -> None:
    of = space("{name: train/loss, mode: min, at: last}")
    said = Parsed(page(results([record(0, [0.5], metric="train/loss")], of))).text
    assert "say nothing about new data" in said


# Hostile texts


@without_drawing
@pytest.mark.fault("html-escape")
def test_no_text_of_a_sweep_becomes_part_of_the_page() -> None:
    attack = attacking()
    text = page(
        replace(attack, versions=[{"session": SCRIPT}]),
        again=lambda command: f"{command}{BREAKOUT}",
    )
    made = made_up(8, epochs=3, failing=0.3)
    plain = page(results(made.records, made.space))
    allowed = {tag for tag, _ in Parsed(plain).elements} | {"div", "span"}
    hostile = Parsed(text)
    assert {tag for tag, _ in hostile.elements} <= allowed
    assert not [name for _, a in hostile.elements for name in a if name.startswith("on")]
    assert "<script" not in text
    assert "{{ 7 * 7 }}" in hostile.text  # shown, not computed
    assert LABEL in hostile.text
    assert SCRIPT in hostile.text
    assert not re.search("[\x00\x1b\u202e]", text)
    text.encode()


def test_a_value_that_the_template_is_not_given_is_an_error_and_no_gap() -> None:
    with pytest.raises(jinja2.UndefinedError):
        template().render(name="sweep")


def test_what_is_no_text_is_replaced() -> None:
    assert visible("a\x00b\ud800\tc\nd\u202e") == "a\ufffdb\ufffd\tc\nd\ufffd"


def test_failures_are_told_by_reason_with_their_most_frequent_last_lines() -> None:
    def failed(number: int, reason: str, error: str) -> TrialRecord:
        return replace(record(number, [], "failed", reason=reason), error=error)

    some = [failed(i, "error", "Traceback\nValueError: 1") for i in range(9)]
    some += [failed(10, "error", "ValueError: 2\n"), failed(11, "nonfinite", "")]
    first, second = failures(some)
    assert (first.reason, first.amount) == ("error", 10)
    assert first.trials == "t000, t001, t002, t003, t004, t005, t006, t007, …"
    assert first.lines == (("ValueError: 1", 9), ("ValueError: 2", 1))
    assert (second.reason, second.lines) == ("nonfinite", (("(no message)", 1),))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (99, "99 s"), (120, "2 min"), (3600, "1 h 00 min"), (86_400, "24 h 00 min")],
)
def test_a_time_is_said_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
