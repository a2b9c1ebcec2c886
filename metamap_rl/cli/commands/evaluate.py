"""The protocol: families, methods, seeds and lengths of D in one resumable run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from metamap_rl.cli.command import Command
from metamap_rl.cli.console import say, say_document
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.evaluation.protocol import ProtocolConfig

__all__ = ["COMMANDS", "ORDER", "Evaluate"]

ORDER = 35


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Run the protocol: methods on the same tasks, with several seeds and lengths of D, and PPO on single tasks.

    Every finished cell is a file in the run's directory, so the same command resumes a stopped run, and more families,
    methods or seeds extend it. Tables and figures of all finished cells are written beside them.
    """

    name: ClassVar[str] = "evaluate"
    if_stopped: ClassVar[str] = "finished cells are kept, the same command goes on from there"

    config: Annotated[Positional[Path | None], Metavar("CONFIG")] = None
    """A YAML file, as in scripts/protocol; without one, defaults with the families of --families."""

    zoo: Annotated[Path, Metavar("ROOT")]
    """Folder with a zoo for each family, named like it, or with --zoos FAMILY-0, FAMILY-1, ...; or one zoo."""

    out: Annotated[Path, Metavar("RUN")]
    """The run's directory."""

    families: Annotated[tuple[str, ...], Metavar("NAME")] = ()
    """Families, in place of the config's."""

    methods: Annotated[tuple[str, ...], Metavar("NAME")] = ()
    """Methods, in place of the config's."""

    zoos: int | None = None
    """Number of zoos of each family, in place of the config's."""

    seeds: int | None = None
    """Number of seeds, in place of the config's: methods trained again with another D and the same base policy, experts
    and survey."""

    seed: int = 0
    """First seed."""

    workers: int = 0
    """Number of cells to run in parallel; 0 uses all cores."""

    executor: Literal["local", "ray"] = "local"
    """Executor of cells: local processes or Ray."""

    ray_address: Annotated[str | None, Metavar("ADDRESS")] = None
    """Address of a running Ray cluster; default: start a local Ray."""

    def run(self) -> int:
        """Run what is missing, write and print the results."""
        from metamap_agents.runtime.executors import make_executor
        from metamap_rl.cli.console import print_json, progress
        from metamap_rl.evaluation.protocol import open_run, run_protocol
        from metamap_rl.evaluation.protocol.results import write_results

        config = self._config()
        with (
            make_executor(self.executor, self.workers, self.ray_address) as executor,
            progress("evaluating", None, unit="cells") as bar,
        ):

            def on_cell(name: str, done: int, total: int) -> None:
                bar.advance()
                bar.describe(f"{done} of {total} cells so far; {name}")

            run_protocol(config, self.zoo, self.out, executor, on_cell)
        summary, text = write_results(open_run(self.out))
        if self.json:
            print_json(summary)
        else:
            say_document(text)
            say(f"\nnumbers, tables and figures are in {self.out}")
        return 0

    def _config(self) -> ProtocolConfig:
        from metamap_envs.errors import MetaMapError
        from metamap_envs.settings import parse
        from metamap_rl.evaluation.protocol import ProtocolConfig, load_protocol

        changes: dict[str, Any] = {}
        changes |= {"families": self.families} if self.families else {}
        changes |= {"methods": self.methods} if self.methods else {}
        changes |= {"zoos": self.zoos} if self.zoos is not None else {}
        changes |= {"seeds": self.seeds} if self.seeds is not None else {}
        changes |= {"first_seed": self.seed} if self.seed else {}
        if self.config is not None:
            return load_protocol(self.config, **changes)
        if not self.families:
            raise MetaMapError("evaluate needs a config or --families")
        config = parse(ProtocolConfig, changes, "metamap evaluate")
        config.check()
        return config


COMMANDS = (Evaluate,)
