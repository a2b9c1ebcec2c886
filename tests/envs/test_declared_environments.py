"""Fields of MuJoCo's model in environments whose model comes about in other ways than from one text."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, ClassVar

import mujoco
import pytest

from helpers.models import assert_equal_models
from helpers.xml_models import XmlEnv, arm, assert_same_models, declare, declare_many, registered
from metamap_envs import MetaMapError

pytestmark = pytest.mark.filterwarnings("ignore:.*settotalmass")  # deprecated, and in Gymnasium's half_cheetah.xml


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with registered():
        yield


MASS = {"body": "link", "field": "mass", "how": "scale", "train": [0.5, 2.0]}


class CachedEnv(XmlEnv):
    """Copies a model that was compiled before."""

    models: ClassVar[dict[str, mujoco.MjModel]] = {}

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = copy.copy(self.models[self.xml])
        return model, mujoco.MjData(model)


class SpecEnv(XmlEnv):
    """Compiles a specification, and something else before it."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        mujoco.MjModel.from_xml_string("<mujoco/>")
        model = mujoco.MjSpec.from_string(self.xml).compile()
        self.total = float(model.body_mass.sum())
        return model, mujoco.MjData(model)


class RandomEnv(XmlEnv):
    """Draws a mass for each episode."""

    def reset_model(self) -> Any:
        self.model.body_mass[1] = self.np_random.uniform(0.5, 2.0)
        return super().reset_model()


class ResettingEnv(XmlEnv):
    """Sets gravity back when a second episode begins."""

    episodes = 0

    def reset_model(self) -> Any:
        self.episodes += 1
        if self.episodes > 1:
            self.model.opt.gravity[2] = -9.81
        return super().reset_model()


class SteppingEnv(XmlEnv):
    """Sets gravity back in its fifth step."""

    steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 5:
            self.model.opt.gravity[2] = -9.81
        return super().step(action)


class SharingEnv(CachedEnv):
    """Takes a model that was compiled before for its own."""

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return self.models[self.xml], mujoco.MjData(self.models[self.xml])


class WritingEnv(XmlEnv):
    """Writes a mass itself."""

    def __init__(self, xml: str, payload: float = 1.0, **kwargs: Any) -> None:
        super().__init__(xml, **kwargs)
        self.model.body_mass[1] = payload


PLAIN = arm('<motor name="m" joint="hinge"/>')


def test_a_specification_is_compiled_with_the_value() -> None:
    with registered(SpecEnv):
        family = declare(arm(), body="link", field="mass", how="scale", train=[0.5, 4.0])
        env: Any = family.make(family.task({"p": 4.0})).unwrapped  # type: ignore[attr-defined]
    spec = mujoco.MjSpec.from_string(arm())
    spec.geom("rod").mass = 4.0
    assert_same_models(env.model, spec.compile())
    assert env.total == pytest.approx(spec.compile().body_mass.sum())


def test_a_model_without_a_specification_is_written_where_nothing_else_depends_on_it() -> None:
    CachedEnv.models.update({xml: mujoco.MjModel.from_xml_string(xml) for xml in (PLAIN, arm())})
    with registered(CachedEnv):
        family = declare(PLAIN, body="link", field="mass", how="scale", train=[0.5, 4.0])
        spec = mujoco.MjSpec.from_string(PLAIN)
        spec.geom("rod").mass = 4.0  # means of the model, which nothing looks at, stay as they are
        assert_equal_models(family.model(family.task({"p": 4.0})), spec.compile())
        with pytest.raises(MetaMapError, match=r"dampratio.*compiled model"):
            declare(arm(), body="link", field="mass", how="scale", train=[0.5, 4.0])


def test_a_value_that_the_environments_own_code_overwrites_is_refused() -> None:
    with registered(RandomEnv), pytest.raises(MetaMapError, match="sets it again in reset or step"):
        declare(PLAIN, body="link", field="mass", train=[0.5, 4.0])
    with registered(WritingEnv):
        with pytest.raises(MetaMapError, match="something else in the model or in the environment's code sets it"):
            declare(PLAIN, body="link", field="mass", train=[0.5, 4.0])
        parameters = {"a": {"argument": "payload", "train": [0.5, 2.0]}, "b": {**MASS, "how": "set", "train": [0.5, 2]}}
        with pytest.raises(MetaMapError, match=r"'[ab]'"):
            declare_many(PLAIN, parameters)


@pytest.mark.parametrize("creator", [ResettingEnv, SteppingEnv])
def test_a_value_that_is_set_back_later_is_refused(creator: Any) -> None:
    with registered(creator), pytest.raises(MetaMapError, match="sets it again in reset or step"):
        declare(PLAIN, option="gravity", index=2, train=[-12, -5])


def test_a_model_that_all_environments_hold_is_refused_and_left_as_it_is() -> None:
    model = SharingEnv.models[PLAIN] = mujoco.MjModel.from_xml_string(PLAIN)
    with registered(SharingEnv), pytest.raises(MetaMapError, match="one and the same MuJoCo model"):
        declare(PLAIN, body="link", field="mass", how="scale", train=[0.5, 4.0])
    assert_same_models(model, mujoco.MjModel.from_xml_string(PLAIN))


def test_a_time_step_of_an_environment_that_checks_its_frame_rate() -> None:
    family = declare(PLAIN, option="timestep", train=[0.001, 0.004])
    env: Any = family.make(family.task({"p": 0.004})).unwrapped  # type: ignore[attr-defined]
    assert (env.dt, env.metadata["render_fps"]) == (0.008, 125)
