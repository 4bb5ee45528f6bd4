"""MLflow's own pages of a finished sweep, as a user sees them after `ckconv-sweep ui NAME`."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("playwright", reason="needs Playwright: pip install -e '.[dev]'")
from playwright.sync_api import Browser, Page, expect

from benchmarks.chaos.ports import free_port
from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.keys import trial_name
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.sweep.delivery import deliver
from tests.cli.commands import PROGRAM, environment
from tests.sweep.in_process import formula, machine, make_space

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

PATIENCE_MS = 90_000
"""MLflow's pages need seconds, and on a busy machine many."""
SPACE = make_space(trials=8, epochs=6, scheduler="{name: asha, grace_epochs: 2}")
NO_ASSISTANT = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
"""
"""It opens by itself when a browser sees MLflow for the first time, and covers a quarter."""


def work(trial: Trial, number: int) -> Epoch:
    """As `formula`, with a training loss, and the better the less is dropped."""
    told = formula(trial, number)
    accuracy = told.metrics["val/accuracy"] - trial.model.dropout
    return replace(
        told, metrics={"val/accuracy": accuracy, "val/loss": 1 - accuracy, "train/loss": 1 / number}
    )


@dataclass
class Shown:
    """A sweep in MLflow's pages, which are being served."""

    records: list[TrialRecord]
    charts: str
    table: str

    def best(self, count: int) -> list[TrialRecord]:
        """The trials that the pages list first."""
        return sorted(
            self.records, key=lambda r: -max(e.metrics["val/accuracy"] for e in r.history)
        )[:count]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    sweeps = tmp_path_factory.mktemp("pages") / "sweeps"
    sweeps.mkdir()
    run = machine(sweeps, SPACE, work=work)
    assert run.run()
    with run.folder.records.open() as study:
        study.set_note("data_digest", "0123456789abcdef" * 2)
    assert deliver(run.folder, f"sqlite:///{sweeps}/mlflow.db") == 0
    process = subprocess.Popen(
        [PROGRAM, "ui", "sweep", "--no-open", "--port", str(free_port())],
        cwd=sweeps.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        charts, table = (line.split()[-1] for line in said[1:])
        yield Shown(run.records(), charts, table)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.fixture
def page(chromium: Browser, tmp_path: Path) -> Iterator[Page]:
    """An empty page of a laptop's size that has asked no other machine for anything. What it shows
    at the end is kept as a picture."""
    asked: set[str | None] = set()
    context = chromium.new_context(viewport={"width": 1500, "height": 950})
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(NO_ASSISTANT)
    opened = context.new_page()
    opened.on("request", lambda request: asked.add(urlsplit(request.url).hostname))
    yield opened
    opened.screenshot(path=tmp_path / "page.png")
    context.close()
    assert asked - {None} == {"127.0.0.1"}


def see(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_text(text).filter(visible=True).first).to_be_visible(timeout=PATIENCE_MS)


def test_the_charts_answer_which_settings_are_good(shown: Shown, page: Page) -> None:
    page.goto(shown.charts)
    for record in shown.best(8):
        link = page.get_by_role("link", name=trial_name(record.number), exact=True)
        expect(link).to_be_visible(timeout=PATIENCE_MS)
    see(page, "Which settings are good? The red ones")
    for axis in ("schedule.name", "model.dropout", "log10/learning_rate", "val/accuracy_best"):
        see(page, axis)
    lines = page.locator("canvas.foreground")  # of the parallel coordinates
    expect(lines).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_function(
        """canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
                     .data.some(value => value > 0)""",
        arg=lines.element_handle(),
        timeout=PATIENCE_MS,
    )


def test_the_charts_show_a_curve_for_each_trial(shown: Shown, page: Page) -> None:
    page.goto(shown.charts)
    # Charts are drawn when they come into sight; this leaves one.
    page.get_by_placeholder("Search metric charts").fill("train/loss")
    see(page, "Epoch by epoch: all trials")
    drawn = page.locator(".js-plotly-plot .scatterlayer path.js-line")
    expect(drawn.first).to_be_attached(timeout=PATIENCE_MS)
    points = drawn.evaluate_all("paths => paths.map(path => path.getAttribute('d'))")
    # A trial that ran six epochs is drawn through six points.
    assert max(len(re.findall("[ML]", d or "")) for d in points) >= 6


def test_the_table_shows_the_settings_in_which_trials_differ_best_first(
    shown: Shown, page: Page
) -> None:
    page.goto(shown.table)
    ranked = shown.best(4)
    dropouts = [str(record.params["model.dropout"]) for record in ranked]
    assert len(set(dropouts)) > 1
    for column in ("val/accuracy_best", "outcome", "schedule.name", "model.dropout"):
        expect(page.locator(f"[role=columnheader]:has-text('{column}')").last).to_be_visible()
    names = page.locator("[role=row] a[href*='/runs/']").all_inner_texts()
    listed = [name for name in names if re.fullmatch(r"t\d{3}", name)]
    assert listed[:4] == [trial_name(record.number) for record in ranked]
    cells = page.locator("[role=gridcell][col-id='params.`model.dropout`']").all_inner_texts()
    assert cells[:4] == dropouts


def test_a_trials_page_shows_its_settings_outcome_data_set_and_file(
    shown: Shown, page: Page
) -> None:
    page.goto(shown.table)
    (first,) = shown.best(1)
    page.get_by_role("link", name=trial_name(first.number), exact=True).click()
    see(page, "Parent run")
    see(page, first.outcome)
    see(page, re.compile(r"digits"))
    see(page, "optimizer.learning_rate")
    see(page, str(first.params["optimizer.learning_rate"]))
    page.get_by_role("tab", name="Artifacts").click()
    see(page, "trial.yaml")


def test_the_sweeps_page_begins_with_what_was_asked(shown: Shown, page: Page) -> None:
    page.goto(shown.table)
    (first,) = shown.best(1)
    page.get_by_role("link", name=trial_name(first.number), exact=True).click()
    page.get_by_role("link", name="sweep", exact=True).click()
    see(page, re.compile(r"8 trials requested"))
    page.get_by_text("Show more").click()
    see(page, "All trials as charts")
