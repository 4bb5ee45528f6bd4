from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ckconv_sweep.config import documents
from ckconv_sweep.config.build import build
from ckconv_sweep.config.metrics import METRICS
from ckconv_sweep.config.optimization import Adam, Constant, Cosine, MultiStep, Plateau
from ckconv_sweep.config.read import read_space, read_trial
from ckconv_sweep.config.settings import flat
from ckconv_sweep.config.trial import Metric, Trial
from ckconv_sweep.errors import ConfigError

from .conftest import SMALL, MakeTrial, Write, examples, outcome

TEXT = """\
data: {name: smnist}
model:
  hidden_channels: 8
  kernel:
    omega_0: 20
training:
  epochs: 4
"""


def trial_of(text: str) -> Trial:
    return build(Trial, documents.parse(text, "trial.yaml"))


def refusal_of(text: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        trial_of(text)
    return str(refusal.value)


def test_what_is_not_written_has_its_default() -> None:
    trial = trial_of(TEXT)
    assert trial.model.kernel.omega_0 == 20.0
    assert trial.model.kernel.hidden_channels == 32
    assert (trial.optimizer, trial.schedule) == (Adam(), Constant())
    assert trial.metric == Metric(name="val/accuracy", mode="max", at="best")


def test_a_trial_written_out_is_the_same_trial() -> None:
    trial = trial_of(TEXT + "schedule: {name: multistep, milestones: [1, 3]}\n")
    assert trial_of(documents.write(trial.model_dump(mode="json"))) == trial
    assert build(Trial, documents.Document("dump", trial.model_dump())) == trial


def test_a_trial_is_frozen() -> None:
    trial = trial_of(TEXT)
    with pytest.raises(ValidationError, match="frozen"):
        trial.model.dropout = 0.5  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        trial.model = trial.model  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "omega_0",
            "omga_0",
            "trial.yaml:5: no setting is called 'omga_0' in model.kernel\n"
            "  did you mean 'omega_0'?",
        ),
        (
            "model:",
            "modell:",
            "trial.yaml:2: no setting is called 'modell'\n  did you mean 'model'?",
        ),
        (
            "omega_0",
            "zzz",
            "trial.yaml:5: no setting is called 'zzz' in model.kernel\n  there are: activation, "
            "hidden_channels, initialization, layers, learn_omega_0, name, norm, "
            "normalize_variance, omega_0, omega_0_learning_rate_factor",
        ),
        (
            "epochs: 4",
            "batch_size: 4",
            "trial.yaml:6: training.epochs is missing: expected a whole number",
        ),
        (
            "data: {name: smnist}\n",
            "",
            "trial.yaml:1: data is missing: expected a block of settings",
        ),
        (
            "data: {name: smnist}",
            "data: smnist",
            "trial.yaml:1: data: expected a block of settings, got 'smnist'\n"
            "  write data: {name: smnist}",
        ),
        (
            "smnist",
            "smnits",
            "trial.yaml:1: data: no dataset is called 'smnits'\n  did you mean 'smnist'?",
        ),
        (
            "omega_0: 20",
            "activation: sin",
            "trial.yaml:5: model.kernel.activation: must be one of sine, relu, leaky_relu, swish, "
            "got 'sin'\n  did you mean 'sine'?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_is_right(
    old: str, new: str, message: str
) -> None:
    assert refusal_of(TEXT.replace(old, new)) == message


def test_an_unknown_setting_is_told_before_the_missing_one_that_it_probably_is() -> None:
    assert refusal_of(TEXT.replace("epochs: 4", "epoch: 4")) == (
        "trial.yaml:7: no setting is called 'epoch' in training\n  did you mean 'epochs'?"
    )


@pytest.mark.parametrize("value", ['"3"', "3.0", "true", "null", "[3]", "{a: 3}", "1e1", "9" * 50])
def test_only_a_whole_number_is_a_whole_number(value: str) -> None:
    message = refusal_of(TEXT.replace("epochs: 4", f"epochs: {value}"))
    assert message.startswith("trial.yaml:7: training.epochs: expected a whole number, got ")


@pytest.mark.parametrize("value", ['"3"', "true", "null", "3,0", "30_000.5x"])
def test_only_a_number_is_a_number(value: str) -> None:
    message = refusal_of(TEXT.replace("20", value))
    assert message.startswith("trial.yaml:5: model.kernel.omega_0: expected a number, got ")


def test_a_whole_number_may_stand_for_a_real_one() -> None:
    omega_0 = trial_of(TEXT.replace("20", "3")).model.kernel.omega_0
    assert repr(omega_0) == "3.0"


@pytest.mark.parametrize("value", ["1", "0", '"true"', "yes"])
def test_only_true_and_false_are_true_or_false(value: str) -> None:
    message = refusal_of(TEXT.replace("omega_0: 20", "omega_0: 20\n  bias: " + value))
    assert "model.bias: expected true or false, got " in message


@pytest.mark.parametrize(
    ("block", "rule"),
    [
        ({"model": {"hidden_channels": 0}}, "hidden_channels >= 1 must hold, got 0"),
        ({"model": {"hidden_channels": 8, "dropout": 1.0}}, "dropout < 1.0 must hold, got 1.0"),
        ({"model": {"hidden_channels": 8, "dropout": -0.1}}, "dropout >= 0.0 must hold, got -0.1"),
        (
            {"model": {"hidden_channels": 8, "kernel": {"layers": 17}}},
            "layers <= 16 must hold, got 17",
        ),
        (
            {"model": {"hidden_channels": 8, "kernel": {"omega_0": 0}}},
            "omega_0 > 0.0 must hold, got 0",
        ),
        ({"training": {"epochs": 4, "seed": 2**63}}, "seed < 9223372036854775808 must hold"),
        ({"training": {"epochs": 4, "threads": 0}}, "threads >= 1 must hold, got 0"),
        (
            {"data": {"name": "smnist", "validation_fraction": 0.0}},
            "validation_fraction > 0.0 must hold, got 0.0",
        ),
        ({"optimizer": {"name": "adam", "beta_1": 1.0}}, "beta_1 < 1.0 must hold, got 1.0"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_the_rule(block: dict[str, Any], rule: str) -> None:
    assert rule in refusal_of(documents.write(SMALL | block))


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999"])
def test_an_infinite_number_is_refused(value: str) -> None:
    assert "model.kernel.omega_0: must be finite, got" in refusal_of(TEXT.replace("20", value))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            {"model": {"hidden_channels": 8, "kernel": {"norm": "layer"}}},
            "model.kernel: norm must be none when activation is sine",
        ),
        (
            {
                "model": {
                    "hidden_channels": 8,
                    "kernel": {"activation": "relu", "initialization": "siren"},
                }
            },
            "model.kernel: initialization siren needs activation sine",
        ),
        ({"metric": {"name": "val/loss", "mode": "max"}}, "metric: mode must be min for val/loss"),
        (
            {"schedule": {"name": "multistep", "milestones": [3, 2]}},
            "schedule: milestones must increase, got [3, 2]",
        ),
        ({"schedule": {"name": "multistep", "milestones": [2, 2]}}, "milestones must increase"),
        (
            {"schedule": {"name": "cosine", "warmup_epochs": 4}},
            "schedule.warmup_epochs must be < training.epochs, got 4 and 4",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(blocks: dict[str, Any], message: str) -> None:
    assert message in refusal_of(documents.write(SMALL | blocks))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            "{factor: 0.5}",
            "schedule.name is missing\n  there are: constant, plateau, multistep, cosine",
        ),
        ("{name: cosin}", "schedule: no schedule is called 'cosin'\n  did you mean 'cosine'?"),
        ("{name: [cosine]}", "schedule: no schedule is called "),
        ("cosine", "schedule: expected a block of settings, got 'cosine'"),
        (
            "{name: cosine, patience: 3}",
            "no setting is called 'patience' in schedule\n  there are: name, warmup_epochs",
        ),
        ("{name: plateau, plateau: 3}", "no setting is called 'plateau' in schedule\n"),
        ("{name: plateau, patience: -1}", "schedule.patience: patience >= 0 must hold, got -1"),
        ("{name: multistep, milestones: 5}", "schedule.milestones: expected a list, got 5"),
        (
            "{name: multistep, milestones: [1, a]}",
            "schedule.milestones.1: expected a whole number, got 'a'",
        ),
    ],
)
def test_a_block_that_is_one_of_several_is_told_by_its_name(schedule: str, message: str) -> None:
    assert refusal_of(f"{TEXT}schedule: {schedule}\n").startswith(f"trial.yaml:8: {message}")


@pytest.mark.parametrize("name", METRICS)
def test_better_follows_the_direction_of_the_metric(name: str) -> None:
    metric = Metric(name=name)
    assert metric.mode == METRICS[name].mode
    assert metric.better(0.9, 0.1) is (metric.mode == "max")
    assert not metric.better(0.5, 0.5)


def test_flat_names_each_setting_by_its_path() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": 3}) == {"a.b": 1, "a.c.d": [2], "e": 3}


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ("model.dropout=0.1", "model.dropout", 0.1),
        ("model.dropout=1e-1", "model.dropout", 0.1),
        ("model.kernel.omega_0=20", "model.kernel.omega_0", 20.0),
        (" training.epochs = 9 ", "training.epochs", 9),
        ("training.seed=100_000", "training.seed", 100_000),
        ("model.bias=false", "model.bias", False),
        ("data.name='pmnist'", "data.name", "pmnist"),
        ("optimizer.learning_rate=0.5", "optimizer.learning_rate", 0.5),
        ("optimizer.name=sgd", "optimizer.name", "sgd"),
        ("schedule={name: cosine, warmup_epochs: 2}", "schedule.warmup_epochs", 2),
        ("data={name: digits}", "data.name", "digits"),
    ],
)
def test_a_change_is_put_in(make_trial: MakeTrial, change: str, path: str, expected: Any) -> None:
    before, after = flat(make_trial().model_dump()), flat(make_trial(change).model_dump())
    assert after[path] == expected
    assert type(after[path]) is type(expected)
    block = path.split(".")[0]
    assert {k: v for k, v in after.items() if not k.startswith(block)} == {
        k: v for k, v in before.items() if not k.startswith(block)
    }


def test_of_two_changes_the_later_one_holds(make_trial: MakeTrial) -> None:
    assert make_trial("model.dropout=0.1", "model.dropout=0.2").model.dropout == 0.2


def test_a_change_to_another_block_drops_the_settings_of_the_old_one(
    make_trial: MakeTrial,
) -> None:
    plateau = {"name": "plateau", "patience": 3, "factor": 0.5}
    assert make_trial("schedule.name=cosine", schedule=plateau).schedule == Cosine()
    multistep = make_trial("schedule.name=multistep", schedule=plateau).schedule
    assert multistep == MultiStep(factor=0.5)


def test_a_change_of_the_name_mends_a_wrong_one(make_trial: MakeTrial) -> None:
    trial = make_trial("schedule.name=plateau", schedule={"name": "plateu"})
    assert trial.schedule == Plateau()


def test_a_block_that_is_not_written_can_be_changed_step_by_step(make_trial: MakeTrial) -> None:
    trial = make_trial("schedule.name=cosine", "schedule.warmup_epochs=2")
    assert trial.schedule == Cosine(warmup_epochs=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.dropot=1", "no setting is called 'model.dropot'\n  did you mean 'model.dropout'?"),
        ("dropout=1", "no setting is called 'dropout'\n  did you mean 'model.dropout'?"),
        ("model.dropout.x=1", "no setting is called 'model.dropout.x'\n"),
        (
            "optimizer.beta1=1",
            "no setting is called 'optimizer.beta1'\n  did you mean 'optimizer.b",
        ),
        ("schedule.patience=3", "no setting is called 'schedule.patience'\n"),
        (
            "schedule.name=cosin",
            "schedule: no schedule is called 'cosin'\n  did you mean 'cosine'?",
        ),
        ("schedule.name=[1]", "schedule: no schedule is called '[1]'\n"),
        ("model.dropout", "a change is written key=value, as in model.dropout=0.1"),
        ("=1", "a change is written key=value"),
        ("", "a change is written key=value"),
        ("model..dropout=1", "a change is written key=value"),
        ("model.dropout=", "model.dropout: expected a number, got None"),
        ("model.dropout=x", "model.dropout: expected a number, got 'x'"),
        ("model.dropout=1.5", "model.dropout: dropout < 1.0 must hold, got 1.5"),
        ("training.epochs=1.0", "training.epochs: expected a whole number, got 1.0"),
        ("model=5", "model: expected a block of settings, got 5"),
        ("model={hidden: 5}", "no setting is called 'hidden' in model\n"),
    ],
)
def test_a_wrong_change_is_told_as_it_was_given(
    make_trial: MakeTrial, change: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        make_trial(change)
    assert str(refusal.value).startswith(f"--set {change}: {message}")


def test_a_change_that_is_no_yaml_is_told(make_trial: MakeTrial) -> None:
    with pytest.raises(ConfigError, match=r"^--set data\.name=a: b: c:1: this is not YAML: "):
        make_trial("data.name=a: b: c")


def test_a_change_that_breaks_a_rule_of_the_file_is_named_with_it(make_trial: MakeTrial) -> None:
    with pytest.raises(ConfigError) as refusal:
        make_trial("metric.name=val/loss", metric={"name": "val/accuracy", "mode": "max"})
    assert ", with --set metric.name=val/loss: metric: mode must be min" in str(refusal.value)


def test_the_hint_of_a_change_names_settings_of_the_default_blocks(make_trial: MakeTrial) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'optimizer.learning_rate'"):
        make_trial("optimizer.learning_rat=1")


@pytest.mark.parametrize("text", ["", "5", "[a]", "hello\n"])
def test_a_file_that_is_no_block_is_refused(write: Write, text: str) -> None:
    with pytest.raises(ConfigError, match="a trial must be a block of settings"):
        read_trial(str(write("trial.yaml", text)))


@examples
@given(
    path=st.sampled_from([*flat(trial_of(TEXT).model_dump()), "schedule", "x", "model.x", "", "."]),
    value=st.text(max_size=8)
    | st.sampled_from(["1", "0.5", "true", "{name: cosine}", "[1]", "&a"]),
)
def test_any_change_gives_a_trial_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, path: str, value: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any-trial.yaml"
    file.write_text(TEXT)
    trial = outcome(lambda: read_trial(str(file), [f"{path}={value}"]))
    assert isinstance(trial, Trial) or "--set" in str(trial)


COPY = {"name": "copy_memory"}
TEXT_DATA = {"name": "ptb_characters"}
LESS_BITS = {"name": "val/bits_per_character", "mode": "min"}
WITH_TIMES = {"name": "character_trajectories", "dropped_fraction": 0.3, "dropped_as": "times"}


@pytest.mark.parametrize(
    ("blocks", "rule"),
    [
        (
            {"metric": {"name": "val/auc"}},
            "metric.name: smnist is not scored by val/auc; there are: val/loss, val/accuracy",
        ),
        ({"data": {"name": "adding"}}, "metric.name: adding is not scored by val/accuracy"),
        ({"data": COPY}, "model.readout must be every_step for copy_memory, got last"),
        ({"model": {"readout": "every_step"}}, "model.readout must be last or mean for smnist"),
        ({"model": {"readout": "tied"}}, "model.readout must be last or mean for smnist, got tied"),
        (
            {"data": TEXT_DATA, "metric": LESS_BITS, "model": {"readout": "tied"}},
            "model.norm must be channel or none and model.causal true for ptb_characters",
        ),
        (
            {
                "data": TEXT_DATA,
                "metric": LESS_BITS,
                "model": {"readout": "tied", "norm": "channel", "causal": False},
            },
            "model.norm must be channel or none and model.causal true for ptb_characters",
        ),
        (
            {"data": WITH_TIMES, "model": {"name": "gru"}},
            "model: a gru cannot use time stamps",
        ),
        (
            {"data": WITH_TIMES, "model": {"weight_dropout": 0.1}},
            "model.weight_dropout must be 0 where steps have times of their own",
        ),
        (
            {"model": {"name": "lstm"}, "training": {"epochs": 2, "kernel_penalty": 0.1}},
            "training.kernel_penalty must be 0 for a lstm: it has no kernel net",
        ),
        (
            {"model": {"name": "tcn"}, "training": {"epochs": 2, "precision": "bfloat16"}},
            "training.precision must be float32 for a tcn: it has no FFT convolution",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_with_the_rule(
    blocks: dict[str, Any], rule: str, make_trial: MakeTrial
) -> None:
    with pytest.raises(ConfigError) as refused:
        make_trial(**blocks)
    assert refused.value.message.startswith(rule)


def test_settings_that_do_fit_together_are_taken(make_trial: MakeTrial) -> None:
    model = {"readout": "tied", "norm": "channel"}
    assert make_trial(data=TEXT_DATA, metric=LESS_BITS, model=model).data.kind == "text"
    assert make_trial(data=COPY, model={"readout": "every_step"}).data.kind == "per_step"
    assert make_trial(data=WITH_TIMES).data.has_times
    auc = {"name": "val/auc", "mode": "max"}
    assert make_trial(data={"name": "physionet2019"}, metric=auc).metric.mode == "max"


def test_a_model_and_a_kernel_without_a_name_are_the_published_kind(make_trial: MakeTrial) -> None:
    trial = make_trial(model={"hidden_channels": 9, "kernel": {"omega_0": 3.0}})
    assert (trial.model.name, trial.model.kernel.name) == ("ckcnn", "mlp")
    assert make_trial(model={"mask": {"name": "gaussian"}}).model.mask.width == 0.075


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("optimizer=adam", "write optimizer: {name: adam}"),
        ("metric.name=test/accuracy", "no trial sees the test split: take one of val/..."),
        ("omega_0=9.0", "did you mean 'model.kernel.omega_0'?"),
    ],
)
def test_a_hint_says_what_was_probably_meant(change: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_trial("digits", [change])
    assert refused.value.hint == hint


@pytest.mark.parametrize("size", ["1e308", "9" * 38, "1000000000"])
@pytest.mark.parametrize("setting", ["model.hidden_channels", "model.blocks"])
def test_a_size_that_no_machine_can_hold_is_refused(setting: str, size: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        read_trial("digits", [f"{setting}={size}"])


def test_a_mistake_of_the_metric_is_told_where_the_space_gives_it(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "trial: digits\nmetric: {name: val/auc}\nsearch: {model.dropout: {low: 0.0, high: 0.1}}\n"
        "budget: {trials: 2}\n"
    )
    with pytest.raises(ConfigError) as refused:
        read_space(str(path))
    assert refused.value.where == f"{path}:2"


def test_a_constraint_may_name_a_setting_of_a_searched_block(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "trial: digits\nbudget: {trials: 2}\nconstraints: [schedule.patience < 5]\nsearch:\n"
        "  schedule: {choices: {plateau: {patience: {low: 2, high: 9}}, cosine: {}}}\n"
    )
    assert str(read_space(str(path)).constraints[0]) == "schedule.patience < 5"
