"""Imports MuJoCo so that it works wherever Python does. Imported first by the package.

Two of MuJoCo's habits concern the whole process. It loads OpenGL when it is imported, and ``import mujoco`` fails
where ``MUJOCO_GL`` names a back end that is not there, although nothing may ever be drawn. And it writes its warnings
to ``MUJOCO_LOG.TXT`` in the working directory.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import warnings
from collections.abc import Iterator

__all__ = ["as_before_if_it_fails", "warn_once"]

_BACK_END, _PLATFORM = "MUJOCO_GL", "PYOPENGL_PLATFORM"
_IGNORED = "settotalmass"  # a deprecation in Gymnasium's half_cheetah.xml, given each time it is read
_NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")

_warned: set[str] = set()


def warn_once(message: str) -> None:
    """Turn a warning of MuJoCo into one of Python, once for each kind: they differ in times and indices.

    MuJoCo calls this from the threads that simulate; an exception there would end the process.
    """
    kind = _NUMBER.sub("#", message)
    if kind in _warned or _IGNORED in message:
        return
    _warned.add(kind)
    try:
        warnings.warn(f"MuJoCo: {message}", RuntimeWarning, stacklevel=2)
    except RuntimeWarning as error:  # where warnings are errors
        sys.stderr.write(f"{error}\n")


@contextlib.contextmanager
def as_before_if_it_fails() -> Iterator[None]:
    """Undo what a back end of OpenGL that fails in the block leaves: a variable, and modules bound to that back end."""
    platform, modules = os.environ.get(_PLATFORM), set(sys.modules)
    try:
        yield
    except Exception:
        if platform is None:
            os.environ.pop(_PLATFORM, None)
        else:
            os.environ[_PLATFORM] = platform
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] == "OpenGL":
                del sys.modules[name]
        raise


def _import() -> None:
    """Import MuJoCo; without OpenGL if what ``MUJOCO_GL`` names fails. `metamap_envs.opengl` tells who draws."""
    try:
        with as_before_if_it_fails():
            importlib.import_module("mujoco")
    except (AttributeError, ImportError, OSError, RuntimeError, TypeError):  # PyOpenGL fails in many ways
        wanted = os.environ.get(_BACK_END)
        if wanted is None:
            raise
        os.environ[_BACK_END] = "disable"
        try:
            importlib.import_module("mujoco")  # what is wrong with MuJoCo itself is raised here
        finally:
            os.environ[_BACK_END] = wanted


def _handle_warnings() -> None:
    """Handle MuJoCo's warnings, unless a handler is installed already."""
    import mujoco

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(warn_once)


_import()
_handle_warnings()
