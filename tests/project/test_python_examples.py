"""The Python programs of docs/examples run as they stand, each in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def output_of(name: str, folder: Path) -> str:
    """What a program prints; it must print nothing else."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_adapt_in_python(tmp_path: Path) -> None:
    printed = output_of("adapt_in_python.py", tmp_path)
    first = re.match(
        r"AdaptedPolicy\('cheetah-velocity', transitions=50, confidence=([\d.]+), served='generated'\)", printed
    )
    assert first is not None
    assert 0.9 < float(first[1]) <= 1.0
    labels = [line.split(" ")[0] for line in printed.splitlines()[1:-1]]
    assert labels == ["read", "estimated", "usual", "expected", "mapped", "served", "distance"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.safetensors", "policy.zip"]


def test_serve(tmp_path: Path) -> None:
    printed = output_of("serve.py", tmp_path)
    means = [float(line.split()[3]) for line in printed.splitlines()]
    assert len(means) == 5
    assert means[-1] > -0.5, "it follows the change: the base policy gets about -1.5 a step"
    assert (tmp_path / "adapter.safetensors").is_file()


@pytest.mark.slow
def test_train_small(tmp_path: Path) -> None:
    printed = output_of("train_small.py", tmp_path)
    assert printed.splitlines()[-1].startswith("AdaptedPolicy('my-pendulum', transitions=20, confidence=None")
    assert {"zoo", "mapper"} == {path.name for path in tmp_path.iterdir()}
