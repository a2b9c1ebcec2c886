"""What makes each learner what it is."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.stream_problem import BRIEF, LESSONS, Lesson, Stream, add_robot, assert_equal, rollouts
from helpers.tiny_stream import tiny_config
from metamap_agents.runtime.executors import LocalExecutor
from metamap_envs.errors import MetaMapError
from metamap_rl.stream import loop
from metamap_rl.stream.learners.agem import project
from metamap_rl.stream.learners.base import list_learners
from metamap_rl.stream.learners.bounds import JointRetraining
from metamap_rl.stream.learners.outputs import FeatureMoments
from metamap_rl.stream.learners.step import Experience, Step
from metamap_rl.stream.run import StreamRun, resume, start

# replay ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_replay_stays_with_what_its_own_policies_did_on_old_tasks(share: float) -> None:
    """The terms beside the pair loss are those of the old rollouts in the batch, the first to be drawn."""
    stream = Stream({"name": "replay", "new_share": share}, config=BRIEF).learn(LESSONS[:3])
    stream.memory.swap(lambda item: dataclasses.replace(item, dark=item.dark + 1.0))
    step = stream.step(LESSONS[3])
    learner: Any = stream.learner

    def loss(dark: float) -> float:
        step.generator.manual_seed(4)
        learner.dark = dark
        return float(learner.loss(step).detach())

    step.generator.manual_seed(4)
    old = step.draw(step.old, round((1 - share) * BRIEF.batch_tasks), by_slot=True)
    expected = float(step.dark_loss(old).detach())
    assert expected > 0.1
    assert loss(2.0) - loss(0.0) == pytest.approx(2.0 * expected, rel=1e-4)


# joint ----------------------------------------------------------------------------------------------------------------


def finish(stream: Stream) -> None:
    generator = torch.Generator().manual_seed(9)
    stream.learner.finish(stream.mapper, stream.memory, stream.config, generator)


def test_joint_makes_up_for_the_tasks_since_its_last_retraining() -> None:
    stream = Stream({"name": "joint", "every": 2, "most": 120}).learn([Lesson("arm", 0.0), Lesson("arm", 1.0)])
    before, new = stream.mapper.arrays(), Lesson("arm", 3.0)
    finish(stream)
    assert_equal(stream.mapper.arrays(), before)  # nothing was put off
    stream.learn([new])
    assert_equal(stream.mapper.arrays(), before)
    untrained = stream.loss(new)
    finish(stream)
    assert stream.loss(new) < 0.5 * untrained


@pytest.mark.parametrize("name", [name for name in list_learners() if name != "joint"])
def test_other_learners_put_nothing_off(name: str) -> None:
    stream = Stream({"name": name}, config=BRIEF).learn(LESSONS[:3])
    before = stream.checkpoint()
    finish(stream)
    assert_equal(stream.checkpoint(), before)


class _Failing:
    """A stage's expert that cannot be trained."""

    def __init__(self, stage: int) -> None:
        self.stage, self.real = stage, loop._expert

    def __call__(self, session: Any, stage: int, *rest: Any) -> Any:
        if stage == self.stage:
            raise MetaMapError("training diverged")
        return self.real(session, stage, *rest)


def joint_run(out: Path, zoo: Path, **overrides: Any) -> StreamRun:
    config = tiny_config(learner={"name": "joint", "every": 2}, experts__start="phi-0", **overrides)
    return start(config, out, zoo=zoo, executor=LocalExecutor(1), num_threads=1)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("joint") / "zoo"


@pytest.mark.parametrize(("failing", "retrained"), [(0, (2, 4)), (1, (3, 4)), (4, (2, 4))])
def test_a_stream_ends_with_a_mapper_of_all_its_tasks(
    failing: int, retrained: tuple[int, ...], zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four tasks, every second; a stage that fails leaves an odd number of them."""
    monkeypatch.setattr(loop, "_expert", _Failing(failing))
    done = joint_run(tmp_path / "run", zoo, on_error="continue")
    R = done.record.matrix("stream")
    changed = tuple(stage for stage in range(1, 5) if not np.array_equal(R[stage], R[stage - 1]))
    assert changed == retrained
    assert [row.decision for row in done.record.stages()].count("failed") == bool(failing)


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_last_retraining_that_fails_is_reported(
    on_error: str, zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise MetaMapError("the loss is not finite")

    monkeypatch.setattr(JointRetraining, "finish", broken)
    settings = {"stream__tasks": 3, "on_error": on_error}
    if on_error == "stop":
        with pytest.raises(MetaMapError, match="after the last stage: the loss is not finite"):
            joint_run(tmp_path / "run", zoo, **settings)
        monkeypatch.undo()
        assert resume(tmp_path / "run", num_threads=1).finished
        return
    done = joint_run(tmp_path / "run", zoo, **settings)
    R = done.record.matrix("stream")
    assert np.array_equal(R[2], R[3])
    assert list(done.record.notes()[3]) == ["the loss is not finite"]


# output regularisation ------------------------------------------------------------------------------------------------


def test_output_regularisation_looks_at_k_old_rollouts_or_at_all() -> None:
    for contexts in (0, 3):
        stream = Stream({"name": "output-regularisation", "contexts": contexts}, config=BRIEF).learn(LESSONS[:3])
        step = stream.step(LESSONS[3], dataclasses.replace(BRIEF, lengths=(40,)))
        seen = [rows for part in stream.learner.old(step) for rows in part.features]  # type: ignore[attr-defined]
        assert len(seen) == (contexts or (len(step.old) > 3 and len(step.old)))
        stored = [item.features.numpy().tobytes() for item in step.old]
        found = [rows.numpy().tobytes() for rows in seen]
        assert set(found) <= set(stored)
        if not contexts:
            assert sorted(found) == sorted(stored)


def test_output_regularisation_uses_only_the_rollouts_of_old_tasks() -> None:
    results = []
    for blank in (False, True):
        stream = Stream({"name": "output-regularisation"}, config=BRIEF).learn(LESSONS[:2])
        if blank:
            stream.memory.swap(
                lambda item: dataclasses.replace(
                    item, **{name: getattr(item, name) * math.nan for name in ("phi", "targets", "dark", "inputs")}
                )
            )
        before = stream.mapper.arrays()
        experience = stream.store(LESSONS[2])
        stream.learner.update(Step(stream.mapper, experience, stream.memory, BRIEF, torch.Generator().manual_seed(3)))
        results.append(stream.mapper.arrays())
        assert any(not np.array_equal(array, before[key]) for key, array in results[-1].items())
    assert_equal(*results)


def test_output_regularisation_is_zero_before_the_first_step_and_grows_with_the_change() -> None:
    stream = Stream({"name": "output-regularisation", "strength": 1.0}, config=BRIEF).learn(LESSONS[:2])
    step = stream.step(LESSONS[2])
    learner: Any = stream.learner
    learner.begin(step)

    def held() -> float:
        with torch.no_grad():
            return float(step.weights_loss([learner._answered(part) for part in learner.old(step)]))

    assert held() == pytest.approx(0.0, abs=1e-12)
    with torch.no_grad():
        for robot in stream.mapper:
            stream.mapper[robot].hypernetwork.output.bias.add_(2.0)  # type: ignore[attr-defined]  # every weight by 2 units
    assert held() == pytest.approx(4.0, rel=1e-4)


# pseudo-rehearsal -----------------------------------------------------------------------------------------------------


def test_moments_are_those_of_all_rollouts_seen() -> None:
    generator = np.random.default_rng(0)
    seen = [generator.normal(generator.normal(size=3), (1, 2, 3), size=(20, 3)).astype(np.float32) for _ in range(7)]
    moments = FeatureMoments.empty(3)
    for rows in seen:
        moments = moments.with_rollout(torch.from_numpy(rows))
    means = np.array([rows.mean(0, dtype=np.float64) for rows in seen])
    within = np.mean([np.cov(rows.T.astype(np.float64), bias=True) for rows in seen], axis=0)
    assert moments.count == 7
    np.testing.assert_allclose(moments.mean, means.mean(0))
    np.testing.assert_allclose(moments.between / 7, np.cov(means.T, bias=True), atol=1e-12)
    np.testing.assert_allclose(moments.within / 7, within, atol=1e-6)


def test_made_up_rollouts_have_those_moments() -> None:
    root = np.array([[1.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 0.0, 0.0]])  # one feature is constant
    moments = FeatureMoments(np.array(4.0), np.array([1.0, 2.0, 3.0]), 4 * root @ root.T, 4 * 0.25 * np.eye(3))
    made_up = moments.draw(3000, 50, torch.Generator().manual_seed(0)).numpy().astype(np.float64)
    means = made_up.mean(axis=1)
    np.testing.assert_allclose(means.mean(0), moments.mean, atol=0.15)
    np.testing.assert_allclose(np.cov(means.T), root @ root.T + 0.25 / 50 * np.eye(3), atol=0.3)
    np.testing.assert_allclose(made_up.var(axis=1).mean(0), [0.25] * 3, rtol=0.05)


def test_pseudo_rehearsal_stores_no_rollout() -> None:
    stream = Stream({"name": "distillation"}, config=BRIEF).learn(LESSONS[:2])
    assert len(stream.memory) == 0
    rows = stream.mapper["arm"].feature_size
    assert {name: array.size for name, array in stream.learner.arrays().items() if name.startswith("arm.")} == {
        "arm.count": 1,
        "arm.mean": rows,
        "arm.between": rows**2,
        "arm.within": rows**2,
    }


# importance -----------------------------------------------------------------------------------------------------------


def test_fisher_is_the_mean_squared_gradient_divided_by_its_mean() -> None:
    """By hand: untrained, the output layer is zero, and only it has a gradient."""
    config = dataclasses.replace(BRIEF, updates=0, loss="weights", lengths=(40,), from_start=1.0)
    stream = Stream({"name": "ewc", "samples": 2})
    add_robot(stream.mapper, "arm")
    item = rollouts(LESSONS[0], 0, seed=0)[0]
    experience = Experience(0, "arm", (item,))  # every sample is this one rollout
    stream.learner.update(Step(stream.mapper, experience, stream.memory, config, torch.Generator()))

    mapper = stream.mapper["arm"]
    hidden = mapper.hypernetwork.trunk(mapper.encode(item.features[None]))[0].detach()  # type: ignore[attr-defined]
    gradient = 2 * (mapper.phi_0 - item.phi) / mapper.weight_scale / len(item.phi)  # of the output's bias
    bias, weight = gradient.square(), gradient.square()[:, None] * hidden.square()
    size = sum(parameter.numel() for parameter in mapper.parameters())
    mean = (bias.sum() + weight.sum()) / size

    importance = {name.split("arm.")[1]: array for name, array in stream.learner.arrays().items()}
    np.testing.assert_allclose(importance.pop("hypernetwork.output.bias"), bias / mean, rtol=1e-4)
    np.testing.assert_allclose(importance.pop("hypernetwork.output.weight"), weight / mean, rtol=1e-4)
    assert importance
    assert all(not array.any() for array in importance.values())


def test_fisher_decays_with_every_task_that_it_acts_on() -> None:
    config = dataclasses.replace(BRIEF, updates=0, loss="weights", lengths=(40,), from_start=1.0)
    stream = Stream({"name": "ewc", "samples": 1, "decay": 0.5})
    add_robot(stream.mapper, "arm")
    experience = Experience(0, "arm", (rollouts(LESSONS[0], 0, seed=0)[0],))
    once: dict[str, Any] = {}
    for task in range(3):
        stream.learner.update(Step(stream.mapper, experience, stream.memory, config, torch.Generator()))
        once = once or stream.learner.arrays()
        for name, array in stream.learner.arrays().items():
            np.testing.assert_allclose(array, once[name] * sum(0.5**back for back in range(task + 1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["ewc", "l2"])
def test_a_new_head_has_no_importance_yet(name: str) -> None:
    stream = Stream({"name": name}, config=BRIEF).learn([Lesson("arm", 0.0)])
    add_robot(stream.mapper, "leg")
    held = set(stream.learner.arrays())
    assert held == set(stream.mapper.theta("arm"))
    assert not held & (set(stream.mapper.theta("leg")) - set(stream.mapper.theta("arm")))


@pytest.mark.parametrize("name", ["ewc", "l2"])
def test_the_penalty_pulls_back_by_importance(name: str) -> None:
    stream = Stream({"name": name, "strength": 3.0}, config=BRIEF).learn([Lesson("arm", 0.0)])
    step = stream.step(LESSONS[2])
    learner: Any = stream.learner
    learner.begin(step)
    theta = stream.mapper.theta("arm")
    with torch.no_grad():
        for parameter in theta.values():
            parameter.add_(0.5)
            parameter.grad = torch.ones_like(parameter)
    learner.adjust_gradient(step)
    for key, parameter in theta.items():
        assert parameter.grad is not None
        expected = (1 + 3.0 * 0.5 * torch.as_tensor(stream.learner.arrays()[key])).expand_as(parameter)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-5)


# A-GEM ----------------------------------------------------------------------------------------------------------------

vectors = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)), min_size=1, max_size=20)


@given(vectors, st.integers(0, 20))
def test_projected_gradients_do_not_run_against_the_reference(rows: list[tuple[int, int]], cut: int) -> None:
    mine, other = (torch.tensor(column, dtype=torch.float32) / 64 for column in zip(*rows, strict=True))
    parts = [vector.tensor_split([min(cut, len(rows))]) for vector in (mine, other)]
    projected = torch.cat([part for part in project(*parts) if part is not None])
    slack = 1e-5 * float(mine.norm() * other.norm())
    if float(mine @ other) >= 0:
        assert torch.equal(projected, mine)
    else:
        assert abs(float(projected @ other)) <= slack
        assert float(projected @ mine) >= -slack  # still downhill for the new task
        assert float(projected.norm()) <= float(mine.norm()) * (1 + 1e-5)


def test_a_parameter_without_gradient_counts_as_zero() -> None:
    one = torch.ones(2)
    first, second, third = project([-one, None, one], [one, 3 * one, None])
    assert third is one
    assert first is not None
    assert second is not None
    assert float(first @ one + second @ (3 * one)) == pytest.approx(0.0, abs=1e-6)
    assert second[0] > 0


def test_agem_projects_the_gradient_of_the_mapper() -> None:
    """The reference batch is drawn again from the same generator, and has the same gradient."""
    stream = Stream({"name": "agem"}).learn(LESSONS[:2])
    step, parameters = stream.step(LESSONS[2]), list(stream.mapper.parameters())

    def inner() -> float:
        step.generator.manual_seed(7)
        loss = step.pair_loss(step.draw(step.old, step.config.batch_tasks))
        references = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(parameters, references, strict=True)
        return sum(float((p.grad * r).sum()) for p, r in pairs if p.grad is not None and r is not None)

    stream.learner.loss(step).backward()  # type: ignore[attr-defined]
    before = inner()
    assert before < 0, "tasks of this problem conflict"
    step.generator.manual_seed(7)
    stream.learner.adjust_gradient(step)  # type: ignore[attr-defined]
    assert inner() >= 1e-4 * before


# PackNet --------------------------------------------------------------------------------------------------------------


def test_what_is_kept_never_moves_by_a_bit() -> None:
    config = dataclasses.replace(BRIEF, updates=10, weight_decay=1.0)
    stream = Stream({"name": "packnet", "share": 0.3}, config=config)
    held: dict[str, tuple[Any, Any]] = {}
    for lesson in LESSONS:
        stream.learn([lesson])
        theta, masks = stream.mapper.arrays(), stream.learner.arrays()
        for name, (mask, values) in held.items():
            assert masks[name][mask].all()
            assert np.array_equal(theta[name][mask], values)
        held = {name: (mask.copy(), theta[name][mask]) for name, mask in masks.items()}
        acting = stream.mapper.theta(lesson.robot)
        assert all(not theta[name][~masks[name]].any() for name in acting), "what is free starts at zero"


def test_what_is_kept_takes_no_part_in_the_clipping_of_gradients() -> None:
    """A gradient clip on all parameters would leave less of the step to those that can move."""
    stream = Stream({"name": "packnet", "share": 0.3}, config=BRIEF).learn(LESSONS[:1])
    kept = {name: mask.copy() for name, mask in stream.learner.arrays().items()}
    theta, seen = stream.mapper.theta("arm"), []

    learner: Any = stream.learner
    adjust = learner.adjust_gradient

    def adjust_and_note(step: Step) -> None:
        adjust(step)
        seen.append({name: tensor.grad.numpy().copy() for name, tensor in theta.items() if tensor.grad is not None})

    learner.adjust_gradient = adjust_and_note
    stream.learn([LESSONS[2]])
    assert len(seen) == BRIEF.updates
    for gradients in seen:
        assert set(gradients) == set(kept)
        assert all(not gradient[kept[name]].any() for name, gradient in gradients.items())
        assert any(gradient.any() for gradient in gradients.values())


def test_each_task_keeps_its_share_of_what_is_free_the_largest_first() -> None:
    stream = Stream({"name": "packnet", "share": 0.25, "retrain": 0.0}, config=BRIEF)
    for times in (1, 2, 3):
        stream.learn([Lesson("arm", float(times))])
        for name, mask in stream.learner.arrays().items():
            free = mask.size
            for _ in range(times):
                free -= math.ceil(0.25 * free)
            assert mask.size - mask.sum() == free, name


def test_packnet_keeps_the_largest() -> None:
    stream = Stream({"name": "packnet", "share": 0.25, "retrain": 0.0}, config=BRIEF)
    twin = Stream({"name": "finetune"}, config=BRIEF)
    trained = twin.learn([LESSONS[0]]).mapper.arrays()  # what PackNet has before it cuts
    stream.learn([LESSONS[0]])
    for name, mask in stream.learner.arrays().items():
        size = np.abs(trained[name])
        assert size[mask].min() >= size[~mask].max(initial=0.0)
        assert np.array_equal(stream.mapper.arrays()[name], np.where(mask, trained[name], 0.0))


def test_packnet_trains_what_it_keeps_after_the_cut() -> None:
    cut, mended = (
        Stream({"name": "packnet", "share": 0.2, "retrain": retrain}).learn([LESSONS[0]]).loss(LESSONS[0])
        for retrain in (0.0, 0.4)
    )
    assert mended < 0.7 * cut
