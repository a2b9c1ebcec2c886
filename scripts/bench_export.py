"""Size and speed of exported policies: microseconds from one observation to its action. Prints one JSON document.

For each bundled family: the C header, compiled with ``cc -O2``; the ONNX model in ONNX Runtime, on one thread; and
`AdaptedPolicy.predict`, all of the base policy, which has the architecture of all policies of its family. Times are the
fastest mean of several runs over 1,000 observations of different numbers. docs/results/export.json is its output.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from _running import run_script
from metamap_agents.policy.acting import WeightPolicy
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_envs.errors import MetaMapError
from metamap_rl.adaptation.bundled import bundled_families, load_mapper
from metamap_rl.adaptation.plain import PlainPolicy
from metamap_rl.exporters import export

OBSERVATIONS = 1000

LOOP = """
#include "policy.h"
void run(const float *observations, float *actions, int count) {
    for (int i = 0; i < count; i++)
        policy(observations + i * POLICY_OBSERVATION_SIZE, actions + i * POLICY_ACTION_SIZE);
}
"""


def fastest(repeats: int, run: Callable[[], object]) -> float:
    """Microseconds per observation."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return round(1e6 * best / OBSERVATIONS, 3)


def in_c(folder: Path, seen: NDArray[np.float32], actions: NDArray[np.float32]) -> Callable[[], None]:
    """The header in a loop of C."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise MetaMapError("expected a C compiler, there is no cc")
    (folder / "loop.c").write_text(LOOP)
    flags = ["-std=c99", "-O2", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, folder / "loop.c", "-o", folder / "loop.so", "-lm"], check=True)
    run, pointer = ctypes.CDLL(str(folder / "loop.so")).run, ctypes.POINTER(ctypes.c_float)
    arguments = seen.ctypes.data_as(pointer), actions.ctypes.data_as(pointer), len(seen)
    return lambda: run(*arguments)


def in_onnx(path: Path, seen: NDArray[np.float32]) -> Callable[[], None]:
    """The model, called once for each observation."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run() -> None:
        for row in seen:
            session.run(None, {"observation": row[None]})

    return run


def measure(family: str, repeats: int) -> dict[str, Any]:
    """Sizes and times of one family."""
    base = load_mapper(family).base
    policy = PlainPolicy.of(family, base, base.phi)
    shape = OBSERVATIONS, policy.spec.observation_size
    normal = np.random.default_rng(0).normal(size=shape)
    seen = (base.normalizer.mean + base.normalizer.std * normal).astype(np.float32)
    actions = np.empty((OBSERVATIONS, policy.spec.action_size), dtype=np.float32)
    acting = WeightPolicy(policy.policies, policy.observation_space, policy.action_space)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        header, model = export(policy, folder / "policy.h"), export(policy, folder / "policy.onnx")
        times = {
            "c": fastest(repeats, in_c(folder, seen, actions)),
            "onnxruntime": fastest(repeats, in_onnx(model, seen)),
            "predict": fastest(repeats, lambda: [acting.predict(row) for row in seen]),
        }
        expected = acting.predict(seen)[0]
        return {
            "family": family,
            "weights": policy.spec.size,
            "kilobytes": {"c": header.stat().st_size / 1000, "onnx": model.stat().st_size / 1000},
            "microseconds": times,
            "largest_difference": float(np.abs(actions - expected).max()),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=bundled_families(), help="default: all bundled ones")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        raise MetaMapError(f"--repeats: expected at least 1, got {arguments.repeats}")
    families = [measure(family, arguments.repeats) for family in arguments.family or bundled_families()]
    print(json.dumps({"machine": describe_machine(), "families": families, "versions": library_versions()}, indent=2))


if __name__ == "__main__":
    run_script(main)
