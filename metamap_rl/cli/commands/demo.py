"""Demonstration on unseen tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import say
from metamap_rl.cli.usage import Metavar, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from metamap_rl.cli.console import Progress
    from metamap_rl.demo.demo import Measured, Row, Subject
    from metamap_rl.demo.folder import Settings
    from metamap_rl.viz.video import Video

__all__ = ["COMMANDS", "ORDER", "Demo"]

ORDER = 1
_SCRATCH_FAMILY = "reacher-goal"  # the small fast one
_LONGEST_TASK = 44  # characters
_ONLY_FROM_SCRATCH = ("train", "validation", "test_in", "base_timesteps", "timesteps", "updates")


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Generate policies for unseen tasks from a few transitions: table, plot and films.

    With the bundled mappers: draws unseen tasks, probes each for 200 steps, maps the first 0, 20, 50 and 200
    transitions to weights and evaluates all policies on the same 10 starts. With --from-scratch: first trains base
    policy, experts and mapper, in a few minutes; resumable.
    """

    name: ClassVar[str] = "demo"
    if_stopped: ClassVar[str] = "what was trained is kept, and the same command goes on from there"

    family: Annotated[tuple[str, ...], Metavar("NAME ...")] = ()
    """Families with a bundled mapper; default: three of them."""

    tasks: int = 3
    """Unseen tasks of each family, drawn with --seed; with --from-scratch use --test-in."""

    out: OutPath = None
    """Folder for the results; default runs/demo."""

    video: bool = True
    """Skip the videos."""

    from_scratch: bool = False
    """Train everything instead of using a bundled mapper; one family, default reacher-goal."""

    train: int = 24
    """From scratch: number of training experts."""

    validation: int = 4
    """From scratch: number of validation experts, for choosing the checkpoint."""

    test_in: int = 4
    """From scratch: number of experts of unseen tasks, shown in the table."""

    base_timesteps: int | None = None
    """From scratch: environment steps of the base policy; default: the recipe's."""

    timesteps: int | None = None
    """From scratch: environment steps of each expert; default: the recipe's."""

    updates: int | None = None
    """From scratch: updates of the mapper."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return "metamap families list"

    def run(self) -> int:
        """Measure, film, plot, write, print."""
        self._check()
        started = time.perf_counter()
        from metamap_rl.cli.console import print_json, progress

        with progress("loading", None):
            if self.video:
                from metamap_envs.opengl import choose_opengl

                choose_opengl()
            from metamap_rl.demo.demo import write_results

        settings, folder, subjects = self._prepare()
        results = [_measure(subject) for subject in subjects]
        videos = _film(results, folder) if self.video else {}
        document = write_results(folder, settings, results, videos, time.perf_counter() - started)
        if self.json:
            print_json(document)
        else:
            _print_results(results)
            _print_files(folder, document["files"], document["seconds"])
        return 0

    def _check(self) -> None:
        """Raise for flags without effect."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in _ONLY_FROM_SCRATCH:
            if not self.from_scratch and getattr(self, name) != defaults[name]:
                raise UsageError(f"--{name.replace('_', '-')} counts only together with --from-scratch")
        if self.from_scratch and len(self.family) > 1:
            raise UsageError(f"--from-scratch takes one family, got {', '.join(self.family)}")
        for name in _ONLY_FROM_SCRATCH:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(self, name)}")

    def _prepare(self) -> tuple[Settings, Path, list[Subject]]:
        """Mapper and experts of each family, loaded or trained, and the folder for the results."""
        from metamap_rl.cli.inputs import read_family
        from metamap_rl.demo.demo import bundled_subjects, train_subject
        from metamap_rl.demo.folder import Settings, claim_folder

        if not self.from_scratch:
            subjects = bundled_subjects(self.family, self.tasks, self.seed)
            settings = Settings(tuple(subject.family for subject in subjects), self.seed, self.tasks)
            return settings, claim_folder(self.out, settings), subjects
        family = read_family(self.family[0] if self.family else _SCRATCH_FAMILY).name
        own = {name: getattr(self, name) for name in _ONLY_FROM_SCRATCH}
        settings = Settings((family,), self.seed, self.test_in, from_scratch=True, **own)
        folder = claim_folder(self.out, settings)
        with _Bars(family) as bars:
            return settings, folder, [train_subject(folder, settings, bars.show)]


class _Bars:
    """Progress bars of the stages of a training, one after another."""

    def __init__(self, family: str) -> None:
        self._family, self._stack = family, ExitStack()
        self._stage, self._done = "", 0
        self._bar: Progress | None = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` units of a stage are done."""
        from metamap_rl.building.plan import STAGES
        from metamap_rl.cli.console import progress

        if stage != self._stage:
            self._stack.close()
            self._stage, self._done = stage, 0
            self._bar = self._stack.enter_context(progress(f"{self._family}: {stage}", total, unit=STAGES[stage]))
        if self._bar is not None:
            self._bar.advance(done - self._done)
        self._done = done


def _measure(subject: Subject) -> Measured:
    from metamap_rl.cli.console import progress
    from metamap_rl.demo.demo import measure

    with progress(f"{subject.family}: loading", None, unit="methods") as bar:

        def on_method(name: str) -> None:
            bar.advance()
            bar.describe(f"{subject.family}: {name}")

        return measure(subject, on_method)


def _film(results: Sequence[Measured], folder: Path) -> dict[str, Video]:
    """Record every family; a failure is reported and does not affect the others."""
    from metamap_envs.errors import MetaMapError
    from metamap_envs.opengl import opengl_failure
    from metamap_rl.cli.console import note, progress
    from metamap_rl.demo.demo import film

    videos = {}
    for measured in results:
        family = measured.subject.family
        with progress(f"{family}: video", 100.0, unit="%") as bar:
            try:
                videos[family] = film(measured, folder, on_frame=partial(_advance, bar))
            except MetaMapError as error:
                note(f"no video of {family}: {error}")
    if any(video.renderer == "planar" for video in videos.values()):
        note(f"the videos are flat drawings: {opengl_failure()}")
    return videos


def _advance(bar: Progress, _: int, total: int) -> None:
    bar.advance(100.0 / total)


def _print_results(results: Sequence[Measured]) -> None:
    """Print one table per family."""
    from metamap_rl.cli.console import print_table
    from metamap_rl.demo.demo import EPISODES, FILMED, SHOWN

    say(
        f"Returns on unseen tasks, means of {EPISODES} episodes from the same starts; the columns with steps are "
        "policies generated from that many steps of the task, with no gradient step.\n"
    )
    lengths = [f"{steps} steps" for steps in SHOWN]
    numbers = ("base policy", *lengths, "expert", f"gap closed at {FILMED}", "ms to map 200")
    least = ("ms to map 200", *(name for name in lengths if name != f"{FILMED} steps"))
    for measured in results:
        rows = [_cells(row) for row in measured.rows]
        print_table(("task", *numbers), rows, title=measured.subject.family, right=numbers, least=least)
        say()
    if any(row.unserved for measured in results for row in measured.rows):
        say("*: the self-check rejects the generated policy; `adapt` serves the base policy unless checks are off\n")
    if any(row.gap_closed is None for measured in results for row in measured.rows):
        say("-: no gap: the expert is not better than the base policy in a paired test\n")


def _cells(row: Row) -> tuple[str, ...]:
    """A row of the table, as text."""
    generated = (f"{value:.1f}{'*' * (steps in row.unserved)}" for steps, value in row.generated.items())
    closed = "-" if row.gap_closed is None else f"{row.gap_closed:.2f}"
    return (_task_name(row), f"{row.base:.1f}", *generated, f"{row.expert:.1f}", closed, f"{row.milliseconds:.2f}")


def _task_name(row: Row) -> str:
    """The task's parameters; if too many for a table, their number and the end of the task's id."""
    if len(row.parameters) <= _LONGEST_TASK:
        return row.parameters
    return f"{row.parameters.count('=')} parameters, {row.task.rpartition('-')[2]}"


def _print_files(folder: Path, files: Sequence[str], seconds: float) -> None:
    """Print the paths of the results."""
    say(f"{seconds:.0f} s; in {folder}: {', '.join(files)}")


COMMANDS = (Demo,)
