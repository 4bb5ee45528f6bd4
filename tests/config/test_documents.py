from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckconv_sweep.config import documents
from ckconv_sweep.config.documents import Document, parse
from ckconv_sweep.config.read import parse_space, read_space
from ckconv_sweep.errors import ConfigError

from .conftest import Write, examples, outcome, space_text


def value_of(text: str) -> Any:
    return parse(text, "file.yaml").value


def refusal_of(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as refusal:
        parse(text, "file.yaml")
    return refusal.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.0", -0.0),
        ("010", 10),
        ("+7", 7),
        ("100_000", 100_000),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("9999-99-99", "9999-99-99"),
        ("_1", "_1"),
        ("1__0", "1__0"),
        ("1e", "1e"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("''", ""),
        ("|\n  5\n", "5\n"),
    ],
)
def test_a_word_means_what_yaml_1_2_says(text: str, expected: Any) -> None:
    read = value_of(f"x: {text}")["x"]
    assert read == expected
    assert type(read) is type(expected)


def test_nan_is_a_number() -> None:
    assert math.isnan(value_of(".nan"))


def test_four_thousand_digits_are_text() -> None:
    assert value_of("1" * 4_096) == "1" * 4_096


def test_a_byte_order_mark_is_no_part_of_the_first_key(write: Write) -> None:
    assert documents.read(write("file.yaml", "\ufeffa: 1\n")).value == {"a": 1}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert value_of("{1: a, true: b, ~: c, 'q': d, <<: {x: 1}}") == {
        "1": "a",
        "true": "b",
        "~": "c",
        "q": "d",
        "<<": {"x": 1},
    }


def test_each_value_has_its_place() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - 5\n    - {d: 6}\n", "file.yaml")
    assert document.where(("a", "b")) == "file.yaml:2"
    assert document.where(("a", "c", 1, "d")) == "file.yaml:5"
    assert document.where(("a", "x", "y")) == "file.yaml:1"


def test_a_part_of_a_document_keeps_its_places() -> None:
    part = parse("a:\n  b:\n    c: 1\n", "file.yaml").below("a", "b")
    assert part.value == {"c": 1}
    assert part.where(("c",)) == "file.yaml:3"
    assert part.where() == "file.yaml:2"


REFUSALS = {
    "alias": ("a: 1\nb: *x\n", 2, "anchors (&) and aliases (*) are refused"),
    "anchor": ("a: 1\nb: &x 1\n", 2, "anchors (&) and aliases (*) are refused"),
    "anchor on a key": ("a: 1\n&x b: 1\n", 2, "anchors (&) and aliases (*) are refused"),
    "an alias to itself": ("a: &x [*x]\n", 1, "anchors (&) and aliases (*) are refused"),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", 3, "key 'a' is given twice, first at file.yaml:1"),
    "nested duplicate": ("a:\n  b: 1\n  b: 1\n", 3, "key 'b' is given twice"),
    "duplicate in other quotes": ("a: 1\n'a': 2\n", 2, "key 'a' is given twice"),
    "tag": ("a: 1\nb: !!python/name:os.system x\n", 2, "tags (!) are refused"),
    "number tag": ("a: !!int 5\n", 1, "tags (!) are refused"),
    "bare tag": ("a: ! 5\n", 1, "tags (!) are refused"),
    "second document": ("a: 1\n---\nb: 1\n", 2, "a second document ('---') starts here"),
    "deep": ("x:\n  " + "[" * 51 + "]" * 51, 2, "deeper than 50 levels is refused"),
    "half a million deep": ("[" * 500_000, 1, "deeper than 50 levels is refused"),
    "many values": ("[\n" + "1,\n" * 10_001 + "]", 10_001, "more than 10,000 values are refused"),
    "tab": ("a:\n\tb: 1\n", 2, "indent with spaces, not with tabs"),
    "long text": (
        f"a: 1\nb: {'x' * 4_097}\n",
        2,
        "a text of more than 4,096 characters is refused",
    ),
    "long key": (f"a: 1\n? {'x' * 4_097}\n: 1\n", 2, "a text of more than 4,096 characters"),
    "long key twice": (f"? {'x' * 999}\n: 1\n? {'x' * 999}\n: 1\n", 3, "xxx...' is given twice"),
    "NUL": ("a: 1\nb: \0\n", 2, "the character U+0000 is not allowed"),
    "lone surrogate": ("a: 1\nb: \ud800\n", 2, "the character U+D800 is not allowed"),
    "escaped surrogate": ('a: 1\nb: "\\ud800"\n', 2, "the character U+D800 is refused in a text"),
    "escape code": ('a: 1\nb: "\\e[31m"\n', 2, "the character U+001B is refused in a text"),
    "escaped NUL": ('a: 1\n"\\0": 2\n', 2, "the character U+0000 is refused in a text"),
    "carriage return": ('a: 1\nb: "x\\r"\n', 2, "the character U+000D is refused in a text"),
    "C1 code": ('a: 1\nb: "\\x9b31m"\n', 2, "the character U+009B is refused in a text"),
    "escape beyond Unicode": ('a: 1\nb: "\\U00110000"\n', 2, "a number is too large here"),
    "escape beyond 32 bits": ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "a number is too large here"),
    "huge version": ("%YAML " + "1" * 5_000 + ".1\n--- a", 1, "a number is too large here"),
    "list as a key": ("a: 1\n? [b]\n: 2\n", 2, "a key must be text"),
    "block as a key": ("a: 1\n{b: 1}: 2\n", 2, "a key must be text"),
    "open bracket": ("a: 1\nb: [1,\n", 3, "this is not YAML"),
    "wrong indentation": ("a: 1\n  b: 2\n", 2, "mapping values are not allowed here"),
}


@pytest.mark.fault("damaged-yaml")
@pytest.mark.parametrize(("text", "line", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_names_the_line(text: str, line: int, message: str) -> None:
    refusal = refusal_of(text)
    assert refusal.where == f"file.yaml:{line}"
    assert message in str(refusal)
    assert len(str(refusal)) < 300


def test_fifty_levels_and_ten_thousand_values_are_read() -> None:
    deep = value_of("[" * 50 + "]" * 50)
    for _ in range(49):
        (deep,) = deep
    assert deep == []
    assert len(value_of("[" + "1, " * 9_999 + "]")) == 9_999


def test_a_billion_laughs_are_refused_at_once() -> None:
    laughs = "a0: &a0 [ha, ha]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
    )
    begun = time.perf_counter()
    assert refusal_of(laughs).where == "file.yaml:1"
    assert time.perf_counter() - begun < 1.0


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^nowhere/x\.yaml: no such file$"):
        documents.read(Path("nowhere/x.yaml"))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        documents.read(tmp_path)


def test_256_kibibytes_are_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"a: 1 #".ljust(2**18, b"x"))
    assert documents.read(path).value == {"a": 1}
    path.write_bytes(b"a: 1 #".ljust(2**18 + 1, b"x"))
    with pytest.raises(ConfigError, match="more than 262,144 bytes"):
        documents.read(path)


@pytest.mark.parametrize("content", [b"a: 1\nb: \xff\n", b"a: 1\nb: caf\xe9\n"])
def test_other_encodings_are_refused_on_their_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="must be UTF-8 text") as refusal:
        documents.read(path)
    assert refusal.value.where == f"{path}:2"


def test_utf_16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes("a: 1\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="must be UTF-8 text, byte 0 is not"):
        documents.read(path)


CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t")
TEXT = st.text(CHARACTERS) | st.text("-:#?&*!|>%@`'\"{}[], \n~.0e1_x")
INTEGERS = st.integers(-(10**38), 10**38)  # 40 characters with the sign; a seed has 19 digits
PLAIN = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    PLAIN, lambda part: st.lists(part, max_size=4) | st.dictionaries(TEXT, part, max_size=4)
)


@examples
@given(VALUES)
@example(["1e-3", "010", "no", "null", "~", "", " a", "a ", "a: b", "- a", "1_0", ".inf", "0x1"])
@example({"": {"": []}, "null": {}, "1": -0.0, "x" * 200: 1e22})
@example("\n\t\u2028\u2029\ufeff\N{ROCKET}\xa0")
@example(["a " * 100, " " * 200, "\n\n", "\ta"])
def test_what_is_written_is_read_back_equal(value: Any) -> None:
    read = value_of(documents.write(value))
    assert read == value
    assert repr(read) == repr(value)  # 1 is not 1.0 nor True


def test_a_list_that_stands_in_two_places_is_written_twice() -> None:
    shared = [1, {"a": 2}]
    assert value_of(documents.write({"x": shared, "y": shared})) == {"x": shared, "y": shared}


def test_what_is_written_twice_is_the_same_text() -> None:
    value = {"b": [1.5, None, "no"], "a": {"x y": True}}
    assert documents.write(value_of(documents.write(value))) == documents.write(value)


TOKENS = st.sampled_from(
    ["&a", "*a", "<<", "!!int", "!", "!<x>", "---", "...", "%YAML 1.2", "%TAG ! x", "\t", "\ufeff"]
    + [": ", ":", "- ", "? ", "[", "]", "{", "}", ",", "|", ">", "|2-", "'", '"', "\\", "#", "@"]
    + ["\n", "\r", "\n  ", "\n    ", " ", "a", "name", "search", "1", "1e-3", ".inf", "~", "true"]
    + ["\\x41", "\\ud800", "\\UFFFFFFFF", "\0", "\x85", "\u2028", "\ud800", "\xe9", "9" * 4_000]
    + ["<<: *a", "&a {", "[" * 60, "{a: " * 60, "- " * 60, "9" * 39, "1e999", "0x1f", "x" * 5_000]
)
SOUP = st.lists(TOKENS, max_size=30).map("".join)


@pytest.mark.fault("damaged-yaml")
@examples
@given(st.text() | st.text(st.characters()) | SOUP)
@example('"\\UFFFFFFFF"')
@example('"\\U00110000"')
@example("%YAML " + "9" * 5_000 + ".1\n---")
@example("!<%ff> a")
@example("\ud800")
def test_any_text_is_read_or_refused(text: str) -> None:
    document = outcome(lambda: parse(text, "file.yaml"))
    if isinstance(document, ConfigError):
        assert (document.where or "").startswith("file.yaml:")
        return
    assert isinstance(document, Document)
    str(document.value).encode()  # can be printed
    assert repr(parse(text, "file.yaml")) == repr(document)


def encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "replace")


ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])


@pytest.mark.fault("damaged-yaml")
@examples
@given(st.binary(max_size=200) | st.builds(encoded, SOUP, ENCODINGS))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    read = outcome(lambda: documents.read(path))
    assert isinstance(read, Document) or (read.where or "").startswith(f"{path}:")


@examples
@given(SOUP)
def test_what_was_read_before_changes_nothing(text: str) -> None:
    valid = space_text("model.dropout: {choices: [0.0, 0.1]}\nmodel.blocks: {low: 1, high: 2}")
    before = parse_space(valid, "space.yaml")
    outcome(lambda: parse_space(text, "space.yaml"))
    after = parse_space(valid, "space.yaml")
    assert after == before
    assert after.to_yaml() == before.to_yaml()


# Time and memory


def filled(before: str, unit: str, after: str = "") -> str:
    """As much of `unit` as a file may hold."""
    room = documents.MAX_BYTES - len((before + after).encode())
    return before + unit * (room // len(unit.encode())) + after


BASE = space_text("", rest="").replace("search:\n", "budget: {trials: 3}\nsearch:\n")
TENTHS = ", ".join(f"0.{j}" for j in range(1, 10))
OPTIMIZERS = "".join(
    f"      k{i}: {{name: adam, beta_1: {{choices: [{TENTHS}]}}}}\n" for i in range(580)
)
HOSTILE = {
    "words": filled("a: ", "x "),
    "lines": filled("a: ", "x\n  "),
    "a list without commas": filled("[", "a ", "]"),
    "quoted words": filled('a: "', "x ", '"'),
    "empty lines in quotes": filled('a: "', "\n", '"'),
    "escapes": filled('a: "', "\\x41", '"'),
    "folded": filled("a: >\n", "  x\n"),
    "comments": filled("", "#\n"),
    "empty lines": filled("", "\n"),
    "directives": filled("", "%a\n"),
    "a tag": filled("a: !<", "%41", ">"),
    "an anchor": filled("a: &", "x"),
    "brackets": filled("", "["),
    "questions": filled("", "? "),
    "list": filled("", "-\n"),
    "documents": filled("", "---\n"),
    "keys": "".join(f"k{i}: 1\n" for i in range(4_990)),
    "long keys": "".join(f"k{i}{'x' * 90}: 1\n" for i in range(2_600)),
    "settings": BASE + "".join(f"  model.x{i}: {{choices: [1]}}\n" for i in range(1_900)),
    "choices": f"{BASE}  training.seed: {{choices: {list(range(9_900))}}}\n",
    "unknown choices": f"{BASE}  model.norm: {{choices: {[f'a{i}' for i in range(9_900)]}}}\n",
    "blocks": f"{BASE}  optimizer:\n    choices:\n{OPTIMIZERS}",
    "constraints": f"{BASE}  model.dropout: {{choices: [0.1]}}\nconstraints:\n"
    + "- model.parameters <= 5\n" * 9_900,
    "a name": f"{BASE}  schedule: {{choices: {{a: {{name: {'cosine' * 680}}}}}}}\n",
    "a setting": f"{BASE}  ? {'model.' * 680}\n  : 1\n",
}
READER = """
import json, resource, sys, time
from ckconv_sweep.config.read import read_space
from ckconv_sweep.errors import ConfigError
megabyte = 2**20
resource.setrlimit(resource.RLIMIT_AS, (200 * megabyte, 200 * megabyte))
for path in sys.argv[1:]:
    begun, said = time.process_time(), "read"
    try:
        read_space(path)
    except ConfigError as refusal:
        said = str(refusal)
    print(json.dumps([path, time.process_time() - begun, said]))
"""


@pytest.mark.fault("damaged-yaml")
def test_a_hostile_file_takes_a_second_and_200_megabytes_at_most(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{number}.yaml" for number, name in enumerate(HOSTILE)}
    for name, path in paths.items():
        path.write_text(HOSTILE[name], encoding="utf-8")
        assert path.stat().st_size <= documents.MAX_BYTES
    done = subprocess.run(
        [sys.executable, "-c", READER, *map(str, paths.values())],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    answers = {
        path: (seconds, said) for path, seconds, said in map(json.loads, done.stdout.splitlines())
    }
    assert answers.keys() == set(map(str, paths.values()))
    # The time of the process, not of the clock; twice what is wanted, as other tests run beside it.
    assert [(n, answers[str(p)]) for n, p in paths.items() if answers[str(p)][0] > 2.0] == []
    for path, (_, said) in answers.items():
        assert said == "read" or said.startswith(f"{path}:")
        assert len(said) < len(path) + 6_000


def test_a_space_as_long_as_may_be_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"{BASE}  training.seed: {{choices: {list(range(9_970))}}}\n")
    space = read_space(str(path))
    assert parse_space(space.to_yaml(), "again") == space
