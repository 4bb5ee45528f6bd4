"""How trials fail, and what becomes of them: the worker's function and Ray Tune's two seams, joined
in this process without a Ray."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import resource
import shutil
import signal
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from ray.tune.search import Searcher
from sweep.in_process import make_space
from tracking.mlflow_real import runs_of
from training.tiny import in_child, make_task, make_trial

from ckconv_sweep.config.history import Epoch
from ckconv_sweep.config.space import Space
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import ClusterLost, NodeUnfit, OutOfMemory, ResourcesMissing
from ckconv_sweep.execution import tune as ray_executor
from ckconv_sweep.execution.desk import Desk
from ckconv_sweep.execution.known_data import KnownData
from ckconv_sweep.execution.roster import Roster
from ckconv_sweep.execution.seat import Seat
from ckconv_sweep.execution.trainable import KEY
from ckconv_sweep.execution.tune import _Scheduler, _Search
from ckconv_sweep.models.sequence_model import SequenceModel
from ckconv_sweep.record import versions
from ckconv_sweep.record.events import Listener
from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.record.lease import Lease, grant, revoke
from ckconv_sweep.record.trials import TrialRecord
from ckconv_sweep.report.leaderboard import leaderboard
from ckconv_sweep.report.render import to_json, to_terminal
from ckconv_sweep.report.summary import winner
from ckconv_sweep.sweep.coordinator import Coordinator
from ckconv_sweep.sweep.single import run_single
from ckconv_sweep.training import loop, member, pack

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass
class Here:
    """A sweep whose workers are this process, one trial after the other."""

    folder: SweepFolder
    space: Space
    head_answers: bool = True
    handed_out: Counter[int] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)
    fatal: Any = None
    gpus: float = 0.0

    def run(self, monkeypatch: pytest.MonkeyPatch, *, dies: bool = False) -> list[TrialRecord]:
        listener = Listener()
        monkeypatch.setattr(listener, "say", self.said.append)
        with self.folder.records.create(self.space) as study:
            coordinator = Coordinator(
                study, count_parameters=lambda trial: 1, listeners=(listener,)
            )
            data = KnownData(self.space, load(self.space.trial.data).identity)
            desk = Desk(coordinator, data, places=1, at_a_time=1, roster=Roster())
            self.handed_out += in_turn(
                desk, gpus=self.gpus, dies=dies, head_answers=self.head_answers
            )
            self.fatal = coordinator.fatal
            self.states = [t.state for t in study._study.get_trials(deepcopy=False)]
            return study.trials()


def in_turn(
    desk: Desk,
    *,
    gpus: float = 0.0,
    data_dir: Path | None = None,
    dies: bool = False,
    head_answers: bool = True,
) -> Counter[int]:
    """Train here what Ray Tune's seats would be given, in one seat at a time; returns how often
    each trial was handed out."""
    handed_out: Counter[int] = Counter()
    head: Any = SimpleNamespace(address="head:6379", answers=lambda: head_answers)
    config = {
        "gpus": gpus,
        "data_dir": str(data_dir) if data_dir else None,
        "allow_data_change": desk._data.allow_change,
        "marker": "",
        "group": "",
    }
    search, scheduler = _Search(desk, head, config), _Scheduler(desk)
    for turn in itertools.count():
        given = search.suggest(f"seat-{turn}")
        if given == Searcher.FINISHED:
            return handed_out
        seat = Seat(
            given["places"],
            gpus,
            given["data_dir"],
            given["versions"],
            given["marker"],
            allow_data_change=given["allow_data_change"],
        )

        def answer(text: str, seat: Seat = seat) -> None:
            orders = json.loads(text)
            handed_out.update(int(Path(new["folder"]).name) for new in orders["new"])
            seat.take(orders)

        actor = SimpleNamespace(answer=SimpleNamespace(remote=answer))
        trial: Any = SimpleNamespace(
            trial_id=f"seat-{turn}",
            temporary_state=SimpleNamespace(ray_actor=actor),
            error_file=None,
        )
        while (
            scheduler.on_trial_result(None, trial, {KEY: json.dumps(seat.said())})
            == scheduler.CONTINUE
            and not dies
        ):
            pass
        if dies:
            scheduler.on_trial_error(None, trial)
        search.on_trial_complete(trial.trial_id, error=dies)
    raise AssertionError


@pytest.fixture
def here(disk: Path) -> Here:
    folder = SweepFolder.of(disk, "sweep")
    folder.make()
    return Here(folder, make_space(trials=3, epochs=2))


@pytest.fixture
def judged_by_loss(here: Here) -> Here:
    metric = here.space.trial.metric.model_copy(update={"name": "val/loss", "mode": "min"})
    trial = here.space.trial.model_copy(update={"metric": metric})
    return replace(here, space=replace(here.space, trial=trial))


def shown(records: list[TrialRecord], space: Space, width: int = 100) -> str:
    """The table as a terminal of some width shows it."""
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    table = leaderboard(records, space)
    console.print(to_terminal(table, settings=list(space.parameters()), width=width))
    return console.export_text()


ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    "gpu, said by cuFFT": lambda: RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    "host": MemoryError,
    "host, said by PyTorch": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 274877906944 bytes. Error code 12 (Cannot allocate memory)"
    ),
}


def fails_once(
    monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException]
) -> list[weakref.ref[member.Member]]:
    """The first trial fails at its first batch; the list gets every trial that is trained."""
    trained: list[weakref.ref[member.Member]] = []
    train_epoch = pack.train_epoch

    def failing(model: Any, members: Any, *args: Any) -> Any:
        trained.append(weakref.ref(members[0]))
        if len(trained) == 1:
            raise error()
        return train_epoch(model, members, *args)

    monkeypatch.setattr(pack, "train_epoch", failing)
    return trained


@pytest.mark.fault("gpu-out-of-memory")
@pytest.mark.parametrize("kind", ERRORS)
def test_a_trial_without_room_fails_once_frees_its_memory_and_the_sweep_goes_on(
    kind: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = fails_once(monkeypatch, ERRORS[kind])
    alive_when_freed: list[bool] = []
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: alive_when_freed.append(trained[0]() is not None)
    )
    records = here.run(monkeypatch)
    assert [(r.outcome, r.reason) for r in records] == [
        ("failed", "out_of_memory"),
        ("completed", "epochs"),
        ("completed", "epochs"),
    ]
    assert here.handed_out == {0: 1, 1: 1, 2: 1}
    assert here.states[0] == TrialState.FAIL
    assert "memory" in records[0].error
    assert "Traceback" not in records[0].error
    assert alive_when_freed == [False]
    assert "failed (out_of_memory)" in shown(records, here.space)


def test_any_other_runtime_error_is_not_taken_for_a_lack_of_memory(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once(monkeypatch, lambda: RuntimeError("shapes do not fit"))
    record = here.run(monkeypatch)[0]
    assert record.reason == "error"
    assert "RuntimeError: shapes do not fit" in record.error


def test_what_pytorch_says_under_a_real_limit_of_memory_is_understood() -> None:
    def without_room() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, now + 2**28))
        trial = make_trial(model={"hidden_channels": 2**15})
        with pytest.raises(OutOfMemory):
            loop.train(trial, make_task(), lambda epoch: None)

    assert in_child(without_room) == 0


@pytest.mark.fault("gpu-out-of-memory")
def test_train_says_it_in_one_message_and_mlflow_has_the_reason(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    fails_once(monkeypatch, ERRORS["gpu"])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(OutOfMemory) as failed:
        run_single(
            make_trial(),
            "one",
            tmp_path / "one",
            tracking_uri=uri,
            data_dir=None,
            device="cpu",
        )
    assert str(failed.value) == (
        "CUDA out of memory. Tried to allocate 20.00 MiB.\n"
        "  a smaller training.batch_size or model takes less"
    )
    (run,) = runs_of(uri, "one").values()
    assert run.info.status == "FAILED"
    assert run.data.tags["reason"] == "out_of_memory"


@pytest.mark.fault("nonfinite")
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_fails_the_trial_which_keeps_its_finite_epochs(
    value: float, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, calls = pack.evaluate_all, itertools.count(1)

    def broken_in_the_second_epoch(*args: Any) -> Any:
        (scores,) = yield from evaluate(*args)
        return [scores | {"loss": value} if next(calls) == 2 else scores]

    monkeypatch.setattr(pack, "evaluate_all", broken_in_the_second_epoch)
    records = here.run(monkeypatch)
    failed, *others = records
    assert (failed.outcome, failed.reason, len(failed.history)) == ("failed", "nonfinite", 1)
    assert failed.error == f"val/loss became {value} in epoch 2"
    assert all(math.isfinite(v) for e in failed.history for v in e.metrics.values())
    assert [r.outcome for r in others] == ["completed", "completed"]
    assert here.states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert here.handed_out == {0: 1, 1: 1, 2: 1}
    best = winner(records, here.space)
    assert best is not None
    assert best.number != 0
    (row,) = [r for r in json.loads(to_json(leaderboard(records, here.space))) if r["trial"] == 0]
    assert row["rank"] is None
    assert here.run(monkeypatch) == records  # nor does a later session try it again


@pytest.mark.fault("divergence")
def test_a_huge_loss_is_kept_as_it_is_and_the_table_stays_readable(
    judged_by_loss: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = judged_by_loss
    make, calls = member.make_model, itertools.count(1)

    def make_model(*args: Any) -> SequenceModel:
        model = make(*args)
        if next(calls) == 1:
            bias = list(model.parameters())[-1]  # of the readout
            bias.data[0] = 1e30
        return model

    monkeypatch.setattr(member, "make_model", make_model)
    records = here.run(monkeypatch)
    assert [r.outcome for r in records] == ["completed"] * 3
    losses = [e.metrics["val/loss"] for e in records[0].history]
    assert all(1e29 < loss < 1e31 for loss in losses)
    assert f"{min(losses):.4g}" in shown(records, here.space)
    assert max(map(len, shown(records, here.space).splitlines())) <= 100
    with here.folder.records.open() as study:  # read again, to the last bit
        assert [e.metrics["val/loss"] for e in study.trials()[0].history] == losses


@pytest.mark.fault("worker-out-of-memory")
def test_a_trial_whose_workers_all_died_says_how_much_memory_they_had_used(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = here.run(monkeypatch, dies=True)
    assert {(r.outcome, r.reason) for r in records} == {("failed", "worker_died")}
    assert records[0].error == (
        "its worker died 4 times, at last without an error message, probably killed for memory"
    )


@pytest.mark.fault("cluster-lost")
def test_a_trial_whose_worker_died_with_the_cluster_has_not_failed(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.head_answers = False
    records = here.run(monkeypatch, dies=True)
    assert [r.outcome for r in records] == ["running"]
    assert isinstance(here.fatal, ClusterLost)
    assert here.fatal.exit_code == 75
    here.head_answers = True
    assert [r.outcome for r in here.run(monkeypatch)] == ["completed"] * 3


def test_nothing_that_tune_says_after_the_desk_is_closed_reaches_the_study() -> None:
    desk = Desk(None, None, places=1, at_a_time=1, roster=Roster())  # type: ignore[arg-type]
    desk.close()
    search = _Search(desk, SimpleNamespace(), {})  # type: ignore[arg-type]
    assert search.suggest("tune-0") == Searcher.FINISHED
    search.on_trial_complete("tune-0", error=True)
    scheduler = _Scheduler(desk)
    stop = scheduler.on_trial_result(None, SimpleNamespace(trial_id="tune-0"), {KEY: "[]"})
    assert stop == scheduler.STOP


@pytest.mark.fault("two-drivers")
def test_only_the_worker_that_the_driver_named_last_owns_a_trials_folder(tmp_path: Path) -> None:
    first, later = Lease(tmp_path, "1:5"), Lease(tmp_path, "2:3")
    grant(tmp_path, "1:5")
    first.check()
    with pytest.raises(RuntimeError, match="handed out again"):
        later.check()
    grant(tmp_path, "2:3")
    later.check()
    with pytest.raises(RuntimeError, match="handed out again: 2:3, not 1:5"):
        first.check()
    revoke(tmp_path)
    with pytest.raises(RuntimeError, match="was stopped"):
        later.check()
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


@pytest.mark.fault("node-unfit")
def test_a_node_that_does_not_see_the_sweeps_files_is_unfit_and_writes_nothing(
    tmp_path: Path,
) -> None:
    """It joined late, and has a folder of the same name on its own disk, or none."""
    with pytest.raises(NodeUnfit, match="cannot be read here: No such file"):
        Lease(tmp_path / "trials" / "0003", "1:5").check()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("node-unfit")
@pytest.mark.parametrize("name", versions.OF_WORKERS)
def test_a_worker_with_another_version_is_no_fault_of_its_trial_and_trains_nothing(
    name: str, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = versions.of_worker()
    monkeypatch.setattr(
        ray_executor.versions, "of_worker", itertools.cycle([ours | {name: "9.9"}, ours]).__next__
    )
    records = here.run(monkeypatch)
    assert records == []
    (said,) = here.said
    why = f"{name} {ours[name][:8] if name == 'code' else ours[name]}; here 9.9"
    assert said == f"this node is not used: this machine: {why}"
    assert isinstance(here.fatal, ResourcesMissing)
    assert why in str(here.fatal)
    if name == versions.OF_WORKERS[-1]:  # it is resumed where all is well
        monkeypatch.setattr(ray_executor.versions, "of_worker", lambda: ours)
        assert [r.outcome for r in here.run(monkeypatch)] == ["completed"] * 3


@pytest.mark.fault("gpu-not-there")
@pytest.mark.skipif(torch.cuda.is_available(), reason="PyTorch sees a GPU here")
def test_a_worker_that_was_given_a_gpu_and_sees_none_does_not_train_on_its_cpu(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.gpus = 0.5
    assert here.run(monkeypatch) == []
    assert "a trial gets 0.5 GPUs, and PyTorch sees no GPU here" in str(here.fatal)
    here.gpus = 0.0
    assert [r.outcome for r in here.run(monkeypatch)] == ["completed"] * 3


@pytest.mark.fault("node-unfit")
def test_trials_are_handed_to_the_next_node_where_one_may_not_train(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = versions.of_worker()
    asked = iter([ours | {"torch": "0.1"}, ours])  # by the driver, then by its first worker
    monkeypatch.setattr(ray_executor.versions, "of_worker", lambda: next(asked, ours))
    records = here.run(monkeypatch)
    assert [r.outcome for r in records] == ["completed"] * 3
    assert here.handed_out == {0: 1, 1: 1, 2: 1}
    assert len(here.said) == 1
    assert here.fatal is None


@pytest.mark.fault("two-drivers")
def test_a_worker_that_was_stopped_while_its_trial_was_handed_out_again_writes_nothing(
    tmp_path: Path,
) -> None:
    trial, folder = make_trial(training={"epochs": 4}), tmp_path / "trial"
    failure = tmp_path / "failure"

    def stop_after_the_first(epoch: Epoch) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    grant(folder, "1:1")
    pid = os.fork()
    if pid == 0:
        first = Lease(folder, "1:1")
        try:
            loop.train(trial, make_task(), stop_after_the_first, folder=folder, guard=first.check)
        except RuntimeError as error:
            failure.write_text(str(error))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)

    told: list[int] = []
    second = Lease(folder, "2:1")
    grant(folder, "2:1")
    loop.train(
        trial,
        make_task(),
        lambda epoch: told.append(epoch.number),
        folder=folder,
        guard=second.check,
    )
    assert told == [1, 2, 3, 4]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    os.kill(pid, signal.SIGCONT)
    os.waitpid(pid, 0)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert "this trial was stopped or handed out again" in failure.read_text()


@pytest.mark.fault("no-unsafe-load")
def test_ray_is_given_no_environment_to_install_and_no_state_to_read() -> None:
    package = Path(ray_executor.__file__).parents[1]
    sources = {path.name: path.read_text() for path in package.rglob("*.py")}
    for word in ("Tuner.restore", "can_restore", "pickle.load", '"pip"', '"conda"'):
        assert word not in "\n".join(sources.values())
    assert {name for name, text in sources.items() if "runtime_env" in text} <= {"cluster.py"}
    assert {name for name, text in sources.items() if "cloudpickle" in text} == {"nodes.py"}
