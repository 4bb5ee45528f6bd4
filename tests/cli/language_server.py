"""A language server for YAML, spoken to as an editor does
(microsoft.github.io/language-server-protocol)."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class LanguageServer:
    """A running server. Each file is opened with a text of its own, whatever lies on the disk."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._asked = process, 0
        self._diagnostics: dict[str, list[dict[str, Any]]] = {}
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self._send({"method": "initialized", "params": {}})

    def offered(self, file: Path, text: str) -> list[str]:
        """What the editor offers at the end of the text."""
        self._open(file, text)
        lines = text.split("\n")
        answer = self.ask(
            "textDocument/completion",
            {
                "textDocument": {"uri": file.as_uri()},
                "position": {"line": len(lines) - 1, "character": len(lines[-1])},
            },
        )
        return [item["label"] for item in answer["items"]]

    def underlined(self, file: Path, text: str) -> list[tuple[int, str]]:
        """The lines with mistakes, from 1 on, and what is said of each."""
        self._open(file, text)
        while file.as_uri() not in self._diagnostics:
            self._hear(self._receive())
        found = self._diagnostics[file.as_uri()]
        return [(one["range"]["start"]["line"] + 1, one["message"]) for one in found]

    def explained(self, file: Path, text: str, line: int, column: int) -> str:
        """What is shown of the word at a place; both count from 0."""
        self._open(file, text)
        place = {"line": line, "character": column}
        asked = {"textDocument": {"uri": file.as_uri()}, "position": place}
        return str(self.ask("textDocument/hover", asked)["contents"]["value"])

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Its answer."""
        self._asked += 1
        number = self._asked
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == number and "method" not in message:
                return message["result"]
            self._hear(message)

    def _open(self, file: Path, text: str) -> None:
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"method": "textDocument/publishDiagnostics", "params": params}:
                self._diagnostics[params["uri"]] = params["diagnostics"]
            case {"method": "workspace/configuration", "id": number, "params": params}:
                without_store = {"schemaStore": {"enable": False}, "validate": True}
                sections = [item.get("section") for item in params["items"]]
                result = [without_store if name == "yaml" else None for name in sections]
                self._send({"id": number, "result": result})
            case {"method": _, "id": number}:
                self._send({"id": number, "result": None})

    def _send(self, message: dict[str, Any]) -> None:
        content = json.dumps({"jsonrpc": "2.0"} | message).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(content), content))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        size = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        assert size, "the language server has ended"
        message: dict[str, Any] = json.loads(self._process.stdout.read(size))
        return message


@contextlib.contextmanager
def started(program: str) -> Iterator[LanguageServer]:
    """A server, ended with all that it started."""
    process = subprocess.Popen(
        [program, "--stdio"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            yield LanguageServer(process)
        finally:
            process.kill()
