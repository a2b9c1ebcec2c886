"""What every learner must do, over the registry; then what makes each of them what it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.gradient import Step
from metamap_rl.stream.learner import LEARNERS, Experience, UpdateConfig, list_learners, make_learner
from metamap_rl.stream.learners.agem import project
from metamap_rl.stream.learners.outputs import FeatureMoments
from stream_problem import LESSONS, ROLLOUTS, UPDATE, Lesson, Stream, add_robot, base_policy, rollouts

STARTS_ANEW = {"joint"}
"""Learners that make a new mapper each time."""
UNPROTECTED = {"finetune"}

# A learner that is not here is tested with its defaults.
SETTINGS: dict[str, dict[str, Any]] = {"joint": {"most": 120}, "l2": {"strength": 100.0}}
BRIEF = dataclasses.replace(UPDATE, updates=4)


def settings(name: str) -> dict[str, Any]:
    return {"name": name, **SETTINGS.get(name, {})}


def fields_of(name: str) -> list[dataclasses.Field[Any]]:
    return [item for item in dataclasses.fields(LEARNERS.get(name)) if item.init]


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """Every array of a checkpoint by its path."""
    if isinstance(tree, Mapping):
        return {k: v for key, value in tree.items() for k, v in flat(value, f"{name}.{key}").items()}
    if isinstance(tree, list | tuple):
        return {k: v for key, value in enumerate(tree) for k, v in flat(value, f"{name}.{key}").items()}
    return {name: tree}


def assert_equal(one: Any, other: Any) -> None:
    one, other = flat(one), flat(other)
    assert list(one) == list(other)
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


each_learner = pytest.mark.parametrize("name", list_learners())


# every learner --------------------------------------------------------------------------------------------------------


@each_learner
def test_same_seed_twice_is_the_same_to_the_bit(name: str) -> None:
    checkpoints = []
    for unrelated in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(unrelated)  # the global generator must not matter
            checkpoints.append(Stream(settings(name), config=BRIEF).learn(LESSONS[:4]).checkpoint())
    assert_equal(*checkpoints)


@each_learner
@pytest.mark.parametrize("done", [1, 3])
def test_resumed_from_a_checkpoint_it_goes_on_to_the_bit(name: str, done: int) -> None:
    whole = Stream(settings(name), config=BRIEF).learn(LESSONS[:done])
    checkpoint = whole.checkpoint()
    resumed = whole.resumed(checkpoint)
    assert_equal(resumed.checkpoint(), checkpoint)
    assert_equal(resumed.learn(LESSONS[done:]).checkpoint(), whole.learn(LESSONS[done:]).checkpoint())


@each_learner
def test_an_update_can_be_undone(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:2])
    theta, state = stream.mapper.arrays(), stream.learner.arrays()
    before = {key: array.copy() for key, array in state.items()}
    stream.learn(LESSONS[2:4])
    assert_equal(state, before)
    stream.mapper.restore(theta)
    stream.learner.restore(state, stream.mapper)
    assert_equal(stream.learner.arrays(), before)
    assert_equal(stream.mapper.arrays(), theta)


@each_learner
def test_state_of_another_mapper_is_refused(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:1])
    with pytest.raises(MetaMapError, match="nonsense"):
        stream.learner.restore({**stream.learner.arrays(), "nonsense": np.zeros(3)}, stream.mapper)


@each_learner
@pytest.mark.parametrize("steps", [0, 10])
def test_untrained_it_answers_phi_0(name: str, steps: int) -> None:
    stream = Stream(settings(name))
    add_robot(stream.mapper, "arm")
    features = torch.stack([item.features[:steps] for item in rollouts(LESSONS[0], 0, seed=1)])
    answer = stream.learner.generate(stream.mapper, stream.memory, "arm", features)
    assert np.array_equal(answer.numpy(), np.tile(base_policy("arm").phi, (ROLLOUTS, 1)))
    assert not answer.requires_grad


@each_learner
def test_an_empty_d_is_answered_with_phi_0_after_training(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:1])
    nothing = rollouts(LESSONS[0], 0, seed=1)[0].features[None, :0]
    answer = stream.learner.generate(stream.mapper, stream.memory, "arm", nothing)
    assert np.array_equal(answer[0].numpy(), base_policy("arm").phi)


@each_learner
def test_without_gradient_steps_theta_stays(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn(LESSONS[:3])
    before = stream.mapper.arrays()
    stream.learn(LESSONS[3:], dataclasses.replace(BRIEF, updates=0))
    if name in STARTS_ANEW:
        blank = stream.mapper["arm"](rollouts(LESSONS[0], 0, seed=1)[0].features[None])
        assert np.array_equal(blank[0].detach().numpy(), base_policy("arm").phi)
    else:
        assert_equal(stream.mapper.arrays(), before)


@each_learner
def test_it_learns_the_new_task_first_and_later(name: str) -> None:
    stream = Stream(settings(name))
    add_robot(stream.mapper, "arm")
    first, second = LESSONS[0], LESSONS[2]
    untrained = stream.loss(first)
    stream.learn([first])
    assert stream.loss(first) < 0.4 * untrained
    before = stream.loss(second)
    stream.learn([second])
    assert stream.loss(second) < 0.8 * before


def loss_on_old_tasks(chosen: Mapping[str, Any]) -> float:
    """After the stream, over all tasks but the last; mean over seeds."""
    streams = [Stream(chosen, seed).learn(LESSONS) for seed in (0, 1)]
    return float(np.mean([stream.loss(lesson) for stream in streams for lesson in LESSONS[:-1]]))


@pytest.fixture(scope="module")
def forgetting() -> float:
    return loss_on_old_tasks({"name": "finetune"})


@pytest.mark.parametrize("name", [name for name in list_learners() if name not in UNPROTECTED])
def test_old_tasks_suffer_less_than_from_fine_tuning(name: str, forgetting: float) -> None:
    assert loss_on_old_tasks(settings(name)) < 0.75 * forgetting


@pytest.mark.parametrize("name", [name for name in list_learners() if name not in STARTS_ANEW])
def test_work_and_state_do_not_grow_with_the_stream(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF, budget=40_000).learn(LESSONS[:2])
    passed = [0]
    for robot in stream.mapper:
        stream.mapper[robot].encoder.register_forward_hook(  # type: ignore[attr-defined]  # it is a module
            lambda module, arguments, output: passed.append(len(arguments[0]))
        )
    work, sizes = [], []
    for slot in range(2, 8):
        experience = stream.store(Lesson("arm", float(slot)))
        passed.clear()
        stream.learner.update(stream.mapper, experience, stream.memory, BRIEF, torch.Generator().manual_seed(slot))
        work.append(sum(passed))
        sizes.append(sum(array.nbytes for array in stream.learner.arrays().values()))
        stream.slot += 1
    assert len(set(work)) == 1
    assert len(set(sizes)) == 1


# settings -------------------------------------------------------------------------------------------------------------


@each_learner
def test_settings_out_of_range_are_refused(name: str) -> None:
    for item in fields_of(name):
        for value in (-1, -1.0, math.nan, math.inf, "3", True, None):
            with pytest.raises(MetaMapError, match=name):
                make_learner({"name": name, item.name: value})


@each_learner
def test_a_setting_that_counts_is_a_whole_number(name: str) -> None:
    for item in fields_of(name):
        if item.type == "int":
            with pytest.raises(MetaMapError, match="whole number"):
                make_learner({"name": name, item.name: item.default + 0.5})


def test_unknown_learners_and_settings_are_refused_with_the_closest() -> None:
    with pytest.raises(MetaMapError, match="output-regularisation"):
        make_learner({"name": "output-regularization"})
    with pytest.raises(MetaMapError, match="strength"):
        make_learner({"name": "ewc", "strenght": 1.0})
    with pytest.raises(MetaMapError, match="expected a name"):
        make_learner({"strength": 1.0})


@pytest.mark.parametrize(
    "field",
    [
        {"loss": "behavior"},
        {"updates": -1},
        {"batch": 1},
        {"states": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"gradient_clip": -1.0},
        {"lengths": ()},
        {"lengths": (0,)},
        {"from_start": 1.5},
    ],
)
def test_update_settings_out_of_range_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(MetaMapError):
        UpdateConfig(**field)


def test_a_loss_that_is_not_finite_is_said() -> None:
    lesson = Lesson("arm", 0.0)
    stream = Stream({"name": "finetune"})
    add_robot(stream.mapper, "arm")
    broken = [dataclasses.replace(item, targets=item.targets * math.inf) for item in rollouts(lesson, 0, seed=0)]
    with pytest.raises(MetaMapError, match="learning_rate"):
        stream.learner.update(
            stream.mapper, Experience(0, "arm", tuple(broken)), stream.memory, BRIEF, torch.Generator()
        )


# output regularisation ------------------------------------------------------------------------------------------------


def step_after(stream: Stream, lesson: Lesson, config: UpdateConfig = BRIEF) -> Step:
    """What the learner has in hand in the first gradient step of one more lesson."""
    experience = stream.store(lesson)
    old = [item for item in stream.memory.replayable() if item.slot != experience.slot]
    return Step(stream.mapper, experience, old, config, torch.Generator().manual_seed(0))


def test_output_regularisation_looks_at_k_old_rollouts_or_at_all() -> None:
    for contexts in (0, 3):
        stream = Stream({"name": "output-regularisation", "contexts": contexts}, config=BRIEF).learn(LESSONS[:3])
        step = step_after(stream, LESSONS[3], dataclasses.replace(BRIEF, lengths=(40,)))
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
        stream.learner.update(stream.mapper, experience, stream.memory, BRIEF, torch.Generator().manual_seed(3))
        results.append(stream.mapper.arrays())
        assert any(not np.array_equal(array, before[key]) for key, array in results[-1].items())
    assert_equal(*results)


def test_output_regularisation_is_zero_before_the_first_step_and_grows_with_the_change() -> None:
    stream = Stream({"name": "output-regularisation", "strength": 1.0}, config=BRIEF).learn(LESSONS[:2])
    step = step_after(stream, LESSONS[2])
    learner: Any = stream.learner
    learner.begin(step)

    def held() -> float:
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
    stream.learner.update(stream.mapper, experience, stream.memory, config, torch.Generator())

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
        stream.learner.update(stream.mapper, experience, stream.memory, config, torch.Generator())
        once = once or stream.learner.arrays()
        for name, array in stream.learner.arrays().items():
            np.testing.assert_allclose(array, once[name] * sum(0.5**back for back in range(task + 1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["ewc", "l2"])
def test_a_new_head_has_no_importance_yet(name: str) -> None:
    stream = Stream(settings(name), config=BRIEF).learn([Lesson("arm", 0.0)])
    add_robot(stream.mapper, "leg")
    held = set(stream.learner.arrays())
    assert held == set(stream.mapper.theta("arm"))
    assert not held & (set(stream.mapper.theta("leg")) - set(stream.mapper.theta("arm")))


@pytest.mark.parametrize("name", ["ewc", "l2"])
def test_the_penalty_pulls_back_by_importance(name: str) -> None:
    stream = Stream({"name": name, "strength": 3.0}, config=BRIEF).learn([Lesson("arm", 0.0)])
    step = step_after(stream, LESSONS[2])
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
    step, parameters = step_after(stream, LESSONS[2]), list(stream.mapper.parameters())

    def inner() -> float:
        step.generator.manual_seed(7)
        loss = step.pair_loss(step.draw(step.old, step.config.batch))
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
        Stream({"name": "packnet", "retrain": retrain}).learn([LESSONS[0]]).loss(LESSONS[0]) for retrain in (0.0, 0.4)
    )
    assert mended < 0.5 * cut
