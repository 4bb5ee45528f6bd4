"""Rules that the source keeps."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from ckconv_sweep.cli import app

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ckconv_sweep"
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {
    ("pickle", "load"),
    ("pickle", "loads"),
    ("cloudpickle", "load"),
    ("cloudpickle", "loads"),
    ("joblib", "load"),
    ("yaml", "load"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
    ("os", "system"),
    ("marshal", "load"),
    ("marshal", "loads"),
    ("shelve", "open"),
    ("pd", "read_pickle"),
    ("pyfunc", "load_model"),
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every file of the package, by its path inside."""
    return {
        str(path.relative_to(PACKAGE)): ast.parse(path.read_text())
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def found(search: Callable[[ast.AST], Iterable[str]]) -> dict[str, list[str]]:
    """What is found in which files."""
    by_file = {inside: list(search(tree)) for inside, tree in modules().items()}
    return {inside: lines for inside, lines in by_file.items() if lines}


def dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id in FORBIDDEN_CALLS:
            yield f"line {node.lineno}: {function.id}()"
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if (function.value.id, function.attr) in FORBIDDEN_ATTRIBUTES:
                yield f"line {node.lineno}: {function.value.id}.{function.attr}()"
            if (function.value.id, function.attr) == ("torch", "load"):
                safe = [k for k in node.keywords if k.arg == "weights_only"]
                if not (safe and isinstance(safe[0].value, ast.Constant) and safe[0].value.value):
                    yield f"line {node.lineno}: torch.load() without weights_only=True"
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            unsafe = (("shell", True), ("weights_only", False), ("allow_pickle", True))
            if (keyword.arg, value) in unsafe:
                yield f"line {node.lineno}: {keyword.arg}={value}"


@pytest.mark.fault("no-unsafe-load")
@pytest.mark.parametrize(
    "line",
    [
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "pickle.load(f)",
        "yaml.load(f)",
        "eval('1')",
        "exec('1')",
        "subprocess.run('ls', shell=True)",
        "np.load(f, allow_pickle=True)",
        "pd.read_pickle(f)",
    ],
)
def test_the_search_for_dangers_finds(line: str) -> None:
    assert list(dangers(ast.parse(line)))


@pytest.mark.fault("no-unsafe-load")
def test_no_module_runs_what_a_file_says() -> None:
    assert found(dangers) == {}


def prints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"line {node.lineno}"


def test_no_module_outside_the_command_line_prints() -> None:
    assert {inside for inside in found(prints) if not inside.startswith("cli/")} == set()


def test_every_module_says_what_it_is() -> None:
    assert [inside for inside, tree in modules().items() if not ast.get_docstring(tree)] == []


def proposals(tree: ast.AST) -> Iterator[str]:
    of_a_sweep = (
        r"ckconv-sweep (best|compare|confirm|doctor|plot|report|resume|status|sync|table|ui|watch)"
        r" $"
    )
    for node in ast.walk(tree):
        for part in node.values if isinstance(node, ast.JoinedStr) else ():
            if isinstance(part, ast.Constant) and re.search(of_a_sweep, str(part.value)):
                yield f"line {part.lineno}"


def test_a_command_on_a_sweep_is_proposed_by_its_folder_which_knows_where_it_lies() -> None:
    assert list(proposals(ast.parse('f"ckconv-sweep resume {name}"'))) == ["line 1"]
    assert found(proposals).keys() == {"report/page.py"}  # of a sweep that only MLflow knows


# Too plain for a sentence: each says it all in its name, its type and its class's docstring.
SELF_EXPLAINING = {
    "config/bundled.py": {"names"},
    "config/build.py": {"short"},
    "config/trial.py": {"Training"},
    "cli/words.py": {"number"},
    "models/masks.py": {"Masks"},
    "report/render.py": {"to_markdown"},
}


def silent(tree: ast.AST) -> Iterator[str]:
    assert isinstance(tree, ast.Module)
    for node in tree.body:
        is_public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
        if is_public and not ast.get_docstring(node):
            yield node.name


def test_every_public_function_and_class_says_what_it_is() -> None:
    assert {inside: set(names) for inside, names in found(silent).items()} == SELF_EXPLAINING


PATTERNS = ("ckconv_sweep/**/*.py", "tests/**/*.py", "benchmarks/**/*", "docs/**/*")
PATTERNS += ("trials/*", "search_spaces/*", "*.md", "*.toml", "*.py", "Makefile", ".ci/*")


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(?:" + "|".join(["home", "Users", "work", "root"]) + r")/\w")
    files = {p for pattern in PATTERNS for p in ROOT.glob(pattern) if p.is_file()}
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in sorted(files)
        if "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if machine.search(line)
    ]
    assert lines == []


def test_the_readme_shows_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    names = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]
    assert [n for n in names if not re.search(rf"ckconv-sweep {n}\b|`{n}`", readme)] == []


# Markers without content, which are deleted; a setting of the process, which is no file on a disk.
IN_PLACE = {"execution/nodes.py", "execution/probe.py", "training/tryout.py"}
WRITES = {"write_text", "write_bytes", "savefig"}


def writes_in_place(tree: ast.AST) -> Iterator[str]:
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            # Into memory, as a picture is drawn before it is written.
            in_memory = call.args and ast.unparse(call.args[0]) == "content"
            if call.func.attr in WRITES and not in_memory:
                yield f"line {call.lineno}: {call.func.attr}"


@pytest.mark.fault("killed-while-writing")
def test_no_module_writes_a_file_in_place() -> None:
    assert found(writes_in_place).keys() == IN_PLACE


SYNCS = {"durable.py", "record/filesystem.py"}  # the second tries what the first does
OF_OS = {"replace", "rename", "renames", "fsync", "fdatasync", "link"}


def renames_and_syncs(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (f"line {node.lineno}: os.{n.name}" for n in node.names if n.name in OF_OS)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
            if isinstance(owner, ast.Name) and owner.id == "os" and name in OF_OS:
                yield f"line {node.lineno}: os.{name}"
            elif isinstance(owner, ast.Name) and owner.id == "shutil" and name == "move":
                yield f"line {node.lineno}: shutil.move"
            # A path is renamed to one target; a table's columns are named by a keyword, and a
            # text's parts are replaced by two arguments.
            elif name in ("rename", "replace") and len(node.args) == 1 and not node.keywords:
                yield f"line {node.lineno}: .{name}"


@pytest.mark.fault("killed-while-writing")
@pytest.mark.parametrize(
    "line",
    ["os.replace(a, b)", "os.fsync(1)", "a.rename(b)", "a.replace(b)", "from os import fsync"],
)
def test_the_search_for_renames_and_syncs_finds(line: str) -> None:
    assert list(renames_and_syncs(ast.parse(line)))


@pytest.mark.fault("killed-while-writing")
def test_one_module_renames_and_syncs_files() -> None:
    assert found(renames_and_syncs).keys() == SYNCS


def the_studys_file(tree: ast.AST) -> Iterator[str]:
    assert isinstance(tree, ast.Module)
    docstring = ast.get_docstring(tree, clean=False)
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and "study.db" in text and text != docstring:
            yield text


def the_lock(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module == "ckconv_sweep.record.lock" or "ckconv_sweep.record.lock" in names:
                yield f"line {node.lineno}"


def test_no_room_but_the_records_asks_for_the_studys_file_or_lock() -> None:
    assert found(the_studys_file) == {"record/records.py": ["study.db"]}
    assert found(the_lock).keys() == {"record/records.py"}
