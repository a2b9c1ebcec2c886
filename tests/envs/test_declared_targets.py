"""What a declared parameter writes: exactly what it says, or it is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import PendulumEnv

from metamap_envs import Family, MetaMapError, from_gymnasium, registry
from metamap_envs.declared_env import GymnasiumFamilyEnv


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares or registers is gone after it."""
    monkeypatch.setenv(registry.VARIABLE, "")
    monkeypatch.setattr(registry, "_DECLARED", {})
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def declare(creator: Any, kwargs: dict[str, Any] | None = None, **entry: object) -> Family:
    """A family with one parameter, p, of an environment that is registered for the occasion."""
    gym.register("Declared-v0", entry_point=creator, max_episode_steps=50, kwargs=kwargs or {})
    return from_gymnasium({"name": "declared", "environment": "Declared-v0", "parameters": {"p": entry}})


def declare_again(creator: Any, **entry: object) -> Family:
    """The same once more in one test."""
    gym.registry.pop("Declared-v0", None)
    registry._DECLARED.pop("declared", None)
    return declare(creator, **entry)


def made(family: Family, value: float | None = None) -> Any:
    """The environment of a task with p at a value, or at its default."""
    return family.make(family.task({} if value is None else {"p": value})).unwrapped  # type: ignore[attr-defined]


# arguments -----------------------------------------------------------------------------------------------------------


def test_the_environments_own_value_is_that_of_its_id() -> None:
    family = declare(PendulumEnv, {"g": 3.7}, argument="g", train=[5, 15])
    assert family.task()["p"] == made(family).g == 3.7
    assert [made(family, value).g for value in (9.999, 10.0, 10.001)] == [9.999, 10.0, 10.001]


def test_a_factor_is_on_the_value_of_the_id() -> None:
    family = declare(PendulumEnv, {"g": 3.7}, argument="g", how="scale", train=[0.5, 2])
    np.testing.assert_allclose([made(family, value).g for value in (1.0, 1.001, 2.0)], [3.7, 3.7037, 7.4])


# log scale -----------------------------------------------------------------------------------------------------------


def test_a_declared_range_over_decades_is_drawn_log_uniformly() -> None:
    entry = {"option": "viscosity", "train": [0.0001, 1.0], "scale": "log"}
    family = from_gymnasium({"name": "log", "environment": "Swimmer-v5", "parameters": {"viscosity": entry}})
    drawn = [task["viscosity"] for task in family.sample("train", 256, 0)]
    np.testing.assert_allclose(np.histogram(np.log10(drawn), bins=4, range=(-4, 0))[0], 64, atol=2)


# constructors of all kinds --------------------------------------------------------------------------------------------


class Plain(gym.Env[Any, Any]):
    """Observes the numbers that it was made with."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    drag = 0.5

    def __init__(self, g: Any = 10.0) -> None:
        self.g = g
        self.weight = 2.0 * g + self.drag

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation(), {}

    def observation(self) -> Any:
        return np.array([self.g, self.weight], dtype=np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation(), float(self.weight), False, False, {}


class Passing(Plain):
    """Another default than the signature that a reader of it finds."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"g": 3.7, **kwargs})


class Fixed(Plain):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(g=3.7, **kwargs)


class NoneMeans(Plain):
    def __init__(self, g: float | None = None) -> None:
        super().__init__(9.81 if g is None else g)


class Clipping(Plain):
    def __init__(self, g: float = 10.0) -> None:
        super().__init__(min(g, 12.0))


class ClippingInside(Plain):
    """Keeps what it was given, uses something else, and has no attribute of that name."""

    def __init__(self, strength: float = 10.0) -> None:
        super().__init__(min(strength, 12.0))


class Rounding(Plain):
    def __init__(self, g: int = 10) -> None:
        super().__init__(int(g))


class Ignoring(Plain):
    def __init__(self, g: float = 10.0, **kwargs: Any) -> None:
        super().__init__(10.0)


class Swallowing(Plain):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()


class KeepingRaw(Plain):
    """Keeps what it was given, and uses that clipped."""

    def __init__(self, strength: float = 10.0) -> None:
        super().__init__()
        self.strength = strength
        self.weight = min(strength, 12.0)


class Unused(Plain):
    def __init__(self, strength: float = 10.0) -> None:
        super().__init__()
        self.strength = strength


class RoundingInUse(Unused):
    def observation(self) -> Any:
        return np.array([0.0, int(self.strength)], dtype=np.float64)


class Late(Unused):
    """Looks at what it was given in the ninth step only."""

    steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        observation, reward, *rest = super().step(action)
        return observation, float(self.strength if self.steps == 9 else reward), *rest


class Counting(Plain):
    def __init__(self, g: int = 10) -> None:
        super().__init__(g)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        for _ in range(self.g):
            pass
        return super().step(action)


class Converting(Plain):
    def __init__(self, tilt: float = 0.0) -> None:
        super().__init__()
        self.tilt = np.deg2rad(tilt)

    def observation(self) -> Any:
        return np.array([self.tilt, 0.0])


class Resetting(Plain):
    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.g = 10.0
        return super().reset(**kwargs)


class ResettingLater(Plain):
    """Sets its attribute back when a second episode begins."""

    resets = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.resets += 1
        if self.resets > 1:
            self.drag = 0.5
        return super().reset(**kwargs)


class SteppingBack(Plain):
    """Sets its attribute back in its fifth step."""

    steps = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.steps == 5:
            self.drag = 0.5
        return super().step(action)


class Derived(Plain):
    def __init__(self, extra: int) -> None:
        super().__init__()
        self.base = 1.0
        self.weight = self.base + 2.0 * extra


class Slots(Plain):
    __slots__ = ("lift",)

    def __init__(self) -> None:
        super().__init__()
        self.lift = 4.0
        self.weight = self.lift


class Property(Plain):
    def __init__(self) -> None:
        super().__init__()
        self._mass = 1.0

    @property
    def mass(self) -> float:
        return self._mass


class Hidden(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.__dict__["mass"] = 1.0
        self.weight = 3.0 * self.mass  # type: ignore[attr-defined]


class Numpy(Plain):
    def __init__(self, g: Any = np.float32(10.0)) -> None:  # noqa: B008
        super().__init__(np.array(g))
        self.count = np.int64(3)
        self.on = np.bool_(True)

    def observation(self) -> Any:
        return np.array([self.g, self.weight + self.count + self.on], dtype=np.float64)


@pytest.mark.parametrize("creator", [Passing, NoneMeans, functools.partial(Plain, g=3.7)])
def test_the_own_value_is_what_the_constructor_makes_of_nothing(creator: Any) -> None:
    family = declare(creator, argument="g", train=[5, 15])
    assert family.task()["p"] == made(family).g in (3.7, 9.81)
    assert [made(family, value).g for value in (9.5, 10.0)] == [9.5, 10.0]


@pytest.mark.parametrize(
    ("creator", "entry", "expected"),
    [
        (Fixed, {"argument": "g"}, "passing that makes another environment than passing nothing"),
        (functools.partial(Plain, 3.7), {"argument": "g"}, "unknown argument"),
        (Clipping, {"argument": "g"}, "make the same environment: its constructor ignores, rounds or clips"),
        (ClippingInside, {"argument": "strength"}, "make the same environment"),
        (KeepingRaw, {"argument": "strength"}, "rounds or clips the argument 'strength' in 'weight'"),
        (Rounding, {"argument": "g"}, "make the same environment"),
        (Ignoring, {"argument": "g"}, "make the same environment"),
        (Swallowing, {"argument": "g", "default": 10.0}, "make the same environment"),
        (Counting, {"argument": "g"}, "object cannot be interpreted as an integer"),
        (Counting, {"attribute": "g"}, "object cannot be interpreted as an integer"),
        (Resetting, {"attribute": "g"}, "it is state, not a parameter"),
        (ResettingLater, {"attribute": "drag"}, "it is state, not a parameter"),
        (SteppingBack, {"attribute": "drag"}, "it is state, not a parameter"),
        (Property, {"attribute": "mass"}, "computed from others .a property.; declare attribute: _mass"),
        (Plain, {"attribute": "g"}, "derives other numbers; declare argument: g"),
        (Hidden, {"attribute": "mass"}, "the constructor does not set it as an attribute"),
        (Plain, {"attribute": "speed"}, "unknown attribute of the environment that is a number 'speed'"),
        (Numpy, {"attribute": "on"}, "declare choices: .0, 1."),
    ],
)
def test_a_value_that_does_not_arrive_is_refused(creator: Any, entry: dict[str, object], expected: str) -> None:
    with pytest.raises(MetaMapError, match=expected) as caught:
        declare(creator, **entry, train=[5, 15])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["argument", "attribute"])
@pytest.mark.parametrize("creator", [Unused, RoundingInUse])
def test_a_parameter_without_a_visible_effect_gives_a_warning(creator: Any, kind: str) -> None:
    with pytest.warns(UserWarning, match="does the same with the parameter 'p' at 5 and 5.01"):
        declare(creator, **{kind: "strength"}, train=[5, 15])


def test_an_argument_with_a_late_effect_gives_none() -> None:
    assert made(declare(Late, argument="strength", train=[5, 15]), 7.0).strength == 7.0


def test_values_of_all_types_arrive() -> None:
    assert made(declare(Counting, argument="g", choices=[10, 12]), 12).g == 12
    for creator, name in ((Plain, "drag"), (Slots, "lift"), (functools.partial(Derived, 1), "base")):
        env = made(declare_again(creator, attribute=name, train=[5, 15]), 7.25)
        assert getattr(env, name) == 7.25
        assert env.weight == {"drag": 20.0 + 7.25, "lift": 7.25, "base": 9.25}[name]
    assert made(declare_again(Numpy, argument="g", how="scale", train=[0.5, 2]), 1.5).g == 15.0
    assert made(declare_again(Numpy, attribute="count", choices=[3, 4]), 4).count == 4
    assert made(declare_again(Numpy, attribute="on", choices=[0, 1]), 0).on is False
    assert made(declare_again(Converting, argument="tilt", train=[-30, 30]), 30).tilt == np.deg2rad(30)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_an_argument_and_an_attribute_of_the_same_thing_are_refused(order: tuple[str, str]) -> None:
    entries = {"a": {"argument": "g", "train": [5, 15]}, "b": {"attribute": "g", "train": [5, 15]}}
    gym.register("Declared-v0", entry_point=PendulumEnv, max_episode_steps=50)
    document = {"name": "two", "environment": "Declared-v0", "parameters": {key: entries[key] for key in order}}
    with pytest.raises(MetaMapError, match="the parameters 'a' and 'b' write the same thing"):
        from_gymnasium(document)


def test_an_argument_that_is_a_parameter_is_not_given_twice() -> None:
    family = declare(PendulumEnv, argument="g", train=[5, 15])
    with pytest.raises(MetaMapError, match="the argument 'g' is the parameter 'p'"):
        family.make(family.task(), g=3.0)  # type: ignore[attr-defined]


def test_a_declared_default_is_not_the_environments_own_value() -> None:
    family = declare(PendulumEnv, argument="g", default=7.0, train=[5, 15])
    assert (made(family).g, made(family, 10.0).g) == (7.0, 10.0)


# in mid-episode -------------------------------------------------------------------------------------------------------


class ReadsAtReset(Plain):
    """Takes note of an attribute when an episode starts."""

    def __init__(self) -> None:
        super().__init__()
        self.pull = 1.0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.noted = self.pull
        return super().reset(**kwargs)

    def observation(self) -> Any:
        return np.array([self.noted, self.weight], dtype=np.float64)


class ReadsAtOnce(ReadsAtReset):
    """Reads an attribute in each step."""

    def observation(self) -> Any:
        return np.array([self.pull, self.weight], dtype=np.float64)


def test_an_attribute_changes_in_mid_episode_where_the_running_environment_reads_it() -> None:
    family = declare(ReadsAtOnce, attribute="pull", train=[0.5, 2.0])
    env: Any = gym.make(family.gym_id)
    env.reset(seed=0)
    env.unwrapped.set_task(family.task({"p": 1.5}))
    assert env.step(np.zeros(1))[0].tolist() == [1.5, 20.5]
    family = declare_again(ReadsAtReset, attribute="pull", train=[0.5, 2.0])
    single = GymnasiumFamilyEnv("declared")
    single.reset(seed=0)
    with pytest.raises(MetaMapError, match=r"'p' cannot change in mid-episode: a running environment does not read it"):
        single.set_task(family.task({"p": 1.5}))
    assert single.step(np.zeros(1))[0].tolist() == [1.0, 20.5]


def test_an_attribute_that_the_constructor_keeps_otherwise_does_not_change_in_mid_episode() -> None:
    family = declare(Plain, attribute="drag", train=[0.1, 1.0])
    with pytest.raises(MetaMapError, match=r"the constructor derives 'weight' from it; give the task to reset\(\)"):
        GymnasiumFamilyEnv("declared").set_task(family.task({"p": 0.7}))
