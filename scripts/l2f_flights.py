"""RAPTOR in l2f, the simulator that it was trained in, on the vehicles and starts of `metamap results run flights`.

    pip install l2f 'metamap-rl[raptor]'    # l2f is a source distribution that takes minutes to compile
    python scripts/l2f_flights.py

Prints who is lost and the errors of the others in the condition in which nothing appears, to be held beside the
experiment's own document. Positions and limits are those of `quadrotor-hover`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _running import run_script
from l2f_trajectories import describe, simulator
from metamap_envs import FamilyEnv, Task
from metamap_envs.state import State
from metamap_rl.evaluation.flights import quadrotor_family, vehicles
from metamap_rl.evaluation.raptor import RaptorController
from metamap_rl.results.experiments.flights import TASK_SEED, FlightsOfQuadrotors

VEHICLE = ("mass", "thrust_to_weight", "torque_to_inertia", "motor_rise", "motor_fall", "torque_constant", "arm")


class L2f:
    """One vehicle in l2f, from where the family starts it."""

    def __init__(self, task: Task, seed: int) -> None:
        self.l2f = simulator()
        self.device, self.rng, environment = self.l2f.Device(), self.l2f.Rng(), self.l2f.Environment()
        self.l2f.initialize_environment(self.device, environment)
        self.l2f.initialize_rng(self.device, self.rng, 0)
        self.environment, self.parameters, self.state = environment, self.l2f.Parameters(), self.l2f.State()
        self.l2f.initial_parameters(self.device, environment, self.parameters)
        found = json.loads(self.l2f.parameters_to_json(self.device, environment, self.parameters))
        described = describe(found, {name: task[name] for name in VEHICLE})
        self.l2f.parameters_from_json(self.device, environment, json.dumps(described), self.parameters)
        self.l2f.initial_state(self.device, environment, self.parameters, self.state)
        start = FamilyEnv(task.family, task=task)
        start.reset(seed=seed)
        data = start.data
        self.state.position, self.state.orientation = data.qpos[:3].tolist(), data.qpos[3:].tolist()
        self.state.linear_velocity, self.state.angular_velocity = data.qvel[:3].tolist(), data.qvel[3:].tolist()
        self.state.rpm, self.last = data.act[:4].tolist(), data.act[4:8].copy()

    def step(self, action: NDArray[Any]) -> None:
        """10 ms."""
        after = self.l2f.State()
        self.l2f.step(self.device, self.environment, self.parameters, self.state, action.tolist(), after, self.rng)
        self.state, self.last = after, action

    def rows(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Qpos and qvel."""
        state = self.state
        return (
            np.concatenate([state.position, state.orientation]),
            np.concatenate([state.linear_velocity, state.angular_velocity]),
        )


def main() -> None:
    """Fly and print."""
    settings = FlightsOfQuadrotors()
    family = quadrotor_family(settings.family)
    tasks, _ = vehicles(family, settings.split, settings.vehicles, TASK_SEED, {})
    flying, values = [L2f(task, seed) for seed, task in enumerate(tasks)], np.stack([task.values for task in tasks])
    pilot, alive, distances = RaptorController(), np.ones(len(tasks), dtype=np.bool_), []
    for _ in range(settings.steps):
        qpos, qvel = (np.array(part) for part in zip(*(each.rows() for each in flying), strict=True))
        memory = np.array([[*each.state.rpm, *each.last] for each in flying])
        state = State(qpos, qvel, {"memory": memory})
        alive &= ~family.terminated(state, values)
        distances.append(np.linalg.norm(qpos[:, :3], axis=1))
        for each, action in zip(flying, pilot.act(np.nan_to_num(family.observe(state))), strict=True):
            each.step(action)
    errors = 100.0 * np.mean(distances[settings.steps // 2 :], axis=0)[alive]
    print(f"lost: {np.flatnonzero(~alive).tolist()} of {len(tasks)}")
    print(f"error of the others: mean {errors.mean():.2f} cm, median {np.median(errors):.2f} cm")


if __name__ == "__main__":
    run_script(main)
