"""What can be asked of a sweep from Python while it runs: the commands of the same names."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ckconv_sweep.config.trial import Trial
from ckconv_sweep.errors import SweepBusy
from ckconv_sweep.notebook import Shown
from ckconv_sweep.own_process import OwnProcess
from ckconv_sweep.python_words import changes_of, errors_in_python, file_or_tree, in_python
from ckconv_sweep.record.folder import SweepFolder

if TYPE_CHECKING:
    from ckconv_sweep.record.requests import Request
    from ckconv_sweep.report.summary import State


class Controlled:
    """A sweep that can be asked for something. Each method but `stop` without a trial waits for the
    driver's answer, at most a minute, and shows it. Where no driver runs, what can wait does so
    until the next `resume`.

    All raise ConfigError where what is asked cannot be.
    """

    _place: tuple[str, Path, str | None]
    """Name, folder of all sweeps, and MLflow's address, if it was read there."""
    _process: OwnProcess | None

    @property
    @abstractmethod
    def state(self) -> State:
        """running, interrupted or finished."""

    @abstractmethod
    def refresh(self) -> Self:
        """Read it again."""

    @errors_in_python()
    def add(
        self,
        trial: str | Path | Mapping[str, Any] | Trial | None = None,
        *,
        set: Mapping[str, Any] | None = None,
    ) -> Self:
        """Let it try settings of your own next, on top of the budget.

        Args:
            trial: a file, the name of a bundled trial, a dict, or a sweep's `best().trial`; the
                base trial if left out.
            set: changes of settings, as in `{"model.dropout": 0.1}`, also of the space's variables.
        """
        from ckconv_sweep.sweep.requested import added

        given = None if trial is None else file_or_tree(trial, "trial")
        return self._ask([added(self._folder(), changes_of(set), given)])

    @errors_in_python()
    def retry(
        self,
        trial: int | Sequence[int] = (),
        *,
        reason: str | None = None,
        set: Mapping[str, Any] | None = None,
    ) -> Self:
        """Let it try failed trials again: those of these numbers, those that failed for a reason
        (as `out_of_memory`), or all; each under a new number."""
        from ckconv_sweep.sweep.requested import retried

        numbers = [trial] if isinstance(trial, int) else trial
        return self._ask(retried(self._folder(), changes_of(set), reason, numbers))

    @errors_in_python()
    def pause(self, *, off: bool = False) -> Self:
        """Let it give back its CPUs and GPUs; with `off` it goes on."""
        from ckconv_sweep.sweep.requested import paused

        return self._ask([paused(self._folder(), off=off)])

    @errors_in_python()
    def concurrency(self, trials: int) -> Self:
        """Let so many trials run at a time, at most as many as the session began with."""
        from ckconv_sweep.sweep.requested import slowed

        return self._ask([slowed(trials)])

    @errors_in_python()
    def stop(self, trial: int | None = None) -> Self:
        """Stop it as Ctrl-C in its terminal does, and wait until it has ended. Every recorded epoch
        is kept, and `resume` goes on from there. A sweep that does not run is left alone.

        Args:
            trial: only this one, for good.

        Raises:
            SweepBusy: another machine runs it.
        """
        if trial is not None:
            from ckconv_sweep.sweep.requested import stopped

            return self._ask([stopped(self._folder(), trial)])
        if self._process is not None:
            self._process.stop()
        elif self.refresh().state == "running":
            name, sweeps_dir, _ = self._place
            records = SweepFolder.of(sweeps_dir, name).records
            if (pid := records.holder_here()) is None:
                raise SweepBusy(
                    f"{records.holder() or 'another machine'} runs this sweep",
                    where=name,
                    hint="stop it there with Ctrl-C",
                )
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGTERM)
            while records.holder_here() == pid:
                time.sleep(0.1)
        return self.refresh()

    @errors_in_python()
    def confirm(
        self,
        *,
        top: int | None = None,
        seeds: int | None = None,
        test: bool = True,
        concurrency: int | None = None,
        pack: int | Literal["auto"] | None = None,
        gpus_per_trial: float | None = None,
    ) -> Self:
        """Train the best settings and the base trial again with fresh seeds, as `ckconv-sweep
        confirm` does: returns when the first trials are handed out, or at once where all of it has
        ended; `wait` waits for the end. It runs in a process of its own; the same call resumes it.

        Args:
            top: how many settings, 5 by default.
            seeds: with how many fresh seeds each at most, 5 by default.
            test: score what is offered on the test split in the end, once.
            concurrency, pack, gpus_per_trial: as of `launch`; as in the last session by default.

        Raises:
            ConfigError: an argument is wrong, or there is nothing to confirm.
            SweepBusy: the sweep runs.
            CkconvSweepError: whatever else keeps it from starting (`ckconv_sweep.errors`).
        """
        name, sweeps_dir, _ = self._place
        given: dict[str, object] = {
            "top": top,
            "seeds": seeds,
            "concurrency": concurrency,
            "pack": pack,
        }
        given |= {"gpus-per-trial": gpus_per_trial, "sweeps-dir": sweeps_dir}
        words = [f"--{option}={value}" for option, value in given.items() if value is not None]
        process, shown = OwnProcess(["confirm", name, *words, *["--no-test"] * (not test)]), Shown()
        for news in process.news_until_the_end():
            if "begun" in news:
                for line in process.output():
                    shown.say(in_python(line))
                break
        self._process = process
        return self.refresh()

    def _folder(self) -> SweepFolder:
        name, sweeps_dir, _ = self._place
        return SweepFolder.existing(sweeps_dir, name)

    def _ask(self, requests: Sequence[Request]) -> Self:
        from ckconv_sweep.sweep.asking import ask

        shown = Shown()
        ask(self._folder(), requests, lambda line: shown.say(in_python(line)))
        return self.refresh()
