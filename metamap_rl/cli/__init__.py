"""The command line `metamap`.

`app` finds and runs commands and reports errors, `command` holds their base class, `console` their output, and each
module of `commands` one group of commands. Heavy modules are imported only when a command runs.
"""

from metamap_rl.cli.app import main

__all__ = ["main"]
