"""Rounds in the middle of training, in which generated policies act: what they meet joins the training data (DAgger).

Everything that rounds added is kept in one dictionary of tensors, which checkpoints store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import Examples
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.training.config import TrainConfig

__all__ = [
    "SERVED_SHARE",
    "Serve",
    "Served",
    "Visit",
    "check_rounds",
    "enlarged",
    "hold_rounds",
    "round_updates",
    "served_survey",
]

SERVED_SHARE = 0.25
"""Fraction of a survey batch that was collected in service, once there is any."""

Visit = Callable[[Mapper, int], tuple[Tensor, Tensor]]
"""Runs the networks generated for the training tasks, in round 1, 2, ...: returns the inputs visited [T, S', I] and the
experts' outputs for them [T, S', A]. Must be a pure function of its arguments.
"""


@dataclass(frozen=True, eq=False)
class Served:
    """What an adapter collected in one round, labelled by the true tasks."""

    features: Tensor
    """Rollouts of the T training tasks, feature rows [T, R', n, F] as in `Examples`."""
    newest: Tensor
    """Index of the first row of each that is of the task, int64 [T, R']."""
    inputs: Tensor
    """Inputs visited on the T tasks [T, S', I]."""
    targets: Tensor
    """The experts' outputs for them [T, S', A]."""
    survey: Survey | None = None
    """Rollouts of other tasks too; None where training has no survey."""


Serve = Callable[[Mapper, int], Served]
"""Lets an adapter act on training tasks, in round 1, 2, ...; must be a pure function of its arguments."""

_AXES = {"features": 1, "newest": 1, "inputs": 1, "targets": 1}
"""Axis along which additions of later rounds follow; 0 for those to the survey."""
_SURVEY = "survey_"


def round_updates(config: TrainConfig, *, service: bool = False) -> tuple[int, ...]:
    """Return the updates after which a DAgger round, or one in service, is due, evenly spaced."""
    rounds = config.service_rounds if service else config.dagger_rounds
    return tuple(config.updates * part // (rounds + 1) for part in range(1, rounds + 1))


def check_rounds(config: TrainConfig, visit: Visit | None, serve: Serve | None) -> None:
    """Refuse rounds without the function that runs them.

    Raises:
        MetaMapError: rounds without ``visit`` or ``serve``.
    """
    for name, use, function in (("dagger_rounds", "visit", visit), ("service_rounds", "serve", serve)):
        if (rounds := getattr(config, name)) and function is None:
            raise MetaMapError(f"train config: {name}: {rounds} need a function to run the networks ({use})")


def hold_rounds(
    mapper: Mapper, update: int, config: TrainConfig, visit: Visit | None, serve: Serve | None, added: dict[str, Tensor]
) -> bool:
    """Hold the rounds that are due after an update, and append what they give to ``added``.

    Returns:
        Whether any was due.
    """
    due = False
    if visit is not None and update in (updates := round_updates(config)):
        with torch.no_grad():
            inputs, targets = visit(mapper, updates.index(update) + 1)
        _append(added, {"inputs": inputs, "targets": targets})
        due = True
    if serve is not None and update in (updates := round_updates(config, service=True)):
        served = serve(mapper, updates.index(update) + 1)
        _append(added, {name: getattr(served, name) for name in _AXES})
        if served.survey is not None:
            _append(added, {_SURVEY + name: torch.from_numpy(one) for name, one in served.survey.arrays().items()})
        due = True
    return due


def _append(added: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    for name, tensor in more.items():
        added[name] = torch.cat([added[name], tensor], dim=_AXES.get(name, 0)) if name in added else tensor


def enlarged(examples: Examples, added: Mapping[str, Tensor]) -> Examples:
    """Return the training set with all that rounds added.

    Raises:
        MetaMapError: sizes that differ from the training set's.
    """
    if "inputs" in added:
        examples = examples.widened(added["inputs"], added["targets"])
    if "features" in added:
        examples = examples.with_rollouts(added["features"], added["newest"])
    return examples


def served_survey(survey: Survey | None, added: Mapping[str, Tensor]) -> Survey | None:
    """Return what rounds in service added to a survey; None before the first."""
    found = {name.removeprefix(_SURVEY): one for name, one in added.items() if name.startswith(_SURVEY)}
    return Survey(**found, names=survey.names) if survey is not None and found else None
