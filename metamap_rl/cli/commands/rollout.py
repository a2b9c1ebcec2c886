"""Recordings of transitions: what they hold, and conversion to a rollout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from metamap_rl.cli.command import Command, OutPath
from metamap_rl.cli.console import say
from metamap_rl.cli.recordings import RecordingFlags, log_document, print_columns, tell
from metamap_rl.cli.usage import Metavar, Positional

if TYPE_CHECKING:
    from metamap_rl.adaptation.log_check import LogCheck
    from metamap_rl.data.recordings import Recorded

__all__ = ["COMMANDS", "ORDER", "ConvertRollout", "ShowRollout"]

ORDER = 42


@dataclass(frozen=True, kw_only=True)
class _RecordingCommand(Command):
    """Base of commands that read a recording."""

    name: ClassVar[str] = ""

    recording: Annotated[Positional[Path], Metavar("RECORDING")]
    """File (.csv, .npz, .parquet, .hdf5, .safetensors) or folder of a data set (Minari, LeRobot)."""

    family: Annotated[str | None, Metavar("FAMILY")] = None
    """Family whose observations and actions it holds, a name or a YAML file; default: that of mapper or file."""

    mapper: Annotated[str | None, Metavar("MAPPER")] = None
    """Mapper (folder or name) with whose training the columns are compared."""

    flags: Annotated[RecordingFlags, "inline"] = field(default_factory=RecordingFlags)

    def read(self) -> tuple[Recorded, LogCheck | None]:
        """The recording, and its comparison with the mapper if one is given."""
        from metamap_envs.errors import MetaMapError
        from metamap_rl.cli.inputs import read_family
        from metamap_rl.data.recordings import read_rollout

        family = None if self.family is None else read_family(self.family).name
        mapping = self.flags.read()
        if self.mapper is None:
            return read_rollout(self.recording, family, mapping), None
        from metamap_rl.adaptation.bundled import find_mapper
        from metamap_rl.adaptation.log_check import check_log

        mapper, _ = find_mapper(self.mapper)
        if family is not None and family != mapper.family:
            raise MetaMapError(f"--family: expected {mapper.family!r}, that of the mapper, got {family!r}")
        recorded = read_rollout(self.recording, mapper.family, mapping, needs_rewards=mapper.config.reward)
        return recorded, check_log(mapper, recorded)


@dataclass(frozen=True, kw_only=True)
class ShowRollout(_RecordingCommand):
    """Show a recording: transitions, episodes, columns and what looks unusual."""

    name: ClassVar[str] = "show"

    def run(self) -> int:
        """Read and print."""
        from metamap_rl.cli.console import print_json, print_table

        recorded, check = self.read()
        if self.json:
            print_json(log_document(recorded, check))
            return 0
        _print_summary(recorded)
        if check is not None:
            print_columns(check.columns)
        else:
            rows = [(name, *(f"{number:.3g}" for number in numbers)) for name, *numbers in _statistics(recorded)]
            numbers = ("mean", "sd", "lowest", "highest")
            print_table(("column", *numbers), rows, right=numbers)
        tell(recorded, check)
        return 0


@dataclass(frozen=True, kw_only=True)
class ConvertRollout(_RecordingCommand):
    """Write a recording as a rollout (.safetensors), for `metamap adapt --rollout`."""

    name: ClassVar[str] = "convert"

    out: OutPath = None
    """File to write; default: the recording's name with .safetensors, in the working directory."""

    def run(self) -> int:
        """Read, write, print."""
        from metamap_agents.runtime.storage import claim_output
        from metamap_rl.cli.console import print_json
        from metamap_rl.data.rollout_files import save_rollout

        out = self.out or Path(f"{self.recording.resolve().stem}.safetensors")
        claim_output(out)
        recorded, check = self.read()
        save_rollout(out, recorded.rollout)
        if self.json:
            print_json({**log_document(recorded, check), "path": out})
            return 0
        tell(recorded, check)
        _print_summary(recorded)
        say(f"written    {out}")
        return 0


def _print_summary(recorded: Recorded) -> None:
    """Print sizes."""
    time = "" if recorded.seconds is None else f", {recorded.seconds:.4g} s apart"
    episodes = f"{recorded.episodes} episode" + ("s" if recorded.episodes != 1 else "")
    say(f"family     {recorded.rollout.family}")
    say(f"read       {len(recorded.rollout)} transitions in {episodes}{time}")


def _statistics(recorded: Recorded) -> list[tuple[str, float, float, float, float]]:
    """Name, mean, standard deviation, lowest and highest value of each column."""
    import numpy as np

    rollout = recorded.rollout
    table = np.concatenate([rollout.observations, rollout.actions, rollout.rewards[:, None]], axis=1).astype(float)
    names = (*recorded.observations, *recorded.actions, "rewards")
    numbers = (table.mean(axis=0), table.std(axis=0), table.min(axis=0), table.max(axis=0))
    return list(zip(names, *(each.tolist() for each in numbers), strict=True))


COMMANDS = (ShowRollout, ConvertRollout)
