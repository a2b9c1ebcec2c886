"""What MuJoCo does to a whole process: the choice of OpenGL, and warnings that would go to the working directory."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import metamap_envs
from metamap_envs import MetaMapError, opengl

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
RENDER = (
    "import gymnasium as gym, metamap_envs\n"
    "env = gym.make('MetaMap/ReacherGoal-v0', render_mode={mode!r})\n"
    "env.reset(seed=0)\n"
    "try:\n"
    "    print(env.render().shape)\n"
    "except metamap_envs.MetaMapError as error:\n"
    "    print(error)\n"
)
needs_egl = pytest.mark.skipif(not ctypes.util.find_library("EGL"), reason="EGL is not installed")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process without a display."""
    clean = {name: value for name, value in os.environ.items() if name not in DISPLAYS}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**clean, **environment}
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"MUJOCO_GL": "osmesa"},
        {"MUJOCO_GL": "nonsense"},
        {"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "nonsense"},
        {},
    ],
    ids=str,
)
def test_whatever_draws_the_simulator_works_and_the_environment_is_left_alone(environment: dict[str, str]) -> None:
    code = (
        "import os; before = {name: os.environ.get(name) for name in ('MUJOCO_GL',)}\n"
        "import gymnasium as gym, metamap_envs\n"
        "env = gym.make('MetaMap/ReacherGoal-v0'); env.reset(seed=0); env.step(env.action_space.sample())\n"
        "assert before == {name: os.environ.get(name) for name in before}\n"
        "gym.make('Reacher-v5').reset(seed=0)\n"
    )
    done = python(code, **environment)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MUJOCO_GL": "elg"}, "did you mean 'egl'?"),
        ({"MUJOCO_GL": "off"}, "MUJOCO_GL=off switches drawing off"),
        ({"MUJOCO_GL": "glfw"}, "MUJOCO_GL=glfw does not draw here"),
        ({"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "glx"}, "PYOPENGL_PLATFORM"),
        ({"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "999"}, "MUJOCO_EGL_DEVICE_ID"),
    ],
    ids=str,
)
@needs_egl
def test_where_nothing_draws_one_sentence_says_what_to_set(environment: dict[str, str], expected: str) -> None:
    done = python(RENDER.format(mode="rgb_array"), **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout
    assert "MUJOCO_GL" in done.stdout
    assert done.stdout.count("\n") == 1


@needs_egl
@pytest.mark.parametrize("environment", [{}, {"MUJOCO_GL": "", "DISPLAY": ":987"}, {"MUJOCO_GL": "EGL"}], ids=str)
def test_without_a_display_a_picture_is_drawn_by_egl(environment: dict[str, str]) -> None:
    if python(RENDER.format(mode="rgb_array"), MUJOCO_GL="egl").stdout != "(480, 480, 3)\n":
        pytest.skip("EGL is installed and does not draw here")
    assert python(RENDER.format(mode="rgb_array"), **environment).stdout == "(480, 480, 3)\n"


def test_a_window_without_a_display_is_refused_in_a_sentence() -> None:
    code = (
        RENDER.format(mode="human").replace("env.reset(seed=0)\n", "").replace("    print(env", "    env.reset(); (env")
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no window can be opened" in done.stdout
    assert "MUJOCO_GL" in done.stdout


def test_nothing_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(opengl, "_failures", {"glfw": "no display"})
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(MetaMapError, match="neither EGL nor OSMesa is installed"), opengl.drawing():
        pass
    assert "MUJOCO_GL" in opengl.opengl_failure()


DIVERGING = """
import mujoco, metamap_envs, numpy as np
from mujoco import batch
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body><freejoint/><geom size='.1' mass='1'/></body></worldbody></mujoco>"
)
many = batch.Batch(model, 8, 2, persistent=True)
velocities = many.bind("qvel")
many.reset()
velocities[...] = np.nan
many.step(nstep=3)
print(many.warning[..., 1].any())
"""


@pytest.mark.parametrize("action", ["default", "error", "ignore"])
def test_warnings_of_mujoco_leave_no_file_and_stop_nothing(
    action: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = python(DIVERGING, PYTHONWARNINGS=action)
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert done.stderr.count("The simulation is unstable") == (0 if action == "ignore" else 1), "once, not eight times"
    assert not list(tmp_path.iterdir())


def test_the_deprecation_of_gymnasiums_own_file_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = python("import metamap_envs, gymnasium; gymnasium.make('HalfCheetah-v5')")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_a_users_own_handler_of_warnings_is_kept() -> None:
    code = (
        "import mujoco\nseen = []\nhandler = seen.append\nmujoco.set_mju_user_warning(handler)\n"
        "import metamap_envs\nassert mujoco.get_mju_user_warning() == handler"
    )
    assert python(code).returncode == 0
    assert metamap_envs._mujoco
