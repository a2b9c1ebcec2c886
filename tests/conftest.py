"""What every test runs under: one torch thread, no display needed, no stray files."""

from __future__ import annotations

import ctypes.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from metamap_agents.experts.zoo import Zoo
    from metamap_rl.mapper.mapper import Mapper

# Before anything imports mujoco or torch. EGL draws without a display; whoever set another back end keeps it, and
# without the library `import mujoco` itself would fail.
if ctypes.util.find_library("EGL"):
    os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # it would wrap what commands print
# Ray starts its workers at niceness 15: on a busy machine they would get no CPU for minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

# A shell starts what it runs in the background without Ctrl-C, which some tests send to processes of their own.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Modules whose tests compare numbers bit by bit or measure what was learnt: what a CPU and its libraries decide on.
# They get the marker `portable`; `make test-portable` runs them under several settings (docs/reproducibility.md).
# fmt: off
PORTABLE = {
    "adaptation", "alignment", "auxiliary", "baselines", "cli_learning", "distillation", "embodied",
    "encoder", "evaluate", "families", "functional", "functions", "gains", "hypernetwork", "losses",
    "mappability", "mapper", "plateau", "policies", "policy_gradient", "policy_spec", "probe", "protocol",
    "recurrent", "rounds", "sb3_bridge", "sb3_vec_env", "selfcheck", "service_files", "service_limits", "service_loops",
    "service_window", "shift", "statistics", "stream_kill", "stream_learner_kinds", "stream_learners",
    "stream_loop", "survey", "teachers", "tour", "train", "training", "universal", "vector", "zoo",
}
# fmt: on


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in PORTABLE:
            item.add_marker("portable")


settings.register_profile("tests", max_examples=50, deadline=None)  # a busy disk or core is no failure
settings.load_profile("tests")


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    """Several test processes share the cores: more torch threads than one each only wait for one another."""
    try:
        from metamap_agents.runtime.torch_state import torch_threads
    except ImportError:
        yield
        return
    with torch_threads(1):
        yield


@pytest.fixture(autouse=True)
def _own_working_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs each test in an empty folder, so that nothing (MUJOCO_LOG.TXT, plots) lands in the repository."""
    folder = tmp_path_factory.mktemp("cwd")
    monkeypatch.chdir(folder)
    return folder


# Shared by the tests that need a whole family's worth of trained things; see tests/tiny.py.


@pytest.fixture(scope="session")
def tiny_zoo(_one_torch_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """A zoo of reacher-goal with 3 training, 2 validation, 3 test-in and 1 test-out experts. Read only."""
    from helpers import tiny

    return tiny.make_zoo(tmp_path_factory.mktemp("tiny") / "zoo")


@pytest.fixture(scope="session")
def tiny_mapper(tiny_zoo: Zoo) -> Mapper:
    """A mapper trained on `tiny_zoo` for a few updates. Read only."""
    from helpers import tiny

    return tiny.make_mapper(tiny_zoo)


@pytest.fixture(scope="session")
def _tiny_bundle_folder(tiny_zoo: Zoo, tiny_mapper: Mapper, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from helpers import tiny

    return tiny.make_bundle(tmp_path_factory.mktemp("tiny") / "pretrained", tiny_zoo, tiny_mapper)


@pytest.fixture
def tiny_bundle(_tiny_bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of bundled mappers, replaced for one test (in this process) by one that holds `tiny_mapper`."""
    monkeypatch.setattr("metamap_rl.adaptation.bundled.PRETRAINED", _tiny_bundle_folder)
    return _tiny_bundle_folder


@pytest.fixture
def forgets_declared_families(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares is gone after it."""
    import gymnasium as gym

    from metamap_envs import registry

    monkeypatch.setenv(registry.VARIABLE, "")
    monkeypatch.setattr(registry, "_DECLARED", {})
    ids = set(gym.registry)
    yield
    for added in set(gym.registry) - ids:
        del gym.registry[added]


@pytest.fixture(scope="module")  # not for longer: its event loop would be in the way of tests that run their own
def browser() -> Iterator[Any]:
    """Any Chromium that is there, driven by playwright; CHROMIUM names another one than those on the PATH."""
    from _browser import NO_BROWSER, find_chromium

    path = find_chromium()
    if path is None:
        pytest.skip(NO_BROWSER)
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'metamap-rl[dev]'")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
