"""Compares the families with the environments that they come from, to the bit where both are MuJoCo's.

Runs random actions, with seeded resets in between, through Gymnasium's own environment (dm_control's for the families
of its suite), our single environment and one row of our vector environment, and prints JSON. Exit code 1 if anything
differs that is not a named exception.

    python scripts/check_parity.py --steps 1000
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import NDArray

from metamap_envs import Family, FamilyEnv, FamilyVectorEnv, get_family, list_families

Array = NDArray[np.float64]
Action = NDArray[np.floating]


@dataclass(frozen=True)
class Expected:
    """What a family should give where Gymnasium's environment gave (observation, reward, terminated, info).

    Attributes:
        exceptions: in words, all that differs from Gymnasium on purpose.
        options: arguments for Gymnasium's environment.
        edit: changes Gymnasium's environment before the first reset.
        action: of ours, what Gymnasium's environment is given.
        placed: coordinates whose start is ours, put into Gymnasium's state; the others are as drawn there.
        observation: of (Gymnasium's environment, its observation).
        reward: of (Gymnasium's environment, its reward, its info, the action).
        terminated: of what Gymnasium's environment said.
        tolerance: largest difference that counts as none, where Gymnasium's physics are not MuJoCo's; 0 for equal bits.
    """

    exceptions: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    edit: Callable[[Any], None] = lambda base: None
    action: Callable[[Action], Action] = lambda action: action
    placed: tuple[int, ...] = ()
    observation: Callable[[Any, Array], Array] = lambda base, observation: observation
    reward: Callable[[Any, float, dict[str, Any], Action], float] = lambda base, reward, info, action: reward
    terminated: Callable[[bool], bool] = lambda terminated: terminated
    tolerance: float = 0.0


def _tracking(target: float) -> Callable[[Any, float, dict[str, Any], Action], float]:
    def reward(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
        return float(-np.abs(info["x_velocity"] - target) - 0.05 * np.sum(np.square(action)))

    return reward


def _forward(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    return float(info["x_velocity"] - 0.05 * np.sum(np.square(action)))


def _sensors(base: Any, observation: Array) -> Array:
    return np.concatenate([observation[:4], base.data.qvel[:2] / 10.0])


def _without_target(base: Any, observation: Array) -> Array:
    fingertip: Array = base.get_body_com("fingertip")[:2]
    return np.concatenate([observation[:4], observation[6:8], fingertip])


def _free_hinge(base: Any) -> None:
    model = base.model
    model.joint("hinge").limited[0] = 0
    model.actuator("slide").ctrlrange[:] = -1.0, 1.0
    model.actuator("slide").gear[0] = 300.0


def _angle_as_cos_and_sin(base: Any, observation: Array) -> Array:
    x, angle, *velocities = observation
    return np.array([x, np.cos(angle), np.sin(angle), *velocities])


def _swingup(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    (x, angle), (_, speed) = base.data.qpos, base.data.qvel
    centred, slow = (1.0 + np.exp(np.log(0.1) * np.square([x, speed / 5.0]))) / 2.0
    control = (4.0 + max(1.0 - float(action[0]) ** 2, 0.0)) / 5.0
    return float((1.0 + np.cos(angle)) / 2.0 * centred * control * slow)


def _to_goal(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    x, y = base.data.body("torso").xpos[:2]
    return float(-(np.abs(x - 2.0) + np.abs(y)) - 0.1 * np.sum(np.square(action)))


class DmControl:
    """dm_control's own environment with the attributes of Gymnasium's MuJoCo environments that `check` uses.

    dm_control 1.0.50 asks MuJoCo's structs for a few fields of flexible bodies that MuJoCo 4 has no longer; they are
    taken from its table, since none of these models has a flexible body.
    """

    def __init__(self, base_id: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GLFW's, where there is no display
            from dm_control import suite
            from dm_control.mujoco.wrapper.mjbindings import sizes
        for name, struct in (("mjmodel", mujoco.MjModel), ("mjdata", mujoco.MjData)):
            fields = sizes.array_sizes[name]
            for field_name in [known for known in fields if not hasattr(struct, known)]:
                del fields[field_name]
        self.unwrapped = self
        domain, task = base_id.removeprefix(DM_CONTROL).split("-")
        self._env = suite.load(domain, task, environment_kwargs={"flat_observation": True})
        self.model, self.data = self._env.physics.model.ptr, self._env.physics.data.ptr

    def reset(self, seed: int) -> tuple[Array, dict[str, Any]]:
        """Start an episode of dm_control's own."""
        self._env.task.random.seed(seed)
        return self._env.reset().observation["observations"], {}

    def set_state(self, qpos: Array, qvel: Array) -> None:
        """Start an episode where it is told to."""
        with self._env.physics.reset_context() as physics:
            physics.data.qpos[:], physics.data.qvel[:] = qpos, qvel

    def _get_obs(self) -> Array:
        observation = self._env.task.get_observation(self._env.physics)
        return np.concatenate([np.ravel(part) for part in observation.values()])

    def step(self, action: Action) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance by one step; the info holds dm_control's physics."""
        found = self._env.step(action)
        return found.observation["observations"], found.reward, False, False, {"physics": self._env.physics}

    def close(self) -> None:
        """Release what dm_control holds."""
        self._env.close()


def _linear(speed: float, target: float, value_at_margin: float = 0.1) -> float:
    """dm_control's own tolerance with HyperZero's arguments."""
    from dm_control.utils import rewards

    bounds, linear = (target, np.inf), {"sigmoid": "linear", "value_at_margin": value_at_margin}
    return float(rewards.tolerance(speed, bounds, margin=target, **linear))


def _cheetah_run(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    return _linear(info["physics"].speed(), 10.0)


def _cheetah_run_slowly(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    return _linear(info["physics"].speed(), 5.0)


def _walker_walk(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    from dm_control.utils import rewards

    physics = info["physics"]
    standing = rewards.tolerance(physics.torso_height(), bounds=(1.2, np.inf), margin=0.6)
    stand = (3 * standing + (1 + physics.torso_upright()) / 2) / 4
    return float(stand * (5 * _linear(physics.horizontal_velocity(), 1.0) + 1) / 6)


def _finger_spin(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    return _linear(info["physics"].hinge_velocity(), 15.0)


def _finger_spin_from_rest(base: Any, _: float, info: dict[str, Any], action: Action) -> float:
    return _linear(info["physics"].hinge_velocity(), 15.0, value_at_margin=0.0)


def _without_speed_limit(base: Any) -> None:
    base.max_speed = np.inf


DM_CONTROL = "dm_control/"

_OUR_START = "start: drawn from dm_control's distribution by our generator, and put into dm_control's state"
_HYPERZERO = "reward: dm_control's own tolerance with HyperZero's arguments, of dm_control's own state"


def _dmc(joints: int, **reward: Any) -> Expected:
    exceptions = (_OUR_START, _HYPERZERO) if reward else (_OUR_START,)
    return Expected(exceptions, placed=tuple(range(joints)), **reward)


_NO_CONTACT = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}

EXPECTED = {
    "cheetah-velocity": Expected(
        ("reward: -|x_velocity - 1.5| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(1.5),
    ),
    "cheetah-actuators": Expected(
        ("reward: -|x_velocity - 2| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(2.0),
    ),
    "cheetah-actuators-delay": Expected(
        ("reward: -|x_velocity - 2| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(2.0),
    ),
    "cheetah-network": Expected(
        (
            "reward: -|x_velocity - 2| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",
            "action: tanh(2 a) in place of a, what the network of latents at 0 makes of it",
        ),
        action=lambda action: np.tanh(2.0 * np.clip(action.astype(np.float64), -1.0, 1.0)),
        reward=_tracking(2.0),
    ),
    "cheetah-velocity-actuators": Expected(
        ("reward: -|x_velocity - 1.5| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(1.5),
    ),
    "cheetah-union": Expected(
        ("reward: -|x_velocity - 1.5| - 0.05 sum(a^2) of Gymnasium's own x_velocity, in place of its reward",),
        reward=_tracking(1.5),
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
        placed=(-2, -1),
        observation=_without_target,
    ),
    "reacher-sensors": Expected(
        (
            "start: the target is put at its place in Gymnasium's state too; the arm's start is as drawn there",
            "observation: fingertip and target left out, velocities in units of 10 rad/s",
        ),
        placed=(-2, -1),
        observation=_sensors,
    ),
    "cartpole-swingup": Expected(
        (
            "physics: Gymnasium's model gets our three edits too: free hinge, actions in [-1, 1], 300 N at action 1",
            "start: the pole hangs; our start is put into Gymnasium's state",
            "observation: cos and sin in place of the angle",
            "reward: dm_control's, of Gymnasium's own state",
            "end: none",
        ),
        edit=_free_hinge,
        placed=(0, 1),
        observation=_angle_as_cos_and_sin,
        reward=_swingup,
        terminated=lambda terminated: False,
    ),
    "ant-direction": Expected(
        ("contact forces: left out of observation and reward, by options of Gymnasium's own environment",),
        options=_NO_CONTACT,
    ),
    "ant-goal": Expected(
        (
            "contact forces: left out of the observation, and x and y kept, by options of Gymnasium's own environment",
            "reward: -(|x - 2| + |y|) - 0.1 sum(a^2) of Gymnasium's own torso, in place of its reward",
            "end: none",
        ),
        options=_NO_CONTACT | {"exclude_current_positions_from_observation": False},
        reward=_to_goal,
        terminated=lambda terminated: False,
    ),
    "dmc-cheetah-speed": _dmc(9, reward=_cheetah_run),
    "dmc-cheetah-length": _dmc(9),
    "dmc-cheetah-speed-length": _dmc(9, reward=_cheetah_run_slowly),
    "dmc-walker-speed": _dmc(9, reward=_walker_walk),
    "dmc-walker-length": _dmc(9),
    "dmc-walker-speed-length": _dmc(9, reward=_walker_walk),
    "dmc-finger-speed": _dmc(3, reward=_finger_spin),
    "dmc-finger-length": _dmc(3, reward=_finger_spin_from_rest),
    "dmc-finger-speed-length": _dmc(3, reward=_finger_spin),
    "pendulum-swingup": Expected(
        (
            "physics: Gymnasium's own Euler step in place of MuJoCo's: equal to 1e-6, not to the bit",
            "physics: no limit on the speed in Gymnasium's environment either",
            "action: twice ours for Gymnasium's environment, which takes it in N m",
        ),
        edit=_without_speed_limit,
        action=lambda action: 2.0 * action.astype(np.float64),
        tolerance=1e-6,
    ),
}


@dataclass
class Report:
    """Result for a family; each flag says "equal in every step of both our environments" (tolerance 0: to the bit)."""

    family: str
    base_id: str
    steps: int
    resets: int
    named_exceptions: tuple[str, ...]
    tolerance: float = 0.0
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
        """Record whether all of ``found`` have the bits of ``expected``, or are as near as the tolerance allows."""
        for one in found:
            if not self._same(np.asarray(expected, np.float64), np.asarray(one, np.float64)):
                setattr(self, what, False)
                difference = {"what": what, "step": step, "gymnasium": np.asarray(expected).tolist()}
                self.first_difference = self.first_difference or difference | {"ours": np.asarray(one).tolist()}

    def _same(self, one: Array, other: Array) -> bool:
        if self.tolerance:
            return one.shape == other.shape and bool((np.abs(one - other) <= self.tolerance).all())
        return one.tobytes() == other.tobytes()


def _state(base: Any) -> Array:
    """Positions and velocities of Gymnasium's environment, MuJoCo's or, like Pendulum's, its own."""
    return np.concatenate([base.data.qpos, base.data.qvel]) if hasattr(base, "data") else np.array(base.state)


def _make(base_id: str, options: Mapping[str, Any]) -> Any:
    """The environment that a family comes from."""
    return DmControl(base_id) if base_id.startswith(DM_CONTROL) else gymnasium.make(base_id, **options).unwrapped


def _reset_base(base: Any, family: Family, placed: Sequence[int], seed: int) -> Array:
    """Reset Gymnasium's environment; coordinates that the family places are set through its state."""
    observation: Array = base.reset(seed=seed)[0]
    if not placed:
        return observation
    qpos, qvel = base.data.qpos.copy(), base.data.qvel.copy()
    positions, velocities = family.initial_state(family.task(), np.random.default_rng(seed))
    for index in placed:
        qpos[index], qvel[index] = positions[index], velocities[index]
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
    report = Report(family_name, family.base_id, steps, 0, expected.exceptions, expected.tolerance)
    base = _make(family.base_id, expected.options)
    expected.edit(base)
    single = FamilyEnv(family_name)
    vector = FamilyVectorEnv([*family.sample("train", 2, seed), family.task()], num_threads=2, horizon=steps + 1)
    generator, ended = np.random.default_rng(seed), False
    for step in range(steps):
        if step % episode == 0 or ended:
            start = seed + report.resets
            first = expected.observation(base, _reset_base(base, family, expected.placed, start))
            ours = single.reset(seed=start)[0], vector.reset(seed=[7, 8, start])[0][-1]
            report.compare("observations", step, first, *ours)
            report.resets += 1
        actions = generator.uniform(-1.0, 1.0, (3, family.action_size)).astype(np.float32)
        observation, reward, terminated, _, info = base.step(expected.action(actions[-1]))
        one, many = single.step(actions[-1]), [result[-1] for result in vector.step(actions)[:4]]
        report.compare("observations", step, expected.observation(base, observation), one[0], many[0])
        report.compare("rewards", step, expected.reward(base, reward, info, actions[-1]), one[1], many[1])
        ended = expected.terminated(terminated)
        report.compare("ends", step, ended, one[2], many[2])
        state = _state(base)
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
            reports = [check(name, arguments.steps, seed=arguments.seed) for name in list_families()]
        finally:
            os.chdir(before)
    document = {
        "environments": [asdict(report) | {"equal": report.equal} for report in reports],
        "versions": {"mujoco": mujoco.__version__, "gymnasium": gymnasium.__version__, "numpy": np.__version__},
    }
    print(json.dumps(document, indent=2))
    return 0 if all(report.equal for report in reports) else 1


if __name__ == "__main__":
    from _running import run_script

    run_script(main)
