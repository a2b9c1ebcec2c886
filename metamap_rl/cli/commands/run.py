"""Run a mapper's adapter in the simulator while the task changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import note, say
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.demo.service import ServiceDemo

__all__ = ["COMMANDS", "ORDER", "Run"]

ORDER = 45


@dataclass(frozen=True, kw_only=True)
class Run(Command):
    """Run a mapper's adapter in the simulator while the task changes, beside base policy, held policy and oracle.

    The schedule is a YAML file, such as `changes: [{step: 200, parameters: {sign_fthigh: -1}}]`; without one the task
    is replaced every 200 steps by one of the split test-in. All start in the same state and see the same changes. The
    oracle is the universal policy given the true task, at once; mappers without a universal policy have none. "Held"
    is the adapter's policy at the first change, kept from there.
    With `--out` the folder holds run.json, curves.png, film.mp4 (20 s around the first change) and replay.html, the
    whole run in any browser.
    """

    name: ClassVar[str] = "run"

    mapper: Annotated[Positional[str], Metavar("MAPPER")]
    """Folder of the mapper, or the name of a bundled one."""

    schedule: Annotated[Path | None, Metavar("FILE")] = None
    """Schedule of tasks (YAML)."""

    parameters: Annotated[tuple[str, ...], Metavar("NAME=VALUE")] = ()
    """First task; other parameters have their defaults."""

    steps: int = 800
    """Environment steps."""

    set: Annotated[tuple[str, ...], Metavar("KEY=VALUE")] = ()
    """Settings of the adapter, such as `blend=5` or `check=false`."""

    video: bool = True
    """Skip the film."""

    out: OutPath = None
    """Folder for the results; nothing is written without it."""

    def next_command(self) -> str | None:
        """See `Command`."""
        return (
            f"metamap play {quote(self.mapper)}"
            if self.out is None
            else f"metamap play --replay {quote(str(self.out))}"
        )

    def run(self) -> int:
        """Run, show, write, print."""
        from metamap_agents.runtime.storage import claim_output
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.console import live, print_json

        if self.steps < 1:
            raise MetaMapError(f"--steps: expected at least 1, got {self.steps}")
        if self.out is not None:
            claim_output(self.out)
            if self.video:
                from metamap_envs.opengl import choose_opengl

                choose_opengl()
        demo = self._demo()
        if self.schedule is not None and not demo.changes:
            note(f"{self.schedule}: nothing changes within {self.steps} steps")
        with live() as view:
            demo.run(lambda step: view.update(demo.lines(step), step == self.steps or demo.is_news(step)))
        document = demo.document()
        if self.out is not None:
            self._write(demo, document)
        if self.json:
            print_json(document)
        else:
            for line in demo.table():
                say(line)
            written = (
                f"written  {self.out}"
                if self.out is not None
                else "nothing was written; --out DIR keeps curves and film"
            )
            say(written)
        return 0

    def _demo(self) -> ServiceDemo:
        from metamap_envs.registry import get_family
        from metamap_envs.settings import parse
        from metamap_rl.adaptation.bundled import find_mapper
        from metamap_rl.adaptation.service.config import AdapterConfig
        from metamap_rl.cli.inputs import read_arguments, read_numbers
        from metamap_rl.demo.service import ServiceDemo, tasks_of

        mapper, folder = find_mapper(self.mapper)
        config = parse(AdapterConfig, read_arguments(self.set, "--set"), "--set")
        family = get_family(mapper.family)
        first = family.task(read_numbers(self.parameters, "--parameters")) if self.parameters else None
        tasks = tasks_of(family, self.schedule, first, self.steps, self.seed)
        keep = self.out is not None
        return ServiceDemo(mapper, tasks, config, seed=self.seed, source=str(folder), keep_positions=keep)

    def _write(self, demo: ServiceDemo, document: dict[str, Any]) -> None:
        """Write all files or none."""
        from metamap_agents.runtime.storage import write_json
        from metamap_rl.cli.console import progress
        from metamap_rl.common.folders import whole_folder

        assert self.out is not None, "the caller looks"
        with whole_folder(self.out) as folder:
            write_json(folder / "run.json", document)
            demo.plot(folder / "curves.png")
            demo.replay(folder / "replay.html")
            if self.video:
                with progress("filming", None, unit="frames") as bar:
                    demo.film(folder / "film.mp4", lambda done, total: bar.advance())


COMMANDS = (Run,)
