"""`Sweep` for notebooks, on real studies; the trials in them are a formula."""

from __future__ import annotations

import ast
import doctest
import html
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure

import ckconv_sweep
from ckconv_sweep import Sweep, api
from ckconv_sweep.api import parameter_counts
from ckconv_sweep.cli import look
from ckconv_sweep.config import documents
from ckconv_sweep.config.read import trial_from
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError, NoResult
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.trials import trial_of
from ckconv_sweep.record.why import why
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.page import page
from ckconv_sweep.report.results import Results
from ckconv_sweep.report.summary import winner
from tests.report.confirmations import confirmed_study
from tests.report.records import record
from tests.sweep.in_process import Machine, make_space

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def launched(root: Path, space: Space, name: str = "quickstart") -> Machine:
    folder = SweepFolder.of(root / "sweeps", name)
    folder.make()
    with folder.records.create(space):
        pass
    return Machine(folder, space)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished sweep. Not to be changed."""
    root = tmp_path_factory.mktemp("notebook")
    assert launched(root, make_space(trials=24, scheduler="{name: median}")).run()
    return root


@pytest.fixture
def sweep(here: Path) -> Sweep:
    return Sweep.open("quickstart", sweeps_dir=here / "sweeps")


def test_the_example_in_the_documentation_runs(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    found = [t for t in doctest.DocTestFinder().find(api, "api") if t.examples]
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    assert [runner.run(test).failed for test in found] == [0]


def test_its_table_is_the_leaderboard_and_takes_the_options_of_the_command(sweep: Sweep) -> None:
    pd.testing.assert_frame_equal(sweep.table(), leaderboard(sweep.trials, sweep.space))
    rates = sweep.table(where="dropout < 0.2", sort="learning_rate", top=3, columns=["trial"])
    expected = sorted(
        (r for r in sweep.trials if r.params["model.dropout"] < 0.2),
        key=lambda r: r.params["optimizer.learning_rate"],
    )
    assert rates["trial"].tolist() == [r.number for r in expected[:3]]


def test_parameters_are_counted_where_they_are_asked_for(sweep: Sweep) -> None:
    counts = parameter_counts(sweep.results)
    table = sweep.table(pareto="parameters", columns=["trial", "model.parameters"])
    assert len(table) >= 1
    said = table.set_index("trial")["model.parameters"].to_dict()
    assert said == {number: counts[number] for number in said}


def test_a_trial_that_was_being_drawn_when_its_driver_died_has_no_number_of_parameters(
    sweep: Sweep,
) -> None:
    drawn = sweep.results.records[0]
    half = replace(drawn, number=99, outcome="running", params={}, history=())
    results = replace(sweep.results, records=(drawn, half))
    assert parameter_counts(results).keys() == {drawn.number}


def test_the_best_trial_is_the_winner_with_all_its_settings(sweep: Sweep) -> None:
    record = winner(sweep.trials, sweep.space)
    assert record is not None
    best = sweep.best()
    assert best.number == record.number
    assert best.trial == sweep.space.resolve(record.params, record.number)
    assert record.history[best.epoch - 1].metrics["val/accuracy"] == best.value
    assert best.value == sweep.table()["val/accuracy"][0] == sweep.summary().best_value


def test_where_only_repeats_of_a_setting_completed_the_best_is_one_that_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = launched(tmp_path, make_space(trials=1, repeats="{seeds: 2}"))
    one.fails = lambda number, epoch: "error" if number == 0 else None
    assert one.run()
    found = Sweep.open("quickstart", sweeps_dir=tmp_path / "sweeps")
    assert [record.outcome for record in found.trials] == ["failed", "completed"]
    best = found.best()
    assert (best.number, best.trial) == (1, trial_of(found.trials[1], found.space))
    look.best("quickstart", sweeps_dir=tmp_path / "sweeps")
    comment, _, written = capsys.readouterr().out.partition("\n")
    assert "trial (t001, a repeat of t000, which did not complete) of the sweep" in comment
    assert trial_from(documents.parse(written, "best").value, "best") == best.trial
    assert written in html.unescape(page(found.results))


def test_the_best_trial_that_continues_others_has_the_settings_of_each_part(tmp_path: Path) -> None:
    source, old = record(0, [0.1, 0.5]), record(1, [0.1, 0.1], "continued")
    params = {"optimizer.learning_rate": 2e-3}
    new = record(2, [0.5, 0.9], params=params)
    epochs = tuple(replace(epoch, number=epoch.number + 2) for epoch in new.history)
    new = replace(new, history=epochs, replaces=1, from_trial=0, from_epoch=2)
    found = Sweep.__new__(Sweep)
    found.results = replace(results_of_made(tmp_path), records=(source, old, new))
    segments = found.best().segments
    rates = [(trial.optimizer.learning_rate, until) for trial, until in segments]
    assert rates == [(1e-3, 2), (2e-3, 4)]
    found.results = replace(found.results, records=(source,))
    assert found.best().segments == ()


def results_of_made(folder: Path) -> Results:
    confirmed_study(folder, [0.9], {}, seeds=3, control=None)
    return Sweep.open("mine", sweeps_dir=folder).results


def test_what_a_confirmation_says_is_read_from_python(sweep: Sweep, tmp_path: Path) -> None:
    assert sweep.confirmed() is None
    confirmed_study(tmp_path, [0.95, 0.93], {0: [0.9, 0.92, 0.91], 1: [0.5] * 3}, seeds=3)
    found = Sweep.open("mine", sweeps_dir=tmp_path).confirmed()
    assert found is not None
    assert found.offered is not None
    assert found.offered.number == 0
    assert found.openings == ()


def test_a_trial_is_found_by_its_number(sweep: Sweep) -> None:
    assert sweep.trial(7) is sweep.trials[7]
    with pytest.raises(ConfigError, match="quickstart: there is no trial 99"):
        sweep.trial(99)
    with pytest.raises(ConfigError, match="no trial 't007'\n  give its number, as in 17"):
        sweep.why("t007")  # type: ignore[arg-type]


def test_it_tells_why_a_trial_ended(sweep: Sweep, here: Path) -> None:
    pruned = next(record for record in sweep.trials if record.outcome == "pruned")
    found = sweep.why(pruned.number)
    assert found.why == why(pruned, trial_of(pruned, sweep.space))
    assert str(found).startswith(f"t{pruned.number:03d}: stopped at epoch ")
    with pytest.raises(ConfigError, match="there is no trial 99"):
        sweep.why(99)


@pytest.mark.parametrize("kind", ["curves", "pareto"])
def test_a_picture_is_a_figure(kind: str, sweep: Sweep) -> None:
    figure = sweep.plot(kind)
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_it_shows_itself_as_a_line_and_as_a_short_table(sweep: Sweep) -> None:
    assert repr(sweep) == "<Sweep quickstart: finished, 24 of 24 trials ended>"
    shown = sweep._repr_html_()
    page = ElementTree.fromstring(f"<div>{shown}</div>")
    headings = [cell.text for cell in page.iter("th")]
    rows = [[cell.text for cell in row.iter("td")] for row in page.iter("tr")][1:]
    assert "learning_rate" in headings
    numbers = [row[headings.index("trial")] for row in rows]
    assert numbers == sweep.table()["trial"].astype(str).tolist()[:10]
    assert "and 14 more" in shown


def test_what_a_trial_has_not_is_shown_as_nothing(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_SHOWN", 24)
    assert sweep.table()["rank"].isna().any()
    assert "NA" not in sweep._repr_html_()


def test_what_it_shows_runs_no_text_of_a_trial(tmp_path: Path) -> None:
    machine = launched(tmp_path, make_space(trials=1))
    evil = "<script>alert(1)</script>"
    machine.fails = lambda number, epoch: evil
    machine.run()
    sweep = Sweep.open("quickstart", sweeps_dir=tmp_path / "sweeps")
    assert evil in sweep.table()["outcome"][0]
    assert evil not in sweep._repr_html_()
    assert "&lt;script&gt;" in sweep._repr_html_()


def test_without_a_completed_trial_there_is_no_best(tmp_path: Path) -> None:
    launched(tmp_path, make_space())
    sweep = Sweep.open("quickstart", sweeps_dir=tmp_path / "sweeps")
    assert (sweep.state, sweep.trials, len(sweep.table())) == ("interrupted", (), 0)
    with pytest.raises(NoResult, match="no trial has completed yet"):
        sweep.best()
    assert "0 of 4 trials ended" in sweep._repr_html_()


def test_where_settings_are_repeated_each_trial_has_a_row_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    one = launched(tmp_path, make_space(trials=2, epochs=1, repeats="{seeds: 2}"))
    assert one.run()
    sweep = Sweep.open("quickstart", sweeps_dir=tmp_path / "sweeps")
    assert sorted(sweep.table()["trial"]) == [0, 2]
    assert sorted(sweep.table(trials=True)["trial"]) == [0, 1, 2, 3]
    assert sorted(sweep.table(trials=True, where="parameters > 0")["trial"]) == [0, 1, 2, 3]


def test_an_unknown_sweep_gets_the_nearest_name_and_how_to_read_another(here: Path) -> None:
    with pytest.raises(ConfigError, match="there is no sweep 'quikstart'") as caught:
        Sweep.open("quikstart", sweeps_dir=here / "sweeps")
    assert "did you mean 'quickstart'?" in str(caught.value.hint)
    assert str(caught.value.hint).endswith("is read with tracking_uri URI")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, ckconv_sweep\n"
        "print(*{'torch', 'ray', 'mlflow', 'optuna', 'pandas', 'numpy'} & set(sys.modules))\n"
        "assert set(ckconv_sweep.__all__) < set(dir(ckconv_sweep))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_another_name_is_none_of_the_package() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sweeep'"):
        ckconv_sweep.Sweeep  # noqa: B018


def test_type_checkers_are_told_of_the_same_names() -> None:
    stub = ast.parse(Path(ckconv_sweep.__file__).with_suffix(".pyi").read_text())
    imports = [i for i in stub.body if isinstance(i, ast.ImportFrom)]
    modules = {n.asname: i.module for i in imports for n in i.names}
    assert modules.keys() == set(ckconv_sweep.__all__)
    for name, module in modules.items():
        assert getattr(ckconv_sweep, str(name)).__module__ == module
    assert Path(ckconv_sweep.__file__).with_name("py.typed").exists()


@pytest.mark.slow
def test_a_type_checker_knows_what_is_given_and_what_comes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from ckconv_sweep import launch, train\n"
        "reveal_type(launch('quickstart', trials=3).wait())\n"
        "reveal_type(train({'data': {}}, out='a').best)\n"
        "launch('quickstart', trials='3')\n"
        "launch('quickstart', trails=3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    for expected in (
        '2: note: Revealed type is "ckconv_sweep.api.Sweep"',
        '3: note: Revealed type is "ckconv_sweep.config.history.Epoch"',
        '4: error: Argument "trials" to "launch" has incompatible type "str"',
        '5: error: Unexpected keyword argument "trails" for "launch"; did you mean "trials"?',
    ):
        assert f"{script}:{expected}" in done.stdout
    assert "Found 2 errors" in done.stdout
