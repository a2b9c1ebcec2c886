"""Libraries that only an extra installs."""

from __future__ import annotations

import importlib
from types import ModuleType

from metamap_envs.errors import MetaMapError

__all__ = ["optional_module"]


def optional_module(name: str, extra: str) -> ModuleType:
    """Import a library that only an extra installs.

    Args:
        name: of the module.
        extra: of this distribution.

    Raises:
        MetaMapError: it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise MetaMapError(f"{missing} is not installed: pip install 'metamap-rl[{extra}]'") from None
