"""Compares the families with the Gymnasium environments that they come from, to the bit.

Runs random actions, with seeded resets in between, through Gymnasium's own environment, our single environment and one
row of our vector environment, and prints JSON. Exit code 1 if anything differs that is not a named exception.

    python scripts/check_parity.py --steps 1000
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs import Family, FamilyEnv, FamilyVectorEnv, get_family, list_families

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """What a family should give where Gymnasium's environment gave (observation, reward, info).

    Attributes:
        exceptions: in words, all that differs from Gymnasium on purpose.
        observation: of (Gymnasium's environment, its observation).
        reward: of (its reward, its info, the action).
    """

    exceptions: tuple[str, ...] = ()
    observation: Callable[[Any, Array], Array] = lambda base, observation: observation
    reward: Callable[[float, dict[str, Any], NDArray[np.float32]], float] = lambda reward, info, action: reward


def _tracking(target: float) -> Callable[[float, dict[str, Any], NDArray[np.float32]], float]:
    def reward(_: float, info: dict[str, Any], action: NDArray[np.float32]) -> float:
        return float(-np.abs(info["x_velocity"] - target) - 0.05 * np.sum(np.square(action)))

    return reward


def _forward(_: float, info: dict[str, Any], action: NDArray[np.float32]) -> float:
    return float(info["x_velocity"] - 0.05 * np.sum(np.square(action)))


def _without_target(base: Any, observation: Array) -> Array:
    fingertip: Array = base.get_body_com("fingertip")[:2]
    return np.concatenate([observation[:4], observation[6:8], fingertip])


EXPECTED = {
    "cheetah-velocity": Expected(
        ("reward: -|x_velocity - 1.5| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(1.5),
    ),
    "cheetah-actuators": Expected(
        ("reward: -|x_velocity - 2| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(2.0),
    ),
    "cheetah-direction": Expected(
        ("reward: x_velocity - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_forward,
    ),
    "reacher-goal": Expected(
        (
            "start: the target is put at the task's goal in Gymnasium's state too; the arm's start is as drawn there",
            "observation: target position and fingertip-to-target vector left out, fingertip position added",
        ),
        observation=_without_target,
    ),
}

NOT_COMPARED = {
    "cartpole-swingup": (
        "no environment of Gymnasium swings a pole up: the hinge of InvertedPendulum-v5 has limits, and its "
        "episodes start upright and end at 0.2 rad"
    ),
}
"""Families that only take a model from Gymnasium, and why."""


@dataclass
class Report:
    """Result for one family; each flag says "equal to the bit in every step, in both of our environments"."""

    family: str
    base_id: str
    steps: int
    resets: int
    named_exceptions: tuple[str, ...]
    states: bool = True
    observations: bool = True
    rewards: bool = True
    ends: bool = True
    first_difference: dict[str, Any] | None = field(default=None)

    @property
    def equal(self) -> bool:
        """Whether nothing differs but the named exceptions."""
        return self.states and self.observations and self.rewards and self.ends

    def compare(self, what: str, step: int, expected: Any, *found: Any) -> None:
        """Record whether all of ``found`` have the bits of ``expected``."""
        for one in found:
            if np.asarray(expected, np.float64).tobytes() != np.asarray(one, np.float64).tobytes():
                setattr(self, what, False)
                difference = {"what": what, "step": step, "gymnasium": np.asarray(expected).tolist()}
                self.first_difference = self.first_difference or difference | {"ours": np.asarray(one).tolist()}


def _reset_base(base: Any, family: Family, seed: int) -> Array:
    """Reset Gymnasium's environment; positions that a task fixes (a target) are set through its state."""
    observation: Array = base.reset(seed=seed)[0]
    qpos, qvel = base.data.qpos.copy(), base.data.qvel.copy()
    ours, _ = family.initial_state(family.task(), np.random.default_rng(seed))
    if np.array_equal(qpos, ours):
        return observation
    qpos[-2:] = ours[-2:]
    mujoco.mj_resetData(base.model, base.data)
    base.set_state(qpos, qvel)
    observation = base._get_obs()
    return observation


def check(family_name: str, steps: int, episode: int = 200, seed: int = 0) -> Report:
    """Run one family at its default parameters against Gymnasium's environment.

    Args:
        family_name: the family.
        steps: environment steps in all.
        episode: most steps between two resets, each with a new seed; an episode that ends is followed by a reset.
        seed: of the first reset and of the actions.
    """
    family, expected = get_family(family_name), EXPECTED.get(family_name, Expected())
    report = Report(family_name, family.base_id, steps, 0, expected.exceptions)
    base: Any = gymnasium.make(family.base_id).unwrapped
    single = FamilyEnv(family_name)
    vector = FamilyVectorEnv([*family.sample("train", 2, seed), family.task()], num_threads=2, horizon=steps + 1)
    generator, ended = np.random.default_rng(seed), False
    for step in range(steps):
        if step % episode == 0 or ended:
            start = seed + report.resets
            first = expected.observation(base, _reset_base(base, family, start))
            ours = single.reset(seed=start)[0], vector.reset(seed=[7, 8, start])[0][-1]
            report.compare("observations", step, first, *ours)
            report.resets += 1
        actions = generator.uniform(-1.0, 1.0, (3, family.action_size)).astype(np.float32)
        observation, reward, terminated, _, info = base.step(actions[-1])
        one, many = single.step(actions[-1]), [result[-1] for result in vector.step(actions)[:4]]
        report.compare("observations", step, expected.observation(base, observation), one[0], many[0])
        report.compare("rewards", step, expected.reward(reward, info, actions[-1]), one[1], many[1])
        report.compare("ends", step, terminated, one[2], many[2])
        ended = terminated
        state = np.concatenate([base.data.qpos, base.data.qvel])
        data = vector.simulator.data(2)
        for found in (single.data, data):
            report.compare("states", step, state, np.concatenate([found.qpos, found.qvel]))
    base.close()
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="steps per environment (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of resets and actions (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # Gymnasium's half_cheetah.xml makes MuJoCo write MUJOCO_LOG.TXT
        before = os.getcwd()
        os.chdir(folder)
        try:
            reports = [
                check(name, arguments.steps, seed=arguments.seed)
                for name in list_families()
                if name not in NOT_COMPARED
            ]
        finally:
            os.chdir(before)
    document = {
        "environments": [asdict(report) | {"equal": report.equal} for report in reports],
        "not_compared": NOT_COMPARED,
        "versions": {"mujoco": mujoco.__version__, "gymnasium": gymnasium.__version__, "numpy": np.__version__},
    }
    print(json.dumps(document, indent=2))
    return 0 if all(report.equal for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
