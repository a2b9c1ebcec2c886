"""What the player shows of a family, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metamap_envs.family import Family
from metamap_envs.parameters import Parameter
from metamap_rl.adaptation.record import Adaptation
from metamap_rl.adaptation.service.belief import Belief
from metamap_rl.play.scene import view_of
from metamap_rl.viz.joints import Joint

__all__ = ["PROBE_STEPS", "belief_json", "one_shot_json", "setup_of"]

PROBE_STEPS = 200
"""Transitions that a probe collects; the scrubber takes the first ones of them."""


def setup_of(family: Family, joints: Sequence[Joint], lanes: Sequence[str]) -> dict[str, Any]:
    """What never changes while a session runs.

    Args:
        family: of its tasks.
        joints: that can be broken.
        lanes: keys of the lanes, from left to right: "base", "generated", "expert".
    """
    own = {name for joint in joints for changed in joint.conditions.values() for name in changed}
    return {
        "family": family.name,
        "description": family.description,
        "seconds": family.step_seconds,
        "lanes": list(lanes),
        "joints": [joint.to_json() for joint in joints],
        "parameters": [_parameter(one, joint=one.name in own) for one in family.space.parameters],
        "view": view_of(family.base_model),
        "probe_steps": PROBE_STEPS,
        "heading": _heading(family),
    }


def _heading(family: Family) -> str | None:
    """What a parameter ``direction`` is: an "angle" on the ground, or a "sign" along x; None without one."""
    found = [one for one in family.space.parameters if one.name == "direction"]
    return ("sign" if found[0].choices else "angle") if found else None


def belief_json(belief: Belief) -> dict[str, Any]:
    """What an adapter in service believes."""
    return {
        "mode": "service",
        "served": belief.served,
        "sentence": f"{belief.served} policy: {belief.reason}",
        "estimates": _rounded(belief.parameters),
        "confidence": _two(belief.confidence),
        "length": belief.window,
    }


def one_shot_json(about: Adaptation) -> dict[str, Any]:
    """What an adaptation from one D says."""
    return {
        "mode": "one-shot",
        "served": about.served,
        "sentence": about.sentence(),
        "estimates": _rounded(about.read),
        "confidence": _two(about.confidence),
        "length": about.steps,
        "milliseconds": round(about.milliseconds, 2),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _two(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _parameter(one: Parameter, *, joint: bool) -> dict[str, Any]:
    """A parameter; ``joint`` says whether clicks on joints set it."""
    return {
        "name": one.name,
        "unit": "" if one.unit == "1" else one.unit,
        "low": one.low,
        "high": one.high,
        "default": one.default,
        "train": [list(interval) for interval in one.train],
        "choices": list(one.choices),
        "log": one.scale == "log",
        "description": one.description,
        "joint": joint,
    }
