"""What a page may ask for: one small JSON object a message, each with all that it needs and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from metamap_envs.errors import MetaMapError
from metamap_rl.play.describing import PROBE_STEPS
from metamap_rl.play.session import PlaySession

__all__ = ["LARGEST", "SPEEDS", "Clock", "Request", "read_request"]

LARGEST = 4096
"""Bytes of a message."""
SPEEDS = (0.25, 0.5, 1.0, 2.0)
"""Speeds of the player, in units of real time."""

_Name = Annotated[str, Field(min_length=1, max_length=80)]


@dataclass
class Clock:
    """How fast the player runs.

    Attributes:
        paused: whether it stands still.
        speed: simulated seconds a second.
    """

    paused: bool = False
    speed: float = 1.0


def _one_of_speeds(speed: float) -> float:
    if speed not in SPEEDS:
        raise ValueError(f"speed: expected one of {SPEEDS}")
    return speed


class Request(BaseModel):
    """Base of all requests."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def carry_out(self, session: PlaySession, clock: Clock) -> None:
        """Do what is asked for.

        Raises:
            MetaMapError: it cannot be done.
        """
        raise NotImplementedError


class SetParameters(Request):
    """Change parameters of the task."""

    do: Literal["set"]
    parameters: Annotated[dict[_Name, float], Field(min_length=1, max_length=100)]

    def carry_out(self, session: PlaySession, clock: Clock) -> None:
        """See `Request`."""
        session.set_parameters(self.parameters)


class SetJoint(Request):
    """Change the condition of a joint."""

    do: Literal["joint"]
    joint: _Name
    condition: _Name

    def carry_out(self, session: PlaySession, clock: Clock) -> None:
        """See `Request`."""
        session.set_joint(self.joint, self.condition)


class SetLength(Request):
    """Map the first transitions of D."""

    do: Literal["length"]
    steps: Annotated[int, Field(ge=1, le=PROBE_STEPS)]

    def carry_out(self, session: PlaySession, clock: Clock) -> None:
        """See `Request`."""
        session.set_length(self.steps)


class Simple(Request):
    """Requests without arguments: all defaults, start anew, probe, back to service."""

    do: Literal["heal", "restart", "probe", "serve"]

    def carry_out(self, session: PlaySession, clock: Clock) -> None:
        """See `Request`."""
        {"heal": session.heal, "restart": session.restart, "probe": session.probe, "serve": session.serve}[self.do]()


class SetClock(Request):
    """Pause, go on, or run at another speed."""

    do: Literal["clock"]
    paused: bool
    speed: Annotated[float, AfterValidator(_one_of_speeds)]

    def carry_out(self, session: PlaySession, clock: Clock) -> None:
        """See `Request`."""
        clock.paused, clock.speed = self.paused, self.speed


_REQUESTS: TypeAdapter[Request] = TypeAdapter(
    Annotated[SetParameters | SetJoint | SetLength | Simple | SetClock, Field(discriminator="do")]
)


def read_request(text: str | bytes) -> Request:
    """Read a message.

    Raises:
        MetaMapError: it is too long, not JSON, or none of the requests.
    """
    if len(text) > LARGEST:
        raise MetaMapError(f"message: expected at most {LARGEST} bytes, got {len(text)}")
    try:
        return _REQUESTS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MetaMapError(f"message: {place}: {first['msg']}".replace(": :", ":")) from None
