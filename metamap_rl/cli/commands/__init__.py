"""One module per group of commands, found by its name: `families.py` is `metamap families ...`.

A module has a docstring, whose first line is the group's help, and a tuple `COMMANDS` of `Command` classes. If that is
a single class named like the module, it is called without a second word: `metamap doctor`. `ORDER` (optional, default
100) sorts the groups in the help. All of these, and each class's `name`, are literals: the help reads them from the
source (`metamap_rl.cli.outline`). Modules whose name starts with an underscore are helpers.
"""
