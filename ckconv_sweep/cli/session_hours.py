"""How long one session of a sweep may take, where a cluster lends its machines for a time."""

from __future__ import annotations

import datetime
import math
import os
import re
import subprocess
import time
from collections.abc import Mapping

from ckconv_sweep.errors import ConfigError

OPTION = "--session-hours"
_ASKING_SECONDS = 30.0


def ends_at(asked: str | None) -> float:
    """When a session that begins now has to be over, in seconds of `time.monotonic`; infinite where
    no time is given. Raises ConfigError."""
    if asked is None:
        return math.inf
    if asked.strip().lower() == "auto":
        return time.monotonic() + job_end(os.environ) - time.time()
    try:
        hours = float(asked)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise ConfigError(
            f"must be hours, or auto, got {asked!r}",
            where=OPTION,
            hint="as in --session-hours 3.9; auto reads when the SLURM job ends",
        )
    return time.monotonic() + hours * 3600


def job_end(environment: Mapping[str, str]) -> float:
    """When the SLURM job of this process ends, in seconds since 1970.

    Raises:
        ConfigError: there is no job, or SLURM does not tell.
    """
    given = environment.get("SLURM_JOB_END_TIME", "")
    if given.isdecimal():
        return float(given)
    job = environment.get("SLURM_JOB_ID")
    if not job:
        raise ConfigError(
            "auto reads when the SLURM job ends, and this is none: neither SLURM_JOB_END_TIME nor "
            "SLURM_JOB_ID is set",
            where=OPTION,
            hint="give the hours: --session-hours 3.9",
        )
    told = re.search(r"\bEndTime=(\S+)", _scontrol(job))
    try:  # SLURM writes it as the local time of this machine
        return datetime.datetime.fromisoformat(told[1] if told else "").timestamp()
    except ValueError:
        end = f"EndTime={told[1]}" if told else "no EndTime"
        raise ConfigError(
            f"`scontrol show job {job}` tells {end}, so the end of the job is unknown",
            where=OPTION,
            hint="give the hours: --session-hours 3.9",
        ) from None


def _scontrol(job: str) -> str:
    try:
        return subprocess.run(
            ["scontrol", "show", "job", job],
            check=True,
            capture_output=True,
            text=True,
            timeout=_ASKING_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1]
        raise ConfigError(
            f"`scontrol show job {job}` cannot be asked: {said}",
            where=OPTION,
            hint="give the hours: --session-hours 3.9",
        ) from None
