"""`plot` and `report`, of a real sweep."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ckconv_sweep.cli import pictures
from ckconv_sweep.config.domains import Interval
from ckconv_sweep.config.read import read_space
from ckconv_sweep.errors import ConfigError
from ckconv_sweep.record.folder import SweepFolder
from tests.report.made_up import made_up, recorded

from .commands import ckconv_sweep, ended, files_in, refused

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_picture_gets_the_name_of_the_sweep_and_its_kind(finished: Path, tmp_path: Path) -> None:
    sweeps = finished / "sweeps"
    before = files_in(sweeps / "small")
    said = ended(ckconv_sweep("plot", "small", "curves", "--sweeps-dir", sweeps, cwd=tmp_path))
    assert said == "picture: small-curves.png\n"
    assert (tmp_path / "small-curves.png").read_bytes().startswith(PNG)
    assert [path.name for path in tmp_path.iterdir()] == ["small-curves.png"]
    assert {k: v for k, v in files_in(sweeps / "small").items() if "study.db" not in k} == {
        k: v for k, v in before.items() if "study.db" not in k
    }


def test_a_mistake_is_one_message(finished: Path, tmp_path: Path) -> None:
    done = ckconv_sweep("plot", "small", "curves", "--out", "a.pdf", cwd=tmp_path)
    assert refused(done) == "error: --out: must end with .png or .svg, got 'a.pdf'\n"


def test_a_report_is_one_file_and_the_trial_inside_can_be_trained(
    finished: Path, tmp_path: Path
) -> None:
    sweeps = finished / "sweeps"
    said = ended(ckconv_sweep("report", "small", "--sweeps-dir", sweeps, cwd=tmp_path))
    assert said == "report: small-report.html\n"
    text = (tmp_path / "small-report.html").read_text()
    assert f"ckconv-sweep best small --sweeps-dir {sweeps} --out small_best.yaml" in text
    assert "ckconv-sweep 0." in re.sub("<[^>]*>", " ", text).replace("  ", " ")
    best = ended(ckconv_sweep("best", "small", "--sweeps-dir", sweeps, cwd=tmp_path))
    trial = best.partition("\n")[2].rstrip("\n")
    assert trial in text  # letter by letter what `best` writes


# In this process: Python's start and the imports take most of the time of the others.


def test_a_pareto_front_counts_the_parameters_of_the_models(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "front.svg"
    pictures.plot("small", "pareto", out=out, sweeps_dir=finished / "sweeps")
    assert "<svg" in out.read_text()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: pictures.plot("small", "contor", sweeps_dir=s), "no picture is called 'contor'"),
        (
            lambda s: pictures.plot("small", "slice", settings="dropuot", sweeps_dir=s),
            "no searched setting is called 'dropuot'\n  did you mean 'dropout'",
        ),
        (lambda s: pictures.plot("no", "curves", sweeps_dir=s), "there is no sweep 'no'"),
        (lambda s: pictures.report("small", out=Path("a.pdf")), "--out: must end with .html"),
        (
            lambda s: pictures.report("small", wider_space=Path("w.yaml"), sweeps_dir=s),
            "--wider-space: no range needs to be wider",
        ),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    call: Callable[[Path], None],
    message: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        call(finished / "sweeps")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_report_can_be_made_from_mlflow_alone(finished: Path, tmp_path: Path) -> None:
    database, out = f"sqlite:///{finished / 'sweeps' / 'mlflow.db'}", tmp_path / "report.html"
    pictures.report("small", out=out, tracking_uri=database, sweeps_dir=tmp_path)
    text = out.read_text()
    assert text.count("<img ") >= 6
    assert "ckconv-sweep best" not in text  # it needs the folder
    assert "MLflow, sqlite:///" in text


@pytest.mark.usefixtures("nothing_drawn")
def test_a_wider_space_is_written_with_the_command_that_searches_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_up(60, epochs=3)
    name = "model.hidden_channels"
    order = sorted(made.records, key=lambda r: r.history[-1].metrics["val/accuracy"])
    best = {r.number for r in order[-6:]}
    records = [
        replace(r, params={**r.params, name: 32}) if r.number in best else r for r in made.records
    ]
    recorded(SweepFolder.of(tmp_path, "sweep"), records, made.space)
    out, wider = tmp_path / "report.html", tmp_path / "wider.yaml"
    pictures.report("sweep", out=out, wider_space=wider, sweeps_dir=tmp_path)
    written = wider.read_text()
    assert written.startswith(f"# The space of sweep with a wider {name}.\n")
    assert written.partition("\n")[2].rstrip() in out.read_text()
    assert read_space(str(wider)).search[name] == Interval(low=4, high=48, whole=True, step=4)
    again = f"ckconv-sweep extend sweep --sweeps-dir {tmp_path}"
    assert f"search it with what sweep has learnt: {again} {wider}" in capsys.readouterr().out
    assert f"{again} wider.yaml" in out.read_text()
