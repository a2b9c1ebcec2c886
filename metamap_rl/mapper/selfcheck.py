"""The self-check: decides from D alone, before a generated policy is run, whether to serve it or the base policy.

Three criteria, calibrated on tasks that the mapper was not trained on (`metamap_rl.training.calibration`): D has enough
transitions, D is in distribution for the family, and the generated policy is expected to beat the base policy. If one
fails, the base policy is served.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamap_agents.policy.spec import PolicySpec
from metamap_agents.runtime.storage import check_arrays
from metamap_envs.errors import MetaMapError
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.mapper.beginnings import SHORTEST, Beginnings

__all__ = [
    "LARGEST_ERROR",
    "SMALLEST_SPREAD",
    "SelfCheck",
    "Surprise",
    "Verdict",
    "beginning_lengths",
    "check_lengths",
    "layer_sizes",
]

Floats = NDArray[np.float32]

SMALLEST_SPREAD = 0.02
"""Minimum standard deviation of a prediction, in standard deviations of the number over the family: numbers that are
functions of the others (a position of a velocity) may differ by the rounding of another simulator.
"""

LARGEST_ERROR = 50.0
"""Errors are clipped at this many standard deviations."""

_DESCRIPTION_TYPES: dict[str, type | tuple[type, ...]] = {
    "lengths": list,
    "hidden": int,
    "least_steps": (int, type(None)),
    "noise": float,
    "record": dict,
}
_OPTIONAL_TYPES: dict[str, type | tuple[type, ...]] = {"beginnings": list}  # earlier checks used D as a whole only


@dataclass(frozen=True, eq=False)
class Surprise:
    """Surprise of transitions, given the context of D.

    Observation and action of a transition are compared with a Gaussian of the family; reward and change of the
    observation with a small network's prediction from (observation, action, z), since unknown dynamics may have
    ordinary observations.
    """

    mean: Floats
    """Mean of observation and action, in the mapper's units [V], V = O + A."""
    whiten: Floats
    """Whitening matrix of their deviations [V, V]."""
    weights: tuple[Floats, ...]
    """Weights of the network, layer by layer [out, in]: V + Z inputs; outputs are means and log standard deviations of
    O + 1 numbers.
    """
    biases: tuple[Floats, ...]
    """Biases of the network, layer by layer [out]."""

    @property
    def outcome_size(self) -> int:
        """Size of the network's prediction, reward and change: O + 1."""
        return len(self.biases[-1]) // 2

    def __call__(self, rows: Floats, z: Floats) -> Floats:
        """Return log(1 + e^2) of each deviation e, [..., n, S] with S = V + O + 1.

        Args:
            rows: standardised feature rows [..., n, F].
            z: contexts [..., Z].
        """
        observations = self.outcome_size - 1
        layout = TransitionLayout(observations, len(self.mean) - observations)
        seen, outcome = rows[..., layout.state_action], rows[..., layout.outcome]
        known = np.broadcast_to(z[..., None, :], (*seen.shape[:-1], z.shape[-1]))
        value = np.concatenate([seen, known], axis=-1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value = np.tanh(value @ weight.T + bias)
        value = value @ self.weights[-1].T + self.biases[-1]
        expected, spread = np.split(value, 2, axis=-1)
        spread = np.exp(np.clip(spread, math.log(SMALLEST_SPREAD), math.log(LARGEST_ERROR)))
        errors = np.concatenate([(seen - self.mean) @ self.whiten, (outcome - expected) / spread], axis=-1)
        surprise: Floats = np.log1p(np.square(np.clip(errors, -LARGEST_ERROR, LARGEST_ERROR))).astype(np.float32)
        return surprise


@dataclass(frozen=True)
class Verdict:
    """Result of the self-check of one D.

    Attributes:
        confidence: in [0, 1]: the probability that the generated policy beats the base policy on such a task, reduced
            if D is out of distribution.
        fallback: reason to serve the base policy, in a few words; "" if the generated policy is served.
        novelty: novelty of D, out of distribution above 1; 0 without transitions.
        predicted_return: expected return of the generated policy; None without transitions.
        predicted_base_return: expected return of the base policy; None without transitions.
    """

    confidence: float
    fallback: str
    novelty: float = 0.0
    predicted_return: float | None = None
    predicted_base_return: float | None = None


@dataclass(frozen=True, eq=False)
class SelfCheck:
    """Calibrated statistics at L lengths of D; between two lengths they are interpolated over log n.

    Raises:
        MetaMapError: no lengths, or lengths that do not ascend from 1.
    """

    surprise: Surprise
    """Model of a transition's surprise."""
    lengths: tuple[int, ...]
    """Lengths in transitions, ascending; the first is 1."""
    least_steps: int | None
    """Minimum length of D for generated policies to be served: from there on they were on average not worse than the
    base policy, and worse on few tasks; None if they were not at the longest length.
    """
    noise: float
    """Difference by chance between two measurements of one policy, in units of the return."""
    typical: Floats
    """Mean surprise of an in-distribution D [L, S]."""
    spread: Floats
    """Its standard deviation between such D [L, S], positive."""
    limit: Floats
    """Largest deviation from the mean surprise, in standard deviations, of an in-distribution D [L], positive."""
    returns: Floats
    """Linear prediction of the returns of generated and base policy from (z, 1) [L, Z + 1, 2]."""
    error: Floats
    """Standard deviation of the error of predicted gains (generated minus base policy) [L], positive."""
    record: dict[str, Any] = field(default_factory=dict)
    """Record of the calibration and its results, as JSON values."""
    beginnings: Beginnings | None = None
    """Reference statistics of prefixes of D, at the lengths from 5 on; None in a check stored before they existed."""
    _rows: dict[tuple[str, int], NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False)
    """Results of `at`, which a policy in service needs at every mapping."""

    def __post_init__(self) -> None:
        check_lengths(self.lengths)
        if self.beginnings is not None and self.beginnings.lengths != beginning_lengths(self.lengths):
            raise MetaMapError(
                f"self-check: beginnings: expected those of {list(beginning_lengths(self.lengths))} transitions, "
                f"got {list(self.beginnings.lengths)}"
            )
        for name in ("spread", "limit", "error"):
            if not (getattr(self, name) > 0).all():
                raise MetaMapError(f"self-check: {name}: expected numbers above 0")

    def at(self, name: str, steps: int) -> NDArray[np.float64]:
        """Row of an array with an axis [L], interpolated at ``steps`` transitions; constant beyond the longest."""
        key = name, min(steps, self.lengths[-1])
        if key not in self._rows:
            self._rows[key] = self._interpolated(*key)
        return self._rows[key]

    def _interpolated(self, name: str, steps: int) -> NDArray[np.float64]:
        rows: NDArray[np.float64] = getattr(self, name).astype(np.float64)
        place = float(np.interp(math.log(steps), np.log(self.lengths), np.arange(len(self.lengths))))
        low, high = math.floor(place), math.ceil(place)
        between: NDArray[np.float64] = rows[low] + (place - low) * (rows[high] - rows[low])
        return between

    def looked_at(self, steps: int) -> tuple[int, ...]:
        """Lengths of the checked prefixes of a D of a number of transitions."""
        lengths = () if self.beginnings is None else self.beginnings.lengths
        return tuple(length for length in lengths if length <= steps)

    def novelty(self, rows: Floats, z: Floats, contexts: Sequence[Floats]) -> NDArray[np.float64]:
        """Novelty of D, out of distribution above 1, [...]: the largest deviation of its mean surprise or of a prefix.

        Deviations downwards count as well: a frozen sensor gives too little surprise. A D longer than the longest
            calibrated length is truncated to it, since episodes change over time.

        Args:
            rows: standardised feature rows [..., n, F], n at least 1.
            z: contexts [..., Z].
            contexts: z of the first k of the rows [..., Z], for each k in ``looked_at(n)``.
        """
        rows = rows[..., : self.lengths[-1], :]
        typical, spread, limit = (self.at(name, rows.shape[-2]) for name in ("typical", "spread", "limit"))
        whole: NDArray[np.float64] = np.abs((self.surprise(rows, z).mean(axis=-2) - typical) / spread).max(axis=-1)
        whole /= limit
        if self.beginnings is None or not contexts:
            return whole
        started: NDArray[np.float64] = self.largest(rows, contexts)[-1] / self.beginnings.joint[len(contexts) - 1]
        return np.maximum(whole, started)

    def largest(self, rows: Floats, contexts: Sequence[Floats]) -> NDArray[np.float64]:
        """Largest deviation of any view of D's prefixes up to each of K', in units of its limit [K', ...].

        Args:
            rows: standardised feature rows [..., n, F].
            contexts: z of the first rows [..., Z], for each of the K' shortest prefixes.
        """
        assert self.beginnings is not None
        found = []
        for at, (length, z) in enumerate(zip(self.beginnings.lengths, contexts, strict=False)):
            surprise = self.surprise(rows[..., :length, :], z)
            typical, spread, limit = (self.at(name, length) for name in ("typical", "spread", "limit"))
            whole = np.abs((surprise.mean(axis=-2) - typical) / spread).max(axis=-1) / limit
            found.append(np.maximum(whole, self.beginnings.novelty(at, surprise, z)))
        running: NDArray[np.float64] = np.maximum.accumulate(np.stack(found), axis=0)
        return running

    def judge(self, rows: Floats, z: Floats, contexts: Sequence[Floats]) -> Verdict:
        """Check one D.

        Args:
            rows: standardised feature rows [n, F].
            z: context [Z]; ignored if n is 0.
            contexts: z of the first k rows [Z], for each k in ``looked_at(n)``.
        """
        steps = len(rows)
        if not steps:
            return Verdict(0.0, "D has no transitions")
        return self._verdict(steps, z, float(self.novelty(rows, z, contexts)), self.least_steps)

    def judge_in_service(self, rows: Floats, z: Floats, *, steps: int, least_steps: int | None) -> Verdict:
        """Check whether z explains the latest transitions of a policy in service.

        Only reward and change count: what is unusual about observations and actions is the policy that acts.

        Args:
            rows: the latest transitions, standardised feature rows [n, F], n at least 1.
            z: context [Z] of the window that they belong to.
            steps: length of the window in transitions.
            least_steps: minimum length for a generated policy; None refuses every one.
        """
        rows = rows[-self.lengths[-1] :]
        typical, spread, limit = (self.at(name, len(rows)) for name in ("typical", "spread", "limit"))
        found = ((self.surprise(rows, z).mean(axis=-2) - typical) / spread)[-self.surprise.outcome_size :]
        return self._verdict(steps, z, max(0.0, float(found.max())) / float(limit), least_steps)

    def _verdict(self, steps: int, z: Floats, novelty: float, least_steps: int | None) -> Verdict:
        generated, base = (np.append(z, 1.0) @ self.at("returns", steps)).tolist()
        gain, error = generated - base, float(self.at("error", steps))
        better = 0.5 * (1.0 + math.erf(gain / (error * math.sqrt(2.0))))
        confidence = better * math.exp(min(0.0, 1.0 - novelty))
        if least_steps is None:
            reason = "calibration did not find this mapper's policies safe at any length of D"
        elif steps < least_steps:
            reason = f"{steps} transitions are too few, at least {least_steps} are needed"
        elif novelty > 1.0:
            reason = f"D is out of distribution for this family, its novelty is {novelty:.1f} times the limit"
        elif gain + error < -self.noise:
            reason = f"a return of {generated:.1f} is expected, below the base policy's {base:.1f}"
        else:
            reason = ""
        return Verdict(confidence, reason, novelty, generated, base)

    # ---------------------------------------------------------------------------------------------- storage

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name; :meth:`from_arrays` with :meth:`describe` is the inverse."""
        layers = zip(self.surprise.weights, self.surprise.biases, strict=True)
        return {
            "mean": self.surprise.mean,
            "whiten": self.surprise.whiten,
            **{
                f"layers.{index}.{name}": array
                for index, layer in enumerate(layers)
                for name, array in zip(("weight", "bias"), layer, strict=True)
            },
            **{name: getattr(self, name) for name in ("typical", "spread", "limit", "returns", "error")},
            **({} if self.beginnings is None else _prefixed(self.beginnings.arrays())),
        }

    def describe(self) -> dict[str, Any]:
        """Return everything but the arrays, as JSON values."""
        beginnings = {} if self.beginnings is None else {"beginnings": list(self.beginnings.lengths)}
        return {
            "lengths": list(self.lengths),
            "hidden": len(self.surprise.biases[0]),
            "least_steps": self.least_steps,
            "noise": self.noise,
            "record": self.record,
            **beginnings,
        }

    @staticmethod
    def shapes(description: object, spec: PolicySpec, context_size: int) -> dict[str, tuple[int, ...]]:
        """Return the expected shape of each array of :meth:`arrays`.

        Raises:
            MetaMapError: the description has a missing or unknown key, or a value of the wrong type.
        """
        if not isinstance(description, Mapping) or set(description) - set(_OPTIONAL_TYPES) != set(_DESCRIPTION_TYPES):
            found = sorted(description) if isinstance(description, Mapping) else repr(description)
            raise MetaMapError(f"self-check: expected the keys {', '.join(_DESCRIPTION_TYPES)}, got {found}")
        for key, kind in (_DESCRIPTION_TYPES | _OPTIONAL_TYPES).items():
            if key in _OPTIONAL_TYPES and key not in description:
                continue
            if not isinstance(description[key], kind) or isinstance(description[key], bool):
                raise MetaMapError(f"self-check: {key}: unexpected type, got {description[key]!r}")
        for key in ("lengths", "beginnings"):
            if not all(type(length) is int for length in description.get(key, [])):
                raise MetaMapError(f"self-check: {key}: expected whole numbers, got {description[key]}")
        seen, outcome = spec.observation_size + spec.action_size, spec.observation_size + 1
        sizes = layer_sizes(seen, outcome, context_size, description["hidden"])
        lengths, beginnings = len(description["lengths"]), description.get("beginnings")
        more = {} if beginnings is None else _prefixed(Beginnings.shapes(len(beginnings), outcome, context_size))
        return {
            "mean": (seen,),
            "whiten": (seen, seen),
            **{f"layers.{index}.weight": (out, into) for index, (into, out) in enumerate(sizes)},
            **{f"layers.{index}.bias": (out,) for index, (_, out) in enumerate(sizes)},
            "typical": (lengths, seen + outcome),
            "spread": (lengths, seen + outcome),
            "limit": (lengths,),
            "returns": (lengths, context_size + 1, 2),
            "error": (lengths,),
            **more,
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        description: Mapping[str, Any],
        spec: PolicySpec,
        context_size: int,
        what: str = "self-check",
    ) -> SelfCheck:
        """Inverse of :meth:`arrays` and :meth:`describe`.

        Raises:
            MetaMapError: an array is missing, unexpected or of the wrong shape, or a value is out of range.
        """
        check_arrays(dict(arrays), cls.shapes(description, spec, context_size), what)
        count = sum(name.endswith(".weight") for name in arrays)
        return cls(
            surprise=Surprise(
                arrays["mean"],
                arrays["whiten"],
                tuple(arrays[f"layers.{index}.weight"] for index in range(count)),
                tuple(arrays[f"layers.{index}.bias"] for index in range(count)),
            ),
            lengths=tuple(description["lengths"]),
            least_steps=description["least_steps"],
            noise=description["noise"],
            **{name: arrays[name] for name in ("typical", "spread", "limit", "returns", "error")},
            record=dict(description["record"]),
            beginnings=_beginnings(arrays, description),
        )


_PREFIX = "beginnings."


def _prefixed(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {_PREFIX + name: array for name, array in arrays.items()}


def _beginnings(arrays: Mapping[str, NDArray[Any]], description: Mapping[str, Any]) -> Beginnings | None:
    if "beginnings" not in description:
        return None
    own = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    return Beginnings.from_arrays(own, description["beginnings"])


def beginning_lengths(lengths: Sequence[int]) -> tuple[int, ...]:
    """Calibrated lengths at which prefixes of D are checked."""
    return tuple(length for length in lengths if length >= SHORTEST)


def check_lengths(lengths: Sequence[int]) -> None:
    """Raise an error unless lengths ascend from 1.

    Raises:
        MetaMapError: none, the first is not 1, or they do not ascend.
    """
    if not lengths or lengths[0] != 1 or list(lengths) != sorted(set(lengths)):
        raise MetaMapError(f"self-check: lengths: expected ascending lengths from 1, got {list(lengths)}")


def layer_sizes(seen: int, outcome: int, context_size: int, hidden: int) -> Sequence[tuple[int, int]]:
    """Inputs and outputs of each layer of the network that predicts reward and change."""
    return [(seen + context_size, hidden), (hidden, hidden), (hidden, 2 * outcome)]
