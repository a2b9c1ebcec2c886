"""How scripts are run: bad input and files that cannot be had are one sentence on standard error and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from metamap_envs.errors import MetaMapError, one_line


def run_script(main: Callable[[], int | None]) -> None:
    """Call ``main`` and end the process with what it returns.

    A `MetaMapError` or `OSError` ends it with 2, told in a line that begins with the script's name.
    """
    try:
        code = main()
    except MetaMapError as error:
        code = _complain(one_line(error))
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        code = _complain(f"{error.filename}: {error.strerror}" if named else one_line(error))
    sys.exit(code)


def _complain(sentence: str) -> int:
    print(f"{Path(sys.argv[0]).name}: {sentence}", file=sys.stderr)
    return 2
