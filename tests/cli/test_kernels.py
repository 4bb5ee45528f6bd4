"""`kernels`: on a model that was trained by the command line, and on one without data."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from data.small_files import write_uea

from ckconv_sweep.cli.kernels import in_words, spectrum_of
from ckconv_sweep.config import documents
from ckconv_sweep.config.data import CharacterTrajectoriesData, Description
from ckconv_sweep.config.read import read_trial
from ckconv_sweep.data.datasets import describe
from ckconv_sweep.data.sequences import Positions, prepare
from ckconv_sweep.models.architectures import make_model
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.training import promoted
from ckconv_sweep.training.checkpoint import save_best
from ckconv_sweep.training.omega_0 import Advice, Verdict
from ckconv_sweep.training.promoted import Promoted
from ckconv_sweep.training.seeding import generator
from ckconv_sweep.training.spectra import spectrum
from ckconv_sweep.training.weights import read_trained

from .commands import ckconv_sweep, ended, refused

RUN = Path("runs") / "trial"


def test_the_command_shows_writes_and_judges_the_kernels_of_a_run(
    trained: Path, here: Path
) -> None:
    run = trained / RUN
    said = ended(ckconv_sweep("kernels", run, "--csv", "all/kernels.csv", cwd=here))
    model = read_trained(run).model(describe(read_trained(run).trial.data))
    convs = {n: m for n, m in model.named_modules() if isinstance(m, CKConv)}
    for name in convs:
        assert f" {name} " in said
    assert "energy of the validation data: 50% below 0.125" in said
    assert "\nomega_0 = 30 " in said
    assert "\nsearch {low: " in said
    assert "picture: learnt-kernels.png; all kernels: all/kernels.csv" in said
    assert (here / "learnt-kernels.png").read_bytes().startswith(b"\x89PNG")
    with (here / "all" / "kernels.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["layer", "out", "in", "lag", "position", "value"]
    assert len(lines) == sum(4 * conv.kernels[1] * 64 for conv in convs.values())
    name, conv = list(convs.items())[1]
    kernel = conv.kernel(64).detach().numpy()
    mine = [line for line in lines if (line["layer"], line["out"], line["in"]) == (name, "3", "2")]
    assert [float(line["lag"]) for line in mine] == list(range(64))
    positions = [float(line["position"]) for line in mine]
    np.testing.assert_allclose(positions, np.linspace(1, -1, 64), atol=1e-6)
    values = np.array([float(line["value"]) for line in mine], dtype=np.float32)
    np.testing.assert_array_equal(values, kernel[3, 2])  # nine digits are all of a float32


def test_programs_get_the_same_with_spectra_and_without_data_what_needs_none(
    trained: Path, here: Path
) -> None:
    args = ("kernels", trained / RUN, "--out", "k.svg", "--json")
    whole = json.loads(ended(ckconv_sweep(*args, cwd=here)))
    part = json.loads(ended(ckconv_sweep(*args, "--no-data", cwd=here)))
    assert part["layers"] == whole["layers"]
    assert [len(layer["amplitudes"]) for layer in whole["layers"]] == [64, 64]
    assert set(whole["data"]) == {"frequency_50", "frequency_95", "frequency_99"}
    assert part["data"] is None
    assert (part["why_no_data"], whole["why_no_data"]) == ("--no-data", None)
    assert part["omega_0"]["low"] is part["omega_0"]["data_above"] is None
    assert part["omega_0"]["high"] == whole["omega_0"]["high"]
    assert whole["omega_0"]["verdict"] in ("fits", "too low", "too high")


def told(verdict: Verdict, low: float | None, above: float | None, high: float = 25.0) -> str:
    return in_words(
        Advice(
            omega_0=2.0,
            band=0.039,
            data_above=above,
            beyond=0.62,
            first_layer=0.1,
            verdict=verdict,
            low=low,
            high=high,
        )
    )


def test_what_is_told_of_omega_0_are_sentences_at_80_columns() -> None:
    search = (
        "search {low: 8.9, high: 25, log: true}: in this range new kernels are neither\n"
        "too low nor too high (a heuristic, see the guide)"
    )
    assert told("too low", 8.9, 0.93) == (
        "omega_0 = 2 is too low: 93% of the data's energy is above 0.039 cycles per step,\n"
        f"where 99 % of the kernels' energy ends\n{search}"
    )
    assert told("too high", 8.9, 0.0) == (
        "omega_0 = 2 is too high: 62% of the kernels' energy is above 0.5 cycles per\n"
        "step, which the sampling rate cannot carry: it looks like lower frequencies\n"
        f"(aliasing)\n{search}"
    )
    assert told("fits", 30.0, 0.08) == (
        "omega_0 = 2 fits: 8% of the data's energy is above 0.039 cycles per step, where\n"
        "99 % of the kernels' energy ends; 62% of it is above 0.5\n"
        "search around 25: at this rate no omega_0 shows all that the data have (a\n"
        "heuristic, see the guide)"
    )
    assert told("no data", None, None) == (
        "omega_0 = 2 is not too high: 62% of the kernels' energy is above 0.5 cycles per\n"
        "step; whether it is too low, the data would tell\n"
        "search below 25: with more, new kernels are too high (a heuristic, see the\n"
        "guide)"
    )


def saved(folder: Path, name: str, *changes: str, described: Description | None = None) -> None:
    """A checkpoint of a trial that nobody has trained."""
    trial = read_trial(name, changes)
    description = described or describe(trial.data)
    model = make_model(trial.model, description, generator(0, "init"))
    folder.mkdir()
    save_best(folder, trial.model_dump(mode="json"), model.state_dict())


def test_data_that_are_not_there_are_not_downloaded_and_it_is_said_what_is_left_out(
    here: Path,
) -> None:
    saved(here / "big", "character_trajectories_sr8", "model.hidden_channels=3")
    done = ckconv_sweep("kernels", "big", "--data-dir", here / "none", cwd=here)
    said = ended(done)
    assert "not compared with the data: " in said
    assert "\nsearch below " in said
    assert (here / "learnt-kernels.png").exists()
    assert not (here / "none").exists()


def test_times_are_told_and_not_taken_for_equal_steps(shared: Path, here: Path) -> None:
    times = ("data.dropped_as=times", "model.hidden_channels=3")
    saved(here / "times", "character_trajectories_drop30", *times)
    said = ended(ckconv_sweep("kernels", "times", "--data-dir", shared / "data", cwd=here))
    assert "\nnot compared with the data: its steps are not equally far apart (dropped_as" in said
    assert "\nsearch below " in said


def test_the_channel_that_tells_where_a_step_is_has_no_part_in_the_energy_of_the_data() -> None:
    rng = np.random.default_rng(0)
    waves_NCL = np.sin(np.arange(64) / 10 + rng.uniform(0, 6, (40, 2, 1)))
    positions = Positions(*np.split(np.arange(40), [20, 30]))
    data = CharacterTrajectoriesData(dropped_fraction=0.3)
    _, split, _ = prepare(waves_NCL, np.zeros(40, dtype=np.int64), positions, data)
    assert split.inputs.shape == (10, 3, 64)
    found, why = spectrum_of(data, split)
    assert (found is not None, why) == (True, "")
    assert found is not None
    wanted = spectrum([split.inputs[:, :2].numpy()])
    np.testing.assert_array_equal(found.energies_F, wanted.energies_F)
    whole, _ = spectrum_of(CharacterTrajectoriesData(), split)  # without such a channel
    assert whole is not None
    assert whole.energy > found.energy
    of_times = data.model_copy(update={"dropped_as": "times"})
    _, split, _ = prepare(waves_NCL, np.zeros(40, dtype=np.int64), positions, of_times)
    assert spectrum_of(of_times, split)[0] is None


def test_other_models_get_their_kernels_or_a_refusal(here: Path) -> None:
    saved(here / "tcn", "digits", "model={name: tcn, hidden_channels: 4, blocks: 2}")
    said = ended(ckconv_sweep("kernels", "tcn", "--out", "t.svg", cwd=here))
    assert "omega_0" not in said
    saved(here / "gru", "digits", "model={name: gru, hidden_channels: 4}")
    assert "has no kernels: GRU\n  ckcnn and tcn have" in refused(
        ckconv_sweep("kernels", "gru", cwd=here)
    )
    saved(here / "masked", "digits", "model.mask={name: gaussian}")
    said = ended(ckconv_sweep("kernels", "masked", "--out", "m.svg", cwd=here))
    assert "omega_0" not in said


def test_a_promoted_model_needs_no_data_also_where_these_say_what_it_is_for(here: Path) -> None:
    write_uea(here)
    data = "data={name: uea, problem: Tiny, validation_fraction: 0.25}"
    trial = read_trial(str(here / "trial.yaml"), [data])
    tiny = describe(trial.data, here)
    model = make_model(trial.model, tiny, generator(0, "init"))
    held = Promoted(
        trial=trial,
        weights=model.state_dict(),
        description=tiny,
        classes=("a", "b"),
        preparation=None,
        data={},
    )
    text = documents.write(trial.model_dump(mode="json"))
    promoted.write(here / "mine", promoted.contents(held, text, ""), "")
    shutil.rmtree(here / "uea")
    said = ended(ckconv_sweep("kernels", "mine", "--data-dir", here, cwd=here))
    assert "not compared with the data: " in said
    assert " blocks.0.conv2 " in said


def test_the_whole_of_a_centred_kernel_is_all_of_it(here: Path) -> None:
    saved(here / "centred", "digits", "model.causal=false", "model.hidden_channels=4")
    said = ended(ckconv_sweep("kernels", "centred", "--no-data", cwd=here))
    assert re.search(r" \d+, 3[12] \((9[5-9]|100)%\) ", said)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["nowhere"], 2, "nowhere: no such file"),
        (["."], 2, "this folder holds no checkpoint"),
        (["models:/mine@champion"], 2, "there is no MLflow database"),
        (["mine", "--out", "x.pdf"], 2, "--out: must end with .png or .svg, got 'x.pdf'"),
        (["mine", "--shown", "0"], 2, "'--shown'"),
        (["mine"], 65, "mine: holds no state that can be read"),
    ],
)
def test_what_is_no_model_of_ours_is_refused(
    args: list[str], code: int, message: str, here: Path
) -> None:
    (here / "mine").write_text("not a model")
    assert message in refused(ckconv_sweep("kernels", *args, cwd=here), code=code)
