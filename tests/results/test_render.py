"""Places of pages that take the tables of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metamap_rl.results.render import filled


def _row(method: str, steps: int | None, iqm: float, worst: float) -> dict[str, Any]:
    return {"method": method, "steps": steps, "gap_closed": {"iqm": iqm, "worst_decile": worst}}


def test_rivals_are_beside_the_mapper_at_the_length_of_the_headline(tmp_path: Path) -> None:
    rows = [_row("mapper", 5, 0.5, 0.1), _row("mapper", 50, 0.9, 0.4), _row("sysid", 50, 1.0, 0.97)]
    rows += [_row("nearest-expert", 50, 0.3, -1.0), _row("shuffled", 50, -2.0, -3.0)]
    split = {"methods": rows, "counted_tasks": 3, "tasks": [{}] * 4, "counted_by": "paired test"}
    unsolved = {**split, "methods": [{"method": "mapper", "steps": 50, "gap_closed": None}]}
    for name, document in {
        "shared": {"headline_steps": 50},
        "a": {"splits": {"test-in": split, "test-out": unsolved}},
        "b": {"splits": {"test-in": unsolved}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    page = filled(
        "<!-- rivals . -->\n<!-- /rivals -->".replace(" . ", f" {tmp_path.name} "), {}, results=tmp_path.parent
    )
    _, _, header, _, first, second, *_ = page.splitlines()
    assert [cell.strip() for cell in header.split("|")[3:-1]] == ["mapper", "`sysid`", "nearest expert"]
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "a",
        "3 of 4",
        ".90 (.40)",
        "1.00 (.97)",
        ".30 (-1.00)",
    ]
    assert [cell.strip() for cell in second.split("|")[3:-1]] == ["–", "–", "–"]
