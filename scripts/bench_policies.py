"""What it costs that a policy's actions do not depend on what else is in the batch, on one thread; prints JSON.

Times one call on [T, E] observations of T policies (17 -> 64 -> 64 -> 6), for ways to compute it, and counts the pairs
of policy and observation whose actions have other bits when they are computed alone:

- torch.baddbmm: one batched product for all policies. No promise: on some CPUs the batch decides on the order of sums.
- torch.addmm, a loop over the policies: the number of episodes may still decide.
- numpy.matmul over the stack: likewise.
- a product for each row (`RowwiseNetworks`, what is used): the same product whatever is beside it.
- a sum over the inputs in a fixed order: multiplications and additions one by one, the same products on any CPU.

`share_of_simulation` is the least time of "a product for each row" over that of one step of as many environments.

    OMP_NUM_THREADS=1 python scripts/bench_policies.py > docs/results/policies.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metamap_agents.policy.functional import forward
from metamap_agents.policy.rowwise import RowwiseNetworks
from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.machine import describe_machine
from metamap_agents.runtime.storage import library_versions
from metamap_envs import FamilyVectorEnv, get_family

Floats = NDArray[np.float32]
Act = Callable[[Floats], Floats]

SPEC = PolicySpec(17, 6)
SHAPES = ((1, 1), (16, 10), (40, 10), (1, 1000))
ROWWISE = "a product for each row"
SIMULATION = "a step of as many environments"


def weights_of(phis: Floats) -> list[tuple[Floats, Floats]]:
    """Weights [T, I, H] and biases [T, 1, H] of each layer."""
    parts = SPEC.split(phis)
    return [
        (np.ascontiguousarray(parts[f"layers.{i}.weight"].transpose(0, 2, 1)), parts[f"layers.{i}.bias"][:, None])
        for i in range(3)
    ]


def batched(phis: Floats) -> Act:
    weights = torch.from_numpy(phis)
    return lambda x: forward(SPEC, weights, torch.from_numpy(x)).numpy()


def looped(phis: Floats) -> Act:
    weights = torch.from_numpy(phis)
    return lambda x: np.stack(
        [forward(SPEC, phi, torch.from_numpy(rows)).numpy() for phi, rows in zip(weights, x, strict=True)]
    )


def stacked(phis: Floats) -> Act:
    layers = weights_of(phis)

    def act(x: Floats) -> Floats:
        for index, (weight, bias) in enumerate(layers):
            x = np.matmul(x, weight) + bias
            if index < 2:
                np.tanh(x, out=x)
        return x

    return act


def in_fixed_order(phis: Floats) -> Act:
    layers = weights_of(phis)

    def act(x: Floats) -> Floats:
        for index, (weight, bias) in enumerate(layers):
            total = np.repeat(bias, x.shape[1], axis=1)
            product = np.empty_like(total)
            for row in range(weight.shape[1]):
                np.multiply(x[:, :, row, None], weight[:, None, row], out=product)
                total += product
            x = np.tanh(total) if index < 2 else total
        return x

    return act


WAYS: dict[str, Callable[[Floats], Act]] = {
    "torch.baddbmm": batched,
    "torch.addmm, a loop over the policies": looped,
    "numpy.matmul over the stack": stacked,
    ROWWISE: lambda phis: RowwiseNetworks(SPEC, phis),
    "a sum over the inputs in a fixed order": in_fixed_order,
}


def microseconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median and least time of each; they take turns, so that other load on the machine hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(1e6 * (time.perf_counter() - started))
    return {
        name: {"median": round(float(np.median(all_)), 1), "min": round(min(all_), 1)} for name, all_ in times.items()
    }


def measure(tasks: int, episodes: int, repeats: int) -> dict[str, Any]:
    """One shape of batch."""
    generator = np.random.default_rng(0)
    phis = generator.normal(0, 0.3, (tasks, SPEC.size)).astype(np.float32)
    x = generator.normal(size=(tasks, episodes, SPEC.observation_size)).astype(np.float32)
    acts = {name: make(phis) for name, make in WAYS.items()}
    envs = FamilyVectorEnv(get_family("cheetah-velocity").sample("train", tasks * episodes, 0), num_threads=1)
    envs.reset(seed=0)
    actions = np.zeros((tasks * episodes, SPEC.action_size), dtype=np.float32)
    calls: dict[str, Callable[[], object]] = {name: partial(act, x) for name, act in acts.items()}
    found = microseconds({**calls, SIMULATION: lambda: envs.step(actions)}, repeats)
    envs.close()
    others: dict[str, int] = {}
    for name, make in WAYS.items():
        together = acts[name](x)
        others[name] = sum(
            not np.array_equal(make(phis[t : t + 1])(x[t : t + 1, e : e + 1])[0, 0], together[t, e])
            for t in range(tasks)
            for e in range(min(episodes, 20))
        )
    return {
        "policies": tasks,
        "episodes": episodes,
        "microseconds": found,
        "other_bits_alone": {"of": tasks * min(episodes, 20), **others},
        "share_of_simulation": round(found[ROWWISE]["min"] / found[SIMULATION]["min"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "shapes": [measure(tasks, episodes, arguments.repeats) for tasks, episodes in SHAPES],
        "repeats": arguments.repeats,
        "machine": describe_machine(),
        "versions": library_versions(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
