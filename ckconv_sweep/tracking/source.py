"""What a run says of where it comes from: the command, the code, the versions, the data."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ckconv_sweep.config.data import Data
from ckconv_sweep.tracking.store import without_password

_PROGRAMS = ("ckconv-sweep", "cli.py")
_FULL_OF_SECRETS = ("--on-finish", "--on-best")
"""A command of the user's own: the address of a chat's hook lets in whoever knows it."""


@lru_cache(maxsize=1)
def source_tags() -> Mapping[str, str]:
    """Tags for every run that this process makes."""
    # Of a longer name the pages show what follows its last slash.
    tags = {"mlflow.source.name": "ckconv-sweep", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(Exception):  # a container may have no name for its user
        tags["mlflow.user"] = getpass.getuser()
    checkout = Path(__file__).parents[2]
    if (checkout / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            commit = subprocess.run(
                ["git", "rev-parse", "HEAD"],
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
                cwd=checkout,
            )
            tags["mlflow.source.git.commit"] = commit.stdout.strip()
    return tags


def in_words(versions: Mapping[str, Any]) -> str:
    """`ckconv-sweep 0.1.0, python 3.11.7, torch 2.13.0, ...`, from what `record.versions` notes."""
    return ", ".join(f"{name} {v}" for name, v in versions.items() if name != "session")


def command_line(argv: Sequence[str]) -> str:
    """What was typed, without what nobody may read. Nothing of another program than ours: a
    notebook's has a key among its arguments."""
    program = Path(argv[0]).name if argv else ""
    if program not in _PROGRAMS or argv[1:2] == ["sync"]:  # which began nothing
        return ""
    words, hidden = [program], False
    for word in argv[1:]:
        option, equals, _ = word.partition("=")
        if hidden:
            words.append("***")
        elif equals and option in _FULL_OF_SECRETS:
            words.append(f"{option}=***")
        elif "://" in word and re.search(r"\s", word):  # no address, and so nothing we can cut
            words.append("***")
        else:
            words.append(without_password(word))
        hidden = not hidden and word in _FULL_OF_SECRETS
    return " ".join(word if "***" in word else shlex.quote(word) for word in words)


def dataset_input(data: Data, base: Data, content: str) -> Any:
    """What MLflow's pages show as the dataset of a run.

    Args:
        base: the base trial's settings of the dataset, of which `content` is the digest. With
            other settings the digest is made of that one and of these.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    settings = data.model_dump_json()
    if data != base:
        content = blake2b(f"{content} {settings}".encode(), digest_size=16).hexdigest()
    return DatasetInput(
        Dataset(
            name=data.name,
            digest=content,
            source_type="ckconv-sweep",
            source=json.dumps({"settings": json.loads(settings)}),
        ),
        [InputTag("mlflow.data.context", "training and validation")],
    )
