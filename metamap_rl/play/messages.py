"""What a page may ask for: one small JSON object a message, each with all that it needs and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json

from metamap_envs.errors import MetaMapError, unknown_name
from metamap_envs.settings import parse
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
        raise ValueError(f"expected one of {', '.join(map(str, SPEEDS))}")
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


_REQUESTS: dict[str, type[Request]] = {
    "set": SetParameters,
    "joint": SetJoint,
    "length": SetLength,
    **dict.fromkeys(("heal", "restart", "probe", "serve"), Simple),
    "clock": SetClock,
}


def read_request(text: str | bytes) -> Request:
    """Read a message.

    Raises:
        MetaMapError: it is too long, not JSON, or none of the requests.
    """
    if len(text) > LARGEST:
        raise MetaMapError(f"message: expected at most {LARGEST} bytes, got {len(text)}")
    try:
        document = from_json(text)
    except ValueError as error:
        raise MetaMapError(f"message: expected JSON ({error})") from None
    if not isinstance(document, dict):
        raise MetaMapError(f"message: expected a JSON object, got {type(document).__name__}")
    do = document.get("do")
    if not isinstance(do, str) or do not in _REQUESTS:
        raise MetaMapError(f"message: do: {unknown_name('request', str(do)[:80], _REQUESTS)}")
    return parse(_REQUESTS[do], document, f"message: {do}")
