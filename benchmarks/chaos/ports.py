"""Ports for servers of tests and of the campaign, many of which run at a time."""

from __future__ import annotations

import random

from ckconv_sweep.tracking.server import is_free

PORTS = range(20_000, 32_000)
"""Ports that nobody is given who asks for any: those are 32,768 and more. A Ray of another test, or
a connection, could get one of these between the choice and the moment at which the server listens.
Ray's workers take those up to 19,999."""


def free_port() -> int:
    """A port of this machine on which nobody listens.

    Raises:
        RuntimeError: none of 100 is free.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        if is_free(port):
            return port
    raise RuntimeError(f"none of 100 ports from {PORTS.start} to {PORTS.stop - 1} is free")
