"""Completion of commands, flags and family names in a shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from metamap_rl.cli.command import Command
from metamap_rl.cli.usage import Metavar, Positional

__all__ = ["COMMANDS", "ORDER", "PrintCompletion"]

ORDER = 91


@dataclass(frozen=True, kw_only=True)
class PrintCompletion(Command):
    """Print a script that completes commands, flags and family names in bash or zsh.

    In ~/.bashrc: source <(metamap completion bash). In ~/.zshrc: source <(metamap completion zsh). A file that holds
    the script saves a second at each start of the shell.
    """

    name: ClassVar[str] = "completion"

    shell: Annotated[Positional[Literal["bash", "zsh"]], Metavar("SHELL")]
    """bash or zsh."""

    def run(self) -> int:
        """Print it."""
        from metamap_envs.registry import list_families
        from metamap_rl.cli.completion import bash_script, zsh_script
        from metamap_rl.cli.console import print_json
        from metamap_rl.cli.standard_output import write

        script = {"bash": bash_script, "zsh": zsh_script}[self.shell](list_families())
        if self.json:
            print_json({"shell": self.shell, "script": script})
        else:
            write(script)
        return 0


COMMANDS = (PrintCompletion,)
