"""Families of environments and their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from metamap_rl.cli.command import Command, FamilyName, OutPath
from metamap_rl.cli.console import note, say, say_document
from metamap_rl.cli.usage import Metavar, Positional
from metamap_rl.common.bundles import BundleCard, bundle_card

if TYPE_CHECKING:
    from pathlib import Path

    from metamap_envs.family import Family
    from metamap_envs.parameters import Parameter
    from metamap_envs.task import Task

__all__ = ["COMMANDS", "ORDER", "CheckFamily", "InitFamily", "ListFamilies", "ShowFamily"]

ORDER = 10
_LEGEND = (
    "from: transitions from which the bundled mapper serves generated policies, empty where none is bundled. "
    "gap: share of the gap to the expert closed on unseen tasks with 50 transitions."
)


@dataclass(frozen=True, kw_only=True)
class ListFamilies(Command):
    """List the families: those of the package, and those that YAML files declare.

    For those with a bundled mapper it tells from how many transitions that serves, and the published gap closed.
    """

    name: ClassVar[str] = "list"

    def next_command(self) -> str | None:
        """See `Command`."""
        return "metamap families show cheetah-velocity"

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
                *_bundle_cells(bundle_card(family.name)),
                len(family.space),
                family.observation_size,
                family.action_size,
                family.horizon,
                family.description,
            )
            for family in families
        ]
        numbers = ("from", "gap", "parameters", "observation", "action", "horizon")
        least = ("horizon", "action", "observation", "parameters")
        print_table(("family", *numbers, "description"), rows, right=numbers, least=least)
        say(_LEGEND)
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

    def next_command(self) -> str | None:
        """See `Command`."""
        from metamap_rl.cli.inputs import adapt_example

        return adapt_example(self.family, self.family) if bundle_card(self.family) else None

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


@dataclass(frozen=True, kw_only=True)
class InitFamily(Command):
    """Draft a family's YAML file for an environment of Gymnasium, or list what could be varied in one.

    Looks at the constructor's arguments, the attributes and the MuJoCo model. The ranges in the file are proposals made
    from the environment's own values, each tried out and marked; put in what you expect.
    """

    name: ClassVar[str] = "init"

    environment: Annotated[Positional[str], Metavar("ENVIRONMENT")]
    """Id of the environment, or `module:id` to import the module that registers it, also from the working directory."""

    parameters: Annotated[tuple[str, ...], Metavar("NAME")] = ()
    """What is to vary; without any, what could vary is listed."""

    family: str | None = None
    """Name of the family; default the id in lower case."""

    out: OutPath = None
    """The file; default: it is printed."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return f"metamap families check {quote(str(self.out))}" if self.parameters and self.out else None

    def run(self) -> int:
        """List, or draft and write."""
        from pathlib import Path

        from metamap_agents.runtime.storage import claim_output
        from metamap_envs.from_gymnasium.candidates import find_candidates
        from metamap_envs.from_gymnasium.drafting import draft_family
        from metamap_envs.registry import list_families
        from metamap_rl.cli.commands._family_check import candidates_document, print_candidates
        from metamap_rl.cli.console import print_json

        if self.out is not None:
            claim_output(_family_file(self.out))
        if not self.parameters:
            known = find_candidates(self.environment, Path.cwd())
            if self.json:
                print_json(candidates_document(known))
            else:
                print_candidates(known)
            return 0
        taken = list_families()
        draft = draft_family(self.environment, self.parameters, Path.cwd(), name=self.family, taken=taken)
        for name, refusal in draft.refused.items():
            note(f"{name}: refused with the proposed values, change them: {refusal}")
        self._give(draft.text)
        return 0

    def _give(self, text: str) -> None:
        """Write or print the file."""
        from metamap_agents.runtime.storage import write_bytes
        from metamap_rl.cli.console import print_json

        if self.out is not None:
            write_bytes(self.out, text.encode())
        if self.json:
            print_json({"text": text, "out": self.out})
        elif self.out is None:
            say_document(text)
        else:
            say(f"wrote {self.out}; put in the ranges that you expect")


@dataclass(frozen=True, kw_only=True)
class CheckFamily(Command):
    """Check a family before training: its environment, what each parameter changes, how long a build will take.

    Runs the checkers of Gymnasium and Stable-Baselines3, changes each parameter over its range, times a step and a bit
    of each stage of `metamap build`, and looks whether random policies should differ between tasks. The exit code is 1
    if a checker refuses the environment or a parameter does nothing.
    """

    name: ClassVar[str] = "check"

    family: FamilyName
    """Path of the YAML file that declares the family, or the name of one."""

    times: bool = True
    """Skip the estimate of how long a build takes."""

    def next_command(self) -> str | None:
        """See `Command`."""
        name = self.family.rpartition("/")[2].partition(".")[0]
        return f"metamap build {quote(self.family)} --out {quote(name)}"

    def run(self) -> int:
        """Check, time, print."""
        from metamap_envs.sensitivity import measure_effects
        from metamap_rl.building.check import check_environment, measure_difference, step_seconds
        from metamap_rl.cli.console import print_json, progress
        from metamap_rl.cli.inputs import read_family

        family = read_family(self.family)
        with progress("checking", None) as bar:
            reports = check_environment(family)
            bar.describe("changing the parameters")
            effects = measure_effects(family, seed=self.seed)
            seconds = step_seconds(family, self.seed)
            bar.describe("comparing random policies")
            difference = measure_difference(family, seed=self.seed)
            bar.describe("timing")
            stages = _stage_seconds(family.name, self.seed) if self.times else {}
        document = {
            "family": family.name,
            "checkers": reports,
            "effects": effects,
            "step_seconds": seconds,
            "build_seconds": stages,
            "difference": difference,
        }
        bad = any(report.error for report in reports) or any(each.does_nothing for each in effects)
        if self.json:
            print_json({**document, "passed": not bad})
        else:
            _print_check(family, document)
        return 1 if bad else 0


def _family_file(out: Path) -> Path:
    """Refuse a name by which no command would know the file for a family's."""
    from metamap_envs.errors import MetaMapError
    from metamap_envs.registry import is_family_file

    if not is_family_file(str(out)):
        raise MetaMapError(f"--out: expected a name that ends in .yml or .yaml, got {str(out)!r}")
    return out


def _stage_seconds(family: str, seed: int) -> dict[str, float]:
    """Seconds of each stage of a build with the usual settings."""
    from metamap_rl.building.estimate import rehearse
    from metamap_rl.building.plan import BuildPlan

    return rehearse(BuildPlan(family, seed))


def _print_check(family: Family, document: dict[str, Any]) -> None:
    from metamap_rl.building.estimate import duration, in_words
    from metamap_rl.cli.commands._family_check import print_checkers, print_effects

    say(f"{family.name}: {family.description}")
    print_checkers(document["checkers"])
    print_effects(document["effects"])
    step, stages = document["step_seconds"], document["build_seconds"]
    say(f"a step takes {1e6 * step:.0f} us: {1 / step:,.0f} steps/s")
    if stages:
        say(f"metamap build takes at most {duration(sum(stages.values()))}: {in_words(stages)}")
    say(f"something to adapt to? {document['difference'].sentence()}")


def _bundle_cells(card: BundleCard | None) -> tuple[str, str]:
    """Transitions from which a bundled mapper serves, and its gap closed."""
    if card is None:
        return "", ""
    served = "never" if card.served_from is None else str(card.served_from)
    return served, "" if card.gap_closed is None else f"{card.gap_closed:.2f}"


def _summary(family: Family) -> dict[str, Any]:
    """Sizes of the family as JSON."""
    card = bundle_card(family.name)
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
        "bundled": card is not None,
        "served_from": card and card.served_from,
        "gap_closed": card and card.gap_closed,
    }


def _document(family: Family, tasks: list[Task]) -> dict[str, Any]:
    """Everything that `show` prints, as JSON."""
    from metamap_envs.reward_text import reward_text

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
    return {**_summary(family), "reward": reward_text(family), "parameters": parameters, "tasks": drawn}


def _print_family(family: Family, tasks: list[Task], found_by: str) -> None:
    """Print sizes, parameters and tasks; ``found_by`` says how other processes find the family."""
    from metamap_envs.reward_text import reward_text
    from metamap_rl.cli.console import print_table

    say(f"{family.name}: {family.description}\n")
    say(f"  Gymnasium id   metamap_envs:{family.gym_id}{found_by}")
    steps = f", {family.frame_skip} MuJoCo steps per step" if family.frame_skip else ""
    say(f"  physics of     {family.base_id}{steps}")
    say(f"  observation    {family.observation_size} numbers; the parameters are hidden, never among them")
    say(f"  action         {family.action_size} numbers")
    say(f"  horizon        {family.horizon} steps")
    say(f"  reward         {reward_text(family).replace('``', '')}")
    if card := bundle_card(family.name):
        served, gap = _bundle_cells(card)
        serves = "never serves" if card.served_from is None else f"serves from {served} transitions"
        say(f"  mapper         bundled, {serves}, gap closed {gap or 'undefined'}")
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


COMMANDS = (ListFamilies, ShowFamily, InitFamily, CheckFamily)
