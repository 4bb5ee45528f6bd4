"""One function a command. Whatever is heavy is imported inside its body, so that `--help` and
mistakes answer at once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from ckconv_sweep import __version__
from ckconv_sweep.cli import (
    confirm,
    control,
    delete,
    doctor,
    evaluate,
    extend,
    fit_kernel,
    import_checkpoint,
    kernels,
    look,
    pictures,
    predict,
    promote,
    run,
    serve,
    show,
    simulate,
    tables,
    train,
    verify,
    watch,
    why,
)
from ckconv_sweep.cli.help import Command, Group
from ckconv_sweep.cli.log import logged
from ckconv_sweep.cli.output import Output
from ckconv_sweep.errors import (
    CannotWrite,
    CkconvSweepError,
    ClusterLost,
    ConfigError,
    no_room,
)

app = typer.Typer(
    name="ckconv-sweep",
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run a sweep": (
        run.launch,
        run.resume,
        extend.extend,
        confirm.confirm,
        watch.watch,
        look.status,
        look.list_sweeps,
    ),
    "While it runs": (
        control.add,
        control.retry,
        control.pause,
        control.stop,
        control.concurrency,
    ),
    "Read its results": (
        tables.table,
        tables.compare,
        simulate.simulate,
        look.best,
        promote.promote,
        why.why,
        pictures.plot,
        pictures.report,
        serve.ui,
    ),
    "Train and score one model": (
        train.train,
        evaluate.evaluate,
        predict.predict,
        kernels.kernels,
        import_checkpoint.import_checkpoint,
    ),
    "Look before you start": (show.show, train.validate, fit_kernel.fit_kernel),
    "Repair and deliver": (doctor.doctor, verify.verify, serve.sync, delete.gc, delete.delete),
}
"""By the section of `--help` that shows them."""
for section, functions in COMMANDS.items():
    for function in functions:
        name = function.__name__.removesuffix("_sweeps").replace("_", "-")
        app.command(name=name, cls=Command, rich_help_panel=section)(logged(function))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ckconv-sweep {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Find good settings for a CKCNN: sweeps that can be stopped, resumed and trusted."""


def main(on_error: Callable[[CkconvSweepError], None] = lambda error: None) -> None:
    """The program. What we raise on purpose becomes one message and an exit code.

    Args:
        on_error: hears of such an error, too.
    """
    os.umask(0o077)  # also for what SQLite, MLflow and Ray write, here and in our child processes
    if any(option.startswith("error") for option in sys.warnoptions):
        warnings.simplefilter("ignore")  # meant for the user's own code; MLflow and Ray would fail
    _open_standard_streams()
    output = Output.install()
    try:
        if sys.flags.optimize > 1:
            raise ConfigError(
                "-OO and PYTHONOPTIMIZE=2 strip the docstrings that Ray and our --help need",
                where="Python",
                hint="unset PYTHONOPTIMIZE, or set it to 1",
            )
        _command()
    except CkconvSweepError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        on_error(error)
        if isinstance(error, ClusterLost):  # Ray would wait for it at the end, then exit with 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(error.exit_code)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if output is not None:
            output.flush()
            if output.lost and not end.code:
                print(f"error: standard output: {output.lost}", file=sys.stderr)  # noqa: T201
                sys.exit(CannotWrite.exit_code)
        raise


def _command() -> None:
    """What was asked. Any library may be the one that finds the disk full."""
    try:
        app()
    except OSError as error:
        if full := no_room(error):
            raise full from error
        raise


def _open_standard_streams() -> None:
    """Who starts a program without one of the three gives its number to the next file that is
    opened, and what is meant for the terminal is then written into that."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # our children would have the same trouble
    os.close(descriptor)
