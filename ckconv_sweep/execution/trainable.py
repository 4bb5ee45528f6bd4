"""A seat as Ray Tune knows it: a trainable whose steps carry what the seat says."""

from __future__ import annotations

import json
import time
from typing import Any

from ray import tune

from ckconv_sweep.execution.seat import Seat

KEY = "ckconv"
"""Under which what a seat says stands in a result of Ray Tune's, as JSON text: Tune flattens what
is nested."""


class SeatTrainable(tune.Trainable):
    """`config` holds the arguments of a `Seat` as plain values."""

    def setup(self, config: dict[str, Any]) -> None:
        time.sleep(config["pause_seconds"])
        self._seat = Seat(
            config["places"],
            config["gpus"],
            config["data_dir"],
            config["versions"],
            config["marker"],
            allow_data_change=config["allow_data_change"],
        )

    def step(self) -> dict[str, Any]:
        return {KEY: json.dumps(self._seat.said())}

    def answer(self, orders: str) -> None:
        """What the driver says to the last step, as JSON."""
        self._seat.take(json.loads(orders))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: each trial has checkpoints of its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""
