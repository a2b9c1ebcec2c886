"""The streaming loop: continual training of a mapper on arriving tasks.

:func:`run_stream` and :func:`_stage` contain the steps in order. The mapper is given neither task id nor family nor
parameters of a task: its only input is D.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metamap_agents.policy.evaluation import evaluate_policies
from metamap_agents.runtime.seeds import STREAM_STATES
from metamap_agents.runtime.torch_state import torch_threads
from metamap_envs.errors import MetaMapError
from metamap_envs.task import Task
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.probing.collecting import collect
from metamap_rl.stream.acceptance import Update, update_mapper
from metamap_rl.stream.events import Activity, OnStream, Scores, StageDone, StageStarted, StreamStarted
from metamap_rl.stream.forecast import Forecast, forecast
from metamap_rl.stream.kinds import Arrival
from metamap_rl.stream.learners.step import Experience
from metamap_rl.stream.memory import Item
from metamap_rl.stream.record import EvaluationRow, Record, StageRow
from metamap_rl.stream.scoreboard import embodiment_of
from metamap_rl.stream.seeds import derive, numpy_generator, torch_generator
from metamap_rl.stream.session import SegmentExpert, Session
from metamap_rl.training.from_experts import expert_behaviour

__all__ = ["run_stream"]

STATES = 256
"""States of each expert stored in memory with its rollouts."""


def run_stream(
    session: Session, *, on_event: OnStream | None = None, stop_requested: Callable[[], bool] | None = None
) -> bool:
    """Process the remaining arrivals, saving after each.

    Args:
        session: a new one, or one restored from its last checkpoint.
        on_event: callback for events.
        stop_requested: called between stages; True stops the loop.

    Returns:
        Whether the stream is finished.

    Raises:
        MetaMapError: a stage failed and the config requires stopping; earlier stages are kept.
    """
    say: OnStream = on_event if on_event is not None else lambda event: None
    total, record = len(session.arrivals), session.record
    say(StreamStarted(session.config.name, total, record.last_stage, session.memory.budget, _past(record)))
    with torch_threads(1):  # the networks are small; and for the same results on any number of cores
        if not record.evaluations(0):
            say(Activity("evaluate"))
            record.add_evaluations(_evaluate(session, 0))  # row 0 of R: the initial mapper
        for stage in range(record.last_stage + 1, total + 1):
            if stop_requested is not None and stop_requested():
                return False
            arrival = session.arrivals[stage - 1]
            say(StageStarted(stage, total, arrival.task.family, arrival.task.describe()))
            before = session.snapshot()
            try:
                row, watch = _stage(session, stage, arrival, say)
            except MetaMapError as error:
                if session.config.on_error == "stop":
                    raise MetaMapError(f"stage {stage} ({arrival.task.describe()}): {error}") from error
                session.roll_back(before)
                row, watch = replace(_blank_row(session, stage, arrival), detail=str(error)), Watch()
            if stage == total:
                row = _finish(session, row, watch)
            _commit(session, row, watch, say)
    return True


def _stage(session: Session, stage: int, arrival: Arrival, say: OnStream) -> tuple[StageRow, Watch]:
    """Process one arrival, from its first transition to the updated mapper."""
    config, task, embodiment, watch = session.config, arrival.task, embodiment_of(arrival.task), Watch()

    # Probe: collect a few transitions of the new task.
    say(Activity("probe"))
    with watch.of("probe"):
        rollouts, features = _probe(session, stage, task)

    # Task boundary: given by the stream or, if boundaries are hidden, detected from D.
    boundary = arrival.boundary if config.boundaries == "given" else _shifted(session, rollouts)
    if boundary or session.slot < 0:
        session.slot, session.known = session.slot + 1, None

    # Map: generate weights of a policy in one forward pass.
    say(Activity("map"))
    with watch.of("map"):
        phi_hat = session.map(embodiment, features[:1, : config.map_steps])[0]

    # Check: confidence, expected return, and measured return of a few episodes.
    say(Activity("check"))
    with watch.of("check"):
        expected = forecast(session.mapper, session.memory, embodiment, features[0, : config.map_steps])
        check = _check(session, stage, task, phi_hat)

    # Serve the generated policy without training if it is good enough; else get an expert.
    decision, expert_steps = "reused", 0
    if session.known is None:
        decision = "served" if _good_enough(session, expected, check) else "trained"
    if decision == "trained":
        say(Activity("expert"))
        with watch.of("expert"):
            session.known, expert_steps = _expert(session, stage, task, phi_hat, say)

    # Store (D, phi*, states) in memory. Update the mapper; roll back if the loss on a validation set from memory
    # increases.
    update = Update()
    if session.known is not None:
        say(Activity("store"))
        with watch.of("store"):
            experience = _store(session, stage, task, features, session.known)
        say(Activity("update"))
        with watch.of("update"):
            update = update_mapper(session, stage, experience)

    row = replace(
        _blank_row(session, stage, arrival),
        boundary=boundary,
        confidence=expected.confidence,
        predicted_return=expected.predicted_return,
        base_return=check.base_return,
        generated_return=check.generated_return,
        decision=decision,
        expert_return=session.known.expert_return if session.known is not None else None,
        expert_steps=expert_steps,
        environment_steps=rollouts.rewards.size + check.steps,
        accepted=update.accepted,
        validation_before=update.before,
        validation_after=update.after,
        phi_hat=session.store.put({"phi": phi_hat}, {}),
    )
    return row, watch


def _finish(session: Session, row: StageRow, watch: Watch) -> StageRow:
    """Do deferred updates; returns the row of the last stage, with an error if any."""
    before = session.snapshot()
    generator = torch_generator(session.config.seeds.learner, row.stage, "finish")
    try:
        with watch.of("update"):
            session.learner.finish(session.mapper, session.memory, session.update, generator)
    except MetaMapError as error:
        if session.config.on_error == "stop":
            raise MetaMapError(f"after the last stage: {error}") from error
        session.roll_back(before)
        return replace(row, detail="; ".join(filter(None, (row.detail, str(error)))))
    return row


# steps ----------------------------------------------------------------------------------------------------------------


def _probe(session: Session, stage: int, task: Task) -> tuple[Rollouts, Tensor]:
    """Collect R rollouts; returns them, and their feature rows [R, n, F]."""
    config = session.config
    rollouts = collect(
        session.probe,
        [task],
        session.cache.base(embodiment_of(task)),
        steps=config.probe_steps,
        repeats=config.probe_repeats,
        seed=derive(config.seeds.stream, stage, "probe"),
        num_threads=session.num_threads,
    )
    return rollouts, torch.from_numpy(rollouts.features()[0])


def _shifted(session: Session, rollouts: Rollouts) -> bool:
    """Whether D is of another task than the last D; the detector is reset with this one."""
    arrays = (rollouts.observations[0], rollouts.actions[0], rollouts.rewards[0], rollouts.next_observations[0])
    shifted = session.detector.is_shift(*arrays).shifted
    if shifted:
        session.detector.reset(*arrays)
    return shifted


@dataclass(frozen=True)
class Check:
    """Mean returns of a few episodes on one task, generated policy and base policy on the same reset seeds."""

    generated_return: float
    base_return: float
    steps: int
    """Environment steps of the check."""


def _check(session: Session, stage: int, task: Task, phi_hat: NDArray[np.float32]) -> Check:
    base = session.cache.base(embodiment_of(task))
    episodes = evaluate_policies(
        [task, task],
        base.policies(np.stack([phi_hat, base.phi])),
        episodes=session.config.serve.episodes,
        seed=derive(session.config.seeds.stream, stage, "check"),
        num_threads=session.num_threads,
    )
    generated, start = episodes.returns.mean(axis=1).tolist()
    return Check(generated, start, int(episodes.lengths.sum()))


def _good_enough(session: Session, expected: Forecast, check: Check) -> bool:
    """Whether the generated policy is served: sufficient confidence, and most of an expert's expected gain."""
    serve = session.config.serve
    if not serve.enabled or expected.confidence is None or expected.predicted_return is None:
        return False
    gain = max(0.0, expected.predicted_return - check.base_return)
    reached = check.generated_return >= check.base_return + serve.gap * gain
    return reached and expected.confidence >= serve.confidence


def _expert(
    session: Session, stage: int, task: Task, phi_hat: NDArray[np.float32], say: OnStream
) -> tuple[SegmentExpert, int]:
    """An expert from phi_hat under the budget, or the cache's own from phi_0; and the environment steps spent."""
    experts = session.config.experts

    def on_progress(done: int, total: int, metrics: dict[str, float]) -> None:
        say(Activity("expert", done, total, f"return {metrics['return']:.1f}" if "return" in metrics else ""))

    if experts.start == "phi-0":
        expert = session.cache.expert(task, on_progress)
    else:
        seed = derive(session.config.seeds.stream, stage, "expert")
        expert = session.cache.expert_from(task, phi_hat, experts.budget, seed, on_progress)
    known = SegmentExpert(expert.phi, float(expert.returns.mean()), float(expert.base_returns.mean()))
    return known, int(expert.record["steps"])


def _store(session: Session, stage: int, task: Task, features: Tensor, known: SegmentExpert) -> Experience:
    """Store the rollouts and the expert's behaviour in memory; returns the training data.

    One rollout is held out for validation if there are several.
    """
    embodiment, base = embodiment_of(task), session.cache.base(embodiment_of(task))
    phi = torch.from_numpy(np.array(known.phi))
    session.meet(embodiment, base, features, phi, task.family)
    states, actions = expert_behaviour(
        [task],
        base,
        known.phi[None],
        states=STATES,
        generator=numpy_generator(session.config.seeds.stream, stage, "states"),
        seed=STREAM_STATES,
        num_threads=session.num_threads,
    )
    targets = torch.from_numpy(actions[0])
    inputs = torch.from_numpy(base.normalizer.apply(states[0]).astype(np.float32))
    items = [
        Item(
            slot=session.slot,
            embodiment=embodiment,
            features=rows.clone(),
            phi=phi,
            inputs=inputs,
            targets=targets,
            dark=targets,
            expert_return=known.expert_return,
            base_return=known.base_return,
        )
        for rows in features
    ]
    generator = numpy_generator(session.config.seeds.learner, stage, "memory")
    offered = sorted(session.memory.offer(items, generator), key=lambda item: item.key)
    return Experience(session.slot, embodiment, tuple(offered[1:] or offered))


# record ---------------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Seconds by activity."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        """Time a block."""
        started = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - started


def _blank_row(session: Session, stage: int, arrival: Arrival) -> StageRow:
    """The row of a stage without results yet."""
    task = arrival.task
    return StageRow(
        stage=stage,
        task=task.to_json(),
        family=task.family,
        embodiment=embodiment_of(task),
        segment=session.slot,
        boundary=arrival.boundary,
        true_boundary=arrival.boundary,
        confidence=None,
        predicted_return=None,
        base_return=None,
        generated_return=None,
        decision="failed",
        expert_return=None,
        expert_steps=0,
        full_steps=session.cache.recipe(task.family).whole_timesteps,
        environment_steps=0,
        accepted=None,
        validation_before=None,
        validation_after=None,
        memory_bytes=session.memory.nbytes,
        memory_items=len(session.memory),
        phi_hat="",
        detail="",
    )


def _commit(session: Session, row: StageRow, watch: Watch, say: OnStream) -> None:
    """Evaluate, and write a stage in one transaction."""
    say(Activity("evaluate"))
    with watch.of("evaluate"):
        rows = _evaluate(session, row.stage)
    with watch.of("save"):
        checkpoint = session.save()
    notes = [row.detail] if row.detail else []
    session.record.add_stage(row, rows, checkpoint, watch.seconds, notes)
    if row.phi_hat:
        session.kept.add(row.phi_hat)
    session.collect_garbage()
    say(StageDone(row, Scores.of(session.record, row.stage), watch.seconds, notes))


def _past(record: Record) -> list[tuple[StageRow, Scores]]:
    """The stages of a resumed record."""
    return [(row, Scores.of(record, row.stage)) for row in record.stages()]


def _last_of_its_family(session: Session, stage: int) -> bool:
    """Whether no later arrival is of the family of this one."""
    family = session.arrivals[stage - 1].task.family
    return all(arrival.task.family != family for arrival in session.arrivals[stage:])


def _evaluate(session: Session, stage: int) -> list[EvaluationRow]:
    """Evaluate the stream's tasks and the held-out tasks; between full evaluations only the current and the next task.

    Full evaluations are every ``evaluation.every`` stages, and after the last task of each family, for BWT_families.
    """
    return _evaluate_tasks(session, stage) + _evaluate_lengths(session, stage)


def _evaluate_lengths(session: Session, stage: int) -> list[EvaluationRow]:
    """Evaluate the next task and, at the end, the held-out tasks at the other lengths of D of the config."""
    total = len(session.arrivals)
    rows: list[EvaluationRow] = []
    if session.config.evaluation.lengths and stage < total:
        rows += session.stream_board.measure_lengths(session.map, stage, [stage])
    if session.config.evaluation.lengths and stage == total and session.held_out_board is not None:
        rows += session.held_out_board.measure_lengths(session.map, stage)
    return rows


def _evaluate_tasks(session: Session, stage: int) -> list[EvaluationRow]:
    """Evaluate the tasks of the stream and the held-out tasks, or only those around this stage."""
    every, total = session.config.evaluation.every, len(session.arrivals)
    if stage % every == 0 or _last_of_its_family(session, stage):
        rows = session.stream_board.measure(session.map, stage)
        return rows + (session.held_out_board.measure(session.map, stage) if session.held_out_board else [])
    nearby = [position for position in (stage - 1, stage) if 0 <= position < total]
    return session.stream_board.measure(session.map, stage, nearby)
