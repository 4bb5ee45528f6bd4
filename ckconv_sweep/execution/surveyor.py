"""What can only be known with PyTorch before a trial is handed out: how large its model is, and
which data it is trained on. A process of its own has the PyTorch for it, which would take a sweep's
driver 180 MiB and a second."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ckconv_sweep.config.data import Data
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.identity import Identity
from ckconv_sweep.errors import CkconvSweepError, as_it_was

log = logging.getLogger(__name__)

_PROGRAM = (
    "import gc, sys; gc.set_threshold(50_000, 20, 50); root = sys.argv.pop(1); "
    "root in sys.path or sys.path.insert(0, root); "
    "from ckconv_sweep.execution.surveying import main; main()"
)
_TRIES = 2
"""How often a question is asked whose process died: it may have been killed for its memory."""


class Surveyor:
    """Answers from a process that is started when it is needed and lives as long as this object.
    Where PyTorch is loaded already (a notebook, a test) it answers itself. For any thread."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._one = threading.Lock()

    def start(self) -> None:
        """Start its process, which imports PyTorch while this one does something else."""
        if "torch" not in sys.modules:
            with self._one:
                self._started()

    def close(self) -> None:
        """End its process; a later question starts another one."""
        with self._one:
            self._end()

    def parameters_of(self, trial: Trial, data_dir: Path | None = None) -> int:
        """`models.parameters.parameters_of`. Raises as it does."""
        if "torch" in sys.modules:
            from ckconv_sweep.models.parameters import parameters_of

            return parameters_of(trial, data_dir)
        return int(self._ask({"trial": trial.model_dump(mode="json")}, data_dir))

    def identity_of(self, data: Data, data_dir: Path | None = None) -> Identity:
        """The identity of data, which are read, and downloaded where that is needed. Raises as
        `data.datasets.load`."""
        if "torch" in sys.modules:
            from ckconv_sweep.data.datasets import load

            return load(data, data_dir).identity
        log.debug("loading the dataset %s", data.name)
        found: Identity = self._ask({"data": data.model_dump(mode="json")}, data_dir)
        return found

    def _ask(self, about: Mapping[str, Any], data_dir: Path | None) -> Any:
        question = json.dumps({**about, "data_dir": str(data_dir) if data_dir else None})
        with self._one:
            for _ in range(_TRIES):
                if line := self._answered(question):
                    break
            else:
                raise CkconvSweepError(
                    "the process that counts parameters and reads the data died twice",
                    hint="has the machine enough memory?",
                )
        answer = json.loads(line)
        if "error" in answer:
            raise as_it_was(**answer["error"])
        return answer["answer"]

    def _answered(self, question: str) -> str:
        """A line, or nothing where the process died."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        try:
            process.stdin.write(f"{question}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            if not line:  # also where a signal ended the waiting: its answer would come later
                self._end()
        return line

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            root = str(Path(__file__).resolve().parents[2])
            self._process = subprocess.Popen(
                # -P: not the modules that lie around in the user's current folder
                [sys.executable, "-P", "-c", _PROGRAM, root],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            log.debug("process %d counts parameters and reads data", self._process.pid)
            threading.Thread(target=_pass_on, args=(self._process,), daemon=True).start()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # there is nothing that it could lose
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            process.wait()


def _pass_on(process: subprocess.Popen[str]) -> None:
    """What it writes for a person, as the progress of a download, to this process's terminal, which
    a live view may share."""
    assert process.stderr is not None
    with process.stderr as written:
        while said := os.read(written.fileno(), 2**16):
            sys.stderr.write(said.decode(errors="replace"))
