"""`simulate` as a user types it; the sweep's trials are a formula."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from report.records import record
from report.records import space as small_space
from sweep.in_process import machine, make_space
from typer.testing import CliRunner

from ckconv_sweep import Sweep
from ckconv_sweep.cli import app
from ckconv_sweep.config.history import Go
from ckconv_sweep.config.read import read_rule
from ckconv_sweep.config.sampling import Random
from ckconv_sweep.config.settings import Positive
from ckconv_sweep.config.space_file import Repeats
from ckconv_sweep.config.stopping import RULES, Asha, Median, Pbt, StoppingRule
from ckconv_sweep.errors import CkconvSweepError, ConfigError
from ckconv_sweep.report.simulated import Setup, compared, in_words
from ckconv_sweep.search.curve_table import bundled, of_sweep

from .commands import rows, typed_here

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
ASHA = "{name: asha, grace_epochs: 2, reduction_factor: 2}"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep whose trials all ran to their end, and one with a rule."""
    root = tmp_path_factory.mktemp("simulate")
    for name, rule in (("full", "{name: none}"), ("ruled", ASHA)):
        one = machine(root / "sweeps", make_space(trials=12, epochs=5, scheduler=rule), name=name)
        assert one.run()
    return root


@pytest.fixture
def typed(here: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command typed there at 80 columns, in this process; returns what it printed."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("COLUMNS", "80")
    return functools.partial(typed_here, "simulate")


def test_every_rule_has_a_row_with_its_numbers(typed: Any, here: Path) -> None:
    found = rows(typed("full", "--format", "json"))
    none = found[0]
    assert none["rule"] == "none"
    assert {row["rule"].split()[0] for row in found} >= {"none", "asha", "median"}
    assert none == {
        "rule": "none",
        "epochs": 60,
        "%": 100,
        "hours": 0.0,  # a formula takes no time
        "stopped": 0,
        "val/accuracy": none["val/accuracy"],
        "best trial": "kept",
    }
    best = Sweep.open("full", sweeps_dir=here / "sweeps").best()
    assert none["val/accuracy"] == best.value
    for row in found[1:]:
        assert row["%"] == pytest.approx(100 * row["epochs"] / 60, rel=1e-15)
        assert (row["val/accuracy"] < best.value) <= row["best trial"].startswith("lost, epoch")


def test_rules_are_given_by_name_or_with_settings(typed: Any, here: Path) -> None:
    words = ("--scheduler", "median", "--scheduler", ASHA, "--format", "json")
    found = rows(typed("full", *words))
    assert [r["rule"] for r in found] == ["median", "asha grace_epochs=2 reduction_factor=2"]
    sweep = Sweep.open("full", sweeps_dir=here / "sweeps")
    told = sweep.simulate(["median", ASHA])
    assert told.to_dict(orient="records") == found
    assert all(note in typed("full", *words[:4]) for note in told.attrs["notes"])
    settings = {"grace_epochs": 2, "reduction_factor": 2}
    for rule in (ASHA, {"name": "asha", **settings}, Asha(**settings)):
        assert sweep.simulate(rule).to_dict(orient="records") == found[1:]
        assert sweep.simulate([rule], sampler={"name": "random"}, trials=3).shape == (1, 7)


def test_a_rule_that_stops_the_best_trial_is_told_with_its_reason() -> None:
    trials = [record(0, [0.5, 0.6]), record(1, [0.9, 0.9]), record(2, [0.1, 1.0])]
    found = compared(of_sweep("three", trials, small_space()), [read_rule("asha", "")])
    (row,) = found.rows.to_dict(orient="records")
    assert (row["val/accuracy"], row["stopped"], row["best trial"]) == (0.9, 1, "lost, epoch 1")
    assert found.notes == [
        "the best of all is t002: val/accuracy 1",
        "asha would have stopped t002, the best: asha, epoch 1: 0.1; of the 3 trials that reached "
        "this epoch the best one had 0.9",
    ]


def test_the_best_setting_is_one_with_all_its_repeats_though_these_did_not_begin() -> None:
    trials = [
        record(0, [0.9, 0.6]),
        replace(record(1, [0.9, 0.6]), repeat_of=0),
        record(2, [0.1, 1.0]),
        replace(record(3, [0.1, 1.0]), repeat_of=2),
    ]
    space = replace(small_space(), repeats=Repeats(seeds=2))
    found = compared(of_sweep("two", trials, space), [read_rule("asha", "")])
    (row,) = found.rows.to_dict(orient="records")
    assert (row["epochs"], row["%"], row["stopped"]) == (5, 62.5, 1)
    assert (row["val/accuracy"], row["best trial"]) == (0.9, "lost, epoch 1")


def test_what_a_sweep_with_a_rule_cannot_answer_is_said(typed: Any) -> None:
    said = typed("ruled", "--scheduler", "median")
    left = " of 12 trials were stopped: what they would have reached is not known; only the "
    stopped, _, kept = said.partition(left)
    assert int(stopped.splitlines()[-1]) + int(kept.split()[0]) == 12
    found = rows(typed("ruled", "--format", "json"))
    assert "asha grace_epochs=2 reduction_factor=2" in [row["rule"] for row in found]  # its own


def test_several_orders_give_means(typed: Any, here: Path) -> None:
    (row,) = rows(typed("full", "--scheduler", ASHA, "--orders", 4, "--format", "json"))
    assert row["best trial"].endswith(" of 4")
    assert 0 < row["epochs"] < 60
    assert (row["epochs"] * 4) % 1 == 0


def test_a_sampler_chooses_among_the_recorded_settings(typed: Any) -> None:
    words = ("--scheduler", "none", "--sampler", "random", "--trials", 5, "--places", 2)
    said = typed("full", *words)
    assert "full: random chooses 5 of 12 trials, seed 0, 2 places" in said
    assert "random chose among the recorded settings alone" in said
    (row,) = rows(typed("full", *words, "--format", "json"))
    assert (row["epochs"], row["%"], row["best trial"]) == (25, 100, "kept")


def test_no_sampler_chooses_a_trial_with_settings_beside_the_space() -> None:
    """What it reached is not due to its parameters alone, and a sweep shows it to no sampler."""
    table = bundled("digits")
    beside = replace(table.records[1], changes={"training.batch_size": 16})
    table = replace(table, records=(table.records[0], beside, table.records[2]))
    rule = read_rule("none", "")
    found = compared(table, [rule], Setup(sampler=Random()))
    assert found.rows["epochs"][0] == sum(len(r.history) for r in table.records[::2])
    told = "1 of 3 trials have settings beside the space: no sampler chooses them"
    assert told in found.notes
    whole = compared(table, [rule])
    assert (whole.rows["epochs"][0], told in whole.notes) == (table.epochs, False)


def test_the_bundled_table_fits_in_80_columns(typed: Any) -> None:
    said = typed("--table", "digits", "--scheduler", "asha", "--scheduler", "median")
    frame = [line for line in said.splitlines() if line[:1] in "┏┃┡│└"]
    assert len(frame) == 6
    assert max(map(len, frame)) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a sweep, or a table that comes with the package"),
        (["full", "--table", "digits"], "not both: got the sweep full and the table digits"),
        (["--table", "mnist"], "no table of curves is called 'mnist'"),
        (["absent"], "absent"),
        (["full", "--scheduler", "ashe"], "--scheduler ashe: "),
        (["full", "--scheduler", ""], "--scheduler : expected a scheduler, got None\n  write its"),
        (["full", "--sampler", "[tpe]"], "--sampler [tpe]: expected a sampler, got ['tpe']"),
        (["full", "--scheduler", "{name: asha, grace: 3}"], "no setting is called 'grace'"),
        (["full", "--scheduler", "pbt"], "pbt: continues trials with other settings"),
        (["full", "--scheduler", "{name: threshold, bound: 2}"], "bound 2: no trial goes on"),
        (["full", "--sampler", "cmaes"], "searches ranges alone, and schedule has choices"),
        (["full", "--trials", "3"], "needs --sampler"),
        (["full", "--sampler", "tpe", "--trials", "30"], "30 trials are too many"),
    ],
)
def test_what_is_wrong_is_refused(
    words: Sequence[str], said: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    done = CliRunner().invoke(app, ["simulate", *words])
    assert isinstance(done.exception, CkconvSweepError)
    assert (done.exception.exit_code, said in str(done.exception)) == (2, True)


def test_python_is_refused_what_the_command_line_is(here: Path) -> None:
    sweep = Sweep.open("full", sweeps_dir=here / "sweeps")
    for wrong, said in (
        ({"places": 0}, "places: expected 1 or more, got 0"),
        ({"orders": -1}, "orders: expected 0 or more, got -1"),
        ({"trials": 3}, "trials: needs sampler"),
        ({"scheduler": "ashe"}, "scheduler"),
        ({"scheduler": 3}, "scheduler: expected a scheduler, got 3"),
    ):
        with pytest.raises(ConfigError, match=said):
            sweep.simulate(**wrong)  # type: ignore[arg-type]


def test_pbt_has_no_row_also_where_it_would_change_nothing() -> None:
    space = replace(small_space(), scheduler=Pbt(interval_epochs=2))
    found = compared(of_sweep("one", [record(0, [0.5] * 4)], space))
    assert not [row for row in found.rows["rule"] if row.startswith("pbt")]
    assert [note.partition(":")[0] for note in found.notes].count("pbt is left out") == 1


def test_rules_that_cannot_be_simulated_are_left_out_and_told() -> None:
    """Each once, also where the sweep has one of them with other settings."""
    table = bundled("digits")
    space = replace(table.space, scheduler=Pbt(interval_epochs=2))
    table = replace(table, space=space, records=table.records[:3])
    with RULES.restored():

        @RULES.row(lambda rule, curves, number, mode: "Continue")
        class Needs(StoppingRule):
            name: Literal["needs"] = "needs"
            epochs: Positive

        found = compared(table)
        assert not any("pbt" in rule or "needs" in rule for rule in found.rows["rule"])
        told = [note.partition(" is left out: ") for note in found.notes]
        assert [name for name, out, _ in told if out] == ["threshold", "needs", "pbt"]
        with pytest.raises(CkconvSweepError, match="cannot be simulated"):
            compared(table, [read_rule("pbt", "")])


def test_a_rule_is_told_with_the_settings_that_are_not_the_default_ones() -> None:
    with RULES.restored():

        @RULES.row(lambda rule, curves, number, mode: Go())
        class Holds(StoppingRule):
            name: Literal["holds"] = "holds"
            epochs: Positive
            rule: Annotated[StoppingRule, RULES] = Median()

        told = [
            "asha",
            "asha grace_epochs=3",
            "holds epochs=2",
            "holds epochs=2 rule=(median startup_trials=1)",
        ]
        given = [
            "asha",
            "{name: asha, grace_epochs: 3}",
            "{name: holds, epochs: 2}",
            "{name: holds, epochs: 2, rule: {name: median, startup_trials: 1}}",
        ]
        assert [in_words(read_rule(rule, "")) for rule in given] == told


def test_the_metric_that_comes_first_decides(here: Path) -> None:
    """A sweep that is judged by the loss first, at the epoch where it is lowest."""
    space = make_space(trials=8, metrics="[{name: val/loss}, {name: val/accuracy}]")
    one = machine(here / "sweeps", space, name="lossy")
    assert one.run()
    table = of_sweep("lossy", one.records(), space)
    (row,) = compared(table, [read_rule("none", "")]).rows.to_dict(orient="records")
    lowest = min(epoch.metrics["val/loss"] for r in table.records for epoch in r.history)
    assert row["val/loss"] == lowest
