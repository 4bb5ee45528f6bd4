"""Files that are no checkpoint, or hold other than one: a message, and never a score."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ckconv_sweep.config.data import Description
from ckconv_sweep.config.settings import flat
from ckconv_sweep.errors import ConfigError, DamagedData
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.authors import to_authors
from ckconv_sweep.models.ckcnn import CKCNN
from ckconv_sweep.training.published import import_published
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.weights import read_trained

from .tiny import make_trial

pytestmark = pytest.mark.fault("no-weights")

DIGITS = Description(name="digits", in_channels=1, length=64, outputs=10)
TRIAL = make_trial()
MODEL = make_model(TRIAL.model, DIGITS, generator(0, "init"))
assert isinstance(MODEL, CKCNN)
HUGE = 10**12
NO_WEIGHTS: list[Any] = [
    None,
    "text",
    3,
    [1.0],
    {},
    torch.tensor(1.0),
    torch.ones(0),
    torch.ones(1).expand(HUGE),
    torch.ones(1).expand(HUGE, 1, 1),
    torch.ones(3, 4, 5, 6),
]


def ruined(value: torch.Tensor) -> Iterator[torch.Tensor]:
    """In the shape of a weight, and none."""
    yield torch.full_like(value, math.nan)
    yield torch.full_like(value, -math.inf)
    yield value.to(torch.complex64)
    yield value.to(torch.int32)
    yield value > 0
    yield value.to(torch.float8_e5m2)
    yield value.to_sparse()
    yield value.to("meta")


def ours() -> dict[str, Any]:
    trial = TRIAL.model_dump(mode="json")
    return {"trial": trial, "best_weights": dict(copy.deepcopy(MODEL.state_dict()))}


def theirs() -> dict[str, Any]:
    return dict(to_authors(MODEL))


def evaluate(path: Path) -> object:
    return read_trained(path).model(DIGITS)


def imported(path: Path) -> object:
    out = path.with_name("out")
    return import_published(path, out, omega_0=TRIAL.model.kernel.omega_0, dataset="digits")


READERS = {"evaluate": evaluate, "import-checkpoint": imported}


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


def test_what_is_changed_here_can_be_read_unchanged(tmp_path: Path) -> None:
    evaluate(saved(tmp_path / "ours.pt", ours()))
    imported(saved(tmp_path / "theirs.pt", theirs()))


@pytest.mark.parametrize("key", ours()["best_weights"])
def test_a_weight_that_is_none_is_never_scored(key: str, tmp_path: Path) -> None:
    for value in [*NO_WEIGHTS, *ruined(MODEL.state_dict()[key])]:
        state = ours()
        state["best_weights"][key] = value
        with pytest.raises((ConfigError, DamagedData), match=key):
            evaluate(saved(tmp_path / "a.pt", state))


@pytest.mark.parametrize("key", theirs())
def test_no_weight_of_theirs_is_taken_for_one(key: str, tmp_path: Path) -> None:
    for value in [*NO_WEIGHTS, *ruined(theirs()[key])]:
        with pytest.raises((ConfigError, DamagedData)):
            imported(saved(tmp_path / "a.pt", theirs() | {key: value}))
    assert not (tmp_path / "out").exists()


def test_their_length_is_read_where_it_is_one(tmp_path: Path) -> None:
    key = "backbone.0.cconv1.train_length"
    length = torch.tensor([32], dtype=torch.int32)
    with pytest.raises(ConfigError, match="its model is for 32 steps"):
        imported(saved(tmp_path / "a.pt", theirs() | {key: length}))
    for number, value in enumerate([*NO_WEIGHTS, -length, *ruined(torch.zeros(1))]):
        folder = tmp_path / str(number)
        folder.mkdir()
        imported(saved(folder / "a.pt", theirs() | {key: value}))


@pytest.mark.parametrize("key", flat(TRIAL.model_dump(mode="json")))
def test_a_trial_of_wrong_types_is_damaged(key: str, tmp_path: Path) -> None:
    *above, last = key.split(".")
    values: list[Any] = [*NO_WEIGHTS[:7], -1, 1e308, math.nan, 10**30, "nothing", [[]], {"a": {}}]
    for value in values:
        state = ours()
        block = state["trial"]
        for name in above:
            block = block[name]
        block[last] = value
        with contextlib.suppress(ConfigError, DamagedData):  # for some settings some are right
            evaluate(saved(tmp_path / "a.pt", state))
    state["trial"] = {key: 3}
    with pytest.raises(DamagedData, match=r"a\.pt: its trial cannot be read: "):
        evaluate(saved(tmp_path / "a.pt", state))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "state",
    [
        None,
        [1, 2],
        torch.ones(3),
        {},
        {1: torch.ones(2)},
        {"trial": None, "best_weights": None},
        {"trial": {}, "best_weights": {}},
        {"trial": {"model": torch.ones(2)}, "best_weights": {}},
        ours() | {"best_weights": None},
        ours() | {"best_weights": [1.0]},
        ours() | {"best_weights": {}},
        ours() | {"best_weights": ours()["best_weights"] | {3: torch.ones(2)}},
        ours() | {"best_weights": ours()["best_weights"] | {"more": torch.ones(2)}},
        theirs() | {"finallyr.weight": torch.ones(10, 4), "backbone": torch.ones(3)},
        theirs() | {"backbone.0.norm1.layer_norm.weight": torch.ones(0)},
        theirs() | {"backbone.0.norm1.layer_norm.weight": torch.ones(1).expand(10**9)},
        theirs() | {f"backbone.{n}.cconv1.bias": torch.ones(1) for n in range(1001)},
    ],
    ids=lambda state: type(state).__name__,
)
def test_another_content_is_refused(reader: str, state: Any, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DamagedData), match=r"a\.pt"):
        READERS[reader](saved(tmp_path / "a.pt", state))


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_pipe_that_nobody_writes_to(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (Path.mkdir, "folder"),
        (a_link_to_itself, "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "this is no plain file"),
        (a_pipe_that_nobody_writes_to, "this is no plain file"),
        (lambda path: path.joinpath("x"), "no such file"),
    ],
)
def test_what_is_no_file_is_refused(
    reader: str, make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(path := tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=message):
        READERS[reader](path)


@pytest.mark.parametrize("reader", READERS)
def test_a_model_that_nothing_can_hold_is_refused_before_it_is_made(
    reader: str, tmp_path: Path
) -> None:
    state = ours()
    state["trial"]["model"]["hidden_channels"] = 60_000
    with pytest.raises(ConfigError, match="must have the shape"):
        evaluate(saved(tmp_path / "a.pt", state))
    path = saved(tmp_path / "b.pt", theirs())
    with pytest.raises(ConfigError, match="must have the shape"):
        import_published(
            path,
            tmp_path / "out",
            omega_0=9.5,
            dataset="digits",
            changes=["model.hidden_channels=60000"],
        )
