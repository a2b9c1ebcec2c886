"""An adaptation in words: what D was read as, and why a policy is served."""

from __future__ import annotations

from collections.abc import Iterator

from metamap_envs.identity import is_family
from metamap_envs.parameters import Parameter
from metamap_envs.registry import get_family
from metamap_envs.rollout import Rollout
from metamap_rl.adaptation.record import Adaptation

__all__ = ["explain"]

_MOST_CHOICES = 6


def explain(about: Adaptation, rollout: Rollout | None) -> str:
    """A few lines, a label in front of each: read, estimated, usual, expected, mapped, served, distance, note.

    Args:
        about: the record of the adaptation.
        rollout: D; None where it is not known any more, as of a policy that was loaded from a file.
    """
    return "\n".join(f"{label:<10} {text}" for label, text in _lines(about, rollout))


def _lines(about: Adaptation, rollout: Rollout | None) -> Iterator[tuple[str, str]]:
    yield "read", _read(about, rollout)
    known = get_family(about.family).space.parameters if about.read and is_family(about.family) else ()
    parameters = {one.name: one for one in known}
    for index, (name, value) in enumerate(about.read.items()):
        yield "" if index else "estimated", _estimated(parameters.get(name), name, value)
    if about.novelty is not None and about.steps:
        side = "below it, as in training" if about.novelty <= 1 else "above it, unlike in training"
        yield "usual", f"novelty {about.novelty:.2f} of the limit: {side}"
    if expected := about.expected_sentence():
        yield "expected", expected
    yield "mapped", f"in {about.milliseconds:.1f} ms"
    yield "served", about.served_sentence()
    yield "distance", f"{about.distance:.2f} of the weights' typical change (RMS) from the base policy"
    for note in about.notes:
        if note not in about.fallback:
            yield "note", note


def _read(about: Adaptation, rollout: Rollout | None) -> str:
    count = f"{about.steps} transition{'s' * (about.steps != 1)}"
    if rollout is None or not len(rollout):
        return count
    ends = rollout.terminated | rollout.truncated
    episodes = int(ends[:-1].sum()) + 1
    low, high = float(rollout.rewards.min()), float(rollout.rewards.max())
    return f"{count} in {episodes} episode{'s' * (episodes != 1)}, rewards {low:.3g} to {high:.3g}"


def _estimated(parameter: Parameter | None, name: str, value: float) -> str:
    """An estimate beside the values of training."""
    if parameter is None:  # of a family that has changed, or is unknown here
        return f"{name} {value:.4g}"
    unit = "" if parameter.unit in ("", "1") else f" {parameter.unit}"
    return f"{name} {value:.4g}{unit} ({_trained_on(parameter, value)})"


def _trained_on(parameter: Parameter, value: float) -> str:
    choices = parameter.train_choices or parameter.choices
    if choices:
        few = len(choices) <= _MOST_CHOICES
        listed = ", ".join(f"{choice:g}" for choice in choices) if few else f"{len(choices)} values"
        return f"trained on {listed}"
    inside = any(low <= value <= high for low, high in parameter.train)
    ranges = " and ".join(f"{low:g} to {high:g}" for low, high in parameter.train)
    return f"trained on {ranges}{'' if inside else ', outside of it'}"
