"""Updates of the mapper in a stream, and their acceptance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from metamap_agents.policy.functional import forward as network_forward
from metamap_rl.data.examples import Batch
from metamap_rl.stream.learners.step import Experience, Step
from metamap_rl.stream.memory import Item
from metamap_rl.stream.seeds import numpy_generator, torch_generator
from metamap_rl.stream.session import Session
from metamap_rl.training.losses import Outcome, behaviour

__all__ = ["Update", "update_mapper"]


@dataclass(frozen=True)
class Update:
    """Result of an update; all None without one."""

    accepted: bool | None = None
    """Whether it is accepted; None if it was not validated."""
    before: float | None = None
    """Validation loss before the update; None without a validation set."""
    after: float | None = None


def update_mapper(session: Session, stage: int, experience: Experience) -> Update:
    """Let the learner update the mapper; roll back if the validation loss increases too much."""
    config, learner = session.config, session.learner
    validation = _validation_set(session, stage) if config.accept.enabled and learner.validated else []
    theta, state = session.mapper.arrays(), learner.arrays()
    before = _validation_loss(session, validation)
    generator = torch_generator(config.seeds.learner, stage, "update")
    learner.update(Step(session.mapper, experience, session.memory, session.update, generator))
    after = _validation_loss(session, validation)
    if before is not None and after is not None and not after <= before * (1.0 + config.accept.tolerance):
        session.mapper.restore(theta)
        learner.restore(state, session.mapper)
        return Update(False, before, after)
    session.memory.swap(lambda item: _with_own_outputs(session, item) if item.slot == experience.slot else item)
    return Update(True if validation else None, before, after)


def _validation_set(session: Session, stage: int) -> list[Item]:
    """One rollout of each task in memory, limited in number so that the cost does not grow with the stream."""
    held_out, most = session.memory.held_out(), session.config.accept.items
    if len(held_out) <= most:
        return held_out
    generator = numpy_generator(session.config.seeds.learner, stage, "validation")
    return [held_out[index] for index in sorted(generator.choice(len(held_out), most, replace=False).tolist())]


@torch.no_grad()
def _validation_loss(session: Session, items: list[Item]) -> float | None:
    """Mean behaviour loss of the policies generated from the items' D; None without items."""
    losses = [float(behaviour(_outcome(session, item))) for item in items]
    return sum(losses) / len(losses) if losses else None


def _outcome(session: Session, item: Item) -> Outcome:
    """Outcome of the policy generated from one stored D."""
    features = item.features[None, : session.config.map_steps]
    batch = Batch(features, item.phi[None], item.inputs[None], item.targets[None])
    phi_hat = session.learner.generate(session.mapper, session.memory, item.embodiment, features)
    return Outcome.of(session.mapper[item.embodiment], phi_hat, batch)


@torch.no_grad()
def _with_own_outputs(session: Session, item: Item) -> Item:
    """The item with the outputs of the mapper's current policy on its states (dark experience)."""
    outcome = _outcome(session, item)
    return replace(item, dark=network_forward(outcome.spec, outcome.phi_hat, outcome.inputs)[0].clone())
