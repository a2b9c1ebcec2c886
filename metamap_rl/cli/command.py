"""Base class of commands: a frozen dataclass whose fields are the flags and whose `run` does the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from metamap_rl.cli.usage import Metavar, Positional

__all__ = ["Command", "FamilyName", "OutPath"]

FamilyName = Annotated[Positional[str], Metavar("FAMILY")]
"""A family's name as a positional argument."""

OutPath = Annotated[Path | None, Metavar("PATH")]
"""Where results are written; None is the command's default."""


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """Base of all commands. The subclass's docstring and those of its fields are its help.

    Modules of commands import only the standard library and this package, and `run` imports the rest, so that help and
    errors are immediate.

    Attributes:
        name: word on the command line, after the group's name if the group has several commands.
        if_stopped: end of the sentence "stopped; ..." after Ctrl-C: what remains, and how to resume.
    """

    name: ClassVar[str]
    if_stopped: ClassVar[str] = "nothing was written"

    seed: int = 0
    """Random seed."""

    json: bool = False
    """Print one JSON document to standard output, and nothing else."""

    def next_command(self) -> str | None:
        """What most users run after this command has succeeded, as they would type it; None for nothing in particular.

        It is printed below what is meant for people, never with `--json`.
        """
        return None

    @abstractmethod
    def run(self) -> int:
        """Do the work.

        Returns:
            The exit code: 0 for success, 1 for a negative answer (as of `doctor`).

        Raises:
            MetaMapError: invalid input; printed as one sentence, exit code 2.
        """
