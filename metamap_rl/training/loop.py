"""Training of the mapper: supervised learning from pairs (D, phi*), in seven steps.

:func:`train` contains the steps in order. It is independent of control: the same loop trains mappers for function
regression.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from metamap_agents.policy.base import BasePolicy
from metamap_envs.errors import MetaMapError
from metamap_rl.data.examples import (
    Batch,
    Examples,
    ExampleSource,
    draw_length,
    draw_rows,
    draw_windows,
    usable_lengths,
)
from metamap_rl.data.survey import Survey
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.mapper.scales import Scales
from metamap_rl.probing.actors import ActorMixture
from metamap_rl.training import checkpoint as checkpoints
from metamap_rl.training.auxiliary import new_auxiliary
from metamap_rl.training.checkpoint import TrainState, digest
from metamap_rl.training.config import TrainConfig
from metamap_rl.training.forward_fit import fit_forward_model
from metamap_rl.training.losses import LOSSES, Outcome, behaviour
from metamap_rl.training.rounds import (
    SERVED_SHARE,
    Serve,
    Visit,
    check_rounds,
    enlarged,
    hold_rounds,
    served_survey,
)
from metamap_rl.training.updates import gradient_step, learning_rate, new_optimiser

__all__ = ["OnUpdate", "TrainingData", "train", "validation_losses"]

OnUpdate = Callable[[int, int, dict[str, float]], None]
"""Called after every update with the number of updates done, their total, and metrics of the update."""


AUXILIARY_ROWS = 32
"""Feature rows of each task for the auxiliary loss."""

VALIDATION_STATES = 256
"""Maximum number of states per task for validation, evenly spaced over those available."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Data to train a mapper on."""

    source: ExampleSource
    """The training tasks."""
    base: BasePolicy
    """Base policy."""
    family: str
    """Name of the family, stored in the mapper."""
    probe: Mapping[str, Any] | None = None
    """Name and settings of the probe, stored in the mapper."""
    validation: ExampleSource | None = None
    """Tasks for model selection; without them the last mapper is returned."""
    survey: Survey | None = None
    """Rollouts of tasks without experts, from which the encoder learns to distinguish tasks."""
    visit: Visit | None = None
    """Runs the generated networks, for ``TrainConfig.dagger_rounds``."""
    serve: Serve | None = None
    """Lets an adapter act with the generated networks, for ``TrainConfig.service_rounds``."""
    actors: ActorMixture | None = None
    """The mixture of actors that collected the rollouts, stored in the mapper: lengths of D are drawn by it in place of
    ``TrainConfig.lengths``. None for rollouts of the probe alone."""


def train(
    data: TrainingData,
    *,
    config: TrainConfig | None = None,
    mapper_config: MapperConfig | None = None,
    start: Mapper | None = None,
    checkpoint: Path | None = None,
    on_update: OnUpdate | None = None,
) -> Mapper:
    """Train a mapper. Deterministic to the bit for a fixed number of torch threads.

    Args:
        data: training and validation tasks, base policy, survey.
        config: settings of training.
        mapper_config: sizes and networks of the mapper.
        start: mapper of the same family and base policy to continue from; not changed. Its config, units and probe are
            kept; ``data.probe`` and ``mapper_config`` are ignored, ``data.actors`` are not.
        checkpoint: a .safetensors file, written regularly; if it exists, the run resumes from it.
        on_update: called after every update; an exception that it raises stops the run.

    Returns:
        The mapper, on the CPU, with a ``record`` of its training.

    Raises:
        MetaMapError: source, validation and base do not match, rounds without ``visit`` or ``serve``, a checkpoint of
            another run, or a non-finite loss.
    """
    config = config or TrainConfig()
    base, survey = data.base, data.survey
    check_rounds(config, data.visit, data.serve)

    # Step 1: build the training set of pairs (D, phi*).
    examples = given = data.source.examples(base)
    held_out = data.validation.examples(base) if data.validation is not None else None

    # Step 2: initialise f_theta. Before the first update its output is phi_0 for every D.
    if start is None:
        _check_fit(base, examples, "training set")
        mapper = Mapper(
            mapper_config or MapperConfig(),
            base,
            family=data.family,
            scales=Scales.of(examples, torch.tensor(base.phi), survey),
            probe=data.probe,
            coordinates=survey.names if survey is not None else (),
            seed=config.seed,
        )
        if survey is not None:
            fit_forward_model(mapper, survey, seed=config.seed)
    else:
        mapper = _continued(start, base, data.family, survey)
    for what, part in (("training set", examples), ("validation set", held_out)):
        if part is not None:
            _check_fit(base, part, what, feature_size=mapper.feature_size)
            _check_coordinates(mapper, part, what)
    mapper.actors = {} if data.actors is None else data.actors.document()
    state = _new_state(mapper, config)
    identity = _identity(config, mapper, examples, held_out, data) if checkpoint is not None else {}
    if checkpoint is not None and checkpoint.exists():
        checkpoints.restore(checkpoint, state, identity)
        examples = enlarged(given, state.visited)
    elif held_out is not None:
        _validate(state, held_out, config, {})

    served = served_survey(survey, state.visited)
    loss_function = LOSSES.get(config.loss)
    while state.update < config.updates:
        # Step 3: forward pass, from D of each task of a batch to weights phi_hat. With a bottleneck from the true
        # coordinates instead: estimating them from D is learned from the survey alone (step 4).
        batch = _next_batch(state, examples, config, data.actors)
        phi_hat = _generated(mapper, batch)

        # Step 4: loss. Error of phi_hat against phi*, in weights or in behaviour; error of the coordinates estimated
        # from z on the survey; auxiliary loss.
        loss = loss_function(Outcome.of(mapper, phi_hat, batch, config.weights_coefficient))
        if survey is not None:
            error = _survey_loss(state, survey, served, config, batch.features.shape[1])
            loss = loss + config.survey_coefficient * error
        if state.auxiliary is not None:
            rollouts = survey if survey is not None else examples
            loss = loss + config.auxiliary_coefficient * _auxiliary_loss(state, rollouts, config, data.actors)

        # Step 5: backward pass, through the generated network and the hypernetwork to the encoder.
        # Step 6: update theta.
        rate = learning_rate(state.update, config)
        metrics = gradient_step(loss, state.optimiser, update=state.update, rate=rate, clip=config.gradient_clip)
        state.update += 1

        # Step 7: repeat. At intervals: validate and keep the best mapper, add what generated networks met to the
        # training data, save a checkpoint, report.
        if held_out is not None and _due(state.update, config.validation_every, config.updates):
            _validate(state, held_out, config, metrics)
        if hold_rounds(mapper, state.update, config, data.visit, data.serve, state.visited):
            examples, served = enlarged(given, state.visited), served_survey(survey, state.visited)
        if checkpoint is not None and _due(state.update, config.checkpoint_every, config.updates):
            checkpoints.save(checkpoint, state, identity)
        if on_update is not None:
            on_update(state.update, config.updates, metrics)

    added = 0 if served is None else len(served)
    return _finished(state, config, len(examples), len(survey) if survey is not None else 0, added)


@torch.no_grad()
def validation_losses(mapper: Mapper, examples: Examples, lengths: tuple[int, ...]) -> dict[int, float]:
    """Return the behaviour loss for each length k of D, over every rollout of every task from its first transition.

    Args:
        mapper: the mapper to validate.
        examples: T tasks with R rollouts of n steps each.
        lengths: values of k; those above n are skipped, and n is used if all are.

    Returns:
        Mean squared error of the generated networks' outputs, by k: the behaviour loss whatever the training loss, so
        that mappers trained with different losses are comparable.
    """
    rollouts, steps = examples.features.shape[1:3]
    stride = math.ceil(examples.inputs.shape[1] / VALIDATION_STATES)
    inputs, targets = examples.inputs[:, ::stride], examples.targets[:, ::stride]
    losses = {}
    for length in usable_lengths(lengths, steps):
        total = 0.0
        for rollout in range(rollouts):  # one rollout at a time: T * R policies need R times the memory
            batch = Batch(examples.features[:, rollout, :length], examples.phi, inputs, targets)
            total += behaviour(Outcome.of(mapper, mapper(batch.features), batch)).item()
        losses[length] = total / rollouts
    return losses


def _new_state(mapper: Mapper, config: TrainConfig) -> TrainState:
    """Return the state before the first update."""
    auxiliary = None
    if config.auxiliary is not None:
        auxiliary = new_auxiliary(
            config.auxiliary,
            feature_size=mapper.feature_size,
            context_size=mapper.config.context_size,
            spec=mapper.base.spec,
            hidden=mapper.config.encoder_hidden,
            seed=config.seed,
        )
    parameters = [*mapper.parameters(), *(auxiliary.parameters() if auxiliary is not None else ())]
    optimiser = new_optimiser([parameter for parameter in parameters if parameter.requires_grad], config)
    checkpoints.allocate_moments(optimiser)
    return TrainState(mapper, optimiser, torch.Generator().manual_seed(config.seed), auxiliary=auxiliary)


def _continued(start: Mapper, base: BasePolicy, family: str, survey: Survey | None) -> Mapper:
    """Return a copy of ``start`` to continue from, after checking its family, base policy and coordinates."""
    if start.family != family:
        raise MetaMapError(f"start: expected a mapper of family {family!r}, got one of {start.family!r}")
    if not np.array_equal(start.base.phi, base.phi):
        raise MetaMapError("start: the mapper has a different base policy than the given one")
    if survey is not None and survey.names != start.coordinates:
        raise MetaMapError(f"survey: expected the coordinates {start.coordinates} of start, got {survey.names}")
    mapper = copy.deepcopy(start)
    mapper.check = None  # calibrated for the previous weights
    return mapper


def _check_fit(base: BasePolicy, examples: Examples, what: str, feature_size: int | None = None) -> None:
    """Raise an error if sizes of examples differ from the base policy's, or feature rows differ in size."""
    spec = base.spec
    expected = {
        "weights": (examples.phi.shape[-1], spec.size),
        "inputs": (examples.inputs.shape[-1], spec.observation_size),
        "outputs": (examples.targets.shape[-1], spec.action_size),
        "features": (examples.features.shape[-1], feature_size or examples.features.shape[-1]),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise MetaMapError(f"{what}: expected {wanted} {name}, got {found}")


def _check_coordinates(mapper: Mapper, examples: Examples, what: str) -> None:
    """Raise an error if a mapper with a bottleneck lacks the true coordinates of tasks."""
    wanted, found = len(mapper.coordinates), 0 if examples.coordinates is None else examples.coordinates.shape[-1]
    if mapper.config.bottleneck and found != wanted:
        raise MetaMapError(f"bottleneck: expected {wanted} coordinates for each task of the {what}, got {found}")


def _identity(
    config: TrainConfig, mapper: Mapper, examples: Examples, held_out: Examples | None, data: TrainingData
) -> dict[str, Any]:
    """Return settings and data of a run, to recognise its checkpoints."""
    return {
        **asdict(config),
        "initial mapper": digest(mapper.arrays()),
        "training set": digest(examples.arrays()),
        "validation set": digest(held_out.arrays()) if held_out is not None else None,
        "survey": digest(data.survey.arrays()) if data.survey is not None else None,
        "actors": data.actors.document() if data.actors is not None else None,
    }


def _length(config: TrainConfig, actors: ActorMixture | None, longest: int, generator: torch.Generator) -> int:
    """Draw the length of D of a batch, by the mixture of actors if there is one."""
    if actors is None:
        return draw_length(config.lengths, longest, generator)
    return actors.window_length(float(torch.rand(1, generator=generator, dtype=torch.float64)), longest)


def _next_batch(state: TrainState, examples: Examples, config: TrainConfig, actors: ActorMixture | None) -> Batch:
    """Draw a batch of tasks, with one length of D for all of them, so that no padding is needed."""
    return examples.sample(
        state.generator,
        tasks=config.batch_tasks,
        length=_length(config, actors, examples.features.shape[2], state.generator),
        states=config.states_per_task,
        from_start=config.from_start,
    )


def _generated(mapper: Mapper, batch: Batch) -> Tensor:
    """Weights [B, P] for a batch of tasks: from D or, with a bottleneck, from true coordinates."""
    if not mapper.config.bottleneck:
        phi_hat: Tensor = mapper(batch.features)
        return phi_hat
    assert batch.coordinates is not None, "checked by _check_coordinates"
    return mapper.from_coordinates(batch.coordinates)


def _survey_loss(state: TrainState, survey: Survey, served: Survey | None, config: TrainConfig, length: int) -> Tensor:
    """Mean squared error of the coordinates estimated from z, standardised, on a batch of survey tasks.

    A fixed share of the batch is of what was collected in service, if there is any.
    """
    mapper = state.mapper
    few = round(SERVED_SHARE * config.survey_batch) if served is not None else 0
    parts = [
        part.sample(state.generator, tasks=tasks, length=length, from_start=config.from_start)
        for part, tasks in ((survey, config.survey_batch - few), (served, few))
        if part is not None and tasks
    ]
    features, coordinates = (torch.cat(one) for one in zip(*parts, strict=True))
    return mse_loss(mapper.read_coordinates(features) / mapper.coordinate_std, coordinates / mapper.coordinate_std)


def _auxiliary_loss(
    state: TrainState, source: Examples | Survey, config: TrainConfig, actors: ActorMixture | None
) -> Tensor:
    """The auxiliary loss on a batch of tasks; most of its rows are not in D."""
    mapper, generator, rollouts, newest = state.mapper, state.generator, source.features, source.newest
    length = _length(config, actors, rollouts.shape[2], generator)
    tasks = torch.randint(len(rollouts), (min(config.survey_batch, len(rollouts)),), generator=generator)
    window = draw_windows(rollouts, tasks, generator, length=length, from_start=config.from_start, newest=newest)
    rows = draw_rows(rollouts, tasks, generator, AUXILIARY_ROWS, newest)
    assert state.auxiliary is not None, "asked for by name in the config"
    loss: Tensor = state.auxiliary(mapper.encode(rollouts[window]), mapper.standardised(rows))
    return loss


def _validate(state: TrainState, held_out: Examples, config: TrainConfig, metrics: dict[str, float]) -> None:
    """Validate the mapper; keep it if it is the best so far; add the losses to ``metrics``."""
    losses = validation_losses(state.mapper, held_out, config.validation_lengths)
    mean = sum(losses.values()) / len(losses)
    if all(mean < entry["validation"] for entry in state.history):
        state.best = {name: tensor.clone() for name, tensor in state.mapper.state_dict().items()}
    metrics["validation"] = mean
    metrics |= {f"validation_{length}": loss for length, loss in losses.items()}
    state.history.append({"update": state.update, **metrics})


def _finished(state: TrainState, config: TrainConfig, tasks: int, survey_tasks: int, served: int) -> Mapper:
    """Return the best mapper of a run, with the record of the run."""
    chosen: float = state.update
    if state.history:
        state.mapper.load_state_dict(state.best)
        chosen = min(state.history, key=lambda entry: entry["validation"])["update"]
    state.mapper.record = {
        "config": asdict(config),
        "training_tasks": tasks,
        "survey_tasks": survey_tasks,
        **({"served_rollouts": served} if config.service_rounds else {}),
        "updates": state.update,
        "chosen_update": chosen,
        "history": state.history,
        "torch_threads": torch.get_num_threads(),
    }
    return state.mapper


def _due(update: int, every: int, total: int) -> bool:
    """Whether an action due every ``every`` updates, and after the last one, is due now."""
    return update % every == 0 or update == total
