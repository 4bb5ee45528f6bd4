"""A study of which a page was lost or changed, in every command that reads one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from sweep.in_process import machine, make_space

from ckconv_sweep.cli import doctor, look, pictures, tables, watch
from ckconv_sweep.errors import ConfigError, DamagedData, NoResult

from .test_watch import work

PAGE = 4096
FLIPS = int(os.environ.get("CKCONV_FLIPS", "3"))
READERS: dict[str, Callable[[], object]] = {
    "status --json": lambda: look.status("sweep", json=True),
    "table": lambda: tables.table("sweep"),
    "compare": lambda: tables.compare(["sweep"], trials=True),
    "best": lambda: look.best("sweep"),
    "watch": lambda: watch.watch("sweep"),
}


def damaged(content: bytes) -> Iterator[bytes]:
    """Each page zeroed, some replaced by another one, and bytes anywhere."""
    draws = random.Random(0)
    starts = range(0, len(content), PAGE)
    for start in starts:
        yield content[:start] + bytes(PAGE) + content[start + PAGE :]
    for _ in range(FLIPS):
        start, other = draws.sample(starts, 2)
        yield content[:start] + content[other : other + PAGE] + content[start + PAGE :]
        place = draws.choice([place for place, byte in enumerate(content) if byte])
        yield content[:place] + bytes([draws.randrange(256)]) + content[place + 1 :]


def is_refused(command: Callable[[], object]) -> bool:
    """Whether the study is said to be damaged. Any other error is a traceback."""
    try:
        command()
    except DamagedData:
        return True
    except (ConfigError, NoResult, typer.Exit):
        pass
    return False


@pytest.mark.fault("damaged-study")
def test_a_lost_page_is_one_message_in_every_command_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = make_space(trials=3, epochs=2, scheduler="{name: asha, grace_epochs: 1}")
    sweep = machine(tmp_path / "sweeps", space, work=work)
    assert sweep.run()
    monkeypatch.chdir(tmp_path)
    path = sweep.folder.records.path
    whole, refused, readable = path.read_bytes(), 0, b""
    assert len(whole) > 20 * PAGE
    for content in damaged(whole):
        for left in path.parent.glob("study.db-*"):
            left.unlink()
        path.write_bytes(content)
        if is_refused(lambda: look.status("sweep")):
            refused += 1
            if refused % 4:  # these look into everything, and are slower
                continue
            look.list_sweeps()
            with pytest.raises(typer.Exit) as end:
                doctor.doctor("sweep")
            assert end.value.exit_code == 65
        else:
            readable = content
            for command in READERS.values():
                is_refused(command)
        assert path.read_bytes()[100:] == content[100:]  # the header counts the openings
    assert refused > 20
    path.write_bytes(readable)
    is_refused(lambda: pictures.report("sweep", out=Path("report.html")))
