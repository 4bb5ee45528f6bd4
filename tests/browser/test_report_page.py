"""The report in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ckconv_sweep.report.page import page as report
from tests.report.attack import LABEL, SCRIPT, attacking

PHONE, PAPER, DESK = 390, 680, 1100

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep whose every text attacks."""
    path = tmp_path_factory.mktemp("report") / "attack-report.html"
    path.write_text(report(attacking(), parameters={i: 1000 + i for i in range(30)}))
    return path


@pytest.fixture
def opened(chromium: Any, file: Path) -> Iterator[Open]:
    """Opens it in a window; what is asked for and what pops up is kept beside the page."""
    contexts = []

    def open_(width: int = DESK, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.popped = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("dialog", lambda dialog: (page.popped.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.fault("html-escape")
def test_nothing_of_a_hostile_sweep_runs_or_asks_for_anything(opened: Open, file: Path) -> None:
    page = opened()
    for element in page.locator("td, th, code, strong").all()[:80]:
        element.hover(force=True)  # `onmouseover` would run
    page.wait_for_timeout(300)
    assert page.popped == []
    assert page.asked == [file.as_uri()]
    assert page.evaluate("document.querySelectorAll('script, iframe, object').length") == 0
    assert SCRIPT in page.inner_text("#failures + div")
    assert LABEL in page.inner_text("body")


def test_the_policy_of_the_page_would_stop_a_script_that_slipped_through(
    chromium: Any, file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(file.read_text().replace("</header>", f"{SCRIPT}</header>", 1))
    page = chromium.new_page()
    popped: list[str] = []
    page.on("dialog", lambda dialog: (popped.append(dialog.message), dialog.dismiss()))
    page.goto(broken.as_uri())
    page.wait_for_timeout(200)
    assert page.locator("script").count() == 1
    assert popped == []
    page.close()


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_is_never_wider_than_the_window(opened: Open, width: int) -> None:
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # What is wide scrolls by itself.
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every(e => e.clientWidth <= innerWidth)"
    )


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_picture_is_seen_whole(opened: Open, width: int) -> None:
    """On a phone there is another one, whose letters are large enough."""
    seen = opened(width).evaluate(
        "[...document.images].map(i => [i.getBoundingClientRect().left >= 0, "
        "i.getBoundingClientRect().right <= innerWidth, i.clientWidth / i.naturalWidth])"
    )
    assert len(seen) >= 8
    assert all(left and right and scale > 0.85 for left, right, scale in seen)


def test_no_heading_of_a_table_is_broken_inside_a_word(opened: Open) -> None:
    page = opened(PAPER)
    page.emulate_media(media="print")
    lines = page.evaluate(
        "[...document.querySelectorAll('th span')].map(e => e.getClientRects().length)"
    )
    assert len(lines) > 10
    assert set(lines) == {1}


def test_every_picture_is_drawn(opened: Open) -> None:
    sizes = opened().evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert len(sizes) >= 8
    assert all(complete and natural > 300 and shown > 300 for complete, natural, shown in sizes)


def test_it_is_dark_where_the_reader_wants_it_dark(opened: Open) -> None:
    def brightness(scheme: str) -> int:
        colour = opened(color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        return sum(int(part) for part in colour.strip("rgb()").split(","))

    assert brightness("dark") < 100
    assert brightness("light") > 700


def test_it_can_be_printed(opened: Open) -> None:
    page = opened(PAPER)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == PAPER
    assert not page.locator("nav").is_visible()
    assert page.evaluate(
        "[...document.querySelectorAll('pre')].every(e => e.scrollHeight <= e.clientHeight + 1)"
    )
    assert page.pdf(format="A4").startswith(b"%PDF")
