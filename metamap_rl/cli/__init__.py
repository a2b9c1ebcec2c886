"""The command line `metamap`.

`app` finds the commands and turns errors into sentences, `command` is what a command is, `console` is how one talks,
and each module of `commands` is one group of commands. Nothing heavy is imported until a command's body runs.
"""

from metamap_rl.cli.app import main

__all__ = ["main"]
