"""A setting that two places of a space set, and `--set` on what a space sets: refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.config import documents
from ckconv_sweep.config.domains import Blocks, Scalar, points
from ckconv_sweep.config.overlaps import check_set_once
from ckconv_sweep.config.read import parse_space, read_space, read_trial
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.space import Space
from ckconv_sweep.errors import ConfigError

from .conftest import SMALL, Write, examples, outcome, space_of, space_text

pytestmark = pytest.mark.fault("setting-in-two-places")

RATE = "optimizer.learning_rate: {low: 1e-3, high: 1e-2, log: true}"
OPTIMIZERS = """\
optimizer:
  choices:
    adam: {}
    sgd:
      momentum: {low: 0.0, high: 0.9}
      weight_decay: 1e-4"""
MODELS = """\
model:
  choices:
    ckcnn:
      kernel.omega_0: {low: 1.0, high: 9.0}
    gru: {}"""


def refusal_of(write: Write, search: str, *changes: str, base: str = "") -> str:
    """Without the folder of the file. What is searched starts in line 7."""
    path = write("space.yaml", space_text(search, base=base))
    with pytest.raises(ConfigError) as refusal:
        read_space(str(path), changes)
    return str(refusal.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("inside", ["{low: 1e-5, high: 1e-4}", "{choices: [0.1]}", "0.1"])
@pytest.mark.parametrize("outside_first", [True, False])
def test_a_setting_searched_outside_a_block_and_set_inside_is_refused_with_both_lines(
    write: Write, inside: str, outside_first: bool
) -> None:
    block = f"optimizer:\n  choices:\n    sgd:\n    adam: {{learning_rate: {inside}}}"
    refusal = refusal_of(write, f"{RATE}\n{block}" if outside_first else f"{block}\n{RATE}")
    one, other = (11, 7) if outside_first else (10, 11)
    assert refusal == (
        f"space.yaml:{one}: search: optimizer.learning_rate is set in two places, here and at "
        f"space.yaml:{other}\n  remove one of the two"
    )


@pytest.mark.parametrize(
    ("inside", "setting"),
    [
        ("kernel.omega_0: 9.0", "model.kernel.omega_0"),
        ("kernel.name: magnet", "model.kernel.name"),
        ("kernel.name: {choices: [mlp, magnet]}", "model.kernel.name"),
    ],
)
@pytest.mark.parametrize("inner_first", [True, False])
def test_a_block_and_what_another_block_sets_inside_it_are_refused(
    inside: str, setting: str, inner_first: bool
) -> None:
    outer = f"model:\n  choices:\n    ckcnn:\n      {inside}"
    inner = "model.kernel:\n  choices:\n    mlp: {layers: 2}\n    magnet: {}"
    text = space_text(f"{inner}\n{outer}" if inner_first else f"{outer}\n{inner}")
    with pytest.raises(ConfigError) as refusal:
        check_set_once(parse_space(text, "space.yaml"), documents.parse(text, "space.yaml"))
    assert setting in str(refusal.value)
    lines = (14, 7) if inner_first else (10, 11)
    assert [f"space.yaml:{line}" in str(refusal.value) for line in lines] == [True, True]


def test_a_block_searched_in_another_block_that_does_not_always_have_it_is_refused(
    write: Write,
) -> None:
    inner = "model.kernel: {choices: {mlp: {}, magnet: {}}}"
    outer = "model: {choices: {ckcnn: {}, gru: {}}}"
    assert refusal_of(write, f"{inner}\n{outer}").startswith(
        "space.yaml:7: search: model.kernel is searched, but the block 'gru' of model, at "
        "space.yaml:8, has no such setting\n"
    )


def test_a_setting_below_another_one_of_the_same_block_is_refused() -> None:
    with pytest.raises(ConfigError) as refusal:
        space_of("model:\n  choices:\n    ckcnn:\n      kernel:\n      kernel.layers: 3")
    assert str(refusal.value) == (
        "space.yaml:11: search: model.ckcnn.kernel.layers is set in two places, here and at "
        "space.yaml:10\n  remove one of the two"
    )


def test_a_metric_beside_that_of_a_trial_in_the_same_file_is_refused(write: Write) -> None:
    text = space_text(RATE, base="metric: {name: val/accuracy}")
    path = write("space.yaml", text + "metric: {name: val/loss, mode: min}\n")
    with pytest.raises(ConfigError) as refusal:
        read_space(str(path))
    assert str(refusal.value) == (
        f"{path}:9: metric is set in two places, here and at {path}:5\n  remove one of the two"
    )
    write("trial.yaml", documents.write(SMALL | {"metric": {"name": "val/accuracy"}}))
    space = f"trial: trial.yaml\nsearch: {{{RATE}}}\nbudget: {{trials: 3}}\n"
    path = write("space.yaml", space + "metric: {name: val/loss, mode: min}\n")
    assert read_space(str(path)).metric.name == "val/loss"


@pytest.mark.parametrize("key", ["model.hidden_channels: 9", "model: {kernel.layers: 3}"])
def test_a_trial_file_has_no_dotted_keys_beside_nested_ones(write: Write, key: str) -> None:
    path = write("trial.yaml", f"data: {{name: smnist}}\ntraining: {{epochs: 4}}\n{key}\n")
    with pytest.raises(ConfigError, match=rf"^{path}:3: no setting is called "):
        read_trial(str(path))


def test_what_is_set_once_is_no_overlap(write: Write) -> None:
    search = (
        "model.kernel:\n  choices:\n    mlp: {layers: 2}\n    magnet: {layers: 4}\n"
        "model.kernel.omega_0: {low: 1.0, high: 9.0}\n"
        "model:\n  choices:\n    small: {name: ckcnn, hidden_channels: 4}\n"
        "    large: {name: ckcnn, hidden_channels: 8}\n"
        f"{RATE}\n{OPTIMIZERS}"
    )
    base = "optimizer: {name: sgd, learning_rate: 0.5, momentum: 0.5}"
    space = read_space(str(write("space.yaml", space_text(search, base=base))))
    assert len(space.search) == 5


@pytest.mark.parametrize(
    ("change", "setting", "line"),
    [
        ("optimizer.learning_rate=0.1", "optimizer.learning_rate", 7),
        ("optimizer.name=sgd", "optimizer.name", 8),
        ("optimizer.momentum=0.5", "optimizer.momentum", 12),
        ("optimizer.weight_decay=0.5", "optimizer.weight_decay", 13),
        ("optimizer={name: sgd}", "optimizer.name", 8),
        ("optimizer={learning_rate: 0.1, name: sgd}", "optimizer.learning_rate", 7),
        ("model.kernel.omega_0=3.0", "model.kernel.omega_0", 14),
        ("model.kernel={omega_0: 3.0}", "model.kernel.omega_0", 14),
        ("model={kernel: {omega_0: 3.0}}", "model.kernel.omega_0", 14),
    ],
)
def test_a_change_of_what_the_search_sets_is_refused_with_its_line(
    write: Write, change: str, setting: str, line: int
) -> None:
    search = f"{RATE}\n{OPTIMIZERS}\nmodel.kernel.omega_0: {{low: 1.0, high: 9.0}}"
    base = "optimizer: {name: sgd}"
    assert refusal_of(write, search, change, base=base) == (
        f"--set {change}: {setting} is set by the search, at space.yaml:{line}, so this value "
        "would have no effect\n  edit the space there, or choose another setting"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("schedule.patience=3", "no block of schedule at space.yaml:7 has the setting patience"),
        (
            "schedule={name: plateau, patience: 3}",
            "schedule.name is set by the search, at space.yaml:7",
        ),
    ],
)
def test_a_change_of_a_block_that_the_search_replaces_is_refused(
    write: Write, change: str, message: str
) -> None:
    search = "schedule: {choices: {constant: {}, cosine: {}}}"
    refusal = refusal_of(write, search, change, base="schedule: {name: plateau}")
    assert refusal.startswith(f"--set {change}: {message}, so this value would have no effect\n")


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("optimizer.learning_rate=0.5", "learning_rate", 0.5),
        ("optimizer.beta_1=0.5", "beta_1", 0.5),  # Adam's, though SGD has none
    ],
)
def test_a_change_that_the_search_leaves_alone_has_its_effect(
    write: Write, change: str, path: str, value: float
) -> None:
    space = read_space(str(write("space.yaml", space_text(OPTIMIZERS))), [change])
    assert space.resolve({"optimizer": "adam"}).optimizer.model_dump()[path] == value


def test_a_change_inside_a_block_of_the_base_that_the_search_keeps_has_its_effect(
    write: Write,
) -> None:
    text = space_text(MODELS).replace("channels: 8", "channels: 8, mask: {name: gaussian}")
    space = read_space(str(write("space.yaml", text)), ["model.mask.width=0.5"])
    drawn = space.resolve({"model": "ckcnn", "model.ckcnn.kernel.omega_0": 2.0})
    assert drawn.model.model_dump()["mask"]["width"] == 0.5


VALUES: dict[str, Any] = {
    "hidden_channels": [4, 8],
    "omega_0": [1.0, 2.0],
    "layers": [2, 4],
    "activation": ["sine", "relu"],
    "learning_rate": [0.1, 0.2],
    "momentum": [0.3, 0.4],
    "name": ["mlp", "magnet"],
}
INSIDE = {
    "optimizer": {"adam": ["learning_rate"], "sgd": ["learning_rate", "momentum"]},
    "model": {
        "ckcnn": ["hidden_channels", *(f"kernel.{k}" for k in ("name", "omega_0", "activation"))],
        "gru": ["hidden_channels"],
    },
    "model.kernel": {"mlp": ["omega_0", "layers", "activation"], "magnet": ["omega_0", "layers"]},
}
OUTSIDE = ["optimizer.learning_rate", "model.hidden_channels", "model.kernel.omega_0"]


@st.composite
def perhaps_overlapping(draw: st.DrawFn) -> str:
    """A space whose blocks and outer settings may set the same setting."""

    def values(path: str) -> Any:
        both = VALUES[path.split(".")[-1]]
        return draw(st.sampled_from([both[0], {"choices": both}]))

    search: dict[str, Any] = {}
    for path, options in INSIDE.items():
        labels = draw(st.lists(st.sampled_from(sorted(options)), max_size=2, unique=True))
        search[path] = {
            "choices": {
                label: {key: values(key) for key in options[label] if draw(st.booleans())}
                for label in labels
            }
        }
    search = {path: written for path, written in search.items() if written["choices"]}
    for path in OUTSIDE:
        if draw(st.booleans()):
            search[path] = {"choices": VALUES[path.split(".")[-1]]}
    search = {path: search[path] for path in draw(st.permutations(list(search)))}
    return documents.write({"trial": SMALL, "search": search, "budget": {"trials": 3}})


def set_by(space: Space, params: dict[str, Scalar]) -> dict[str, Any]:
    """What the file says of every setting that is drawn or fixed with these parameters."""
    said: dict[str, Any] = {}
    for path, domain in space.search.items():
        if not isinstance(domain, Blocks):
            said[path] = params[path]
            continue
        label = str(params[path])
        block = domain.options[label]
        said[f"{path}.name"] = block.name
        said |= {f"{path}.{key}": value for key, value in block.fixed.items()}
        said |= {f"{path}.{key}": params[f"{path}.{label}.{key}"] for key in block.search}
    return said


@examples
@given(perhaps_overlapping(), st.data())
def test_what_a_space_sets_is_what_every_trial_of_it_is_trained_with(
    text: str, data: st.DataObject
) -> None:
    space = outcome(lambda: parse_space(text, "space.yaml"))
    if isinstance(space, ConfigError):
        return
    params = space.draw(lambda _, domain: data.draw(st.sampled_from(list(points(domain) or ()))))
    trained = flat(space.resolve(params).model_dump())
    assert {name: trained[name] for name in set_by(space, params)} == set_by(space, params)
