"""What is shown while Python waits: in a notebook one block that is renewed, elsewhere a line when
something has changed."""

from __future__ import annotations

import html
import sys
import time
from typing import Any


def progress_bar(done: float, of: float, line: str) -> str:
    """As HTML."""
    bar = f'<progress value="{done:g}" max="{of:g}" style="width: 20em"></progress>'
    return f"<p><b>{html.escape(line)}</b><br>{bar}</p>"


class Shown:
    """Shows how far something is."""

    def __init__(self) -> None:
        self._block: Any = None
        self._last = ""
        self._notebook = _in_notebook()

    def show(self, line: str, page: str) -> None:
        """The line, or in a notebook the page, which is HTML; if it is another one than before."""
        new = page if self._notebook else line
        if new == self._last:
            return
        self._last = new
        if not self._notebook:
            self.say(line)
            return
        from IPython.display import HTML, display

        if self._block is None:
            self._block = display(HTML(page), display_id=True)
        else:
            self._block.update(HTML(page))

    def say(self, line: str) -> None:
        """Something that a person should read."""
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stdout.flush()


def _in_notebook() -> bool:
    from rich.console import Console

    return Console().is_jupyter
