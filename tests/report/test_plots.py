from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from thinned import each_second

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.read import parse_space
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError, UnknownNameError
from ckconv_sweep.keys import REASON_CONSTRAINT, Outcome
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.plots import KINDS, draw, style
from ckconv_sweep.report.plots.contour import smoothed
from ckconv_sweep.report.plots.history import best_so_far
from ckconv_sweep.report.plots.style import for_a_phone, rendered
from ckconv_sweep.report.plots.timeline import lanes

from .made_up import made_up
from .records import BLOCKS, MIN, examples, record, space

SWEEP = made_up(48, epochs=8, stopping=True, failing=0.1, seed=1)
PLATEAU = {"schedule": "plateau", "schedule.plateau.patience": 7}
COSINE = {"schedule": "cosine", "schedule.cosine.warmup_epochs": 2}
BOTH = {"model.hidden_channels": 12, "model.dropout": 0.25}


def texts(figure: Figure) -> str:
    """Every word in a picture."""
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return "\n".join(text.get_text() for text in found)  # type: ignore[attr-defined]


def picture(kind: str, records: Any, of: Space, **options: Any) -> Figure:
    if kind == "pareto":
        options.setdefault("parameters", {r.number: 1000 + r.number for r in records})
    return draw(kind, records, of, **options)


BLOCK_SPACE = space(search=BLOCKS)
CASES: dict[str, tuple[list[TrialRecord], Space]] = {
    "no trial": ([], space()),
    "before the first epoch": ([record(0, [], "running"), record(1, [], "running")], space()),
    "one trial": ([record(0, [0.5, 0.6])], space()),
    "all failed": ([record(i, [], "failed", reason="nonfinite") for i in range(3)], space()),
    "all stopped": ([record(i, [0.1 * i], "pruned") for i in range(3)], space()),
    "the same value": ([record(i, [0.5]) for i in range(25)], space()),
    "only violations": ([record(0, [], "failed", reason=REASON_CONSTRAINT)], space()),
    "far from one": (
        [
            record(i, [v, v / 2], metric="val/loss")
            for i, v in enumerate([1e300, 1e-9, 3.0, 5e-324])
        ],
        space(MIN),
    ),
    "blocks": (
        [record(0, [0.3], params=PLATEAU | BOTH), record(1, [0.4], params=COSINE | BOTH)],
        BLOCK_SPACE,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_phone_a_picture_is_narrow_and_no_word_is_cut(kind: str) -> None:
    with for_a_phone():
        figure = picture(kind, SWEEP.records, SWEEP.space)
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches()
    assert (width, height >= 1.5) == (4.1, True)
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text.axes is not None:
            seen = text.get_window_extent()
            if seen.width:
                assert seen.x0 >= -2, text.get_text()
                assert seen.x1 <= width * figure.dpi + 2, text.get_text()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_every_sweep_without_a_warning(kind: str, case: str) -> None:
    records, of = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = picture(kind, records, of)
        assert rendered(figure).startswith(b"<?xml")
    assert texts(figure).strip()  # a picture, or why there is none


@pytest.mark.parametrize("kind", each_second(KINDS))
def test_the_same_sweep_gives_the_same_bytes(kind: str) -> None:
    one, other = (rendered(picture(kind, SWEEP.records, SWEEP.space)) for _ in range(2))
    assert one == other


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no picture is called 'contor'") as caught:
        draw("contor", [], space())
    assert caught.value.hint == "did you mean 'contour'?"


def test_an_option_that_a_kind_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="curves has no option 'settings'"):
        draw("curves", [], space(), settings=["a"])


@pytest.mark.parametrize("kind", ["slice", "contour"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["learning_rat", "dropout"], "no searched setting is called 'learning_rat'"),
        (["dropout", "model.dropout"], "a setting is listed twice"),
    ],
)
def test_settings_that_are_not_searched_or_stand_twice_are_refused(
    kind: str, settings: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(kind, SWEEP.records, SWEEP.space, settings=settings)


def test_slices_of_no_setting_are_refused() -> None:
    with pytest.raises(ConfigError, match="no setting is named"):
        draw("slice", SWEEP.records, SWEEP.space, settings=[])


@pytest.mark.parametrize("settings", [[], ["dropout"], ["dropout", "norm", "learning_rate"]])
def test_a_contour_of_other_than_two_settings_is_refused(settings: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"needs two settings, got {len(settings)}"):
        draw("contour", SWEEP.records, SWEEP.space, settings=settings)


def test_a_pareto_front_needs_the_sizes() -> None:
    with pytest.raises(ConfigError, match="needs the number of parameters"):
        draw("pareto", SWEEP.records, SWEEP.space)


# What the pictures say


def lines_of(figure: Figure) -> list[LineCollection]:
    return [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]


def test_curves_are_the_epochs_and_the_best_trial_lies_on_top() -> None:
    records = [
        record(0, [0.1, 0.2, 0.3]),
        record(1, [0.2, 0.5, 0.4]),
        record(2, [0.1, 0.1], "pruned"),
        record(3, [0.9], "failed", reason="nonfinite"),
    ]
    figure = draw("curves", records, space())
    drawn = sorted(
        [tuple(point) for point in segment]
        for c in lines_of(figure)
        for segment in c.get_segments()
    )
    assert drawn == sorted(
        [(e.number, e.metrics["val/accuracy"]) for e in r.history] for r in records
    )
    (best,) = figure.axes[0].lines
    assert list(best.get_ydata()) == [0.2, 0.5, 0.4]
    assert best.get_zorder() > max(c.get_zorder() for c in figure.axes[0].collections)
    said = texts(figure)
    for words in ("completed (2)", "pruned (1)", "failed (1)", "best: t001"):
        assert words in said


def test_stopped_and_failed_trials_look_different_from_completed_ones_without_their_colour() -> (
    None
):
    figure = draw("curves", SWEEP.records, SWEEP.space)
    points = [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]
    shapes = {p.get_label().rpartition(" (")[0]: len(p.get_paths()[0].vertices) for p in points}
    assert shapes.keys() == {"completed", "pruned", "failed"}
    assert len(set(shapes.values())) == 3


@examples
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=9), st.booleans())
def test_best_so_far_is_the_plain_running_best(drawn: list[tuple[int, int]], up: bool) -> None:
    metric = space().metric if up else space(MIN).metric
    points = [(float(when), float(value)) for when, value in drawn]
    steps = list(best_so_far(points, metric))

    for moment in range(6):
        before = [value for when, value in points if when <= moment]
        known = [value for when, value in steps if when <= moment]
        assert (known[-1] if known else None) == (
            (max(before) if up else min(before)) if before else None
        )
    assert all(metric.better(b, a) for (_, a), (_, b) in itertools.pairwise(steps))


def test_a_line_is_dotted_past_the_settings_that_its_trial_did_not_choose() -> None:
    records = [
        record(0, [0.3], params=PLATEAU | BOTH),
        record(1, [0.4], params=COSINE | BOTH),
    ]
    figure = draw("parallel", records, BLOCK_SPACE)
    # patience, warmup_epochs, schedule, hidden_channels, dropout, and the metric
    dotted, solid = (
        [tuple(int(x) for x, _ in segment) for segment in c.get_segments()]
        for c in lines_of(figure)
    )
    assert dotted == [(0, 2)]
    assert sorted(solid) == [(1, 2), (2, 3), (2, 3), (3, 4), (3, 4), (4, 5), (4, 5)]


def test_a_slice_shows_the_settings_that_are_asked_for_on_their_own_scales() -> None:
    figure = draw("slice", SWEEP.records, SWEEP.space, settings=["learning_rate", "norm"])
    rate, norm = figure.axes
    assert (rate.get_xlabel(), rate.get_xscale()) == ("optimizer.learning_rate", "log")
    assert [tick.get_text() for tick in norm.get_xticklabels()] == ["layer", "channel", "none"]
    shown = {(float(x), float(y)) for c in rate.collections for x, y in np.asarray(c.get_offsets())}
    assert shown == {
        (
            r.params["optimizer.learning_rate"],
            max(e.metrics["val/accuracy"] for e in r.history),
        )
        for r in SWEEP.records
    }


@examples
@given(st.lists(st.tuples(*3 * [st.floats(0.0, 1.0)]), min_size=1, max_size=12))
def test_the_field_of_a_contour_is_the_plain_weighted_mean(
    points: list[tuple[float, float, float]],
) -> None:
    x, y, values = map(np.array, zip(*points, strict=True))
    grid = np.array([0.0, 0.3, 1.0])
    field = smoothed(x, y, values, grid)
    for row, up in enumerate(grid):
        for column, across in enumerate(grid):
            weights = [
                np.exp(-(((across - a) / 0.09) ** 2) / 2 - ((up - b) / 0.09) ** 2 / 2)
                for a, b, _ in points
            ]
            if sum(weights) < 3.0 - 1e-9:
                assert np.isnan(field[row, column])
            elif sum(weights) > 3.0 + 1e-9:
                mean = sum(w * v for w, (_, _, v) in zip(weights, points, strict=True)) / sum(
                    weights
                )
                assert field[row, column] == pytest.approx(mean)


def field_of(figure: Figure) -> list[QuadMesh]:
    return [c for c in figure.axes[0].collections if isinstance(c, QuadMesh)]


def test_a_contour_has_a_field_only_between_numbers_and_where_trials_are() -> None:
    pair = ["learning_rate", "dropout"]
    many, few = made_up(200, epochs=3), made_up(8, epochs=3)
    assert field_of(draw("contour", many.records, many.space, settings=pair))
    assert not field_of(draw("contour", few.records, few.space, settings=pair))
    choices = ["learning_rate", "norm"]
    assert not field_of(draw("contour", many.records, many.space, settings=choices))
    points = draw("contour", few.records, few.space, settings=choices).axes[0].collections[0]
    assert len(np.asarray(points.get_offsets())) == 8


def test_a_contour_of_settings_that_no_trial_has_both_of_says_so() -> None:
    records = [record(0, [0.3], params=PLATEAU | BOTH), record(1, [0.4], params=COSINE | BOTH)]
    figure = draw("contour", records, BLOCK_SPACE, settings=["patience", "warmup_epochs"])
    assert "no trials to compare" in texts(figure)


def test_the_pareto_front_names_its_trials_and_leaves_out_those_that_did_not_complete() -> None:
    records = [
        record(0, [0.5]),
        record(1, [0.7]),
        record(2, [0.6]),  # larger than trial 1 and worse
        record(3, [0.99], "pruned"),
    ]
    sizes = {0: 10, 1: 20, 2: 30, 3: 5}
    figure = draw("pareto", records, space(), parameters=sizes)
    (front,) = figure.axes[0].lines
    assert (list(front.get_xdata()), list(front.get_ydata())) == ([10, 20], [0.5, 0.7])
    said = texts(figure)
    assert "t000" in said
    assert "t001" in said
    assert "t002" not in said
    assert "t003" not in said


def test_of_several_metrics_each_further_one_has_a_panel_with_the_front_of_all() -> None:
    of = parse_space(
        f"{space().to_yaml()}metrics: [{{name: val/accuracy}}, {{name: val/loss, mode: min}}, "
        "{name: train/accuracy}]",
        "space",
    )
    told = [(0.5, 1.0, 0.1), (0.7, 2.0, 0.2), (0.6, 2.5, 0.1), (0.4, 3.0, 0.9)]
    names = [metric.name for metric in of.metrics]
    records = [
        replace(
            record(i),
            history=(
                Epoch(number=1, metrics=dict(zip(names, values, strict=True)), timestamp_ms=1),
            ),
        )
        for i, values in enumerate(told)
    ]
    figure = draw("pareto", records, of)
    titles = ["val/accuracy against val/loss", "val/accuracy against train/accuracy"]
    titles += ["hypervolume over the trials"]
    assert [panel.get_title(loc="left") or panel.get_title() for panel in figure.axes] == titles
    for panel, index in zip(figure.axes[:2], (1, 2), strict=True):
        (front,) = panel.lines
        # The last one is beaten by nobody for its training accuracy.
        expected = sorted((told[i][index], told[i][0]) for i in (0, 1, 3))
        assert list(zip(front.get_xdata(), front.get_ydata(), strict=True)) == expected
        assert front.get_linestyle() == "None"


def test_a_timeline_cuts_out_the_break_between_two_sessions_and_says_how_long_it_was() -> None:
    figure = draw("timeline", SWEEP.records, SWEEP.space)
    assert "24.0 h break" in texts(figure)
    end = figure.axes[0].get_xlim()[1]
    assert figure.axes[0].get_xlabel().startswith(("minutes", "seconds"))
    assert end < 24 * 60


_spans = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=12)


@examples
@given(_spans)
def test_trials_that_share_a_row_of_a_timeline_were_not_trained_at_once(
    drawn: list[tuple[int, int]],
) -> None:
    times = {i: [(float(start), float(start + length))] for i, (start, length) in enumerate(drawn)}
    rows = lanes(times)
    assert rows.keys() == times.keys()
    for one in times:
        for other in times:
            if one < other and rows[one] == rows[other]:
                (a, b), (c, d) = times[one][0], times[other][0]
                assert b <= c or d <= a
    # No more rows than trials at the busiest moment (those that only touch may share).
    busiest = max((sum(a <= m <= b for ((a, b),) in times.values()) for m in range(26)), default=0)
    assert max(rows.values(), default=0) <= busiest


def test_a_choice_with_dollars_is_no_formula() -> None:
    label = r"$\frac$ <b>"  # as a formula it would be refused
    of = space(search=f"  schedule: {{choices: {{'{label}': {{name: constant}}, cosine: {{}}}}}}")
    records = [record(i, [0.1 * i], params={"schedule": label}) for i in range(3)]
    for kind in ("slice", "parallel", "importance", "contour"):
        assert rendered(draw(kind, records, of)).startswith(b"<?xml")


def test_a_value_that_is_far_worse_than_all_others_does_not_flatten_them() -> None:
    losses = [0.5, 0.6, 0.55, 0.7, 0.65, 0.52, 1e12]
    records = [record(i, [v], metric="val/loss") for i, v in enumerate(losses)]
    panel = draw("history", records, space(MIN)).axes[0]
    assert panel.get_ylim()[1] < 1.0
    assert "1 much worse" in panel.get_ylabel()


def test_trials_that_violated_a_constraint_are_in_no_picture() -> None:
    violating = replace(record(9, [0.99], "failed", reason=REASON_CONSTRAINT))
    records = [record(0, [0.5, 0.6]), record(1, [0.4, 0.3])]
    for kind in KINDS:
        with_it = rendered(picture(kind, [*records, violating], space()))
        assert with_it == rendered(picture(kind, records, space()))


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome_has_a_colour_a_mark_and_a_word(outcome: Outcome) -> None:
    made = [replace(record(0, [0.5, 0.6], outcome), ended_ms=9)]
    assert [one for one, _ in style.by_outcome(made)] == [outcome]
    assert outcome in style.COLOURS.keys() & style.MARKERS.keys() & style.WORDS.keys()
    for kind in KINDS:
        picture(kind, made, space())
