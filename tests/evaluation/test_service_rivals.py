"""Rivals of the adapter: what each is given, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.service import FAMILY, service_mapper
from helpers.tiny import make_universal
from metamap_envs import MetaMapError, Task
from metamap_rl.adaptation.service.trial import run_trial
from metamap_rl.adaptation.service.vector import VectorAdapter
from metamap_rl.data.layout import TransitionLayout
from metamap_rl.evaluation.baselines.student import Student
from metamap_rl.evaluation.identification import IdentificationConfig
from metamap_rl.evaluation.service.methods import SERVICE_METHODS, Subject
from metamap_rl.evaluation.service.rivals import IdentifyingController, ProbingController, other_windows
from metamap_rl.evaluation.service.student import (
    ServiceStudentConfig,
    StudentController,
    load_student,
    save_student,
    train_service_student,
)
from metamap_rl.mapper.mapper import Mapper, Reading

STEPS = 24


@pytest.fixture(scope="module")
def mapper() -> Mapper:
    return service_mapper()


@pytest.fixture(scope="module")
def tasks() -> list[list[Task]]:
    """Two trials, in which the task changes after 12 steps."""
    drawn = FAMILY.sample("validation", 4, 3)
    return [drawn[2 * (step >= 12) : 2 * (step >= 12) + 2] for step in range(STEPS)]


def test_probes_are_mapped_when_they_end(mapper: Mapper, tasks: list[list[Task]]) -> None:
    mapper.probe = {"name": "base-policy", "noise": 0.3}
    again, once = (ProbingController(mapper, 2, steps=4, period=period) for period in (10, None))
    found = [run_trial(one, tasks, seeds=[0, 1]).rewards for one in (again, once)]
    assert (again.swaps, once.swaps) == ([3, 3], [1, 1])
    assert np.array_equal(found[0][:10], found[1][:10])
    assert not np.array_equal(found[0][10:], found[1][10:])


def test_identification_follows_the_task(mapper: Mapper, tasks: list[list[Task]]) -> None:
    config = IdentificationConfig(screened=0, starts=2, evaluations=20, from_reset=False)
    universal = make_universal(mapper.base)
    controller = IdentifyingController(mapper.base, universal, 2, config, rows=6, every=6)
    run_trial(controller, tasks, seeds=[0, 1])
    for index, task in enumerate(tasks[-1]):
        found = controller._last[index]
        assert found is not None
        assert found.cost < 1e-6
        np.testing.assert_allclose(found.task.values, task.values, atol=1e-3)
        phi = mapper.base.policies(universal.expert_for(found.task)).folded()
        assert np.array_equal(controller.networks._phis[index], phi.astype(np.float32))
    assert len(controller.seconds) == len(controller.simulated) == 2 * STEPS // 6


def test_another_trials_window_is_the_next_ones(mapper: Mapper, tasks: list[list[Task]]) -> None:
    adapters = VectorAdapter(mapper, 2)
    run_trial(other_windows(adapters), tasks, seeds=[0, 1])
    one, other = adapters.adapters
    rows = torch.from_numpy(other.window)[None]
    with torch.no_grad():
        own = torch.from_numpy(one.window)[None]
        made = one.generate(Reading(own, mapper.encoder(own, None)))
        assert np.array_equal(made, mapper.generate(Reading(rows, mapper.encoder(rows, None))))
        assert not np.array_equal(made, mapper.generate(Reading(own, mapper.encoder(own, None))))


def test_an_estimate_goes_to_the_universal_policy(mapper: Mapper, tasks: list[list[Task]]) -> None:
    universal = make_universal(mapper.base)
    controller = SERVICE_METHODS["estimate"].make(Subject(mapper, universal), 2)
    run_trial(controller, tasks, seeds=[0, 1])
    adapter = controller.adapters.adapters[0]  # type: ignore[attr-defined]
    read = adapter.belief.parameters
    assert set(read) == set(FAMILY.space.names)
    assert np.array_equal(adapter._served.phi, universal.expert_for(FAMILY.closest_task(read)))


def test_parts_that_were_not_trained_are_refused(mapper: Mapper) -> None:
    subject = Subject(mapper, make_universal(mapper.base))
    for name in ("student", "context policy"):
        with pytest.raises(MetaMapError, match="trained for this zoo"):
            SERVICE_METHODS[name].make(subject, 1)


def test_a_student_is_stored_with_its_unit_of_rewards(mapper: Mapper, tasks: list[list[Task]], tmp_path: Path) -> None:
    config = ServiceStudentConfig(rounds=2, trials=2, steps=12, updates=2, hazard=0.2, seed=1)
    student, record = train_service_student(mapper.base, make_universal(mapper.base), config)
    assert record["steps"] == 2 * 2 * 12
    assert student.reward_scale != 1.0
    save_student(tmp_path / "student.safetensors", student)
    loaded = load_student(tmp_path / "student.safetensors", mapper.base)
    found = [run_trial(StudentController(one, 2), tasks, seeds=[0, 1]).rewards for one in (student, loaded)]
    assert np.array_equal(*found)
    again, _ = train_service_student(mapper.base, make_universal(mapper.base), config)
    assert all(torch.equal(one, other) for one, other in zip(student.parameters(), again.parameters(), strict=True))
    other = Student(mapper.base, student.hidden + 1, reward_scale=1.0, seed=0)
    save_student(tmp_path / "other.safetensors", other)
    assert load_student(tmp_path / "other.safetensors", mapper.base).hidden == student.hidden + 1
    mapper.save(tmp_path / "mapper")
    with pytest.raises(MetaMapError, match="format"):
        load_student(tmp_path / "mapper" / "mapper.safetensors", mapper.base)


def test_rows_of_other_units_are_read_in_their_own(mapper: Mapper, tasks: list[list[Task]]) -> None:
    """The context policy's units are its own."""
    context = service_mapper()
    with torch.no_grad():
        context.feature_mean += 0.5
        context.feature_std *= 2.0
    controller = SERVICE_METHODS["context policy"].make(
        Subject(mapper, make_universal(mapper.base), context=context), 2
    )
    run_trial(controller, tasks[:6], seeds=[0, 1])
    adapter = controller.adapters.adapters[0]  # type: ignore[attr-defined]
    rows = torch.from_numpy(adapter.window)[None]
    assert rows.shape[2] == TransitionLayout.of(mapper.base.spec).size
    expected = context.generate(Reading((rows - 0.5) / 2.0, context.encoder((rows - 0.5) / 2.0, None)))
    np.testing.assert_allclose(adapter.generate(Reading(rows, mapper.encoder(rows, None))), expected, atol=1e-6)
