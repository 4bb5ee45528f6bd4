"""TAB in real shells, and what is offered for each kind of word."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ckconv_sweep.cli import app
from ckconv_sweep.cli.pictures import KINDS
from ckconv_sweep.config import bundled
from ckconv_sweep.config.data import DATASETS
from ckconv_sweep.config.model import NORMS
from ckconv_sweep.config.read import read_space
from ckconv_sweep.report import plots

from .commands import PROGRAM, REPOSITORY, environment
from .test_help import COMMANDS


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")


@pytest.fixture
def there(here: Path) -> Path:
    """`here` with a sweep of the small space, of which only what is looked at is there."""
    for name in ("small", "small_wide"):
        folder = here / "sweeps" / name
        folder.mkdir(parents=True)
        (folder / "space.yaml").write_text(read_space(str(here / "small.yaml")).to_yaml())
        (folder / "study.db").touch()
    return here


def asked(line: str) -> dict[str, str]:
    """How bash asks for the last word of a line."""
    return {
        "_CKCONV_SWEEP_COMPLETE": "complete_bash",
        "COMP_WORDS": f"ckconv-sweep {line}",
        "COMP_CWORD": str(len(line.split(" "))),
    }


Offered = Callable[..., list[str]]


@pytest.fixture
def offered(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Offered:
    """What bash is given for the last word of a line, in the folder `there`."""

    def answer(line: str, **more: str) -> list[str]:
        monkeypatch.chdir(there)
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as end:
            for name, value in (asked(line) | more).items():
                patched.setenv(name, value)
            app(prog_name="ckconv-sweep")
        said = capsys.readouterr()
        assert (end.value.code, said.err) == (0, "")
        return said.out.split()

    return answer


OFFERED = {
    "wat": ["watch"],
    "launch --pa": ["--pack"],
    "launch q": ["quickstart"],
    "launch s": [
        "small.yaml",
        *[name for name in bundled.names("search_spaces") if name.startswith("s")],
    ],
    "train pm": ["pmnist_1m", "pmnist_98k"],
    "validate quick": ["quickstart"],
    "validate smnist_9": ["smnist_98k"],
    "resume small_": ["small_wide"],
    "table ": ["small", "small_wide"],
    "status small_": ["small_wide"],
    "compare small ": ["small_wide"],
    "plot small ": list(KINDS),
    "plot small slice --settings learning_rate,dr": ["learning_rate,dropout"],
    "table small --group-by ": [
        *("learning_rate", "dropout", "val/accuracy"),
        *("trial", "outcome", "epochs", "seconds", "model.parameters"),
    ],
    "table small --format ": ["terminal", "csv", "markdown", "latex", "json"],
    "launch small.yaml --set model.hid": ["model.hidden_channels=", "model.hidden_channels=4"],
    "launch small.yaml --set model.norm=": [
        "model.norm=",
        *[f"model.norm={name}" for name in NORMS],
    ],
    "launch small.yaml --set model.drop": [
        *("model.dropout_kind=", "model.dropout_kind=element", "model.dropout_kind=channel"),
    ],
    "launch --set training.thr": ["training.threads=", "training.threads=1"],
    "launch small.yaml --set sampler.": ["sampler.name=", "sampler.seed="],
    "train trial.yaml --set optimizer.b": ["optimizer.beta_1=", "optimizer.beta_2="],
    "train trial.yaml --set sampler.": [],
    "evaluate x.pt --split ": ["validation", "test"],
    "predict x.pt v": ["validation"],
    "evaluate x.pt --dataset ": list(DATASETS),
    "train trial.yaml --device c": ["cpu", "cuda"],
    "show om": ["omega_0", "omega_0_learning_rate_factor"],
    "show model.mask.w": ["model.mask.width"],
    "show exit": ["exit-codes"],
    "show data s": ["smnist", "scifar10", "speech_commands"],
    "show schema ": [],
}


@pytest.mark.parametrize("line", OFFERED)
def test_a_word_is_completed(line: str, offered: Offered) -> None:
    assert offered(line) == OFFERED[line]


def test_every_command_is_offered(offered: Offered) -> None:
    assert offered("") == COMMANDS


def test_every_kind_of_picture_is_offered() -> None:
    assert plots.KINDS == KINDS


def test_sweeps_are_those_of_the_folder_that_is_named(there: Path, offered: Offered) -> None:
    (there / "sweeps").rename(there / "elsewhere")
    assert offered("table --sweeps-dir elsewhere sm") == ["small", "small_wide"]
    assert offered("table sm", CKCONV_SWEEPS="elsewhere") == ["small", "small_wide"]
    assert offered("table --sweeps-dir nowhere sm") == []


def test_a_file_that_cannot_be_read_is_no_traceback(there: Path, offered: Offered) -> None:
    (there / "small.yaml").write_text("a: [")
    assert offered("launch small.yaml --set model.dropout_")
    (there / "sweeps" / "small" / "space.yaml").write_bytes(b"\xff")
    assert offered("table small --sort ") == []


@pytest.mark.parametrize(
    "line", ["", "launch q", "table sm", "plot small c", "launch small.yaml --set model.d"]
)
def test_nothing_heavy_is_loaded(line: str, there: Path) -> None:
    code = (
        "import sys; from ckconv_sweep.cli import main; sys.argv[0] = 'ckconv-sweep'\n"
        "try: main()\n"
        "except SystemExit: print(*{'torch', 'ray', 'optuna', 'mlflow', 'pandas', 'numpy',"
        " 'matplotlib', 'rich'} & sys.modules.keys(), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=there,
        env=environment(PYTHONPATH=str(REPOSITORY), **asked(line)),
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip()
    assert done.stderr.strip() == ""


# In the shells themselves


def surroundings(home: Path) -> dict[str, str]:
    """Those of a user who has no settings yet."""
    kept = environment(HOME=str(home), ZDOTDIR=str(home), XDG_CONFIG_HOME=str(home / ".config"))
    path = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(REPOSITORY), "TERM": "dumb", "PS1": "> "}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which nothing was set up."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def install(shell: str, home: Path) -> str:
    """`--install-completion`, typed into a shell."""
    done = subprocess.run(
        [shell, "-c", "ckconv-sweep --install-completion; true"],
        env=surroundings(home),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


class Typist:
    """Somebody at a terminal with an interactive shell."""

    def __init__(self, shell: list[str], home: Path, cwd: Path) -> None:
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            shell,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=surroundings(home),
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def types(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def sees(self, text: str, within_seconds: float = 60.0) -> None:
        """Waits until a text has been shown, and forgets what was shown up to it."""
        end = time.monotonic() + within_seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown: {self.seen!r}"
            self.seen += os.read(self._terminal, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]

    def leaves(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture(params=[pytest.param(name, marks=needs(name)) for name in ("bash", "zsh")])
def typist(request: pytest.FixtureRequest, home: Path, there: Path) -> Iterator[Typist]:
    shell = request.param
    assert install(shell, home).startswith(f"{shell} completion installed in ")
    options = {"bash": ["--noprofile", "-i"], "zsh": ["-i", "-o", "nopromptcr"]}[shell]
    at_work = Typist([shell, *options], home, there)
    if shell == "zsh":
        at_work.sees("> ")
        at_work.types("ckconv-sweep \t")  # the first one only loads Typer's function
        at_work.sees("\a")
        at_work.types("\x15")
    try:
        yield at_work
    finally:
        at_work.leaves()


def test_tab_completes_commands_files_sweeps_and_settings(typist: Typist) -> None:
    for typed, line in {
        "val\tsmnist_9\t": "validate smnist_98k",
        "table small_\t": "table small_wide",
        "plot small tim\t": "plot small timeline",
        "launch small.yaml --set model.hid\t": "launch small.yaml --set model.hidden_channels=",
    }.items():
        typist.types(f"ckconv-sweep {typed}")
        typist.types("\x01echo '<\x05>'\r")  # at the beginning of the line, and at its end
        typist.sees(f"<ckconv-sweep {line}")


@needs("fish")
def test_fish_completes(home: Path, there: Path) -> None:
    assert install("fish", home).startswith("fish completion installed in ")
    for line, word in {
        "val": "validate",
        "train smnist_9": "smnist_98k",
        "table small_": "small_wide",
        "plot small tim": "timeline",
        "launch small.yaml --set model.hid": "model.hidden_channels=",
    }.items():
        done = subprocess.run(
            ["fish", "-c", f"complete -C 'ckconv-sweep {line}'"],
            cwd=there,
            env=surroundings(home),
            capture_output=True,
            text=True,
            check=True,
        )
        assert word in [found.partition("\t")[0] for found in done.stdout.splitlines()]
