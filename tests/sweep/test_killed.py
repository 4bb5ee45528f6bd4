"""What is told of a child that fails while it trains a trial again."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckconv_sweep.errors import CkconvSweepError, ConfigError, NonFiniteLoss
from ckconv_sweep.sweep import killed
from ckconv_sweep.sweep.killed import Again, Kill

BEGINS = "import sys; print('{\"epoch\": 0}', flush=True); "
FAILS = BEGINS + (
    'print(\'{"error": ["NonFiniteLoss", "train/loss became nan", null, null]}\'); sys.exit(1)'
)
CRASHES = BEGINS + ("sys.stderr.write(''.join(f'line {n}\\n\\n' for n in range(7))); sys.exit(3)")
DIES = BEGINS + "import os; os.kill(os.getpid(), 9)"


def again(folder: Path, text: str = "") -> Again:
    return Again(
        folder=folder / "t004", text=text, until=3, data_dir=None, device="cpu", seconds={}
    )


def test_an_error_that_comes_after_the_awaited_epoch_is_the_one_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killed, "_PROGRAM", FAILS)
    one = again(tmp_path)
    one.folder.mkdir()
    with one._child() as child:
        child.wait()  # so that no kill comes in time
        with pytest.raises(NonFiniteLoss, match="train/loss became nan") as caught:
            one._is_killed(child, Kill(1, 0.0))
    assert caught.value.where == "t004"


@pytest.mark.parametrize(
    ("program", "how", "hint"),
    [
        (CRASHES, "exit code 3", "line 2\n  line 3\n  line 4\n  line 5\n  line 6"),
        (DIES, "signal 9", None),
    ],
)
def test_of_a_child_that_crashes_the_trial_and_its_last_lines_are_told(
    program: str, how: str, hint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killed, "_PROGRAM", program)
    with pytest.raises(CkconvSweepError) as caught:
        again(tmp_path).train([])
    assert caught.value.message == f"the process that trains it ended with {how}"
    assert (caught.value.where, caught.value.hint) == ("t004", hint)


def test_what_the_real_child_cannot_read_is_told_as_its_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dataset is called 'digit'"):
        again(tmp_path, "data: {name: digit}").train([Kill(1, 0.5)])
