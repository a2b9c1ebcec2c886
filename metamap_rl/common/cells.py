"""Work in cells: each has a document of its own, written whole when the cell is done, so that a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from metamap_agents.runtime.executors import Executor
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions, read_json, write_json
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError

__all__ = [
    "Cell",
    "OnCell",
    "Work",
    "check_cells",
    "check_settings",
    "compare_settings",
    "document_of",
    "run_cell",
    "run_cells",
]

OnCell = Callable[[str, int, int], None]
"""Called after each new cell with (its name, cells done, cells known so far)."""


@dataclass(frozen=True)
class Cell:
    """One piece of work."""

    name: str
    path: Path
    """Its document; where it is, the cell is done."""
    settings: Mapping[str, Any]
    """What decides the result; the document keeps it as ``settings``."""
    job: tuple[Any, ...] = field(default=())
    """What else `Work.run` needs."""


class Work(Protocol):
    """Cells and how to run one. Picklable, since cells run in other processes."""

    def batches(self, out: Path) -> Iterable[Sequence[Cell]]:
        """Cells of the run in ``out``, in batches: those that need documents of earlier ones are not known before."""
        ...

    def run(self, cell: Cell) -> dict[str, Any]:
        """Run a cell; returns its document."""
        ...

    def is_done(self, cell: Cell) -> bool:
        """Whether the document of a cell is there.

        Raises:
            MetaMapError: it was made with other settings.
        """
        ...


def check_settings(
    cell: Cell, made_with: Callable[[Any], Mapping[str, Any]] = lambda document: document["settings"]
) -> bool:
    """Whether a cell is done; the usual `Work.is_done`.

    Args:
        cell: which.
        made_with: the settings in its document.

    Raises:
        MetaMapError: it was run with other settings, or the file is something else.
    """
    if not cell.path.exists():
        return False
    try:
        found = made_with(read_json(cell.path))
    except (KeyError, TypeError, ValueError, MetaMapError):
        raise MetaMapError(f"{cell.path}: expected the document of a cell; choose another directory") from None
    compare_settings(cell.path, found, cell.settings)
    return True


def compare_settings(place: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Compare the settings of a result at ``place`` with those of its cell.

    Raises:
        MetaMapError: they differ.
    """
    difference = _first_difference(_plain(found), _plain(asked))
    if difference is not None:
        key, before, now = difference
        raise MetaMapError(
            f"{place} was run with {key} {before!r}, asked for is {now!r}: remove it, or choose another directory"
        )


def _first_difference(found: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting that differs, by dotted key, with both values; None for equal ones."""
    for key in sorted({*found, *asked}):
        before, now = found.get(key), asked.get(key)
        if before == now:
            continue
        inner = _first_difference(before, now) if isinstance(before, dict) and isinstance(now, dict) else None
        return (key, before, now) if inner is None else (f"{key}.{inner[0]}", *inner[1:])
    return None


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As a document has them: tuples are lists, and None is absent, as new settings are in older documents."""
    plain: dict[str, Any] = json.loads(json.dumps(settings), object_hook=_without_none)
    return plain


def _without_none(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def check_cells(work: Work, out: Path) -> None:
    """Look at all cells that are there, before anything is changed.

    Raises:
        MetaMapError: one of other settings.
    """
    for batch in work.batches(out):
        for cell in batch:
            work.is_done(cell)


def run_cells(work: Work, out: Path, executor: Executor, on_cell: OnCell = lambda name, done, total: None) -> None:
    """Run the cells that are not done yet. Bad input of one cell does not stop the others of its batch.

    Raises:
        MetaMapError: a cell of other settings; or, after the others of its batch, that a cell failed.
    """
    check_cells(work, out)
    done, total = 0, 0
    for batch in work.batches(out):
        left = [cell for cell in batch if not work.is_done(cell)]
        total += len(batch)
        done += len(batch) - len(left)
        failed = {}
        for index, document in executor.run(run_cell, [(cell,) for cell in left], share=(work,)):
            if isinstance(document, str):
                failed[left[index].name] = document
                continue
            write_json(left[index].path, document)
            done += 1
            on_cell(left[index].name, done, total)
        for name, error in failed.items():
            raise MetaMapError(f"{len(failed)} of {len(batch)} cells failed, such as {name}: {error}")


def run_cell(work: Work, cell: Cell) -> dict[str, Any] | str:
    """Run one cell in this process; returns its document, or what was wrong with its input."""
    try:
        with torch_threads(1):
            return work.run(cell)
    except MetaMapError as error:
        return str(error)


def document_of(cell: Cell, found: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a cell from what it found, with its settings, the machine and the versions."""
    return {
        "settings": dict(cell.settings),
        **found,
        "machine": describe_machine(torch_threads=1),
        "versions": library_versions(),
    }
