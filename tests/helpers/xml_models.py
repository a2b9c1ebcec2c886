"""Families of any model that is given as text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

from helpers.models import numbers
from metamap_envs import Family, from_gymnasium, registry


class XmlEnv(MujocoEnv):
    """Any model, read from a text by the constructor."""

    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 250}  # noqa: RUF012

    def __init__(self, xml: str, **kwargs: Any) -> None:
        self.xml = xml
        space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        super().__init__(".", 2, space, **kwargs)
        size = self.model.nq + self.model.nv
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = mujoco.MjModel.from_xml_string(self.xml)
        return model, mujoco.MjData(model)

    def _set_action_space(self) -> gym.spaces.Box:
        self.action_space = gym.spaces.Box(-1.0, 1.0, (max(1, self.model.nu),), np.float32)
        return self.action_space

    def reset_model(self) -> Any:
        self.set_state(self.init_qpos, self.init_qvel)
        return np.concatenate([self.data.qpos, self.data.qvel])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.do_simulation(action[: self.model.nu], self.frame_skip)
        return np.concatenate([self.data.qpos, self.data.qvel]), float(self.data.qpos[0]), False, False, {}


@contextlib.contextmanager
def registered(creator: Any = XmlEnv) -> Iterator[None]:
    """What is declared or registered within is gone afterwards."""
    before, declared = dict(gym.registry), dict(registry._DECLARED)
    gym.registry.pop("Xml-v0", None)
    gym.register("Xml-v0", entry_point=creator, max_episode_steps=50)
    try:
        yield
    finally:
        gym.registry.clear()
        gym.registry.update(before)
        registry._DECLARED.clear()
        registry._DECLARED.update(declared)


def declare(xml: str, **entry: object) -> Family:
    """A family with one parameter, p, of a model."""
    return declare_many(xml, {"p": entry})


def declare_many(xml: str, parameters: dict[str, dict[str, object]]) -> Family:
    document = {"name": "xml", "environment": "Xml-v0", "arguments": {"xml": xml}, "parameters": parameters}
    registry._DECLARED.pop("xml", None)
    return from_gymnasium(document)


def assert_same_models(found: mujoco.MjModel, expected: mujoco.MjModel) -> None:
    """Equal in every number, but for rounding: bodies given as geoms are added up, those given as numbers are not."""
    others = numbers(expected)
    for name, array in numbers(found).items():
        scale = float(np.abs(others[name]).max(initial=0.0)) if others[name].dtype.kind == "f" else 0.0
        np.testing.assert_allclose(array, others[name], rtol=1e-9, atol=1e-10 * scale, err_msg=name)
    for name in ("timestep", "impratio", "wind", "disableflags", "enableflags"):
        np.testing.assert_array_equal(getattr(found.opt, name), getattr(expected.opt, name), err_msg=name)
    for name in ("meaninertia", "meanmass", "meansize", "extent", "center"):
        np.testing.assert_allclose(getattr(found.stat, name), getattr(expected.stat, name), rtol=1e-9, atol=1e-12)


ARM = """<mujoco><option timestep="0.002" integrator="implicitfast" gravity="0 0 0"/><worldbody>
<geom name="floor" type="plane" size="5 5 0.1" pos="0 0 -1"/>
<body name="link"><joint name="hinge" axis="0 1 0" {joint}/>
<geom name="rod" type="capsule" fromto="0 0 0 0.5 0 0" size="0.03" mass="1"/>
<body name="tip" pos="0.5 0 0"><joint name="ball" type="ball" damping="0.2"/><geom size="0.05"/></body></body>
</worldbody>
<actuator>{actuator}</actuator>{more}</mujoco>"""


SERVO = '<position name="servo" joint="hinge" kp="50" dampratio="1" ctrlrange="-1 1"/>'


def arm(actuator: str = SERVO, joint: str = "", more: str = "") -> str:
    return ARM.format(actuator=actuator, joint=joint, more=more)
