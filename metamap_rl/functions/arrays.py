"""Tasks given as arrays, as a family of functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from metamap_agents.policy.normalizer import ObservationNormalizer
from metamap_agents.policy.spec import PolicySpec
from metamap_envs.errors import MetaMapError, unknown_name
from metamap_rl.evaluation.baselines.adaptation import squared_error
from metamap_rl.evaluation.baselines.episodes import FewShotBatch

__all__ = ["HIDDEN", "ArrayTasks", "Table", "Units", "read_inputs", "read_tables", "read_targets"]

Table = NDArray[np.float32]
HIDDEN = {True: (6,), False: (40, 40)}
"""Hidden units of a generated network, for classification those of each class."""


@dataclass(frozen=True, eq=False)
class Units:
    """Means and standard deviations of inputs, and of targets [A] that are not classes."""

    inputs: ObservationNormalizer
    mean: Table
    std: Table

    @classmethod
    def identity(cls, inputs: int, outputs: int) -> Units:
        """Inputs and targets as they are."""
        normalizer = ObservationNormalizer.identity(inputs)
        return cls(normalizer, np.zeros(outputs, np.float32), np.ones(outputs, np.float32))

    def to_json(self) -> dict[str, list[float]]:
        """As plain JSON values; :meth:`from_json` is the inverse."""
        inputs = {"inputs.mean": self.inputs.mean.tolist(), "inputs.std": self.inputs.std.tolist()}
        return {**inputs, "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Units:
        """Inverse of :meth:`to_json`.

        Raises:
            KeyError, MetaMapError, TypeError, ValueError: not such a document.
        """
        inputs = ObservationNormalizer(document["inputs.mean"], document["inputs.std"])
        return cls(inputs, *(np.asarray(document[name], np.float32) for name in ("mean", "std")))


def read_inputs(x: ArrayLike, what: str = "x") -> Table:
    """Return inputs [n, I] as float32; one number for each row may be [n].

    Raises:
        MetaMapError: not a table of finite numbers with at least one row.
    """
    try:
        table = np.asarray(x, dtype=np.float32)
    except (TypeError, ValueError):
        raise MetaMapError(f"{what}: expected numbers [rows, columns], got something else") from None
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise MetaMapError(f"{what}: expected finite numbers [rows, columns], at least one, got shape {table.shape}")
    return table


def read_targets(y: ArrayLike, rows: int, what: str = "y") -> tuple[Table, NDArray[Any]]:
    """Return targets as one-hot columns [n, A] and the names of the classes [A].

    Raises:
        MetaMapError: not one label for each row, or labels that cannot be told apart.
    """
    try:
        labels = np.asarray(y)
        names, places = np.unique(labels, return_inverse=True)
    except (TypeError, ValueError):
        raise MetaMapError(f"{what}: expected classes of one kind, numbers or strings, got a mixture") from None
    if labels.shape != (rows,):
        raise MetaMapError(f"{what}: expected one class for each of {rows} rows of x, got shape {labels.shape}")
    if (names != names).any():
        raise MetaMapError(f"{what}: expected classes, got one that is not a number")
    return np.eye(len(names), dtype=np.float32)[places], names


@dataclass(frozen=True, eq=False)
class ArrayTasks:
    """Tasks that are tables (x, y) of their own lengths; D and the points for evaluation are rows of one table.

    Raises:
        MetaMapError: fewer than two tasks, or tables that differ in columns or are too short.
    """

    tables: tuple[tuple[Tensor, Tensor], ...]
    """Inputs [n, I] and targets [n, A] of each task, one-hot for classes."""
    held_out: int
    """How many of them, from the end, are for validation."""
    hidden: tuple[int, ...]
    """Hidden units of the generated network."""
    ways: int
    """Largest number of classes; 0 for regression."""
    name: ClassVar[str] = "tasks"

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> ArrayTasks:
        """No tasks: only reads D."""
        return cls(((torch.zeros(0, inputs), torch.zeros(0, outputs)),), 1, (), 0)

    @property
    def shortest(self) -> int:
        """Rows of the shortest table."""
        return min(len(x) for x, _ in self.tables)

    @property
    def score_name(self) -> str:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return "mean squared error"

    @property
    def spec(self) -> PolicySpec:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        x, y = self.tables[0]
        return PolicySpec(x.shape[1], y.shape[1], hidden=self.hidden, activation="relu")

    def draw(self, generator: torch.Generator, *, tasks: int, points: int, queries: int, split: str) -> FewShotBatch:
        """See `metamap_rl.functions.base.FunctionFamily`: evaluation points repeat where a table is short.

        Raises:
            MetaMapError: an unknown split; there are no test tasks.
        """
        pools = {"train": slice(0, len(self.tables) - self.held_out), "validation": slice(-self.held_out, None)}
        if split not in pools:
            raise unknown_name("split", split, pools)
        pool = self.tables[pools[split]]
        chosen = torch.randint(len(pool), (tasks,), generator=generator).tolist()
        drawn = [_rows(pool[task], points, queries, self.ways > 0, generator) for task in chosen]
        return FewShotBatch(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))

    def features(self, episodes: FewShotBatch) -> Tensor:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return episodes.rows

    def solve(self, episodes: FewShotBatch) -> None:
        """There is no closed form for the weights."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `metamap_rl.functions.base.FunctionFamily`."""
        return squared_error(outputs, targets)


def read_tables(tasks: Sequence[Any], outcome: str, hidden: tuple[int, ...] | None) -> tuple[ArrayTasks, Units]:
    """Return tables (x, y) as standardised tasks, with their units; the last tenth is for validation.

    Args:
        tasks: the tables.
        outcome: "classification", "regression" or "auto", which is regression for floating-point targets.
        hidden: hidden units of the generated network; None for the usual ones.

    Raises:
        MetaMapError: fewer than two tables, or one that does not fit the first.
    """
    if len(tasks) < 2 or any(not isinstance(task, tuple | list) or len(task) != 2 for task in tasks):
        raise MetaMapError(f"tasks: expected at least two tables (x, y), got {len(tasks)} of something")
    classes = _are_classes(tasks[0][1]) if outcome == "auto" else outcome == "classification"
    tables = [_table(place, x, y, classes) for place, (x, y) in enumerate(tasks)]
    ways = max(y.shape[1] for _, y in tables) if classes else 0
    if ways == 1:
        raise MetaMapError("tasks: expected a table with two classes or more, got one class in each")
    if classes:
        tables = [(x, np.pad(y, ((0, 0), (0, ways - y.shape[1])))) for x, y in tables]
    expected = tuple(part.shape[1] for part in tables[0])
    for place, (x, y) in enumerate(tables):
        if (x.shape[1], y.shape[1]) != expected or len(x) < 2:
            raise MetaMapError(
                f"task {place}: expected as many columns as task 0 and two rows, got x {x.shape}, y {y.shape}"
            )
    inputs, targets = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    inputs_mean, inputs_std = inputs.mean(axis=0).astype(np.float64), _positive(inputs.std(axis=0)).astype(np.float64)
    units = Units.identity(inputs.shape[1], ways)
    if not classes:
        units = replace(units, mean=targets.mean(axis=0), std=_positive(targets.std(axis=0)))
    units = replace(units, inputs=ObservationNormalizer(inputs_mean, inputs_std))
    ready = tuple(
        (torch.from_numpy(units.inputs.apply(x)), torch.from_numpy((y - units.mean) / units.std)) for x, y in tables
    )
    return ArrayTasks(ready, max(1, len(ready) // 10), hidden or HIDDEN[classes], ways), units


def _table(place: int, x: ArrayLike, y: ArrayLike, classes: bool) -> tuple[Table, Table]:
    """One task."""
    inputs = read_inputs(x, f"task {place}: x")
    if classes:
        return inputs, read_targets(y, len(inputs), f"task {place}: y")[0]
    targets = read_inputs(y, f"task {place}: y")
    if len(targets) != len(inputs):
        raise MetaMapError(f"task {place}: y: expected {len(inputs)} rows as x has, got {len(targets)}")
    return inputs, targets


def _are_classes(y: ArrayLike) -> bool:
    """Whether targets are not floating-point numbers."""
    try:
        return np.asarray(y).dtype.kind != "f"
    except ValueError:
        raise MetaMapError("task 0: y: expected one value, or one row of values, for each row of x") from None


def _positive(std: Table) -> Table:
    return np.where(std > 0, std, np.float32(1))


def _rows(
    table: tuple[Tensor, Tensor], points: int, queries: int, by_class: bool, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """D and evaluation points of one task: D has each class as often as it can."""
    x, y = table
    order = torch.randperm(len(x), generator=generator)
    if by_class:
        nth = (y[order].cumsum(dim=0) * y[order]).sum(dim=1)
        order = order[(nth + torch.rand(len(order), generator=generator)).argsort()]
    rest = order[points:]
    judged = rest[torch.randperm(len(rest), generator=generator)]
    judged = judged.repeat(-(-queries // len(judged)))[:queries]
    return x[order[:points]], y[order[:points]], x[judged], y[judged]
