"""`launch`, `resume`, `extend` and `train` from Python: the commands of the same names, each in a
process of its own, and what came of them as an object."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from ckconv_sweep.api import Sweep
from ckconv_sweep.config import documents
from ckconv_sweep.config.history import Epoch, best, end_reason
from ckconv_sweep.config.names import check_sweep_name, expanded
from ckconv_sweep.config.read import trial_from
from ckconv_sweep.config.space import Space
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import CkconvSweepError, ConfigError, NoResult, nearest_or_all
from ckconv_sweep.notebook import Shown, progress_bar
from ckconv_sweep.own_process import OwnProcess
from ckconv_sweep.python_words import changes_of, errors_in_python, file_or_tree, in_python
from ckconv_sweep.report.found import sweeps_folder


class Options(TypedDict, total=False):
    """The options that `launch` and `resume` have in common; `ckconv-sweep launch --help` says what
    each does. Left out, or None: as on the command line."""

    trials: int | None
    hours: float | None
    gpu_hours: float | None
    goal: str | None
    concurrency: int | None
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    pack: int | Literal["auto"] | None
    address: str | None
    insecure_cluster: bool
    ship: bool
    data_dir: str | Path | None
    tracking_uri: str | None
    require_tracking: bool
    sweeps_dir: str | Path | None
    shared: bool
    allow_code_change: bool
    allow_data_change: bool
    on_finish: str | None
    on_best: str | None


@errors_in_python()
def launch(
    space: str | Path | Mapping[str, Any] | Space,
    *,
    name: str | None = None,
    set: Mapping[str, Any] | None = None,
    warm_start: Sequence[str] = (),
    restart: bool = False,
    **options: Unpack[Options],
) -> Sweep:
    """Start a sweep, or resume it, as `ckconv-sweep launch` does; returns when its first trials are
    handed out, or at once with a finished sweep. It runs in a process of its own, which is stopped
    when this Python ends; the same call resumes it.

    Args:
        space: a file, the name of a bundled space, or a space as a dict, whose `trial` may be a
            file, a name, a dict, or another sweep's `best().trial`.
        name: of the sweep; the file's by default. A dict needs one.
        set: changes of settings, as in `{"model.dropout": 0.1}`.
        warm_start: the names of earlier sweeps that the sampler learns from, too.
        restart: begin anew, if no trial has completed.
        options: see `Options`.

    Raises:
        ConfigError: the space or an option is wrong.
        SpaceChanged: a sweep of this name was started with another space.
        SweepBusy: it runs already.
        TypeError: there is no such option.
        CkconvSweepError: whatever else keeps it from starting (`ckconv_sweep.errors`).
    """
    _check_known("launch", options)
    if isinstance(space, str | Path):
        name = Path(space).stem if name is None else name
    elif name is None:
        raise ConfigError(
            "a space that is no file needs a name",
            where="launch",
            hint='as in launch(space, name="my_sweep")',
        )
    check_sweep_name(name)
    file, text = _given(space, "space")
    with _without_lines("the space"):
        changes = _arguments(
            name=name, set=changes_of(set), warm_start=list(warm_start), restart=restart
        )
        return _started(["launch", *changes, file], name, options, text)


@errors_in_python()
def resume(name: str, **options: Unpack[Options]) -> Sweep:
    """Resume a sweep, as `ckconv-sweep resume` does; with more `trials`, also a finished one.
    Returns as `launch` does, and raises as it does."""
    _check_known("resume", options)
    return _started(["resume", check_sweep_name(name)], name, options)


@errors_in_python()
def extend(
    name: str,
    space: str | Path | Mapping[str, Any] | Space,
    *,
    set: Mapping[str, Any] | None = None,
    **options: Unpack[Options],
) -> Sweep:
    """Search another space with what a sweep has learnt, as `ckconv-sweep extend` does: the new
    sweep is called NAME-2, or the next number that is free. Arguments, what it returns and what it
    raises: as of `launch`."""
    _check_known("extend", options)
    file, text = _given(space, "space")
    with _without_lines("the space"):
        command = ["extend", *_arguments(set=changes_of(set)), check_sweep_name(name), file]
        return _started(command, None, options, text)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One trained trial. All numbers are of the training and validation splits."""

    folder: Path
    """Give it to `ckconv-sweep evaluate`, which scores it on the test split."""
    trial: Trial
    history: tuple[Epoch, ...] = field(repr=False)
    """Every epoch with all its metrics."""
    weights: Path | None
    """Those of the best epoch."""

    @property
    def best(self) -> Epoch:
        """The epoch that counts."""
        return best(self.history, self.trial.metric)


@errors_in_python()
def train(
    trial: str | Path | Mapping[str, Any] | Trial,
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    tracking_uri: str | None = None,
    require_tracking: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_data_change: bool = False,
) -> Run:
    """Train one trial to its end, as `ckconv-sweep train` does; the same call continues an
    interrupted one.

    Args:
        trial: a file, the name of a bundled trial, a dict, or a sweep's `best().trial`.
        out: the folder of the run, `runs/<name of the trial>` by default. A trial that is no file
            needs one.

    Raises:
        ConfigError: the trial or an argument is wrong, or the folder holds another trial.
        NonFiniteLoss, OutOfMemory: it cannot go on.
        CkconvSweepError: whatever else keeps it from ending (`ckconv_sweep.errors`).
    """
    file, text = _given(trial, "trial")
    if out is None and text:
        raise ConfigError(
            "a trial that is no file needs a folder", where="train", hint='as in out="runs/mine"'
        )
    name = Path(out).name if out is not None and text else Path(file).stem
    folder = expanded(Path(out) if out else Path("runs") / name).resolve()
    given = _arguments(
        set=changes_of(set),
        out=folder,
        data_dir=data_dir,
        require_tracking=require_tracking,
        device=device,
        allow_data_change=allow_data_change,
    )
    settings, history, shown = None, list[Epoch](), Shown()
    process = OwnProcess(["train", *given, file], text, tracking_uri)
    with _without_lines("the trial"):
        for news in process.news_until_the_end():
            match news:
                case {"said": line}:
                    shown.say(in_python(line))
                case {"trial": tree}:
                    settings = trial_from(tree, name)
                case {"epoch": epoch} if settings is not None:
                    history.append(Epoch(**epoch))
                    of, metric = settings.training.epochs, settings.metric.name
                    value = history[-1].metrics[metric]
                    line = f"{name}: epoch {len(history)} of {of}, {metric} {value:.4g}"
                    shown.show(line, progress_bar(len(history), of, line))
    if settings is None or end_reason(settings, history) is None:
        raise NoResult(
            f"stopped after {len(history)} epochs", where=name, hint="train it again to continue"
        )
    from ckconv_sweep.training import checkpoint

    return Run(
        folder=folder, trial=settings, history=tuple(history), weights=checkpoint.best(folder)
    )


def _started(command: Sequence[str], name: str | None, options: Options, text: str = "") -> Sweep:
    """Waits until the first trials are handed out, or the command has ended. Without a name it is
    the first word that the command prints."""
    root = sweeps_folder(options.get("sweeps_dir"))
    given = _arguments(**{**options, "sweeps_dir": root, "tracking_uri": None})
    process = OwnProcess([*command, *given], text, options.get("tracking_uri"))
    shown = Shown()
    for news in process.news_until_the_end():
        if "begun" in news:
            for line in process.output():  # notes on the space, what the last session hands on
                shown.say(in_python(line))
            break
    name = process.output()[0].partition(" ")[0] if name is None else name
    return Sweep.open(name, sweeps_dir=root).run_by(process)


def _check_known(function: str, options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in Options.__annotations__:
            hint = nearest_or_all(name, Options.__annotations__)
            raise TypeError(f"{function}() has no argument {name!r}: {hint}")


def _arguments(**options: object) -> list[str]:
    """As the command line takes them; a list is an option that is given several times."""
    out = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            out.append(option)
        elif value is not None and value is not False:
            out += [f"{option}={one}" for one in (value if isinstance(value, list) else [value])]
    return out


def _given(space_or_trial: Any, kind: str) -> tuple[str, str]:
    """A file or a name as an argument of a command, and its standard input: a dict is written
    there."""
    if isinstance(space_or_trial, Space):
        space_or_trial = space_or_trial.written()
    given = file_or_tree(space_or_trial, kind)
    return (given, "") if isinstance(given, str) else ("-", documents.write(given))


@contextlib.contextmanager
def _without_lines(name: str) -> Iterator[None]:
    """A dict has no lines to which an error could point."""
    try:
        yield
    except CkconvSweepError as error:
        for part in ("message", "where", "hint"):
            if told := getattr(error, part):
                setattr(error, part, re.sub(r"standard input(:\d+)?", name, told))
        raise
