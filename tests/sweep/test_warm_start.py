"""A sweep that learns from earlier ones: from which trials, and what these never do to it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.trial import TrialState

from ckconv_sweep.config.notes import notes
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.sampling import Tpe
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.record import warm_start
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.record.warm_start import WarmStart, noted, relatives, started_from
from ckconv_sweep.report.leaderboard import all_columns, default_columns, leaderboard, shown
from ckconv_sweep.report.parents import with_parents
from ckconv_sweep.search import view
from ckconv_sweep.search.earlier import known_before
from ckconv_sweep.search.view import View

from .in_process import Machine, machine, make_space

SEARCH = """
  optimizer.learning_rate: {low: 1.0e-4, high: %s, log: true}
  model.dropout: {low: 0.0, high: %s, step: 0.1}
"""
BEFORE = SEARCH % ("1.0e-2", "0.3")
WIDER = SEARCH % ("1.0e-1", "0.5")
RULE = "{name: asha, grace_epochs: 1, reduction_factor: 2}"


def learning(*names: str, **others: Any) -> Space:
    space = make_space(**{"search": WIDER, "sampler": "tpe", "trials": 4, "epochs": 3, **others})
    return replace(space, warm_start=names)


def begun(root: Path, name: str, space: Space, **others: Any) -> Machine:
    """A sweep that knows what the earlier ones have to tell, as a driver lets it know."""
    one = machine(root, space, name=name, **others)
    with one.folder.records.create(space) as study:
        if space.warm_start:
            warm_start.note(study, asked(one))
    return one


def asked(one: Machine, **others: Any) -> WarmStart:
    def count(trial: Any) -> int:
        return 100 * int(trial.model.hidden_channels)

    return known_before(one.space, one.folder, count_parameters=count, **others)


def drawn(one: Machine, amount: int = 4) -> list[Any]:
    """The next draws, by a study that was just opened."""
    with one.folder.records.open() as study:
        records = study.trials()
        seen = View(one.space, [*noted(study).records, *records])
        return [dict(seen.draw(i, len(records) + i).params) for i in range(amount)]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of 16 trials, of which a rule pruned some; tests copy it."""
    root = tmp_path_factory.mktemp("earlier")
    space = make_space(search=BEFORE, sampler="tpe", trials=16, scheduler=RULE, epochs=3)
    one = begun(root, "before", space, fails=lambda number, epoch: "error" if number == 3 else None)
    assert one.run()
    return root


@pytest.fixture
def root(earlier: Path, disk: Path) -> Path:
    shutil.copytree(earlier, disk / "sweeps")
    return disk / "sweeps"


def test_the_sampler_sees_completed_and_pruned_trials_and_draws_otherwise_for_them(
    root: Path,
) -> None:
    warm = begun(root, "warm", learning("before"))
    with warm.folder.records.open() as study:
        known = noted(study)
    assert [(s.name, s.named, s.ended, s.fit) for s in known.sweeps] == [("before", True, 15, 15)]
    assert {t.record.outcome for t in known.trials} == {"completed", "pruned"}
    seen = View(warm.space, known.records)._study.get_trials()
    assert {t.state for t in seen} == {TrialState.COMPLETE, TrialState.PRUNED}
    folder = replace(warm.folder, root=root / "before", name="before")
    records = Machine(folder, warm.space).records()
    for one, other in zip(known.trials, seen[::-1], strict=True):
        record = records[one.record.number]
        assert record.params == pytest.approx(other.params)  # 0.30000000000000004 is 0.3 here
        assert other.params == one.record.params
        assert other.last_step == record.history[-1].number
        if record.outcome == "completed":
            assert other.values == [max(e.metrics["val/accuracy"] for e in record.history)]
    cold = begun(root, "cold", replace(warm.space, warm_start=()))
    assert drawn(warm) != drawn(cold)


@pytest.mark.parametrize(
    ("change", "why", "fit"),
    [
        ({"search": SEARCH % ("1.0e-2", "0.1")}, "model.dropout is 0.", 1),
        ({"search": SEARCH % ("1.0e-3", "0.3")}, "optimizer.learning_rate is ", 1),
        ({"epochs": 4}, "training.epochs is 3, and the space, in which it is 4, does not", 0),
        ({"metrics": "[{name: val/loss}]"}, "they are judged by the best val/accuracy (higher is "
         "better), this sweep by the best val/loss (lower is better)", 0),
        ({"metrics": "[{name: val/accuracy, at: last}]"}, "they are judged by the best", 0),
        ({"constraints": ["model.dropout <= 0.1"]}, "model.dropout <= 0.1 does not hold", 1),
        ({"constraints": ["model.parameters <= 10"]}, "model.parameters <= 10 does not hold", 0),
    ],
)  # fmt: skip
def test_a_trial_that_does_not_fit_is_left_out_and_the_reason_told(
    change: dict[str, Any], why: str, fit: bool, root: Path
) -> None:
    one = machine(root, learning("before", **change), name="warm")
    if fit:
        (line,) = asked(one).in_words()
        assert 0 < asked(one).sweeps[0].fit < 15
        assert line.startswith("warm start: ")
    else:
        with pytest.raises(ConfigError) as refused:
            asked(one)
        assert refused.value.message == "none of the earlier trials of before fits"
        line = (refused.value.hint or "").splitlines()[0]
    said = re.fullmatch(
        r"warm start: (\d+) of 15 completed and pruned trials of before fit; (\d+) do not: (.*)",
        line,
    )
    assert said is not None
    assert said[3].startswith(why)
    left_out = sum(map(int, re.findall(r"\((\d+)\)", said[3])))
    assert int(said[1]) + int(said[2]) == int(said[1]) + left_out == 15


COMPUTED = """
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
variables:
  x: {low: 0.0, high: %s}
  y: {low: 1, high: 3}
derived:
  model.dropout: x / 2
  model.kernel.hidden_channels: %s
"""


def test_trials_with_variables_fit_a_space_with_the_same_ones(disk: Path) -> None:
    space = make_space(search=COMPUTED % ("1.0", "max(4, y)"), sampler="tpe")
    before = begun(disk, "before", space)
    assert before.run()
    wider = replace(space, warm_start=("before",))
    known = asked(machine(disk, wider, name="warm"))
    assert [t.record.params for t in known.trials] == [r.params for r in before.records()]


@pytest.mark.parametrize(
    ("high", "width", "why"),
    [
        ("1.0", "y + 100", "this trial has no value for x, y"),
        ("1.0e-9", "max(4, y)", "and what is searched is 0 to 1e-09"),
    ],
)
def test_trials_of_which_a_setting_is_now_computed_otherwise_do_not_fit(
    high: str, width: str, why: str, disk: Path
) -> None:
    assert begun(
        disk, "before", make_space(search=COMPUTED % ("1.0", "max(4, y)"), sampler="tpe")
    ).run()
    space = replace(
        make_space(search=COMPUTED % (high, width), sampler="tpe"), warm_start=("before",)
    )
    with pytest.raises(ConfigError, match="none of the earlier trials") as refused:
        asked(machine(disk, space, name="warm"))
    assert why in (refused.value.hint or "")


def test_trials_of_other_data_are_left_out(root: Path) -> None:
    one = machine(root, learning("before"), name="warm")
    assert asked(one, digest_of=lambda settings: "").sweeps[0].fit == 15
    with pytest.raises(ConfigError) as refused:
        asked(one, digest_of=lambda settings: "0123")
    assert "they were trained on other data (15)" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("warm", "warm_start: warm: a sweep cannot learn from itself"),
        ("befor", "warm_start: there is no sweep 'befor'\n  did you mean 'before'?"),
        ("empty", "empty has no completed or pruned trial"),
    ],
)
def test_a_name_from_which_nothing_can_be_learnt_is_refused(
    name: str, message: str, root: Path
) -> None:
    begun(root, "empty", make_space())
    with pytest.raises(ConfigError) as refused:
        asked(machine(root, learning(name), name="warm"))
    assert message in str(refused.value)


def test_a_damaged_sweep_is_named(root: Path) -> None:
    path = root / "before" / "study.db"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DamagedData, match=r"before/study\.db"):
        asked(machine(root, learning("before"), name="warm"))


def other_fate(root: Path) -> None:
    """The earlier sweep goes on, over what it was."""
    before = Machine(
        replace(machine(root.parent / "unused", make_space()).folder, root=root / "before"),
        make_space(search=BEFORE, sampler="tpe", trials=20, scheduler=RULE, epochs=3),
    )
    assert before.run()


@pytest.mark.parametrize("fate", [lambda root: shutil.rmtree(root / "before"), other_fate])
def test_what_becomes_of_the_earlier_sweep_later_changes_no_draw(
    fate: Callable[[Path], None], root: Path
) -> None:
    warm = begun(root, "warm", learning("before", trials=6))
    expected = drawn(warm)
    shutil.copytree(root, root.parent / "undisturbed")
    undisturbed = replace(warm, folder=replace(warm.folder, root=root.parent / "undisturbed/warm"))
    assert undisturbed.run()
    fate(root)
    assert drawn(warm) == expected
    assert warm.run()
    assert warm.result() == undisturbed.result()


def test_a_kill_at_any_write_changes_nothing(root: Path) -> None:
    one = begun(root, "warm", learning("before", trials=2, epochs=3))
    photographs = one.run_and_photograph(root.parent / "killed")
    assert len(photographs) > 10
    for photograph in photographs[::3]:
        assert photograph.run()
        assert photograph.result() == one.result()


def test_earlier_trials_count_for_neither_ranking_nor_budget_nor_rule(root: Path) -> None:
    space = learning("before", sampler="random", scheduler=RULE, trials=6)
    warm = begun(root, "warm", space)
    cold = begun(root, "cold", replace(space, warm_start=()))
    assert warm.run()
    assert cold.run()
    assert warm.result() == cold.result()
    assert len(leaderboard(warm.records(), space)) == 6


def test_a_sweep_hands_on_what_it_has_learnt_though_the_first_one_is_gone(root: Path) -> None:
    child = begun(root, "child", learning("before"))
    assert child.run()
    shutil.rmtree(root / "before")
    known = asked(machine(root, learning("child", trials=5), name="grandchild"))
    assert [(s.name, s.named, s.fit) for s in known.sweeps] == [
        ("child", True, 4),
        ("before", False, 15),
    ]
    assert len({(t.uid, t.record.number) for t in known.trials}) == 19


def test_a_trial_that_two_sweeps_tell_of_is_shown_once(root: Path) -> None:
    assert begun(root, "child", learning("before")).run()
    for names in (("child", "before"), ("before", "child")):
        known = asked(machine(root, learning(*names, trials=5), name="grandchild"))
        assert {s.name: (s.named, s.ended, s.fit) for s in known.sweeps} == {
            "before": (True, 15, 15),
            "child": (True, 4, 4),
        }


def test_of_many_trials_a_sampler_forgets_the_earlier_ones_first_but_for_the_best(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tpe, "newest", 8)
    monkeypatch.setattr(Tpe, "best", 2)
    warm = begun(root, "warm", learning("before", trials=6))
    with warm.folder.records.open() as study:
        known = noted(study)
    assert len(known.trials) == 10  # 15, of which 7 are forgotten but for two
    assert "the sampler is shown 10 of these 15 trials" in asked(warm).in_words()[-1]
    assert warm.run()
    own = [r.number for r in warm.records()]
    ended = [view.Learnt.of(r, warm.space) for r in [*known.records, *warm.records()]]
    seen = {trial.number for trial in view.learnt_from(ended, warm.space)}
    assert seen.issuperset(own)
    assert len(seen) < 10 + len(own)


def test_earlier_trials_follow_in_the_table_without_a_rank(root: Path) -> None:
    warm = begun(root, "warm", learning("before"))
    assert warm.run()
    with warm.folder.records.open() as study:
        known = noted(study)
    own = all_columns(warm.records(), warm.space, state="finished")
    table = with_parents(own, "warm", warm.space, known)
    table = shown(table, default_columns(warm.space, table))
    assert list(table)[:4] == ["rank", "sweep", "trial", "outcome"]
    assert list(table["sweep"]) == ["warm"] * 4 + ["before"] * 15
    assert list(table["rank"].dropna()) == [1, 2, 3, 4]
    space = make_space(search=BEFORE)
    folder = replace(warm.folder, root=root / "before", name="before")
    before = leaderboard(Machine(folder, space).records(), space, state="finished")
    rest = table.iloc[4:].drop(columns=["rank", "sweep"]).reset_index(drop=True)
    expected = before.iloc[:15].drop(columns="rank")  # the last one failed
    pd.testing.assert_frame_equal(rest, expected, check_dtype=False)


def test_what_an_earlier_sweep_repeated_is_no_row_that_lacks_repeats(root: Path) -> None:
    repeats = "{seeds: 2}"
    first = begun(root, "first", make_space(search=BEFORE, repeats=repeats, trials=2))
    assert first.run()
    warm = begun(root, "warm", learning("first", repeats=repeats, trials=2))
    assert warm.run()
    with warm.folder.records.open() as study:
        known = noted(study)
    own = all_columns(warm.records(), warm.space, state="finished")
    table = with_parents(own, "warm", warm.space, known)
    assert [None if pd.isna(told) else told for told in table["repeats"]] == [
        *("2 of 2", "2 of 2"),
        *(None, None),
    ]


def test_each_of_two_sweeps_names_the_other(root: Path) -> None:
    warm = begun(root, "warm", learning("before"))
    folder = replace(warm.folder, root=root / "before", name="before")
    with folder.records.open() as before, warm.folder.records.open() as study:
        assert started_from(folder, before.uid) == ["warm"]
        assert started_from(warm.folder, study.uid) == []
        assert relatives(before) == ["later sweeps that have learnt from it: warm"]
        (line,) = relatives(study)
    assert line == "warm start: 15 of 15 completed and pruned trials of before fit"


def test_what_was_learnt_and_is_not_what_it_was_is_damage(root: Path) -> None:
    warm = begun(root, "warm", learning("before"))
    with warm.folder.records.create(warm.space) as study:
        kept = study.note(warm_start.TRIALS)
        study.set_note(warm_start.TRIALS, kept | {"text": kept["text"].replace("0.1", "0.2")})
        with pytest.raises(DamagedData, match="was changed since the driver wrote it"):
            noted(study)
        told = "the trials of earlier sweeps were changed since the driver wrote them"
        assert told in study.contradictions()


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid", "tpe"])
def test_a_sampler_that_learns_nothing_is_told(sampler: str) -> None:
    search = "\n  model.dropout: {low: 0.0, high: 0.5, step: 0.1}\n"
    told = notes(learning("before", sampler=sampler, search=search))
    expected = f"warm_start changes no draw: the sampler {sampler} learns from no trial"
    assert (expected in told) == (sampler != "tpe")


def test_the_names_are_written_and_read_back_once_each() -> None:
    space = learning("before", "other")
    assert parse_space(space.to_yaml(), "again") == space
    text = space.to_yaml().replace("- other", "- other\n- before")
    assert parse_space(text, "again") == space


def test_pruned_trials_of_several_metrics_keep_how_far_they_went(root: Path) -> None:
    two = "[{name: val/accuracy}, {name: val/loss}]"
    space = make_space(search=BEFORE, trials=8, scheduler=RULE, metrics=two, epochs=4)
    assert begun(root, "two", space).run()
    one = begun(root, "warm", learning("two", metrics=two, epochs=4))
    with one.folder.records.open() as study:
        known = noted(study)
    pruned: dict[int, TrialRecord] = {
        t.record.number: t.record for t in known.trials if t.record.outcome == "pruned"
    }
    assert pruned
    folder = replace(one.folder, root=root / "two", name="two")
    for number, record in pruned.items():
        own = Machine(folder, space).records()[number]
        assert record.history[-1].number == len(own.history)
    assert drawn(one)


def test_what_was_pruned_keeps_how_far_it_went_where_the_best_are_repeated(root: Path) -> None:
    top = "{seeds: 2, top: 1}"
    space = make_space(search=BEFORE, trials=8, scheduler=RULE, epochs=4, repeats=top)
    assert begun(root, "top", space).run()
    one = begun(root, "warm", learning("top", epochs=4))
    with one.folder.records.open() as study:
        pruned = [t.record for t in noted(study).trials if t.record.outcome == "pruned"]
    records = Machine(replace(one.folder, root=root / "top", name="top"), space).records()
    assert pruned
    for record in pruned:
        assert record.history[-1].number == len(records[record.number].history)
