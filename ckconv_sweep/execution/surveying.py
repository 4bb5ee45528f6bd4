"""The process that a `Surveyor` asks: it has PyTorch, so that a sweep's driver need not.

    python -P -c ... ROOT

Each line on standard input is a question, as JSON, and each on standard output its answer:
`{"answer": ...}`, or `{"error": ...}` with what `errors.as_it_was` takes.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ckconv_sweep.config.data import DATASETS
from ckconv_sweep.config.trial import Trial
from ckconv_sweep.data.datasets import load
from ckconv_sweep.errors import CkconvSweepError
from ckconv_sweep.models.parameters import parameters_of


def main() -> None:
    """Answers until the other process has ended; a signal for both of them is that one's to
    hear."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    gc.freeze()  # what was imported is no garbage
    for question in sys.stdin:
        answers.write(f"{json.dumps(_answer(json.loads(question)))}\n")
        gc.collect()  # a data set is needed no longer


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    data_dir = Path(question["data_dir"]) if question["data_dir"] else None
    try:
        if "trial" in question:
            return {"answer": parameters_of(Trial.model_validate(question["trial"]), data_dir)}
        data = DATASETS[question["data"]["name"]].model_validate(question["data"])
        return {"answer": dict(load(data, data_dir).identity)}
    except CkconvSweepError as error:
        told = {"message": error.message, "where": error.where, "hint": error.hint}
        return {"error": {"kind": type(error).__name__, **told}}
