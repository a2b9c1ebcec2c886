"""Families of environments and their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from metamap_rl.cli.command import Command, FamilyName
from metamap_rl.cli.console import say

if TYPE_CHECKING:
    from metamap_envs.family import Family
    from metamap_envs.parameters import Parameter
    from metamap_envs.task import Task

__all__ = ["COMMANDS", "ORDER", "ListFamilies", "ShowFamily"]

ORDER = 10


@dataclass(frozen=True, kw_only=True)
class ListFamilies(Command):
    """List the families: those of the package, and those that YAML files declare."""

    name: ClassVar[str] = "list"

    def run(self) -> int:
        """Print one row per family."""
        from metamap_envs.registry import declared_families, get_family, list_families
        from metamap_rl.cli.console import print_json, print_table

        families = [get_family(name) for name in sorted({*list_families(), *declared_families()})]
        if self.json:
            print_json([_summary(family) for family in families])
            return 0
        rows = [
            (
                family.name,
                len(family.space),
                family.observation_size,
                family.action_size,
                family.horizon,
                family.description,
            )
            for family in families
        ]
        numbers = ("parameters", "observation", "action", "horizon")
        least = ("horizon", "action", "observation")
        print_table(("family", *numbers, "description"), rows, right=numbers, least=least)
        return 0


@dataclass(frozen=True, kw_only=True)
class ShowFamily(Command):
    """Show a family: parameters, their ranges in each split, sizes."""

    name: ClassVar[str] = "show"

    family: FamilyName
    """Name of the family, as in `metamap families list`."""

    sample: int = 0
    """Number of tasks of `--split` to draw with `--seed`."""

    split: Literal["train", "validation", "test-in", "test-out"] = "train"
    """Split of the drawn tasks."""

    def run(self) -> int:
        """Print the family, then the drawn tasks."""
        from metamap_envs.errors import MetaMapError
        from metamap_envs.registry import VARIABLE, is_family_file
        from metamap_rl.cli.console import print_json
        from metamap_rl.cli.inputs import read_family

        family = read_family(self.family)
        if self.sample < 0:
            raise MetaMapError(f"--sample: expected a number of tasks, 0 or more, got {self.sample}")
        tasks = family.sample(self.split, self.sample, self.seed) if self.sample else []
        if self.json:
            print_json(_document(family, tasks))
        else:
            found_by = f", where {VARIABLE}={self.family}" if is_family_file(self.family) else ""
            _print_family(family, tasks, found_by)
        return 0


def _summary(family: Family) -> dict[str, Any]:
    """Sizes of the family as JSON."""
    return {
        "name": family.name,
        "description": family.description,
        "gymnasium_id": family.gym_id,
        "base_id": family.base_id,
        "parameters": len(family.space),
        "observation_size": family.observation_size,
        "action_size": family.action_size,
        "horizon": family.horizon,
        "frame_skip": family.frame_skip,
    }


def _document(family: Family, tasks: list[Task]) -> dict[str, Any]:
    """Everything that `show` prints, as JSON."""
    parameters = [
        {
            "name": parameter.name,
            "unit": parameter.unit,
            "low": parameter.low,
            "high": parameter.high,
            "default": parameter.default,
            "train": parameter.train,
            "out": parameter.out,
            "choices": parameter.choices,
            "train_choices": parameter.train_choices,
            "out_choices": parameter.out_choices,
            "scale": parameter.scale,
            "description": parameter.description,
        }
        for parameter in family.space.parameters
    ]
    drawn = [{"id": task.id, **task.to_json()} for task in tasks]
    return {**_summary(family), "parameters": parameters, "tasks": drawn}


def _print_family(family: Family, tasks: list[Task], found_by: str) -> None:
    """Print sizes, parameters and tasks; ``found_by`` says how other processes find the family."""
    from metamap_rl.cli.console import print_table

    say(f"{family.name}: {family.description}\n")
    say(f"  Gymnasium id   metamap_envs:{family.gym_id}{found_by}")
    steps = f", {family.frame_skip} MuJoCo steps per step" if family.frame_skip else ""
    say(f"  physics of     {family.base_id}{steps}")
    say(f"  observation    {family.observation_size} numbers; the parameters are hidden, never among them")
    say(f"  action         {family.action_size} numbers")
    say(f"  horizon        {family.horizon} steps")
    say(f"  combinations   {_combinations(family)}\n")
    print_table(
        ("parameter", "unit", "default", "train, validation, test-in", "test-out", "accepted", "description"),
        [_parameter_row(parameter) for parameter in family.space.parameters],
        right=("default",),
        least=("accepted", "unit"),
    )
    if tasks:
        say()
        rows = [(task.id, task.split, task.describe()) for task in tasks]
        print_table(("task", "split", "parameters"), rows)


def _combinations(family: Family) -> str:
    """Assignment of the combinations of discrete parameters to the splits."""
    if not any(parameter.choices for parameter in family.space.parameters):
        return "no discrete parameters"
    dealt = {str(split): set(rows) for split, rows in family.space.combinations.items()}
    if family.space.training_share is not None:
        seen, unseen = (len(dealt[split]) for split in ("train", "test-in"))
        return f"a grid of {seen + unseen}: {seen} train and validation, {unseen} test-in"
    if dealt["train"] == dealt["test-in"]:
        shared = f"{len(dealt['train'])} of the discrete parameters, shared by all splits"
        return shared if dealt["test-out"] == dealt["train"] else f"{shared} but test-out, which has others"
    counts = ", ".join(f"{len(dealt[split])} {split}" for split in ("train", "validation", "test-in"))
    return f"of the discrete parameters, each in one split only: {counts}"


def _parameter_row(parameter: Parameter) -> tuple[str, ...]:
    """The cells of one parameter."""
    if parameter.choices:
        inside = _numbers(parameter.train_choices or parameter.choices)
        outside = _numbers(parameter.out_choices or parameter.choices)
        accepted = _numbers(parameter.choices)
    else:
        inside = _intervals(parameter.train) + (", log" if parameter.scale == "log" else "")
        outside = _intervals(parameter.out) or "none"
        accepted = _intervals(((parameter.low, parameter.high),))
    return (
        parameter.name,
        parameter.unit,
        f"{parameter.default:g}",
        inside,
        outside,
        accepted,
        parameter.description,
    )


def _numbers(choices: tuple[float, ...]) -> str:
    return ", ".join(f"{choice:g}" for choice in choices)


def _intervals(intervals: tuple[tuple[float, float], ...]) -> str:
    return " or ".join(f"[{low:.4g}, {high:.4g}]" for low, high in intervals)


COMMANDS = (ListFamilies, ShowFamily)
