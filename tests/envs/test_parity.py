"""Parity with Gymnasium's and dm_control's own environments, by the script that prints it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from metamap_envs import list_families

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_parity.py"


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_parity", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list_families())
def test_a_thousand_random_steps_equal_the_original_to_the_bit(parity: Any, name: str) -> None:
    report = parity.check(name, steps=1000)
    assert report.equal, report.first_difference
    assert report.resets >= 5


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cheetah-velocity", {"rewards"}),
        ("cheetah-actuators", {"rewards"}),
        ("cheetah-direction", {"rewards"}),
        ("cheetah-actuators-delay", {"rewards"}),
        ("cheetah-velocity-actuators", {"rewards"}),
        ("cheetah-union", {"rewards"}),
        ("ant-direction", {"observations", "rewards"}),
        ("ant-goal", {"observations", "rewards"}),
        ("reacher-goal", {"observations", "rewards", "states"}),
        ("cartpole-swingup", {"observations", "rewards", "states", "ends"}),
        ("dmc-cheetah-length", {"observations", "rewards", "states"}),
    ],
)
def test_without_its_named_exceptions_a_family_is_reported_as_different(
    parity: Any, name: str, what: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "EXPECTED", {})
    report = parity.check(name, steps=20)
    different = {flag for flag in ("states", "observations", "rewards", "ends") if not getattr(report, flag)}
    assert different == what
    assert report.first_difference["what"] in what


def test_the_script_fails_when_something_differs(parity: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["check_parity.py", "--steps", "2"])
    assert parity.main() == 0
    monkeypatch.setattr(parity, "EXPECTED", {})
    assert parity.main() == 1
    assert '"equal": false' in capsys.readouterr().out
