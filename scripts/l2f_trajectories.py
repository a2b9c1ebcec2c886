"""Trajectories of l2f, the simulator that RAPTOR was trained in, for the parity test of the quadrotors.

    pip install l2f    # a source distribution that takes minutes to compile
    python scripts/l2f_trajectories.py tests/envs/l2f_trajectories.json

Two vehicles, the Crazyflie and a heavy one, fly under fixed actions for one second; every tenth state is written. l2f
computes in single precision, with RK4 at 10 ms. None of this project's physics is used: the vehicles are described in
l2f's own terms, from the definitions of RAPTOR's parameters.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
from pathlib import Path
from typing import Any

from _running import run_script
from metamap_envs import MetaMapError

STEPS, EVERY = 100, 10
CRAZYFLIE: dict[str, float] = {}  # l2f's own nominal parameters, and this project's defaults
HEAVY = {
    "mass": 2.0,
    "thrust_to_weight": 2.5,
    "torque_to_inertia": 150.0,
    "motor_rise": 0.08,
    "motor_fall": 0.2,
    "torque_constant": 0.03,
    "arm": 1.05,
}
START = {
    "position": [0.1, -0.2, 0.3],
    "orientation": [0.9537169507482269, 0.1, -0.2, 0.2],  # w, x, y, z
    "linear_velocity": [0.5, -0.4, 0.3],
    "angular_velocity": [0.6, -0.5, 0.8],
    "rpm": [0.3, 0.2, 0.4, 0.5],
}


def simulator() -> Any:
    """The module `l2f`.

    Raises:
        MetaMapError: it is not installed.
    """
    try:
        return importlib.import_module("l2f")
    except ImportError:
        raise MetaMapError("l2f is not installed: pip install l2f, which compiles it") from None


def describe(parameters: dict[str, Any], vehicle: dict[str, float]) -> dict[str, Any]:
    """The vehicle as l2f's parameters, from those of the Crazyflie."""
    dynamics = parameters["dynamics"]
    thrusts = [0.00352526, 0.01437313, 0.09223048]  # l2f prints six decimals
    inertia = [9.416556729130406e-06, 9.644051701582312e-06, 1.745951732253285e-05]
    if vehicle:
        length = (vehicle["mass"] / dynamics["mass"]) ** (1 / 3) * vehicle["arm"]
        thrust = vehicle["thrust_to_weight"] * vehicle["mass"] * 9.81 / 4
        thrusts = [each * thrust / 0.11012887 for each in thrusts]
        factor = length * 0.028 * math.sqrt(2) * thrust / vehicle["torque_to_inertia"] / inertia[0]
        inertia = [each * factor for each in inertia]
        dynamics["mass"] = vehicle["mass"]
        dynamics["rotor_positions"] = [[length * each for each in place] for place in dynamics["rotor_positions"]]
        dynamics["rotor_torque_constants"] = [vehicle["torque_constant"]] * 4
        dynamics["rotor_time_constants_rising"] = [vehicle["motor_rise"]] * 4
        dynamics["rotor_time_constants_falling"] = [vehicle["motor_fall"]] * 4
    dynamics["rotor_thrust_coefficients"] = [thrusts] * 4
    dynamics["J"] = [[inertia[row] if row == column else 0.0 for column in range(3)] for row in range(3)]
    dynamics["J_inv"] = [[1 / inertia[row] if row == column else 0.0 for column in range(3)] for row in range(3)]
    return parameters


def actions_around(command: float) -> list[list[float]]:
    """A slow sine for each rotor around a command, and a step of all in the middle."""
    step = [0.1 if step >= STEPS // 2 else 0.0 for step in range(STEPS)]
    return [
        [round(command + step[n] + 0.05 * math.sin(0.3 * n * (1 + 0.1 * rotor) + rotor), 4) for rotor in range(4)]
        for n in range(STEPS)
    ]


def fly(vehicle: dict[str, float], command: float) -> dict[str, Any]:
    """One vehicle's parameters, actions and every tenth state."""
    l2f = simulator()
    device, rng, env = l2f.Device(), l2f.Rng(), l2f.Environment()
    parameters, state, after = l2f.Parameters(), l2f.State(), l2f.State()
    l2f.initialize_environment(device, env)
    l2f.initialize_rng(device, rng, 0)
    l2f.initial_parameters(device, env, parameters)
    described = describe(json.loads(l2f.parameters_to_json(device, env, parameters)), vehicle)
    l2f.parameters_from_json(device, env, json.dumps(described), parameters)
    l2f.initial_state(device, env, parameters, state)
    for field, value in START.items():
        setattr(state, field, value)
    actions, states = actions_around(command), []
    for number, action in enumerate(actions, 1):
        l2f.step(device, env, parameters, state, action, after, rng)
        state.assign(after)
        if number % EVERY == 0:
            states.append({field: [round(float(each), 6) for each in getattr(state, field)] for field in START})
    return {"parameters": vehicle, "actions": actions, "states": states}


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="of the document")
    path = parser.parse_args().path
    flights = {"crazyflie": fly(CRAZYFLIE, 0.45), "heavy": fly(HEAVY, 0.25)}
    document = {"command": "python scripts/l2f_trajectories.py", "every": EVERY, "start": START, "flights": flights}
    path.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    run_script(main)
