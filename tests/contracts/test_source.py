"""Rules that the source keeps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckconv_sweep.cli import app

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "ckconv_sweep").rglob("*.py"))
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


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


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
@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_runs_nothing_that_a_file_says(path: Path) -> None:
    assert list(dangers(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_outside_the_command_line_prints_nothing(path: Path) -> None:
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    prints = [c.lineno for c in calls if isinstance(c, ast.Name) and c.id == "print"]
    assert prints == [] or path.parent.name == "cli"


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


# Too plain for a sentence: each says it all in its name, its type and its class's docstring.
SELF_EXPLAINING = {
    "config/bundled.py": {"folder", "names"},
    "config/build.py": {"short"},
    "config/trial.py": {"Training"},
    "config/space.py": {"Budget"},
    "cli/words.py": {"number"},
    "models/masks.py": {"Masks"},
    "report/render.py": {"to_markdown"},
}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_public_function_and_class_says_what_it_is(path: Path) -> None:
    silent = {n.name for n in public(ast.parse(path.read_text()).body) if not ast.get_docstring(n)}
    inside = str(path.relative_to(ROOT / "ckconv_sweep"))
    assert silent <= SELF_EXPLAINING.get(inside, set())


PATTERNS = ("ckconv_sweep/**/*.py", "tests/**/*.py", "benchmarks/**/*", "docs/**/*")
PATTERNS += ("trials/*", "search_spaces/*", "*.md", "*.toml", "*.py", "Makefile", ".ci/*")


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(?:" + "|".join(["home", "Users", "work", "root"]) + r")/\w")
    files = {p for pattern in PATTERNS for p in ROOT.glob(pattern) if p.is_file()}
    found = [
        f"{name(path)}:{number}: {line.strip()[:80]}"
        for path in sorted(files)
        if "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if machine.search(line)
    ]
    assert found == []


def test_the_readme_shows_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    names = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]
    assert [n for n in names if not re.search(rf"ckconv-sweep {n}\b|`{n}`", readme)] == []


IN_PLACE = {
    "cli/output.py",  # special files, such as a pipe
    "execution/cluster.py",  # a probe, which is deleted
}
WRITES = {"write_text", "write_bytes", "savefig"}


@pytest.mark.fault("killed-while-writing")
@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_writes_no_file_in_place(path: Path) -> None:
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    in_place = [
        f"line {call.lineno}: {call.func.attr}"
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in WRITES
        # Into memory, as a picture is drawn before it is written.
        and not (isinstance(call.args[0], ast.Name) and call.args[0].id == "content")
    ]
    assert in_place == [] or str(path.relative_to(ROOT / "ckconv_sweep")) in IN_PLACE


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
@pytest.mark.parametrize("path", MODULES, ids=name)
def test_one_module_renames_and_syncs_files(path: Path) -> None:
    found = list(renames_and_syncs(ast.parse(path.read_text())))
    assert found == [] or str(path.relative_to(ROOT / "ckconv_sweep")) in SYNCS


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_room_but_the_records_asks_for_the_studys_file_or_lock(path: Path) -> None:
    inside = path.relative_to(ROOT / "ckconv_sweep")
    tree = ast.parse(path.read_text())
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    asked = [text for text in texts if isinstance(text, str) and "study.db" in text]
    docstring = ast.get_docstring(tree, clean=False)
    if inside.parts[0] != "record":
        locks = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
        assert not any(n.module == "ckconv_sweep.record.lock" for n in locks)
        assert not any(
            n.module == "ckconv_sweep.record" and "lock" in {a.name for a in n.names} for n in locks
        )
    assert [text for text in asked if text != docstring] == (
        ["study.db"] if str(inside) == "record/records.py" else []
    )
