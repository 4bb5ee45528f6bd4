"""What a worker process needs not, it does not load: there is one for each trial that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OF_THE_DRIVER = ("optuna", "sqlalchemy", "mlflow", "matplotlib", "typer", "sklearn", "scipy")
"""Ray Tune loads pandas by itself."""

WORKER = """
import sys
from types import ModuleType
from ckconv_sweep.config.read import read_space
from ckconv_sweep.record import versions
ray, ray.tune = ModuleType("ray"), ModuleType("ray.tune")
ray.tune.Trainable = object
ray.is_initialized = lambda: False
sys.modules |= {{"ray": ray, "ray.tune": ray.tune}}
from ckconv_sweep.execution.trainable import SeatTrainable
seat = SeatTrainable()
seat.setup({{
    "places": 1, "gpus": 0.0, "data_dir": None, "versions": versions.of_worker(),
    "allow_data_change": False, "pause_seconds": 0.0, "marker": "",
}})
import json
trial = read_space("quickstart", ["training.epochs=4"]).trial.model_dump_json()
from pathlib import Path
from ckconv_sweep.record.lease import grant
grant(Path(sys.argv[1]), "1:1")
new = {{"attempt": "1:1", "trial": trial, "folder": sys.argv[1], "data": None, "recorded": []}}
seat.answer(json.dumps({{"new": [new], "gone": []}}))
told = []
while not told or "ended" not in told[-1]:
    told += json.loads(seat.step()["ckconv"])
assert [said["epoch"]["number"] for said in told if "epoch" in said] == [1, 2, 3, 4], told
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({wanted!r})), flush=True)
import os
os._exit(0)  # as Ray ends it, with the thread that trains
"""


def test_a_worker_that_has_trained_a_trial_has_loaded_nothing_of_the_drivers(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WORKER.format(wanted=(*OF_THE_DRIVER, "torch")),
            str(tmp_path / "0000"),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["torch"]
