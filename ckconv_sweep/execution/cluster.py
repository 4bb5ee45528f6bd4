"""The Ray cluster: this machine's own, or one that is named by its address."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ckconv_sweep.config.names import expanded
from ckconv_sweep.errors import ConfigError, ResourcesMissing
from ckconv_sweep.execution import local_ray, ray_log


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where trials run and what each of them gets. None: as many as fit."""

    address: str | None = None
    concurrency: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    pack: int | Literal["auto"] | None = None
    """How many trials of equal shapes one process trains as one; None: every trial has a process of
    its own. CPUs and GPUs are those of such a process."""
    insecure: bool = False
    """Also a cluster without authentication."""
    ship: bool = False
    """The package goes from here to the nodes, in the place of what is installed there."""

    @property
    def is_local(self) -> bool:
        """Whether a Ray of our own is started on this machine."""
        return self.address in (None, "local")

    def check(self) -> None:
        """Raises ConfigError if no cluster could give this."""
        if self.address and self.address.startswith("ray://"):
            raise ConfigError(
                "ray:// addresses are not supported: the sweep's driver must run in the cluster",
                where="--address",
                hint="run ckconv-sweep on the head node with --address auto",
            )
        if self.ship and self.is_local:
            raise ConfigError(
                "nothing needs to be shipped on this machine alone",
                where="--ship",
                hint="leave --ship out, or name the cluster: --address",
            )
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise ConfigError(
                f"more than one GPU must be a whole number, got {self.gpus_per_trial}",
                where="--gpus-per-trial",
            )


MOST_IN_A_PACK = 256


def pack_size(text: str | None) -> int | Literal["auto"] | None:
    """What `--pack` says. Raises ConfigError if it is neither a number nor auto."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MOST_IN_A_PACK:
        raise ConfigError(
            f"must be auto or a whole number from 1 to {MOST_IN_A_PACK}, got {text!r}",
            where="--pack",
            hint="auto measures which size is fastest",
        )
    return int(text)


log = logging.getLogger(__name__)

# Ray Tune prints boxes, writes loggers' files and snapshots that nobody reads here.
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000000",  # how many there may be is the desk's to say
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # Ray's own is 15: trials would starve beside anything else
    # Tune's actors do not take the workers that Ray starts before it knows what for (2.59).
    "RAY_prestart_worker_first_driver": "0",
}


def be_quiet() -> None:
    """Tell Ray Tune, which reads it when it is imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def connected(
    placement: Placement, log: Path | None = None, check: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """A connection to the cluster, ended on exit; a local cluster's processes end with it.

    Args:
        log: takes what Ray writes, which goes to the terminal without it.
        check: asked all the time while a local Ray starts; may raise to end the start.

    Raises:
        ConfigError: nothing answers at the address, or it has no authentication.
        ClusterLost: a local Ray could not be started this time.
    """
    from ckconv_sweep.training import allocator

    be_quiet()
    # A local cluster's processes begin with it; on another the nodes' own environment counts.
    if os.environ.get(allocator.VARIABLE) != "0":
        for name, value in allocator.ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    with contextlib.ExitStack() as stack:
        if log is not None:
            stack.enter_context(ray_log.kept(log))
        if placement.is_local:
            stack.enter_context(local_ray.started(check))
        else:
            assert placement.address is not None
            _join(placement.address, insecure=placement.insecure, ship=placement.ship)
            stack.enter_context(local_ray.shut_down_at_the_end())
        yield


def _join(address: str, *, insecure: bool, ship: bool) -> None:
    """Connect to a cluster that is there already. Raises as `connected` does."""
    import ray

    log.debug("connecting to Ray at %s", address)
    try:
        _check_closed(_check_answers(address), insecure=insecure)
        with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryDirectory() as staged:
            carried = {"py_modules": [str(_staged(Path(staged)))]} if ship else None
            with local_ray.away_from_here(Path(empty)):
                ray.init(
                    address=address,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    runtime_env=carried,
                )
    except ConnectionError as error:
        raise ConfigError(
            f"no Ray cluster answers at {address}",
            where="--address",
            hint=f"is it running (ray status)? Ray says: {str(error).splitlines()[0]}",
        ) from None


def _staged(folder: Path) -> Path:
    """A copy of the package as Ray carries it to the nodes, of which it keeps one by its content:
    what Python has compiled meanwhile would be other content."""
    package = Path(__file__).parents[1]
    ignore = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(package, folder / package.name, ignore=ignore)


def _check_answers(address: str) -> str:
    """Ray itself tries a wrong address for minutes, and cannot be interrupted meanwhile. Returns
    the address as host:port.

    Raises:
        ConfigError: nothing listens there.
        ConnectionError: `auto`, and Ray knows of no cluster on this machine.
    """
    named = address
    if address == "auto":
        # RAY_ADDRESS, or the note of the last `ray start` here, which outlives its cluster. Ray
        # has no public word for where `auto` leads to.
        from ray._private.services import find_gcs_addresses, get_ray_address_from_environment

        _check_one(find_gcs_addresses())  # type: ignore[no-untyped-call]
        address = get_ray_address_from_environment("auto", None)
        named = f"{address}, which `auto` means here"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        return address
    except (OSError, ValueError, OverflowError) as error:
        why = str(error) if isinstance(error, OSError) else "it is not written as host:port"
        raise ConfigError(
            f"no Ray cluster answers at {named}: {why}",
            where="--address",
            hint="write host:port as `ray start --head` prints it, or auto on a node of the "
            "cluster",
        ) from None


def _check_one(addresses: Collection[str]) -> None:
    """Raises ConfigError where `auto` may mean several clusters that have a head on this machine;
    Ray would take the one that was started last."""
    if len(addresses) > 1 and not os.environ.get("RAY_ADDRESS"):
        raise ConfigError(
            f"`auto` may mean {len(addresses)} Ray clusters here: {', '.join(sorted(addresses))}",
            where="--address",
            hint=f"name one of them, as in --address {min(addresses)}",
        )


_KNOCK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    sys.exit(3)
"""
_OPENED, _REFUSED = 0, 3


def _check_closed(address: str, *, insecure: bool) -> None:
    """Whoever reaches a Ray cluster without authentication runs programs there, as its user.

    Raises:
        ConfigError: it has no authentication, or refuses our token.
        ConnectionError: what answers there is no Ray of this version.
    """
    if _knock(address, "disabled") == _OPENED:
        if not insecure:
            raise ConfigError(
                f"the Ray cluster at {address} has no authentication: anyone who reaches it can "
                "run programs there",
                where="--address",
                hint="start it again with a token (RAY_AUTH_MODE=token; "
                "`ray get-auth-token --generate` makes one), or accept it with --insecure-cluster",
            )
        return
    answer = _knock(address, "token")
    if answer == _OPENED:
        # Ray sends the token to a named address only where it is told to.
        os.environ["RAY_AUTH_MODE"] = "token"
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")
        return
    if answer == _REFUSED or not _has_token():
        raise ConfigError(
            f"the Ray cluster at {address} asks for a token, "
            + ("and refuses the one that is here" if _has_token() else "and none is here"),
            where="--address",
            hint="put the cluster's token into ~/.ray/auth_token, readable by you only, or name "
            "its "
            "file in RAY_AUTH_TOKEN_PATH",
        )
    raise ConnectionError(f"what listens at {address} does not answer as a Ray cluster")


def _knock(address: str, mode: str) -> int:
    """How a cluster answers one who has a token, or has none. In a process of its own: Ray reads
    the mode once a process, and ends it where a token is missing."""
    try:
        return subprocess.run(
            [sys.executable, "-c", _KNOCK, address],
            env=os.environ | {"RAY_AUTH_MODE": mode},
            capture_output=True,
            timeout=30,
        ).returncode
    except subprocess.TimeoutExpired:
        return -1


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return (
        bool(os.environ.get("RAY_AUTH_TOKEN")) or expanded(Path(named or local_ray.TOKEN)).exists()
    )


class Head:
    """The cluster's head, which may go away. Ray itself waits for it for a minute, in calls that
    cannot be interrupted, and then ends the process without a word of ours."""

    def __init__(self) -> None:
        import ray

        self.address = str(ray.get_runtime_context().gcs_address)
        self._silent_since: float | None = None

    def is_lost(self) -> bool:
        """Whether it has not answered for `SILENCE_SECONDS`, or a process of our own Ray has ended;
        asked again and again."""
        if local_ray.dead_processes():
            return True
        if self.answers():
            self._silent_since = None
            return False
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        return now - self._silent_since >= SILENCE_SECONDS

    def answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
        except OSError:
            return False
        return True


SILENCE_SECONDS = 10.0
"""After which the head is given up."""


def room_on(node: Mapping[str, Any], placement: Placement) -> int:
    """How many processes that train a node has room for, whatever runs there now."""
    wanted = {"CPU": placement.cpus_per_trial, "GPU": placement.gpus_per_trial}
    has = node["Resources"]
    fits = [int(has.get(kind, 0.0) / amount + 1e-9) for kind, amount in wanted.items() if amount]
    return min(fits, default=os.cpu_count() or 1)


def processes(placement: Placement, unused: Collection[str] = ()) -> int:
    """How many processes that train there is room for, whatever runs there now.

    Args:
        unused: the ids of nodes on which nothing may be started.
    """
    return sum(room_on(node, placement) for node in nodes() if node["NodeID"] not in unused)


def at_a_time(placement: Placement, unused: Collection[str] = ()) -> int:
    """How many trials run at a time; `placement.pack` is a number by now."""
    assert placement.pack != "auto"
    room = processes(placement, unused) * (placement.pack or 1)
    return min(placement.concurrency or room, room)


def check_room(placement: Placement, unfit: Mapping[str, str]) -> None:
    """Raises ResourcesMissing where no node can hold a single process that trains.

    Args:
        unfit: nodes that may not train, by id, and why (`execution.roster`).
    """
    if processes(placement, unfit):
        return
    here = nodes()
    why = [unfit[node["NodeID"]] for node in here if node["NodeID"] in unfit]
    if why:
        raise ResourcesMissing(
            "no node is left that may train these trials; whatever was recorded is kept",
            where="the Ray cluster",
            hint="\n  ".join([*why, "repair a node, then run the same command again"]),
        )
    resources = [node["Resources"] for node in here]
    has = [f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in resources]
    raise ResourcesMissing(
        f"a trial needs {placement.cpus_per_trial:g} CPUs and {placement.gpus_per_trial:g} "
        "GPUs, and no node has them",
        where="--gpus-per-trial" if placement.gpus_per_trial else "--cpus-per-trial",
        hint=f"the cluster has {len(here)} node{'s' * (len(here) != 1)}: {'; '.join(has)}",
    )


def nodes() -> list[dict[str, Any]]:
    """What Ray says of each node that is up."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def groups(named: str) -> tuple[int, int]:
    """How many placement groups whose names begin so wait for room, and how many have it."""
    from ray.util import placement_group_table

    groups = placement_group_table().values()
    states = [group["state"] for group in groups if group["name"].startswith(named)]
    return sum(state in _WITHOUT_ROOM for state in states), states.count("CREATED")


_WITHOUT_ROOM = ("PENDING", "RESCHEDULING")


def taken(placement: Placement, unused: Collection[str], held: int) -> tuple[str, str]:
    """What the nodes have too little of, as in `5 CPUs`, and how much of it so many processes have;
    empty where no node has it at all."""
    from ray._private.state import available_resources_per_node

    free = available_resources_per_node()  # type: ignore[no-untyped-call]
    here = [node for node in nodes() if node["NodeID"] not in unused]
    for kind, amount in (("GPU", placement.gpus_per_trial), ("CPU", placement.cpus_per_trial)):
        there = sum(node["Resources"].get(kind, 0.0) for node in here if room_on(node, placement))
        most = max((free.get(node["NodeID"], {}).get(kind, 0.0) for node in here), default=0.0)
        if there and amount and most < amount:
            return f"{there:g} {kind}s", f"{held * amount:g}"
    return "", "0"
