"""Where a sweep's pages in MLflow are, and how they get before the user."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import webbrowser
from dataclasses import dataclass
from urllib.parse import urlsplit

from ckconv_sweep.record.folder import SweepFolder
from ckconv_sweep.tracking.charts import Addresses, comparison
from ckconv_sweep.tracking.store import kept_notes


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where a sweep was tracked last, as its study has it; nothing of a sweep that was not."""

    name: str = ""
    uri: str = ""
    """Without a password."""
    experiment_id: str = ""
    metric: str = ""
    view: str = ""

    @property
    def server(self) -> str:
        """The server's address for a browser, which asks for a password by itself; empty for a
        database."""
        with contextlib.suppress(ValueError):
            parts = urlsplit(self.uri)
            if parts.scheme in ("http", "https"):
                host = parts.netloc.rpartition("@")[2]
                return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        return ""

    def addresses(self, server: str) -> Addresses | None:
        """The sweep's pages on a server; None where MLflow has never answered."""
        if not self.experiment_id:
            return None
        return comparison(server, self.experiment_id, self.name, self.metric, self.view)


def tracked(folder: SweepFolder) -> Tracked:
    """Where a sweep was tracked last."""
    with folder.records.open() as study:
        kept = kept_notes(study.notes(), folder.root.parent)
        return Tracked(
            name=folder.name,
            uri=kept.get("uri") or "",
            experiment_id=kept.get("experiment_id") or "",
            metric=study.space.metric.name,
            view=kept.get("view") or "",
        )


def open_in_browser(page: str) -> threading.Thread | None:
    """Where there is a screen; whatever the browser does, this ends at once."""
    if not _has_screen():
        return None

    def show() -> None:
        with contextlib.suppress(Exception):
            webbrowser.open(page)

    thread = threading.Thread(target=show, daemon=True)  # some return only when they are closed
    thread.start()
    return thread


def _has_screen() -> bool:
    """Whether a page could be seen here. A browser of the terminal would take that for itself: only
    one that the user named (BROWSER) is taken where there is no screen."""
    if os.environ.get("BROWSER"):
        return True
    if os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
