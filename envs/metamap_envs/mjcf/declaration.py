"""Schema of the YAML file of a family of an MJCF model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from metamap_envs.from_gymnasium.declaration import TARGETS, FamilyDeclaration, ParameterEntry, canonical_value
from metamap_envs.from_gymnasium.ids import DEFAULT_HORIZON
from metamap_envs.settings import STRICT, Number, Whole

__all__ = ["MODEL_TARGETS", "ModelDeclaration", "ModelParameter", "Noise", "Start"]

MODEL_TARGETS = (*TARGETS[:5], "length")
Amount = Number | dict[str, Number]


class ModelParameter(ParameterEntry):
    """One parameter: a field of the model, the length of a link, or, without a target, a value that terms name.

    Attributes:
        length: body whose link is made longer or shorter; its values are factors.
    """

    length: str | None = None

    @model_validator(mode="after")
    def _check_target(self) -> ModelParameter:
        for key in ("argument", "attribute"):
            if getattr(self, key) is not None:
                raise ValueError(f"the target {key!r} belongs to families of a Gymnasium environment")
        given = [name for name in MODEL_TARGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"needs one of {', '.join(MODEL_TARGETS)}, or none of them for a value that terms name")
        of_object = bool(given) and given[0] in MODEL_TARGETS[:4]
        if of_object != (self.field is not None):
            problem = f"the target {given[0]!r} needs a field" if of_object else "field needs an object that has it"
            raise ValueError(f"{problem}: {', '.join(MODEL_TARGETS[:4])}")
        if self.length is not None and self.how != "scale":
            raise ValueError(f"length of {self.length!r}: values are factors; declare how: scale")
        if not given and (self.how != "set" or self.index is not None):
            raise ValueError("how and index need a target")
        return self

    @property
    def kind(self) -> str:
        """Which of `MODEL_TARGETS` it has; empty for a value that terms name."""
        return next((name for name in MODEL_TARGETS if getattr(self, name) is not None), "")


class Noise(BaseModel):
    """Noise of a start: one number for all joints, or one for each that is named.

    Attributes:
        positions: in rad or m.
        velocities: in rad/s or m/s.
        distribution: of both: uniform in [-x, x], or normal with standard deviation x.
    """

    model_config = STRICT

    positions: Amount = 0.0
    velocities: Amount = 0.0
    distribution: Literal["uniform", "normal"] = "uniform"

    @field_validator("positions", "velocities")
    @classmethod
    def _not_negative(cls, value: Amount) -> Amount:
        if min(value.values() if isinstance(value, dict) else [value], default=0.0) < 0:
            raise ValueError("expected amounts of 0 or more")
        return value


class Start(BaseModel):
    """Start of an episode.

    Attributes:
        keyframe: of the model; default its reference pose.
        noise: on positions and velocities.
    """

    model_config = STRICT

    keyframe: str | None = None
    noise: Noise = Noise()


class ModelDeclaration(FamilyDeclaration[ModelParameter]):
    """A family: an MJCF model, a table of parameters, and lists of terms.

    Attributes:
        model: path of the MJCF file.
        embodiment: default: the family's name.
        observation: terms, whose numbers follow one another.
        reward: terms, which are added up.
        end: terms with bounds; an episode ends where a number leaves them.
        start: of an episode.
        frame_skip: MuJoCo steps of an environment step.
        horizon: steps after which an episode is truncated.
        derived: whether terms see derived quantities (places, sensors) of the state after the step, as dm_control's
            do, or those that `mj_step` leaves behind, of one MuJoCo step before, as in Gymnasium.
    """

    model: str
    observation: tuple[Any, ...] = Field(min_length=1)
    reward: tuple[Any, ...] = Field(min_length=1)
    end: tuple[Any, ...] = ()
    start: Start = Start()
    frame_skip: Whole = Field(default=5, ge=1)
    horizon: Whole = Field(default=DEFAULT_HORIZON, ge=1)
    derived: Literal["current", "lagged"] = "current"

    def canonical(self, digest: str, terms: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """What it says of the environments, as plain JSON values of one form.

        Args:
            digest: of the model's files.
            terms: "observation", "reward" and "end", each term in the form with all its keys.
        """
        return {
            "model": digest,
            **{key: canonical_value(list(value)) for key, value in terms.items()},
            "start": canonical_value(self.start.model_dump()),
            "frame_skip": self.frame_skip,
            "horizon": self.horizon,
            "derived": self.derived,
            "parameters": {name: canonical_value(entry.canonical()) for name, entry in self.parameters.items()},
            "order": list(self.parameters),  # tasks are drawn in it
        }
