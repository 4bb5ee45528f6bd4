"""What the machinery of a sweep costs, beside what a user would write instead.

    python -m benchmarks.machinery --trials 80 --places 2 --rounds 3
    python -m benchmarks.machinery --only ours --trials 120 --places 8
    python -m benchmarks.machinery --only ours --trials 60 --train

Trials that only sleep, 5 epochs of 0.2 s, with all that one wants of a sweep: a search with TPE, a
study on disk and MLflow. `ours` is this project with real checkpoints, `ray` is Ray Tune with
OptunaSearch, its MLflow callback and processes that are used again, `optuna` is Optuna in so many
processes, with a journal and MLflow. Each side runs in a process of its own, the sides in turn.

With `--train` ours trains instead, two epochs of `digits` a trial, whose seconds take the place of
the sleep.

What is printed: `over ideal` is the time from the first start of a trial to the last end, over
trials x 1 s / places. `turn` is the time from the last step of a trial to the first step of the
next in the same place, the median in seconds. `first` is the time from the command to the first
step. `CPU` and `MiB` are the driver's own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

EPOCHS, SECONDS = 5, 0.2
TRAINED_EPOCHS = 2

SPACE = """
trial:
  data: {{name: digits}}
  training: {{epochs: {epochs}}}
search:
  model.hidden_channels: {{low: 8, high: 20, step: 4}}
  model.kernel.omega_0: {{low: 1.0, high: 70.0, log: true}}
  model.dropout: {{low: 0.0, high: 0.2, step: 0.1}}
  optimizer.learning_rate: {{low: 1.0e-3, high: 2.0e-2, log: true}}
sampler: {{name: {sampler}, seed: 0}}
scheduler: {{name: none}}
budget: {{trials: {trials}}}
"""


def note(out: str, what: str, trial: object) -> None:
    """Write down when a trial began or ended, for the process that trained it."""
    with Path(out, f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps([time.time(), what, str(trial)]) + "\n")


def metrics(rate: float, epoch: int) -> dict[str, float]:
    accuracy = 1 - abs(rate - 0.01) * 10 - 0.5 / (epoch + 1)
    losses = {"train/loss": 1 - accuracy, "val/loss": 1.1 - accuracy}
    accuracies = {"train/accuracy": accuracy, "val/accuracy": accuracy}
    return losses | accuracies | {"train/learning_rate": rate, "time/epoch_seconds": SECONDS}


def ours(out: str, trials: int, places: int, options: argparse.Namespace) -> None:
    from ckconv_sweep.cli.progress import view_of
    from ckconv_sweep.config.read import parse_space
    from ckconv_sweep.execution.cluster import Placement
    from ckconv_sweep.execution.executor import RayExecutor
    from ckconv_sweep.execution.trainable import SeatTrainable
    from ckconv_sweep.record.folder import SweepFolder
    from ckconv_sweep.sweep.driver import run_sweep

    class Sleeping(SeatTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            from ckconv_sweep.config.history import Epoch
            from ckconv_sweep.training import pack

            def one_epoch(_: Any, members: Any) -> Any:
                for member in members:
                    if not member.history:
                        note(out, "start", member.folder.name)
                yield
                time.sleep(SECONDS)
                outcomes = {}
                for member in members:
                    number, rate = len(member.history) + 1, member.trial.optimizer.learning_rate
                    if number == member.trial.training.epochs:
                        note(out, "end", member.folder.name)
                    now = time.time_ns() // 1_000_000
                    epoch = Epoch(number=number, metrics=metrics(rate, number), timestamp_ms=now)
                    member.trained = pack.Trained(epoch, member.rows)
                    outcomes[member] = epoch
                return outcomes

            if not options.train:
                pack.Pack._one_epoch = one_epoch  # type: ignore[method-assign]
            super().setup(config)

    # Its import of Ray Tune comes after Ray Tune has been told to be quiet, as in a sweep.
    run = RayExecutor.run

    def run_sleeping(self: Any, *given: Any) -> None:
        from ckconv_sweep.execution import tune

        tune.SeatTrainable = Sleeping  # type: ignore[misc]
        run(self, *given)

    RayExecutor.run = run_sleeping  # type: ignore[method-assign]
    epochs = TRAINED_EPOCHS if options.train else EPOCHS
    text = SPACE.format(epochs=epochs, sampler=options.sampler, trials=trials)
    space = parse_space(text, "space")
    pack = options.pack or None
    with view_of("ours", space.metrics, space, ()) as view:
        session = run_sweep(
            SweepFolder.of(Path(out), "ours"),
            space,
            RayExecutor(
                Placement(
                    concurrency=places,
                    cpus_per_trial=min(1.0, (os.cpu_count() or 1) / (places / (pack or 1))),
                    pack=pack,
                )
            ),
            tracking_uri=f"sqlite:///{out}/mlflow.db",
            data_dir=None,
            listeners=(view,),
        )
    assert [record.outcome for record in session.records] == ["completed"] * trials
    assert session.undelivered == 0
    if options.train:
        note_trained(Path(out), session.records)


def note_trained(out: Path, records: Sequence[Any]) -> None:
    """As `note`, of trials that were trained, and the sum of the seconds of their epochs."""
    spent, said = 0.0, defaultdict[int, list[tuple[float, str, str]]](list)
    for record in records:
        ledger = out / "ours" / "trials" / f"{record.number:04d}" / "ledger.jsonl"
        pid = json.loads(ledger.read_text().splitlines()[0])["pid"]
        seconds = [epoch.metrics["time/epoch_seconds"] for epoch in record.history]
        start = record.history[0].timestamp_ms / 1000 - seconds[0]
        end = record.history[-1].timestamp_ms / 1000
        said[pid] += [(start, "start", str(record.number)), (end, "end", str(record.number))]
        spent += sum(seconds)
    for pid, several in said.items():
        (out / f"{pid}.jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in sorted(several))
        )
    (out / "spent.json").write_text(json.dumps(spent))


def ray(out: str, trials: int, places: int, options: argparse.Namespace) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from optuna.distributions import FloatDistribution, IntDistribution
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def train(config: dict[str, Any]) -> None:
        number = tune.get_context().get_trial_id()
        note(out, "start", number)
        for epoch in range(1, EPOCHS + 1):
            time.sleep(SECONDS)
            if epoch == EPOCHS:
                note(out, "end", number)
            tune.report(metrics(config["rate"], epoch))

    space = {
        "channels": IntDistribution(8, 20, step=4),
        "omega_0": FloatDistribution(1, 70, log=True),
        "dropout": FloatDistribution(0, 0.2, step=0.1),
        "rate": FloatDistribution(1e-3, 2e-2, log=True),
    }
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{out}/mlflow.db", experiment_name="ray"
    )
    ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    cpus = min(1.0, (os.cpu_count() or 1) / places)
    found = tune.Tuner(
        tune.with_resources(train, {"cpu": cpus}),
        tune_config=tune.TuneConfig(
            num_samples=trials,
            max_concurrent_trials=places,
            reuse_actors=True,
            search_alg=OptunaSearch(space=space, metric="val/accuracy", mode="max"),
        ),
        run_config=tune.RunConfig(name="ray", storage_path=out, verbose=1, callbacks=[callback]),
    ).fit()
    assert len(found) == trials
    assert not found.errors
    ray.shutdown()


def optuna(out: str, trials: int, places: int, options: argparse.Namespace) -> None:
    import mlflow
    from optuna import create_study

    client = mlflow.MlflowClient(f"sqlite:///{out}/mlflow.db")
    client.create_experiment("optuna", artifact_location=f"file://{out}/artifacts")
    create_study(study_name="optuna", storage=_journal(out), direction="maximize")
    command = [sys.executable, "-m", "benchmarks.machinery", "--side", "optuna_worker"]
    command += ["--out", out, "--trials", str(trials), "--places", str(places)]
    workers = [subprocess.Popen(command) for _ in range(places)]
    assert all(worker.wait() == 0 for worker in workers)


def _journal(out: str) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(f"{out}/journal.log"))


def optuna_worker(out: str, trials: int, places: int, options: argparse.Namespace) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from optuna import Trial, load_study, samplers
    from optuna.study import MaxTrialsCallback
    from optuna.trial import TrialState

    client = MlflowClient(f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name("optuna")
    assert experiment is not None
    study = load_study(
        study_name="optuna", storage=_journal(out), sampler=samplers.TPESampler(seed=os.getpid())
    )

    def objective(trial: Trial) -> float:
        drawn = {
            "channels": trial.suggest_int("channels", 8, 20, step=4),
            "omega_0": trial.suggest_float("omega_0", 1, 70, log=True),
            "dropout": trial.suggest_float("dropout", 0, 0.2, step=0.1),
            "rate": trial.suggest_float("rate", 1e-3, 2e-2, log=True),
        }
        run = client.create_run(experiment.experiment_id, run_name=str(trial.number)).info.run_id
        client.log_batch(run, params=[Param(key, str(value)) for key, value in drawn.items()])
        note(out, "start", trial.number)
        best = 0.0
        for epoch in range(1, EPOCHS + 1):
            time.sleep(SECONDS)
            if epoch == EPOCHS:
                note(out, "end", trial.number)
            said = metrics(drawn["rate"], epoch)
            best = max(best, said["val/accuracy"])
            trial.report(said["val/accuracy"], epoch)
            trial.should_prune()
            now = time.time_ns() // 1_000_000
            client.log_batch(run, [Metric(key, value, now, epoch) for key, value in said.items()])
        client.set_terminated(run)
        return best

    ends = MaxTrialsCallback(trials, states=(TrialState.COMPLETE, TrialState.RUNNING))
    study.optimize(objective, callbacks=[ends])


SIDES: dict[str, Callable[[str, int, int, argparse.Namespace], None]] = {
    "ours": ours,
    "ray": ray,
    "optuna": optuna,
}


def one_side(side: str, options: argparse.Namespace) -> dict[str, float]:
    """Run a side in a process of its own; what was measured of it."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.machinery", "--side", side, "--out", out]
        command += [f"--{key}={getattr(options, key)}" for key in ("trials", "places", "pack")]
        command += ["--sampler", options.sampler, *(["--train"] if options.train else [])]
        began = time.time()
        log = Path(out, "log")
        with log.open("w") as file:
            done = subprocess.run(command, stdout=file, stderr=file)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{log.read_text()[-4000:]}")
        total = time.time() - began
        starts, ends, turns = list[float](), list[float](), list[float]()
        for path in Path(out).glob("[0-9]*.jsonl"):
            said = [json.loads(line) for line in path.read_text().splitlines()]
            free: dict[int, list[float]] = defaultdict(list)
            for when, what, _ in said:
                if what == "end":
                    ends.append(when)
                    free[0].append(when)
                else:
                    starts.append(when)
                    if free[0]:
                        turns.append(when - free[0].pop(0))
        own = json.loads(Path(out, "own.json").read_text())
        used = len(list(Path(out).glob("[0-9]*.jsonl")))
        spent = options.trials * EPOCHS * SECONDS
        if options.train:
            spent = json.loads(Path(out, "spent.json").read_text())
    ideal = spent / options.places
    return {
        "over ideal": (max(ends, default=0) - min(starts, default=0)) / ideal,
        "turn s": statistics.median(turns) if turns else 0.0,
        "first s": min(starts, default=began) - began,
        "processes": used,
        "total s": total,
        "CPU s": own["cpu"],
        "MiB": own["mib"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--pack", type=int, default=0, help="of ours: so many places a process")
    parser.add_argument("--sampler", default="tpe", help="of ours")
    parser.add_argument("--train", action="store_true", help="ours trains, and does not sleep")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=list(SIDES))
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        (SIDES | {"optuna_worker": optuna_worker})[options.side](
            options.out, options.trials, options.places, options
        )
        used = resource.getrusage(resource.RUSAGE_SELF)
        own = {"cpu": used.ru_utime + used.ru_stime, "mib": used.ru_maxrss / 1024}
        if options.side in SIDES:
            Path(options.out, "own.json").write_text(json.dumps(own))
        return
    from benchmarks.machine import processor

    print(
        f"{processor()}; {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; "
        f"{options.trials} trials of "
        + (f"{TRAINED_EPOCHS} epochs" if options.train else f"{EPOCHS} x {SECONDS} s")
        + f", {options.places} places"
    )
    columns = ["over ideal", "turn s", "first s", "processes", "total s", "CPU s", "MiB"]
    print(f"{'':8}" + "".join(f"{name:>12}" for name in columns))
    for _ in range(options.rounds):
        for side in [options.only] if options.only else SIDES:
            found = one_side(side, options)
            print(f"{side:8}" + "".join(f"{found[name]:12.2f}" for name in columns), flush=True)


if __name__ == "__main__":
    main()
