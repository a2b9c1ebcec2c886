"""Choice of an OpenGL back end, with a one-sentence error where none works."""

from __future__ import annotations

import ctypes.util
import functools
import importlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from metamap_envs._mujoco import as_before_if_it_fails
from metamap_envs.errors import MetaMapError, one_line, unknown_name

__all__ = ["back_end_failure", "choose_opengl", "drawing", "opengl_failure"]

_VARIABLE = "MUJOCO_GL"
_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # those that need no display
_BACK_ENDS = ("egl", "osmesa", "glfw")
_ON, _OFF = ("", "enable", "enabled", "on", "true", "1"), ("disable", "disabled", "off", "false", "0")  # MuJoCo's words
_ADVICE = "`metamap doctor` tells which of egl, osmesa and glfw work here"
_SECONDS = 30.0  # a driver may hang

# os._exit: some drivers crash while they are taken down, after all is drawn.
_DRAW = """
import os, mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light/><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(data)
os._exit(0 if renderer.render().any() else 1)
"""

_failures: dict[str, str] = {}  # of each back end; a second try in the same process can abort it (MuJoCo 4.0)


@contextmanager
def drawing(*, window: bool = False) -> Iterator[None]:
    """Make ``MUJOCO_GL`` name a back end that can be used while the block creates a renderer.

    What the user has set is taken. Otherwise it is GLFW where there is a display, else EGL or OSMesa, whichever is
    installed. The variable is as before after the block.

    Args:
        window: the picture goes to a window, which only GLFW opens.

    Raises:
        MetaMapError: the back end cannot be loaded, none is there, or the block fails to draw.
    """
    back_end = "glfw" if window else _back_end()
    failure = back_end_failure(back_end)
    if window and failure:
        raise MetaMapError(
            f"no window can be opened ({failure}); render_mode='rgb_array' draws without a display, with MUJOCO_GL=egl"
        )
    if failure:
        raise MetaMapError(_sentence(back_end, failure))
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = back_end
    try:
        _use_in_mujoco(back_end)
        yield
    except MetaMapError:
        raise
    except Exception as error:  # drivers and their bindings fail with exceptions of every kind
        reason = f"{type(error).__name__}: {one_line(error)}"
        if not isinstance(error, ValueError | TypeError):  # of arguments; other pictures may be drawn
            _failures[back_end] = reason
        raise MetaMapError(_sentence(back_end, reason)) from error
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def opengl_failure() -> str:
    """Why nothing can be drawn here by OpenGL, in a sentence; "" if a back end can be loaded."""
    try:
        with drawing():
            return ""
    except MetaMapError as error:
        return str(error)


def choose_opengl() -> None:
    """Set ``MUJOCO_GL`` to a back end that draws without a display, tried in a process of its own.

    A driver may crash the process that tries it. Nothing is done where the user has set the variable or the system
    (not Linux) has one back end only. Where none works it is "off".
    """
    if _VARIABLE in os.environ or sys.platform != "linux":
        return
    candidates = [name for name, library in _LIBRARIES.items() if ctypes.util.find_library(library)]
    os.environ[_VARIABLE] = next(filter(_draws, candidates), "off")


def _draws(back_end: str) -> bool:
    """Whether a picture that is not black comes out."""
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes its log into the working directory
        try:
            done = subprocess.run(
                [sys.executable, "-c", _DRAW],
                env={**os.environ, _VARIABLE: back_end},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == 0


def _back_end() -> str:
    """The back end that the user has set, or the first that may work.

    Raises:
        MetaMapError: the user has switched drawing off or set something else, or no back end is installed.
    """
    given = os.environ.get(_VARIABLE, "")
    wanted = given.lower().strip()
    if wanted in _OFF:
        raise MetaMapError(f"MUJOCO_GL={given} switches drawing off; unset it, or set MUJOCO_GL=egl")
    if wanted in ("glx", "wgl", "cgl"):
        return "glfw"
    if wanted not in _ON:
        if wanted not in _BACK_ENDS:
            raise MetaMapError(f"MUJOCO_GL: {unknown_name('back end', given, _BACK_ENDS)}; {_ADVICE}")
        return wanted
    if sys.platform != "linux" or not back_end_failure("glfw"):
        return "glfw"
    for name, library in _LIBRARIES.items():
        if ctypes.util.find_library(library):
            return name
    raise MetaMapError(
        "no OpenGL draws here: there is no display, and neither EGL nor OSMesa is installed; install one, on Debian "
        "`apt-get install libegl1 libgl1-mesa-dri`, and set MUJOCO_GL=egl"
    )


def back_end_failure(back_end: str) -> str:
    """Why a back end cannot be used in this process; "" if it can."""
    if back_end not in _failures:
        _failures[back_end] = _tried(back_end)
    return _failures[back_end]


def _tried(back_end: str) -> str:
    """Load a back end and make a context; returns why that fails, or ""."""
    try:
        with warnings.catch_warnings(), as_before_if_it_fails():
            warnings.simplefilter("ignore")  # of a back end that is being given up
            if back_end == "glfw":
                return "" if importlib.import_module("glfw").init() else "GLFW finds no display"
            context = importlib.import_module(f"mujoco.{back_end}").GLContext(16, 16)
            context.make_current()
            context.free()
    except Exception as error:  # noqa: BLE001  # drivers and their bindings fail with exceptions of every kind
        library = _LIBRARIES.get(back_end)
        if library is not None and not ctypes.util.find_library(library):
            return f"{library} is not installed"
        return f"{type(error).__name__}: {one_line(error)}".rstrip(". ")
    return ""


@functools.cache
def _use_in_mujoco(back_end: str) -> None:
    """Make `mujoco.Renderer` draw with a back end: MuJoCo has read the variable when it was imported."""
    try:
        contexts = importlib.import_module("mujoco.rendering.classic.gl_context")
    except ImportError:
        return
    importlib.reload(contexts)


def _sentence(back_end: str, reason: str) -> str:
    given = os.environ.get(_VARIABLE, "")
    if not given:
        return f"no OpenGL draws here: with MUJOCO_GL={back_end} it fails ({reason}); {_ADVICE}"
    return f"MUJOCO_GL={given} does not draw here ({reason}); unset it or set another one: {_ADVICE}"
