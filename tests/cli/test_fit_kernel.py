from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from ckconv_sweep.training.kernel_fitting import TARGETS, compared

from .commands import ckconv_sweep, ended, refused


@pytest.mark.parametrize("suffix", [pytest.param("png", marks=pytest.mark.slow), "svg"])
def test_the_command_prints_every_error_and_writes_the_picture(suffix: str, tmp_path: Path) -> None:
    args = ["fit-kernel", "--steps", 3, "--length", 20, "--hidden-channels", 4, "--omega-0", 7]
    out = tmp_path / "new" / f"picture.{suffix}"
    said = ended(ckconv_sweep(*args, "--out", out, cwd=tmp_path))
    for name in [*TARGETS, *compared(4, [7.0])]:
        assert name in said
    assert "omega_0 10" not in said
    assert f"picture: {out}" in said
    if suffix == "svg":
        assert ElementTree.parse(out).getroot().tag.endswith("svg")
    else:
        assert out.read_bytes().startswith(b"\x89PNG")
    assert said == ended(ckconv_sweep(*args, "--out", out, cwd=tmp_path))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "kernels.pdf"], "--out: must end with .png or .svg, got 'kernels.pdf'"),
        (["--learning-rate", "0"], "--learning-rate: must be above 0 and finite, got 0.0"),
        (["--omega-0", "nan"], "--omega-0: must be above 0 and finite, got nan"),
        (["--omega-0", "5", "--omega-0", "-1"], "--omega-0: must be above 0 and finite, got -1.0"),
        (["--hidden-channels", "5"], "--hidden-channels: must be even"),
        (["--hidden-channels", "1000000000"], "'--hidden-channels'"),
        (["--length", "1000000000000000"], "'--length'"),
        (["--seed", "99999999999999999999"], "'--seed'"),
    ],
)
def test_a_wrong_option_is_refused_and_named(args: list[str], message: str, tmp_path: Path) -> None:
    assert message in refused(ckconv_sweep("fit-kernel", *args, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written_ends_with_73(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = ckconv_sweep("fit-kernel", "--out", "file/kernels.png", cwd=tmp_path)
    assert "file" in refused(done, code=73)
    (tmp_path / "kernels.png").mkdir()
    done = ckconv_sweep("fit-kernel", "--steps", 1, cwd=tmp_path)
    assert "kernels.png" in refused(done, code=73)
