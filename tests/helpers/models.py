"""Comparison of MuJoCo's models."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray


def numbers(model: mujoco.MjModel) -> dict[str, NDArray[Any]]:
    """All number arrays of a model that physics depend on; names and text are bytes, textures are large."""
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith(("_", "tex_"))}
    arrays = {
        name: value for name, value in fields.items() if isinstance(value, np.ndarray) and value.dtype.kind != "S"
    }
    option = model.opt
    return arrays | {"gravity": option.gravity, "fluid": np.array([option.density, option.viscosity])}


def assert_equal_models(found: mujoco.MjModel, expected: mujoco.MjModel, *, rtol: float = 1e-9) -> None:
    """Equal but for rounding: masses are multiplied in another order."""
    others = numbers(expected)
    for name, array in numbers(found).items():
        np.testing.assert_allclose(array, others[name], rtol=rtol, atol=1e-12 if rtol else 0.0, err_msg=name)


def explicit_bodies(spec: mujoco.MjSpec, mass: dict[str, float], inertia: dict[str, float]) -> None:
    """Write masses and inertias of the compiled bodies, times factors, into the spec itself."""
    compiled = spec.compile()
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    for body in spec.bodies[1:]:
        same = compiled.body(body.name)
        body.explicitinertial = True
        body.mass = same.mass[0] * mass.get(body.name, 1.0)
        body.inertia = same.inertia * inertia.get(body.name, 1.0)
        body.ipos, body.iquat = same.ipos, same.iquat
