"""What a command is: a frozen dataclass whose fields are the flags and whose `run` does the work."""

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
"""Where results are written; None is the command's own default place."""


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """Base of all commands. The subclass's docstring and those of its fields are its help.

    Bodies import what they need; the modules of commands import nothing but the standard library and this package, so
    that each command's help and errors come at once.

    Attributes:
        name: what the user types, after the group's name if the group has several commands.
        if_stopped: ends the sentence "stopped; ..." that Ctrl-C prints: what remains, and how to go on.
    """

    name: ClassVar[str]
    if_stopped: ClassVar[str] = "nothing was written"

    seed: int = 0
    """Seed of everything that is drawn at random."""

    json: bool = False
    """Print one JSON document to standard output, and nothing else."""

    @abstractmethod
    def run(self) -> int:
        """Do the work.

        Returns:
            The exit code: 0 for success, 1 if the answer is "no" (as for a doctor who finds an illness).

        Raises:
            MetaMapError: bad input; the user sees the sentence, and exit code 2.
        """
