"""A record of a stream, for the tests of records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metamap_rl.stream.record import Record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "record.sqlite"


@pytest.fixture
def record(path: Path) -> Iterator[Record]:
    with Record.create(path) as record:
        yield record
