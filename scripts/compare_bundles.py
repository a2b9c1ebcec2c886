"""Compare the policies of the bundled mappers between two states of the code, to the bit. Prints JSON.

For each family D is made of fixed random numbers in the mapper's own units, and collected from the family's default
task; from both the weights are generated, checked and unchecked. The digests are those of one machine: run both
states on the same one.

::

    python scripts/compare_bundles.py > before.json
    python scripts/compare_bundles.py --against before.json    exit code 1 if a policy differs
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metamap_agents.runtime.machine import describe_machine
from metamap_envs import FamilyEnv, Rollout
from metamap_rl import adapt
from metamap_rl.adaptation.bundled import bundled_families, load_mapper
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import probe_env
from metamap_rl.probing.documents import probe_from_json

STEPS = (0, 1, 5, 50, 200)


def main() -> None:
    """Print a digest of every policy, and what differs from another run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="what another run printed")
    arguments = parser.parse_args()
    found = {name: digests(name) for name in bundled_families()}
    if arguments.against is None:
        print(json.dumps({"machine": describe_machine(torch_threads=1), "policies": found}, indent=1))
        return
    before = json.loads(arguments.against.read_text(encoding="utf-8"))["policies"]
    different = {
        name: [key for key, value in policies.items() if before.get(name, {}).get(key) != value]
        for name, policies in found.items()
    }
    policies = sum(map(len, found.values()))
    print(json.dumps({"policies": policies, "different": {name: keys for name, keys in different.items() if keys}}))
    sys.exit(any(different.values()) or set(before) != set(found))


def digests(family: str) -> dict[str, str]:
    """SHA-256 of the weights from each rollout, by rollout, length and whether the self-check had a say."""
    mapper = load_mapper(family)
    rollouts = {"made up": made_up(mapper), "collected": collected(mapper)}
    return {
        f"{name}, {steps} transitions, {'checked' if check else 'unchecked'}": digest(
            adapt(mapper, rollout, steps=steps, check=check).phi
        )
        for name, rollout in rollouts.items()
        for steps in STEPS
        for check in (False, True)
    }


def made_up(mapper: Mapper) -> Rollout:
    """Random transitions that are no task's, small as usual ones are."""
    spec, generator = mapper.base.spec, np.random.default_rng(0)
    count, flags = STEPS[-1], np.zeros(STEPS[-1], dtype=np.bool_)

    def draw(*shape: int) -> NDArray[np.float32]:
        return generator.standard_normal(shape, dtype=np.float32)

    before = 0.1 * draw(count, spec.observation_size)
    after = before + 0.1 * draw(*before.shape)
    actions, rewards = np.tanh(draw(count, spec.action_size)), draw(count)
    return Rollout(mapper.family, before, actions, rewards, after, flags, flags)


def collected(mapper: Mapper) -> Rollout:
    """What the mapper's probe collects in the family's default task."""
    env = FamilyEnv(mapper.family)
    try:
        return probe_env(probe_from_json(mapper.probe), env, mapper.base, family=mapper.family, steps=STEPS[-1], seed=0)
    finally:
        env.close()


def digest(weights: NDArray[np.float32]) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(weights.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
