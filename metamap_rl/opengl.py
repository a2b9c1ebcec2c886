"""Which OpenGL draws here. Imports nothing but the standard library: it must be asked before mujoco is imported."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import tempfile

__all__ = ["choose_opengl"]

_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # those that need no display
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


def choose_opengl() -> None:
    """Set ``MUJOCO_GL`` to a back end that draws without a display, tried in a process of its own.

    MuJoCo reads the variable when it is imported for the first time, and a driver may crash the process that tries it.
    Nothing is done where the user has set the variable, mujoco has been imported, or the system (not Linux) has one
    back end only. Where none works it is "off", so that importing mujoco does not fail for the lack of one.
    """
    if "MUJOCO_GL" in os.environ or "mujoco" in sys.modules or sys.platform != "linux":
        return
    candidates = [name for name, library in _LIBRARIES.items() if ctypes.util.find_library(library)]
    os.environ["MUJOCO_GL"] = next(filter(_draws, candidates), "off")


def _draws(back_end: str) -> bool:
    """Whether a picture that is not black comes out."""
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes its log into the working directory
        try:
            done = subprocess.run(
                [sys.executable, "-c", _DRAW],
                env={**os.environ, "MUJOCO_GL": back_end},
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
