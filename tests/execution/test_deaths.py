"""Ray 2.60's own words."""

from __future__ import annotations

import pytest

from ckconv_sweep.execution.deaths import death

DIED = "The actor died unexpectedly before finishing this task.\n\tpid: 4634\n"
KILLED = (
    f"{DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
    "Some common causes include: (1) the process was killed by the OOM killer due to high memory "
    "usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly due to SIGSEGV "
    "or another unexpected error. If the process was killed by the kernel OOM killer (verifiable "
    "by checking for OOM in dmesg of the OOMing node), consider enabling resource isolation via "
    "--enable-resource-isolation to prevent node deaths by resource contention and significant "
    "loss of progress by uninformed kernel OOM killing.\n"
)
EXITED = (
    f"{DIED}The actor is dead because its worker process has died. Worker exit type: "
    "INTENDED_USER_EXIT Worker exit detail: Worker exits with an exit code 3.\n"
)
NO_MEMORY = (
    f"{DIED}The actor is dead because its worker process has died. Worker exit type: "
    "NODE_OUT_OF_MEMORY Worker exit detail: Task was killed due to the node running low on "
    "memory.\nSee the documentation.\n"
)
LOST_NODE = f"{DIED}The actor died because its node has died. Node Id: 1a2b\n"
TRACEBACK = """\
\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=29040, ip=10.0.0.1, repr=train_assignment)
  File "worker.py", line 37, in train_assignment
    import torch
\x1b[31mModuleNotFoundError\x1b[39m: No module named 'torch'

"""


@pytest.mark.fault("worker-out-of-memory")
@pytest.mark.fault("worker-explained")
@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        ("", "worker_died", "without an error message, probably killed for memory; it had used"),
        (DIED.partition("\n")[0], "worker_died", "probably killed for memory; it had used 1.50"),
        (KILLED, "worker_died", "without an error message, probably killed for memory; it had "),
        (NO_MEMORY, "out_of_memory", "because its node ran out of memory; it had used 1.50 GiB"),
        (LOST_NODE, "worker_died", "at last with its node"),
        (EXITED, "worker_died", "at last with: Worker exits with an exit code 3."),
        (TRACEBACK, "worker_died", "at last with: ModuleNotFoundError: No module named 'torch'"),
    ],
)
def test_memory_is_suspected_where_ray_names_no_other_cause(
    said: str, reason: str, words: str
) -> None:
    found = death(said, 1.5)
    assert found.reason == reason
    assert words in found.words
    assert ("memory" in found.words) == ("memory" in words)
    assert "\x1b" not in found.words
