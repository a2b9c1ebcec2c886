"""Flags of commands that read recordings, and the table of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from metamap_rl.cli.console import note, print_table
from metamap_rl.cli.usage import Metavar

if TYPE_CHECKING:
    from metamap_rl.adaptation.log_check import Column, LogCheck
    from metamap_rl.data.columns import ColumnMapping
    from metamap_rl.data.recordings import Recorded

__all__ = ["RecordingFlags", "log_document", "print_columns", "tell"]


@dataclass(frozen=True, kw_only=True)
class RecordingFlags:
    """Roles and units of the columns of a recording."""

    columns: Annotated[tuple[str, ...], Metavar("ROLE=NAME,...")] = ()
    """Columns of a role (observations, actions, rewards, next_observations, terminated, truncated, done, episode,
    time); q* are all that match; default: the usual names."""

    units: Annotated[tuple[str, ...], Metavar("NAME=FACTOR")] = ()
    """Factors by which columns are multiplied, or degrees, millimetres, milliseconds, percent."""

    mapping: Annotated[Path | None, Metavar("FILE")] = None
    """YAML file with these, a key for each role and `units`."""

    @property
    def given(self) -> bool:
        """Whether any flag was given."""
        return bool(self.columns or self.units or self.mapping)

    def read(self) -> ColumnMapping:
        """The mapping.

        Raises:
            MetaMapError: an unknown role or unit, or an invalid file.
        """
        from metamap_rl.data.columns import read_mapping

        return read_mapping(self.mapping, self.columns, self.units)


def tell(recorded: Recorded, check: LogCheck | None) -> None:
    """Print what was derived or left out, and what looks unusual, on standard error."""
    for sentence in (*recorded.notes, *(() if check is None else check.warnings)):
        note(sentence)


def log_document(recorded: Recorded, check: LogCheck | None) -> dict[str, Any]:
    """Everything that is known of a recording, as JSON."""
    return {
        "family": recorded.rollout.family,
        "transitions": len(recorded.rollout),
        "episodes": recorded.episodes,
        "seconds": recorded.seconds,
        "notes": recorded.notes,
        "warnings": () if check is None else check.warnings,
        "columns": () if check is None else [{**vars(one), "remark": one.remark} for one in check.columns],
    }


def print_columns(columns: Sequence[Column]) -> None:
    """Print statistics of columns beside those of the mapper's training."""
    rows = [
        (one.name, _number(one.mean), _number(one.std), _number(one.usual_mean), _number(one.usual_std), one.remark)
        for one in columns
    ]
    numbers = ("mean", "sd", "usual mean", "usual sd")
    print_table(("column", *numbers, "remark"), rows, right=numbers)


def _number(value: float) -> str:
    return f"{value:.3g}"
