"""A trial's own process where packs train: it brings the trial to a pack, passes on to Ray Tune
what the pack reports of it, and takes it away again. Knows no torch, so that many are cheap.

The process that holds the pack may die; it is started again, and the trial brought there again: it
continues from its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator
from typing import Any

KEY = "ckconv"
"""Under which our part of a Ray Tune result stands, as JSON text: Tune flattens what is nested."""

MOST_HOST_DEATHS = 3
"""How often the process that holds a trial's pack may die before the trial has failed."""

START_SECONDS = 120.0


def relay_assignment(config: dict[str, Any]) -> None:
    """Ray Tune's function trainable: `config` holds an assignment as plain values, and the name of
    the actor that trains it (see `execution.tune`)."""
    import ray
    from ray import tune
    from ray.exceptions import RayActorError

    host, deaths = ray.get_actor(config["host"]), 0
    while True:
        try:
            with contextlib.closing(_said(host, config)) as all_said:
                for said in all_said:
                    if "ended" in said:
                        return
                    tune.report({KEY: json.dumps(said)})
                    if "reason" in said:
                        return
        except (RayActorError, KeyError):  # a host that was started again knows no old ticket
            deaths += 1
            if deaths > MOST_HOST_DEATHS:
                error = f"the process that held its pack died {deaths} times"
                tune.report({KEY: json.dumps({"reason": "worker_died", "error": error})})
                return
            _wait_for(host)


def _said(host: Any, config: dict[str, Any]) -> Generator[dict[str, Any]]:
    """All that the pack says of this trial, to its end; when nobody listens any more it leaves."""
    import ray

    asked = (config[name] for name in ("trial", "folder", "attempt", "data"))
    ticket = ray.get(host.join.remote(*asked))
    try:
        while True:
            for said in ray.get(host.said.remote(ticket)):
                yield json.loads(said)
    finally:
        with contextlib.suppress(Exception):  # the host may have died
            host.leave.remote(ticket)


def _wait_for(host: Any) -> None:
    """Until Ray has started it again; raises what Ray raises if it does not in good time."""
    import ray
    from ray.exceptions import ActorUnavailableError

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            ray.get(host.__ray_ready__.remote(), timeout=START_SECONDS)
            return
        except ActorUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
