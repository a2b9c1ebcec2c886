"""Files that pages show are the files in docs/examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = [
    (page.name, name, block)
    for page in sorted(DOCS.glob("*.md"))
    for name, block in re.findall(r"<!-- file (\S+) -->\n\n```\w+\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
]


@pytest.mark.parametrize(("page", "name", "block"), SHOWN, ids=lambda value: value if len(value) < 40 else "")
def test_a_page_shows_the_file_as_it_is(page: str, name: str, block: str) -> None:
    assert block == (DOCS / name).read_text(encoding="utf-8"), f"{page} shows another {name}"


def test_files_are_shown() -> None:
    assert {"examples/boat.py", "examples/boat.yml"} <= {name for _, name, _ in SHOWN}
