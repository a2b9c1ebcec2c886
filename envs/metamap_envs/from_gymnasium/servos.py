"""Strength and damping of servos, which are several numbers of a compiled model that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from metamap_envs.errors import MetaMapError

__all__ = ["SERVO_FIELDS", "check_actuator", "servo_places"]

SERVO_FIELDS = ("kp", "kv")


def servo_places(actuator: Any, field: str) -> Iterator[tuple[str, int, float]]:
    """(field, element, sign) of each number that is a servo's kp or kv, or its negative."""
    if field == "kp":
        yield from (("gainprm", 0, 1.0), ("biasprm", 1, -1.0))
    elif _is_velocity(actuator):
        yield from (("gainprm", 0, 1.0), ("biasprm", 2, -1.0))
    elif _is_damper(actuator):
        yield ("gainprm", 2, -1.0)
    else:
        yield ("biasprm", 2, -1.0)


def check_actuator(actuator: Any, field: str, index: int | None, raw: Any | None) -> None:
    """Refuse to write one of several coupled numbers, or one that the actuator does not read.

    Args:
        actuator: view of the compiled actuator.
        field: "kp", "kv", "gainprm", "biasprm" or "gear".
        index: which element; None for all.
        raw: the actuator's specification; None if unavailable.

    Raises:
        MetaMapError: writing the field would not do what it says.
    """
    import mujoco

    name, gains, biases = actuator.name or f"number {actuator.id}", mujoco.mjtGain, mujoco.mjtBias
    what = f"{field!r} of actuator {name!r}"
    position, velocity, damper = _is_position(actuator), _is_velocity(actuator), _is_damper(actuator)
    if field == "kp" and not position:
        raise MetaMapError(f"{what}: kp belongs to position servos (<position>, <intvelocity>), and this is not one")
    if field == "kv":
        if not (position or velocity or damper):
            raise MetaMapError(f"{what}: kv belongs to servos (<position>, <velocity>, <damper>), and this is not one")
        if position and raw is not None and raw.biasprm[2] > 0:
            raise MetaMapError(f"{what}: the compiler computes it from the servo's dampratio; declare kp instead")
    if field not in ("gainprm", "biasprm"):
        return
    touched = range(len(actuator.gainprm)) if index is None else (index,)
    tied = {"gainprm": {0}, "biasprm": {1} if position else {2}}[field] if position or velocity else set()
    if tied & set(touched):
        better, other = ("kp", "biasprm[1] = -kp") if position else ("kv", "biasprm[2] = -kv")
        raise MetaMapError(
            f"{what}: this servo's strength is gainprm[0] = {better} and {other} together, and one of them alone "
            f"moves where it settles; declare field: {better}"
        )
    if field == "biasprm" and position and 2 in touched and raw is not None and raw.biasprm[2] > 0:
        raise MetaMapError(f"{what}: the compiler computes biasprm[2] from the servo's dampratio; declare field: kp")
    kind = int(actuator.gaintype[0] if field == "gainprm" else actuator.biastype[0])
    plain = (
        (gains.mjGAIN_FIXED, gains.mjGAIN_AFFINE) if field == "gainprm" else (biases.mjBIAS_NONE, biases.mjBIAS_AFFINE)
    )
    if kind not in [each.value for each in plain]:
        raise MetaMapError(f"{what}: its numbers are those of a muscle or motor and belong together; declare gear")
    used = {gains.mjGAIN_FIXED.value: 1, gains.mjGAIN_AFFINE.value: 3}[kind] if field == "gainprm" else 3 * (kind != 0)
    if not any(each < used for each in touched):
        raise MetaMapError(f"{what} changes nothing: this actuator reads {used} of its numbers")


def _is_position(actuator: Any) -> bool:
    """Whether its force is kp (control - length), with or without damping."""
    return _is_affine(actuator) and actuator.gainprm[0] == -actuator.biasprm[1] != 0


def _is_velocity(actuator: Any) -> bool:
    """Whether its force is kv (control - velocity)."""
    tied = actuator.gainprm[0] == -actuator.biasprm[2] != 0
    return _is_affine(actuator) and actuator.biasprm[1] == 0 and tied


def _is_affine(actuator: Any) -> bool:
    import mujoco

    fixed = actuator.gaintype[0] == mujoco.mjtGain.mjGAIN_FIXED.value
    return bool(fixed and actuator.biastype[0] == mujoco.mjtBias.mjBIAS_AFFINE.value)


def _is_damper(actuator: Any) -> bool:
    """Whether its force is -kv times control times velocity."""
    import mujoco

    affine = actuator.gaintype[0] == mujoco.mjtGain.mjGAIN_AFFINE.value
    return bool(affine and actuator.gainprm[0] == actuator.gainprm[1] == 0 != actuator.gainprm[2])
