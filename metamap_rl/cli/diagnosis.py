"""Checks of `metamap doctor`. Checks that could crash or hang run in their own processes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

__all__ = ["CHECKS", "Finding"]

_DISTRIBUTION = "metamap-rl"
_TIMEOUT = 120.0  # seconds; importing torch for the first time on a slow disk takes tens of them
_OLDEST_PYTHON = (3, 11)
_BACK_ENDS = ("egl", "osmesa", "glfw")
_MODULES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "mujoco": "mujoco.batch",
    "gymnasium": "gymnasium",
    "torch": "torch",
    "stable-baselines3": "stable_baselines3",
    "safetensors": "safetensors.numpy",
    "pydantic": "pydantic",
    "rich": "rich",
    "pyyaml": "yaml",
    "filelock": "filelock",
    "matplotlib": "matplotlib",
    "imageio": "imageio",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "pillow": "PIL.Image",
}
_ONLY_FOR_PICTURES = frozenset({"matplotlib", "imageio", "imageio-ffmpeg", "pillow"})


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        name: of the check.
        status: "ok"; "absent": missing and not needed; "warning": some features will not work; "error": an essential
            part is broken.
        detail: the finding.
        advice: remedy; empty if none is needed.
    """

    name: str
    status: Literal["ok", "absent", "warning", "error"]
    detail: str
    advice: str = ""


def check_python() -> Iterator[Finding]:
    """Python's version and the operating system."""
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    good = sys.version_info[:2] >= _OLDEST_PYTHON
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", "ok" if good else "error", detail, "" if good else f"use Python {wanted} or newer")


def check_libraries() -> Iterator[Finding]:
    """Versions of libraries against the declared ranges, and whether they can be imported."""
    allowed = _declared_ranges()
    broken = _broken_imports(list(_MODULES.values()))
    for name, module in _MODULES.items():
        bad: Literal["warning", "error"] = "warning" if name in _ONLY_FOR_PICTURES else "error"
        advice = f"pip install --upgrade '{name}{allowed.get(name, '')}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, bad, "not installed", advice)
            continue
        if not _in_range(version, allowed.get(name, "")):
            yield Finding(name, bad, f"{version}, but metamap-rl needs {allowed[name]}", advice)
        elif module in broken:
            yield Finding(name, bad, f"{version}, but importing {module} fails: {broken[module]}", advice)
        else:
            yield Finding(name, "ok", version)


def check_processor() -> Iterator[Finding]:
    """Cores available to this process, and torch's threads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "ok", f"{usable} usable of {os.cpu_count()}")
    answer = _ask("import torch; answer = [torch.get_num_threads(), torch.cuda.is_available()]")
    if isinstance(answer, _Failure):
        return  # told by check_libraries
    threads, cuda = answer
    detail = f"{threads} thread{'s' * (threads != 1)}, {'a GPU is available' if cuda else 'no GPU (none is needed)'}"
    crowded = threads > usable
    advice = f"export OMP_NUM_THREADS={usable}: more threads than cores slow each other down" if crowded else ""
    yield Finding("torch threads", "warning" if crowded else "ok", detail, advice)


def check_simulator() -> Iterator[Finding]:
    """Whether every family compiles and steps."""
    answer = _ask(
        "from metamap_envs.registry import get_family, list_families\n"
        "import mujoco\n"
        "for name in list_families():\n"
        "    model = get_family(name).base_model\n"
        "    mujoco.mj_step(model, mujoco.MjData(model))\n"
        "answer = list(list_families())"
    )
    if isinstance(answer, _Failure):
        yield Finding("simulator", "error", answer.reason, "see the lines on libraries above")
    else:
        yield Finding("simulator", "ok", f"compiles and steps all {len(answer)} families")


def check_rendering() -> Iterator[Finding]:
    """Which OpenGL back ends work, and whether the selected one does."""
    works = []
    for back_end in _BACK_ENDS:
        answer = _ask(_DRAW, MUJOCO_GL=back_end)
        reason = answer.reason if isinstance(answer, _Failure) else str(answer)
        if reason:
            yield Finding(f"rendering with {back_end}", "absent", reason)
        else:
            works.append(back_end)
            yield Finding(f"rendering with {back_end}", "ok", "draws a picture")
    chosen = os.environ.get("MUJOCO_GL", "")
    if not works:
        advice = "install a software renderer, on Debian: apt-get install libegl1 libgl1-mesa-dri; then MUJOCO_GL=egl"
        yield Finding("rendering", "warning", "no OpenGL back end works: videos are flat drawings", advice)
    elif chosen and chosen not in works:
        advice = f"export MUJOCO_GL={works[0]}"
        yield Finding("rendering", "warning", f"MUJOCO_GL={chosen} does not work, {works[0]} does", advice)
    else:
        yield Finding("rendering", "ok", f"videos can be made with {chosen or works[0]}")


def check_video() -> Iterator[Finding]:
    """Whether ffmpeg runs."""
    answer = _ask(
        "import imageio_ffmpeg, subprocess\n"
        "program = imageio_ffmpeg.get_ffmpeg_exe()\n"
        "subprocess.run([program, '-version'], check=True, capture_output=True)\n"
        "answer = imageio_ffmpeg.get_ffmpeg_version()"
    )
    if isinstance(answer, _Failure):
        yield Finding("ffmpeg", "warning", answer.reason, "pip install imageio-ffmpeg (it brings its own ffmpeg)")
    else:
        yield Finding("ffmpeg", "ok", str(answer))


def check_working_directory() -> Iterator[Finding]:
    """Whether results can be written here."""
    here = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=here):
            yield Finding("working directory", "ok", f"{here} is writable")
    except OSError as error:
        advice = "change to a folder of yours, or give --out"
        yield Finding("working directory", "warning", f"{here} is not writable ({error.strerror})", advice)


def check_pretrained() -> Iterator[Finding]:
    """The bundled mappers."""
    folder = Path(__file__).parent.parent / "pretrained"
    found = sorted({path.relative_to(folder).parts[0] for path in folder.glob("**/mapper.safetensors")})
    if found:
        yield Finding("bundled mappers", "ok", ", ".join(found))
    else:
        advice = "run `python scripts/build_pretrained.py` in the repository, or train your own"
        yield Finding("bundled mappers", "warning", "none: `metamap demo` has nothing to show", advice)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_libraries,
    check_processor,
    check_simulator,
    check_rendering,
    check_video,
    check_working_directory,
    check_pretrained,
)
"""All checks, in order of printing."""


@dataclass(frozen=True)
class _Failure:
    """A process without an answer."""

    reason: str


_DRAW = """
import os
from metamap_envs import MetaMapError
from metamap_envs.opengl import back_end_failure, drawing
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom size='1' rgba='1 0 0 1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
answer = back_end_failure(os.environ["MUJOCO_GL"])
try:
    if not answer:
        with drawing():
            renderer = mujoco.Renderer(model, 32, 32)
            renderer.update_scene(data)
            answer = "" if renderer.render().any() else "the picture is black"
            renderer.close()
except MetaMapError as error:
    answer = str(error)
"""


def _ask(code: str, **environment: str) -> Any:
    """Run ``code`` in a fresh interpreter in an empty folder and return the value of its variable ``answer``.

    Returns:
        The value, or a `_Failure` with the last line of the error.
    """
    # The answer follows a mark on its own line: libraries may print as well.
    code = f"{code}\nimport json\nprint('\\nANSWER ' + json.dumps(answer))"
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo writes its log into the working directory
        try:
            done = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                cwd=folder,
                env={**os.environ, **environment},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _Failure(f"no answer within {_TIMEOUT:.0f} s")
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("ANSWER "):
            return json.loads(line.removeprefix("ANSWER "))
    if done.returncode < 0:
        return _Failure(f"crashed with signal {-done.returncode}")
    errors = [line for line in done.stderr.splitlines() if line and not line.startswith((" ", "Exception ignored"))]
    return _Failure(textwrap.shorten(errors[-1], 100) if errors else f"ended with code {done.returncode}")


def _broken_imports(modules: list[str]) -> dict[str, str]:
    """Import modules in one subprocess, or in one each if it dies; returns reasons of failures by module."""
    code = (
        "import importlib\nanswer = {}\n"
        f"for module in {modules!r}:\n"
        "    try: importlib.import_module(module)\n"
        "    except BaseException as error: answer[module] = f'{type(error).__name__}: {error}'\n"
    )
    answer = _ask(code, MUJOCO_GL="disable")  # whether something draws is asked elsewhere
    if not isinstance(answer, _Failure):
        return {str(module): str(reason) for module, reason in answer.items()}
    alone = {module: _ask(f"import {module}; answer = True", MUJOCO_GL="disable") for module in modules}
    return {module: result.reason for module, result in alone.items() if isinstance(result, _Failure)}


def _declared_ranges() -> dict[str, str]:
    """Declared version ranges by distribution; empty if the package is not installed."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in metadata.requires(_DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return {}
    return {wanted.name: str(wanted.specifier) for wanted in declared if wanted.marker is None}


def _in_range(version: str, allowed: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(allowed).contains(version, prereleases=True)
