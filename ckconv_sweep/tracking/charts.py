"""A sweep's page in MLflow: which charts, which columns, in which order.

MLflow keeps a view that somebody shared as a tag of the experiment, and opens it by its key. We
write such a tag. Its form is MLflow's own affair and stands in no documentation (this is that of
3.17), so whoever writes it must be ready to go without: `comparison` gives an address either way.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ckconv_sweep import keys
from ckconv_sweep.config.domains import Blocks, Interval
from ckconv_sweep.config.grid import most_trials
from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.config.settings import short_names
from ckconv_sweep.config.space import Space

TAG = "mlflow.sharedViewState."
MOST_CHARACTERS = 20_000
"""Of an experiment's tag."""
_MOST_SCATTERED = 12
_MOST_DRAWN, _FEW = 50, 20
"""Up to so many trials all charts show all of them; of more, only so many of the best. The parallel
coordinates have every trial that MLflow lists at first, 100."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Two pages of a sweep."""

    charts: str
    table: str


def comparison(server: str, experiment_id: str, sweep: str, metric: str, key: str) -> Addresses:
    """The pages of a sweep's trials, best first.

    Args:
        server: its address, without a path.
        key: of the saved view; empty where there is none.
    """
    # Without `workflowType` MLflow opens its pages for language models.
    page = f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if key:
        page += f"&viewStateShareKey={key}"
    else:
        order = quote(f"metrics.`{keys.best_of(metric)}`")
        page += f"&searchFilter={quote(_filter(sweep))}&orderByKey={order}&orderByAsc="
        page += "true" if METRICS[metric].mode == "min" else "false"
    return Addresses(charts=f"{page}&compareRunsMode=CHART", table=page)


def view_key(uid: str) -> str:
    """The key of a sweep's view, from what the study calls it."""
    return f"sweep-{uid}"


def view_tag(space: Space, sweep: str, created_ms: int) -> str:
    """What the experiment's tag holds; the same text for the same space.

    Raises:
        ValueError: it does not fit in a tag, however little is shown.
    """
    searched = _columns(space)
    while True:
        state = json.dumps(_state(space, sweep, searched), separators=(",", ":"))
        packed = base64.b64encode(zlib.compress(state.encode(), 9)).decode()
        text = json.dumps(
            {
                "name": sweep,
                "createdAt": created_ms,
                "updatedAt": created_ms,
                "state": f"deflate;{packed}",
            }
        )
        if len(text) <= MOST_CHARACTERS:
            return text
        if not searched:
            raise ValueError(f"a view of {len(text)} characters")
        searched = searched[: len(searched) // 2]


def _filter(sweep: str) -> str:
    # A sweep's name is letters, digits, dots, lines.
    return f"tags.{keys.TAG_SWEEP} = '{sweep}' and tags.{keys.TAG_ROLE} = '{keys.ROLE_TRIAL}'"


@dataclass(frozen=True)
class _Column:
    """A searched setting as MLflow has it."""

    param: str
    """The parameter: the setting's path in a trial."""
    axis: str
    """The metric that holds its logarithm; empty where the scale is linear."""
    numeric: bool
    always: bool
    """Whether every trial has it."""


def _columns(space: Space) -> list[_Column]:
    """What is searched, as parameters of MLflow's runs, each once. A choice among blocks is the
    name of the block there, and what is searched inside one stands below the block's own path."""
    short = short_names(space.parameters())
    out: dict[str, _Column] = {}

    def add(param: str, name: str, domain: Any, *, always: bool) -> None:
        log = isinstance(domain, Interval) and domain.has_logarithms
        numeric = isinstance(domain, Interval) or all(
            isinstance(option, int | float) and not isinstance(option, bool)
            for option in domain.options
        )
        axis = keys.log10_of(short[name]) if log else ""
        out.setdefault(param, _Column(param, axis, numeric, always))

    for path, domain in space.search.items():
        if not isinstance(domain, Blocks):
            add(path, path, domain, always=True)
            continue
        out[f"{path}.name"] = _Column(f"{path}.name", "", False, True)
        blocks = domain.options.values()
        for label, block in domain.options.items():
            for key, inner in block.search.items():
                everywhere = all(key in other.search or key in other.fixed for other in blocks)
                add(f"{path}.{key}", f"{path}.{label}.{key}", inner, always=everywhere)
    for name, variable in space.variables.items():
        add(name, name, variable, always=True)
    return list(out.values())


def _state(space: Space, sweep: str, searched: Sequence[_Column]) -> dict[str, Any]:
    metric, trials = space.metric.name, most_trials(space)
    best = keys.best_of(metric)
    colour = "red" if space.metric.mode == "max" else "blue"  # MLflow's scale ends in red
    drawn = "all trials" if trials <= _MOST_DRAWN else f"the {_FEW} best trials"
    shown = {
        f"metrics.`{best}`": 130,
        **{f"metrics.`{keys.summary_of(m.name)}`": 130 for m in space.further},
        f"tags.`{keys.TAG_OUTCOME}`": 100,
        **{
            f"params.`{column.param}`": _width(column.param)
            for column in sorted(searched, key=lambda column: not column.always)
        },
        f"metrics.`{keys.SUMMARY_EPOCHS}`": _width(keys.SUMMARY_EPOCHS),
        f"metrics.`{keys.SUMMARY_PARAMETERS}`": _width(keys.SUMMARY_PARAMETERS),
    }
    widths = {"attributes.`Run Name`": 110, **shown, "runDateAndNestInfo": 150, "duration": 90}
    return {
        "searchFilter": _filter(sweep),
        "orderByKey": f"metrics.`{best}`",
        "orderByAsc": space.metric.mode == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(shown),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL" if trials <= _MOST_DRAWN else f"FIRST_{_FEW}_RUNS",
        "compareRunSections": [
            _section("settings", f"Which settings are good? The {colour} ones", 1, 400),
            _section("each", f"Setting by setting: {drawn}", 2, 300),
            _section("curves", f"Epoch by epoch: {drawn}", 2, 340),
        ],
        "compareRunCharts": [*_settings_charts(space, searched), *_curves(space)],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # keeps our order of sections
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def _width(title: str) -> int:
    """Of a column that shows the whole of its title, unless that is very long."""
    return min(7 * len(title) + 30, 240)


def _section(identity: str, name: str, columns: int, height: int) -> dict[str, Any]:
    return {
        "uuid": identity,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
        "columns": columns,
        "cardHeight": height,
    }


def _chart(kind: str, section: str, name: str, **more: Any) -> dict[str, Any]:
    return {
        "uuid": f"{kind} {name}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": name,
        **more,
    }


def _settings_charts(space: Space, searched: Sequence[_Column]) -> Iterator[dict[str, Any]]:
    metric, best = space.metric.name, keys.best_of(space.metric.name)
    # A run that lacks one of the axes is left out, so only what every trial has is one.
    shared = [column for column in searched if column.always]
    yield _chart(
        "PARALLEL",
        "settings",
        f"all settings → {metric}",
        selectedParams=[c.param for c in shared if not c.axis],
        selectedMetrics=[*(c.axis for c in shared if c.axis), best],
        showAllRuns=True,
    )
    yield _chart("BAR", "each", f"{metric} of each trial", metricKey=best)
    for other in space.further:
        x, y = keys.summary_of(other.name), keys.summary_of(metric)
        yield _scatter(f"{other.name} → {metric}", x, "METRIC", y)
    yield _scatter(f"parameters → {metric}", keys.SUMMARY_PARAMETERS, "METRIC", best)
    for column in [c for c in searched if c.numeric][:_MOST_SCATTERED]:
        where, kind = (column.axis, "METRIC") if column.axis else (column.param, "PARAM")
        yield _scatter(f"{column.param} → {metric}", where, kind, best)


def _scatter(name: str, x: str, kind: str, y: str) -> dict[str, Any]:
    return _chart(
        "SCATTER",
        "each",
        name,
        xaxis={"key": x, "type": kind},
        yaxis={"key": y, "type": "METRIC"},
    )


def _curves(space: Space) -> Iterator[dict[str, Any]]:
    metric, others = space.metric.name, [m.name for m in space.further]
    drawn = dict.fromkeys([metric, keys.best_of(metric), *others, "train/loss", "val/loss"])
    for name in drawn:
        yield _chart(
            "LINE",
            "curves",
            name,
            metricKey=name,
            selectedMetricKeys=[name],
            lineSmoothness=0,
            xAxisScaleType="linear",
            scaleType="linear",
            range={},
            xAxisKey="step",
            selectedXAxisMetricKey="",
            yAxisKey="metric",
            yAxisExpressions=[],
            ignoreOutliers=False,
            useGlobalXaxisKey=True,
            useGlobalLineSmoothing=True,
        )
