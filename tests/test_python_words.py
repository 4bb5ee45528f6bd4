"""Options and commands in messages become arguments and calls."""

from __future__ import annotations

import doctest
import inspect

import pytest

from ckconv_sweep import Sweep, extend, launch, python_words, resume, train
from ckconv_sweep.cli.run_options import RunOptions
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.python_words import errors_in_python, in_python
from ckconv_sweep.start import Options


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(python_words).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--where omega_0 < 4", "where omega_0 < 4"),
        ("put them back, or: --allow-data-change", "put them back, or: allow_data_change=True"),
        ("leave --pack out", "leave pack out"),
        ("as `ray start --head` prints it", "as `ray start --head` prints it"),
        ("train it: ckconv-sweep train a/b.yaml", 'train it: train("a/b.yaml")'),
        ("or resume it: ckconv-sweep resume a.", 'or resume it: resume("a").'),
        (
            "resume with: ckconv-sweep resume a --sweeps-dir '/my sweeps' --hours MORE",
            'resume with: resume("a", sweeps_dir="/my sweeps", hours=MORE)',
        ),
        ("see ckconv-sweep doctor a --sweeps-dir /b", "see ckconv-sweep doctor a --sweeps-dir /b"),
        ("non--set and --settings", "non--set and --settings"),
    ],
)
def test_a_message_speaks_python(text: str, expected: str) -> None:
    assert in_python(text) == expected


def arguments(function: object) -> set[str]:
    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_every_argument_is_known() -> None:
    known = {name.replace("-", "_") for name in (*python_words._ARGUMENTS, *python_words._FLAGS)}
    taken = {*Options.__annotations__, *arguments(launch), *arguments(train)}
    taken |= arguments(resume) | arguments(Sweep.table) | arguments(Sweep.open)
    taken |= arguments(extend) | arguments(Sweep.add) | arguments(Sweep.retry)
    taken |= arguments(Sweep.simulate)
    assert known <= taken
    assert taken - known == {"self", "space", "options"}


def test_python_takes_the_options_of_the_command_line() -> None:
    from ckconv_sweep.cli import run
    from ckconv_sweep.cli.train import train as command

    assert Options.__annotations__.keys() == arguments(RunOptions)
    own = arguments(run.launch) - arguments(RunOptions) - {"dry_run"}
    assert {name.rstrip("_") for name in own} == arguments(launch) - {"options"}
    assert {name.rstrip("_") for name in arguments(command)} == arguments(train)


def test_an_error_is_the_same_with_other_words() -> None:
    with pytest.raises(ConfigError) as caught, errors_in_python():
        raise ConfigError("no column", where="--sort x", hint="--columns too")
    error = caught.value
    assert (error.message, error.where, error.hint) == ("no column", "sort x", "columns too")
    assert str(error) == "sort x: no column\n  columns too"
