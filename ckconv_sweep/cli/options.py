"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer import CallbackParam

from ckconv_sweep.cli import completion
from ckconv_sweep.cli.help import HOOKS, PLACES
from ckconv_sweep.config.bundled import is_stream
from ckconv_sweep.config.names import SWEEPS_DIR as SWEEPS_DIR
from ckconv_sweep.config.names import expanded, is_registered_name
from ckconv_sweep.errors import ConfigError


def folder_here(option: CallbackParam, path: Path | None) -> Path | None:
    """For whatever names a folder or file: with a home folder in the place of `~`, which a shell
    leaves alone in `--out=~/x`; not an address, of which a path makes a folder called `s3:`. Raises
    ConfigError."""
    if path is not None and (scheme := re.match(r"[A-Za-z][\w+.-]+:/", str(path))):
        raise ConfigError(
            f"{scheme[0]}/ addresses are not supported: this must be a file or folder of this "
            "machine, or one that it has mounted",
            where=option.opts[0],
        )
    return None if path is None else expanded(path)


def picture_here(option: CallbackParam, path: Path | None) -> Path | None:
    """As `folder_here`, for a picture that is written. Raises ConfigError for another suffix than
    .png or .svg."""
    if path is not None and path.suffix not in (".png", ".svg"):
        raise ConfigError(f"must end with .png or .svg, got {path.name!r}", where=option.opts[0])
    return folder_here(option, path)


def model_here(option: CallbackParam, path: Path | None) -> Path | None:
    """As `folder_here`, for a trained model, which may also lie in MLflow's registry."""
    return path if path and is_registered_name(path) else folder_here(option, path)


def mlflow_address(context: typer.Context, option: CallbackParam, uri: str | None) -> str | None:
    """For options that name an MLflow. Raises ConfigError for an address that none can have."""
    uri = (uri or "").strip()
    if uri:
        from ckconv_sweep.tracking.answers import check_address

        source = context.get_parameter_source(option.name or "")
        named = source is not None and source.name == "ENVIRONMENT"
        check_address(uri, str(option.envvar) if named else option.opts[0])
    return uri or None


SweepsDir = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="Folder of the sweeps.",
        envvar="CKCONV_SWEEPS",
        callback=folder_here,
        rich_help_panel=PLACES,
    ),
]

DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the datasets; missing ones are downloaded to it.",
        envvar="CKCONV_DATA",
        callback=folder_here,
        rich_help_panel=PLACES,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting, as in model.dropout=0.1.",
        autocompletion=completion.changes,
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="MLflow's address.",
        envvar="MLFLOW_TRACKING_URI",
        callback=mlflow_address,
        show_default="sqlite:///mlflow.db in the sweeps folder",
        rich_help_panel=PLACES,
    ),
]
FromMlflow = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        metavar="URI",
        help="Read from MLflow at this address, not from the sweep's folder.",
        callback=mlflow_address,
        show_default="MLFLOW_TRACKING_URI, if there is no folder",
        rich_help_panel=PLACES,
    ),
]
RequireTracking = Annotated[
    bool,
    typer.Option(
        "--require-tracking",
        help="Start nothing unless MLflow takes runs.",
        rich_help_panel=PLACES,
    ),
]
OnFinish = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Shell command to run when the sweep ends or is stopped; its environment has "
        "CKCONV_SWEEP, CKCONV_STATE, CKCONV_BEST_VALUE, ...",
        rich_help_panel=HOOKS,
    ),
]
OnBest = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Shell command to run in the background at each new best value.",
        rich_help_panel=HOOKS,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Write over a file that is there and holds something else.")
]
Name = Annotated[
    str, typer.Argument(help="The sweep's name.", metavar="NAME", autocompletion=completion.sweeps)
]


def trial_number(text: str) -> int:
    """Of a trial: `t017` or `17`."""
    if not text.removeprefix("t").isdecimal():
        raise typer.BadParameter(f"{text!r} is no trial; write it as in t017 or 17")
    return int(text.removeprefix("t"))


def absolute(path: Path | None) -> Path | None:
    """Workers have another current folder than the user."""
    return None if path is None else expanded(path).resolve()


def name_of(file: str, otherwise: str | None, option: str, hint: str) -> str:
    """What a sweep or a run is called after its file; `otherwise` where that has no name, because
    it is standard input or a pipe. Raises ConfigError where there is neither."""
    if file != "-" and not is_stream(Path(file)):
        return Path(file).stem
    if otherwise is None:
        raise ConfigError(f"needed here, because {file} has no name", where=option, hint=hint)
    return otherwise


def takes(
    options: type, *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """For a command with a parameter `options`, a frozen object of this class: each of its fields
    becomes an option of the command, after the arguments.

    Args:
        without: fields that keep their defaults.
    """
    hints = get_type_hints(options, include_extras=True)
    fields = [
        field.replace(annotation=hints[name])
        for name, field in inspect.signature(options).parameters.items()
        if name not in without
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        types = get_type_hints(function, localns={options.__name__: options}, include_extras=True)
        parameters = [
            parameter.replace(annotation=types[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in own.items()
            if name != "options"
        ]
        parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)

        @functools.wraps(function)
        def command(**given: Any) -> None:
            chosen = options(**{field.name: given.pop(field.name) for field in fields})
            function(**given, options=chosen)

        command.__signature__ = inspect.Signature([*parameters, *fields])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*parameters, *fields)}
        return command

    return decorate
