"""The files of runs.

They lie elsewhere than runs do. Where that place fails, nothing else is kept back, and what is
missing is tried again at the session's end and in the next one. Whether a run has them, as they are
now, is told by a tag, so that nobody asks that place once they are there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from ckconv_sweep import keys
from ckconv_sweep.tracking.store import reason, without_password


class Files:
    """The files that MLflow lacks.

    Args:
        say: hears once that MLflow takes no files.
    """

    def __init__(self, uri: str, say: Callable[[str], None]) -> None:
        self._uri, self._say = uri, say
        self._missing: dict[str, Mapping[str, str]] = {}
        self._whole: set[str] = set()
        self._failing = self._said = False

    @property
    def missing(self) -> int:
        """How many runs lack a file."""
        return len(self._missing)

    def lacks(self, run_id: str) -> bool:
        """Whether a run has not all of its files yet."""
        return run_id in self._missing

    def want(self, run_id: str, texts: Mapping[str, str]) -> None:
        """A run is to have these files, by name, in the place of older ones."""
        if texts and run_id not in self._whole:
            self._missing[run_id] = texts

    def put(self, client: Any, run_id: str, texts: Mapping[str, str], *, new: bool = False) -> None:
        """Give a run its files. `new`: it has none yet, for certain."""
        self.want(run_id, texts)
        if run_id in self._missing and not self._failing:
            self._deliver(client, run_id, new)

    def put_missing(self, client: Any) -> None:
        """Give every run what it lacks, until one does not get it."""
        self._failing = False
        for run_id in list(self._missing):
            if not self._failing:
                self._deliver(client, run_id, False)

    def _deliver(self, client: Any, run_id: str, new: bool) -> None:
        texts = self._missing[run_id]
        digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:16]
        try:
            if new or client.get_run(run_id).data.tags.get(keys.TAG_FILES) != digest:
                for name, text in texts.items():
                    client.log_text(run_id, text, name)
                client.set_tag(run_id, keys.TAG_FILES, digest)
        except Exception as error:
            client.get_run(run_id)  # raises where it is MLflow itself that fails
            self._failing = True
            if not self._said:
                self._said = True
                self._say(
                    f"MLflow at {without_password(self._uri)} takes no files and gets "
                    f"{', '.join(texts)} later: {reason(error, self._uri)}"
                )
        else:
            del self._missing[run_id]
            self._whole.add(run_id)
