"""Table of exported policies, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["export_table"]


def export_table(document: Mapping[str, Any]) -> list[str]:
    """Sizes of the files, microseconds from one observation to its action, and the largest difference of actions."""
    lines = [
        "| family | weights | C header, kB | C, µs | ONNX, kB | ONNX Runtime, µs | `predict`, µs | difference |",
        "| --- |" + " --- |" * 7,
    ]
    for entry in document["families"]:
        size, times = entry["kilobytes"], entry["microseconds"]
        cells = [
            entry["weights"],
            f"{size['c']:.0f}",
            f"{times['c']:.0f}",
            f"{size['onnx']:.0f}",
            f"{times['onnxruntime']:.0f}",
            f"{times['predict']:.0f}",
            f"{entry['largest_difference']:.1e}",
        ]
        lines.append(f"| {entry['family']} | {' | '.join(map(str, cells))} |")
    return [*lines, ""]
