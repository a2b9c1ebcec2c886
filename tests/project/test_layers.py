"""The arrows between the packages, and what an import may cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "stable_baselines3", "gymnasium", "mujoco", "matplotlib", "scipy", "pydantic")


def modules_after(statement: str, *, blocked: tuple[str, ...] = ()) -> set[str]:
    """Runs `statement` in a fresh interpreter where importing `blocked` fails; returns what got imported."""
    block = "".join(f"sys.modules[{name!r}] = None; " for name in blocked)
    code = f"import sys; {block}\n{statement}\nprint(*(n for n, m in sys.modules.items() if m is not None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_environments_work_without_torch() -> None:
    loaded = modules_after("import metamap_envs", blocked=("torch", "stable_baselines3"))
    assert not loaded & {"torch", "stable_baselines3", "metamap_agents", "metamap_rl"}


def test_environments_import_no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")  # else mujoco itself imports the one that the variable names
    loaded = modules_after("import metamap_envs")
    assert not loaded & {"OpenGL", "glfw", "imageio", "matplotlib"}


@pytest.mark.parametrize("module", ["metamap_rl", "metamap_rl.cli"])
def test_top_level_imports_are_light(module: str) -> None:
    assert not modules_after(f"import {module}") & set(HEAVY)


def test_every_module_that_is_portable_is_there(pytestconfig: pytest.Config) -> None:
    conftest = pytestconfig.pluginmanager.get_plugin(str(pytestconfig.rootpath / "tests" / "conftest.py"))
    modules = {path.stem.removeprefix("test_") for path in (pytestconfig.rootpath / "tests").rglob("test_*.py")}
    assert not conftest.PORTABLE - modules
