"""YAML is read as people mean it, or refused in a sentence with file, line and key; what is written is read back."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metamap_agents.runtime.storage import load_arrays, read_json
from metamap_agents.sb3.foreign_zip import read_sb3_actor
from metamap_envs import MetaMapError
from metamap_envs.settings import read_document
from metamap_envs.yaml_text import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-3", 1e-3), ("1E3", 1000.0), ("-2.5e+1", -25.0), (".5", 0.5), ("5.", 5.0), ("+3", 3), ("1_000", 1000)],
        *[("1_000.5", 1000.5), ("0x1F", 31), ("0o17", 15), ("0b101", 5), ("-0", 0), ("!!float 1e6", 1e6)],
        *[(".inf", math.inf), ("-.inf", -math.inf), ("true", True), ("FALSE", False), ("null", None), ("~", None)],
        *[("", None), ("'1e-3'", "1e-3"), ('"yes"', "yes"), ("!!str 1e-3", "1e-3"), ("lin_3e-4", "lin_3e-4")],
        *[("1:30", "1:30"), ("12:30:45", "12:30:45"), ("2026-11-28", "2026-11-28"), ("=", "="), ("y", "y")],
        *[("1e", "1e"), ("e5", "e5"), ("1_", "1_"), ("_1", "_1"), ("1.2.3", "1.2.3"), ("v1", "v1")],
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    read = parse_yaml(f"a: {text}", "x.yaml")["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *["yes", "No", "ON", "off", "None", "inf", "-Infinity", "nan", "NaN", ".nan", "010", "-007", "9,81", "1,000"],
        *["1e999", "9" * 5000, "!!float x", "!!int 1.5", "!!bool 2", "!!null x", "!!set {b}", "!!binary aGk=", "!x 1"],
        *["!!python/object/apply:os.getcwd []", "&b [*b]", "*b", "[1,]]", "@b", "b: c", "[" * 5000, "<<"],
    ],
)
def test_what_could_be_read_wrongly_is_refused(text: str) -> None:
    with pytest.raises(MetaMapError, match=r"^x\.yaml: ") as caught:
        parse_yaml(f"first: 1\na: {text}\n", "x.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    if "nested" not in str(caught.value):
        assert "line 2" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4: a.b: stands there twice"),
        ("a:\n\tb: 1\n", "line 2 .*a tab"),
        ("a: 1\n---\na: 2\n", "line 2 .*second document"),
        ("1: a\n2: b\n", "line 1: expected text as a key, got 1: put 1 in quotes"),
        ("? [1]\n: b\n", "expected text as a key"),
        ("true: 1", "expected text as a key"),
        ("a: {b: [1, {c: no}]}", r"a\.b\[1\]\.c: no .*true or false"),
        ("a: \x07", "not YAML"),
    ],
)
def test_the_sentence_names_line_and_key(text: str, words: str) -> None:
    with pytest.raises(MetaMapError, match=words):
        parse_yaml(text, "x.yaml")


def test_keys_are_text_and_may_be_merged() -> None:
    assert parse_yaml("on: 1\nno: 2\n'3': 4\n", "x") == {"on": 1, "no": 2, "3": 4}
    text = "defaults: &defaults {gamma: 0.99, n_steps: 1e3}\nmine:\n  <<: *defaults\n  gamma: 9e-1\n"
    assert parse_yaml(text, "x")["mine"] == {"gamma": 0.9, "n_steps": 1000.0}


def test_aliases_do_not_grow_without_bounds() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(MetaMapError, match=r"aliases .* too many"):
        parse_yaml("\n".join(lines), "x")


def test_files_of_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes("name: ä\r\nvalue: 1e-3\r\n".encode(encoding))
        assert read_yaml(path) == {"name": "ä", "value": 1e-3}
    path.write_bytes("a: 1\nname: ä\n".encode("latin-1"))
    with pytest.raises(MetaMapError, match=r"x\.yaml: cannot be read \(line 2 is not UTF-8"):
        read_yaml(path)
    path.write_bytes(b"a: " + b"x" * (4 * 1024**2))
    with pytest.raises(MetaMapError, match="more than 4 MiB"):
        read_yaml(path)
    path.write_bytes(b"# nothing\n")
    with pytest.raises(MetaMapError, match="expected a mapping of settings, it is empty"):
        read_document(path)
    with pytest.raises(MetaMapError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(MetaMapError, match="no such file"):
        read_yaml(tmp_path / "y.yaml")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("read", [read_yaml, read_json, load_arrays, read_sb3_actor])
def test_a_pipe_is_refused_instead_of_waited_for(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    os.mkfifo(path)
    with pytest.raises(MetaMapError, match=r"x\.safetensors: cannot be read .* pipe"):
        read(path)


TEXTS = st.one_of(
    st.sampled_from(["1e-3", "yes", "None", "010", "9,81", "inf", "1:30", "2026-11-28", "", "null", "~", "<<", "1_0"]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXTS)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    read = parse_yaml(dump_yaml({"value": value}), "x")["value"]
    assert read == value
    assert type(read) is type(value)
