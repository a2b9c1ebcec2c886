"""What an experiment is: settings, cells, and what becomes of their documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from metamap_rl.common.cells import Cell
from metamap_rl.common.registry import Registry

__all__ = ["EXPERIMENTS", "Experiment"]


class Experiment(Protocol):
    """A measurement of the project: `metamap_rl.common.cells.Work` whose fields are its settings.

    Classes are frozen `metamap_envs.settings.Settings`; their first line is their help.
    """

    def batches(self, out: Path) -> Iterable[Sequence[Cell]]:
        """See `Work`."""
        ...

    def run(self, cell: Cell) -> dict[str, Any]:
        """See `Work`."""
        ...

    def is_done(self, cell: Cell) -> bool:
        """See `Work`."""
        ...

    def summary(self, documents: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """The document of all finished cells, by their names; figures are written into ``out``."""
        ...

    def table(self, document: Mapping[str, Any]) -> list[str]:
        """The document as Markdown."""
        ...


EXPERIMENTS: Registry[type[Any]] = Registry("experiment")
"""Classes of experiments."""
