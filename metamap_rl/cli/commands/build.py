"""From a family to a mapper with one command."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from metamap_agents.experts.counts import TaskCounts
from metamap_rl.cli.command import Command, FamilyName
from metamap_rl.cli.console import log, say
from metamap_rl.cli.usage import Inline, Metavar

if TYPE_CHECKING:
    from metamap_rl.building.build import Build
    from metamap_rl.building.folder import BuildRecord
    from metamap_rl.building.plan import BuildPlan
    from metamap_rl.cli.console import Progress

__all__ = ["COMMANDS", "ORDER", "BuildMapper"]

ORDER = 15
_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class BuildMapper(Command):
    """Make a mapper from a family: base policy, experts, mapper, self-check and a page of results; resumable.

    Says first how long it will take. A policy whose return no longer improves is not trained further. Where experts are
    not better than the base policy there is nothing to adapt to: no mapper is made, and the exit code is 1.
    """

    name: ClassVar[str] = "build"
    if_stopped: ClassVar[str] = "what is finished is kept, the same command goes on from there"

    family: FamilyName
    """Path of the YAML file that declares the family, or the name of one."""

    out: Annotated[Path, Metavar("DIR")]
    """Folder for zoo, mapper, results and page."""

    counts: Inline[TaskCounts] = field(default_factory=TaskCounts)
    """Experts of each split."""

    base_timesteps: int | None = None
    """Most environment steps of base policy and universal policy, in place of the recipe's."""

    patience: int = 50
    """Rollouts of PPO without an improvement after which the training of a policy ends; 0 for no such rule."""

    updates: int | None = None
    """Updates of the mapper, in place of the recipe's."""

    survey_tasks: int | None = None
    """Tasks without experts that the mapper learns to tell apart, in place of the recipe's."""

    calibration_tasks: int | None = None
    """Tasks for calibrating the self-check, in place of the recipe's; 0 for no self-check."""

    workers: int = 0
    """Number of experts to train in parallel; 0 uses all cores."""

    def next_command(self) -> str | None:
        """See `Command`."""
        from metamap_rl.cli.inputs import adapt_example

        return adapt_example(str(self.out), self.family)

    def run(self) -> int:
        """Build what is missing; print what came of it."""
        from metamap_rl.building.build import Build, BuildEvents
        from metamap_rl.cli.console import print_json, progress

        with progress("loading", None):
            plan = self._plan()
        bars = _Bars()
        events = BuildEvents(
            on_part=lambda stage: bars.text(f"trying out: {stage}"),
            on_estimate=bars.estimated,
            on_stage=bars.show,
            on_plateau=bars.plateau,
        )
        build = Build(plan, self.out, events)
        bars.build = build
        with bars:
            record = build.run()
        if self.json:
            print_json(_document(build, record))
        else:
            _print(build, record)
        return 0 if record.outcome == "mapper" else 1

    def _plan(self) -> BuildPlan:
        from metamap_agents.experts.filling import RecipeOverrides
        from metamap_envs.errors import MetaMapError
        from metamap_rl.building.plan import BuildPlan
        from metamap_rl.cli.commands.mapper import calibration_of
        from metamap_rl.cli.inputs import read_family
        from metamap_rl.training.config import CalibrationConfig, MapperRecipe

        if self.patience < 0 or self.workers < 0:
            name, value = ("patience", self.patience) if self.patience < 0 else ("workers", self.workers)
            raise MetaMapError(f"--{name}: expected 0 or more, got {value}")
        base: dict[str, Any] = {"plateau": {"patience": self.patience}} if self.patience else {}
        if self.base_timesteps is not None:
            base["n_timesteps"] = self.base_timesteps
        changes = {"updates": self.updates, "survey_tasks": self.survey_tasks}
        recipe = MapperRecipe().changed(seed=self.seed, **{k: v for k, v in changes.items() if v is not None})
        tasks = CalibrationConfig.usual_tasks if self.calibration_tasks is None else self.calibration_tasks
        family = read_family(self.family).name
        return BuildPlan(
            family,
            self.seed,
            self.counts,
            RecipeOverrides(base=base),
            recipe,
            calibration_of(tasks, self.seed),
            self.workers,
        )


class _Bars:
    """Progress bars of the stages, one after another, and what is said about time."""

    def __init__(self) -> None:
        self.build: Build | None = None
        self._stack = ExitStack()
        self._stage, self._done = "", 0
        self._bar: Progress | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, text: str, total: float | None, unit: str = "") -> None:
        from metamap_rl.cli.console import progress

        self._stack.close()
        self._bar = self._stack.enter_context(progress(text, total, unit=unit))

    def text(self, text: str) -> None:
        """Show a line without an end."""
        self._open(text, None)

    def estimated(self, seconds: Mapping[str, float]) -> None:
        """Say how long the stages will take."""
        from metamap_rl.building.estimate import duration, in_words

        self._stack.close()
        if seconds:
            log(f"estimate: {duration(sum(seconds.values()))} at most ({in_words(seconds)})")

    def plateau(self, stage: str, steps: int, total: int) -> None:
        """Say that the training of a policy ended early."""
        self._stack.close()
        log(f"{stage}: ended after {steps:,} of {total:,} steps, its return no longer improved")

    def show(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of a stage are done."""
        from metamap_rl.building.estimate import duration
        from metamap_rl.building.plan import STAGES

        assert self.build is not None, "set before it runs"
        left = f"about {duration(self.build.clock.left)} left"
        if stage != self._stage:
            self._stack.close()
            log(f"{stage}: {left}")
            self._stage, self._done = stage, done
            self._open(stage, total, STAGES[stage])
        if self._bar is not None:
            self._bar.advance(done - self._done)
            self._bar.describe(f"{stage}, {left} in all")
        self._done = done


def _document(build: Build, record: BuildRecord) -> dict[str, Any]:
    """The record of the build and the evaluation as JSON."""
    return {"folder": build.folder, **record.document(), "results": build.results()}


def _print(build: Build, record: BuildRecord) -> None:
    from metamap_rl.building.estimate import duration
    from metamap_rl.building.page import PAGE

    assert record.experts is not None, "a finished build has compared them"
    say(record.experts["sentence"])
    results = build.results() if record.outcome == "mapper" else None
    if results is not None:
        _print_results(results)
    taken, expected = sum(record.seconds.values()), sum(record.estimate.values())
    cpu = duration(record.cpu_seconds)
    say(f"took {duration(taken)}, {cpu} of CPU time; estimated at the start: {duration(expected)} at most")
    say(f"{build.folder / PAGE}" + ("" if results is None else f"; the mapper is in {build.folder / 'mapper'}"))


def _print_results(results: Mapping[str, Any]) -> None:
    from metamap_rl.building.page import at_length
    from metamap_rl.evaluation.score_text import interval_text, ratio_text

    found = at_length(results, "mapper", _SHOWN)
    if found is not None:
        say(
            f"gap closed with {_SHOWN} transitions on {results['counted_tasks']} unseen tasks with a gap: "
            f"{interval_text(found['gap_closed'])}; ratio of sums {ratio_text(found['ratio_of_sums'])}"
        )
    least = results["served_from"]
    trusts = "trusts no length of D" if least is None else f"serves generated policies from {least} transitions on"
    say(f"self-check: {trusts}")


COMMANDS = (BuildMapper,)
