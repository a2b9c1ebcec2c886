"""Table of imported experts, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["import_table"]

_COLUMNS = ("family", "policy", "its return", "expert", "base policy", "random", "lost", "% of return", "% of lead")


def import_table(document: Mapping[str, Any]) -> list[str]:
    """Mean returns of policies, of the experts made of them, of base policy and random actions, and what was lost."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "| --- |" + " --- |" * (len(_COLUMNS) - 1)]
    for entry in document["experts"]:
        loss = entry["loss"]
        cells = [
            entry["family"],
            f"{entry['algorithm'].upper()}, {entry['steps']:,} steps",
            *(f"{loss[name]:.1f}" for name in ("policy_return", "expert_return", "base_return", "random_return")),
            f"{loss['lost']:.2f} ± {loss['standard_error']:.2f}",
            *("–" if value is None else f"{value:.2f}" for value in (loss["percent"], _percent(loss["share_of_lead"]))),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
