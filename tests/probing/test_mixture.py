"""Mixtures of actors: their shares, that a rollout depends on nothing but its own, and windows across a change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.policies import base_of
from metamap_agents.policy.acting import BatchedPolicy
from metamap_envs import MetaMapError, Task, get_family
from metamap_envs.settings import parse
from metamap_envs.vector import FamilyVectorEnv
from metamap_rl.data.examples import draw_rows, draw_windows
from metamap_rl.data.rollouts import Rollouts
from metamap_rl.probing import mixture as module
from metamap_rl.probing.actors import ACTORS, ActorMixture
from metamap_rl.probing.collecting import collect
from metamap_rl.probing.mixture import ActorPool, collect_mixture, supported
from metamap_rl.probing.probes.planned import BasePolicyProbe, MixedProbe

FAMILY = get_family("cartpole-swingup")
BASE = base_of(FAMILY)
PROBE = BasePolicyProbe()
MIXTURE = ActorMixture(steps_before=(2, 6), change_share=0.55)


@pytest.fixture(scope="module")
def pool() -> ActorPool:
    generator = np.random.default_rng(1)
    tasks = tuple(FAMILY.sample("train", 6, 0))
    phis = (BASE.phi + 0.2 * generator.normal(size=(6, BASE.spec.size))).astype(np.float32)
    return ActorPool(BASE, tasks, phis, experts={tuple(tasks[0].values): phis[0]})


def collected(mixture: ActorMixture, pool: ActorPool, tasks: list[Task], **settings: Any) -> Rollouts:
    return collect_mixture(mixture, pool, PROBE, tasks, **{"steps": 20, "seed": 3, "num_threads": 1, **settings})


# ------------------------------------------------------------------------------------------------- the config


def test_a_mixture_is_a_document_and_comes_back() -> None:
    found = ActorMixture(wrong_share=0.7, actor_noise=(0.1, 0.2))
    assert parse(ActorMixture, found.document(), "test") == found


@pytest.mark.parametrize(
    "settings",
    [
        {f"{name}_share": 0.0 for name in ACTORS},
        {"actor_noise": (0.3, 0.1)},
        {"steps_before": (1, 2, 3)},
        {"window_lengths": (0, 5)},
        {"change_share": 1.5},
    ],
)
def test_what_makes_no_mixture_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(MetaMapError, match=r"mixture of actors: .* expected"):
        ActorMixture(**settings)


def test_an_unknown_source_of_d_is_refused_with_the_closest() -> None:
    with pytest.raises(MetaMapError, match="did you mean 'service'"):
        ActorMixture.source("servise")
    assert ActorMixture.source("mixture").change_share == 0.0


def test_lengths_of_windows_are_all_there_and_log_uniform() -> None:
    mixture = ActorMixture()
    found = [mixture.window_length(u, 200) for u in np.linspace(0, 1, 20_000, endpoint=False)]
    assert set(found) == set(range(1, 201))
    assert 0.45 < np.mean(np.array(found) <= 14) < 0.55  # half of log(1..201)
    assert {mixture.window_length(u, 7) for u in np.linspace(0, 1, 500, endpoint=False)} == set(range(1, 8))


# --------------------------------------------------------------------------------------------- what is collected


def test_the_shares_are_those_asked_for(pool: ActorPool) -> None:
    generators = np.random.default_rng(0).spawn(2500)
    mixture = ActorMixture(change_share=0.55)
    parts = [module._drawn(mixture, pool, pool.tasks[0], one, 20) for one in generators]
    for name, share in zip(ACTORS, ActorMixture().shares, strict=True):
        assert np.mean([part.actor == name for part in parts]) == pytest.approx(share, abs=0.035)
    assert np.mean([part.before > 0 for part in parts]) > 0.5  # more than half start after a wrong policy
    before = {part.before for part in parts if part.before}
    assert (min(before), max(before)) == (20, 150)
    assert np.mean([part.change > 0 for part in parts]) == pytest.approx(0.44, abs=0.035)
    assert not any(part.before or part.change for part in parts if part.actor == "probe")
    silent = [not part.offset.any() for part in parts if part.actor in ("base", "wrong", "right", "between")]
    assert np.mean(silent) == pytest.approx(0.3, abs=0.04)
    assert max(part.offset.std() for part in parts if part.gain) < 0.3 * 1.6


def test_a_rollout_does_not_depend_on_the_batch(pool: ActorPool, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = FAMILY.sample("validation", 5, 0)
    together = collected(MIXTURE, pool, tasks, repeats=3)
    alone = collected(MIXTURE, pool, tasks[3:4], repeats=2)
    monkeypatch.setattr(module, "_BATCH", 2)
    apart = collected(MIXTURE, pool, tasks, repeats=3, num_threads=2)
    assert together.changed.any()
    for name in (*together.arrays(), "newest"):
        np.testing.assert_array_equal(getattr(together, name)[3:4, :2], getattr(alone, name))
        np.testing.assert_array_equal(getattr(together, name), getattr(apart, name))


@pytest.mark.parametrize("probe", [PROBE, MixedProbe()], ids=lambda probe: probe.name)
def test_the_probe_as_actor_collects_what_it_collects_on_purpose(pool: ActorPool, probe: Any) -> None:
    tasks = FAMILY.sample("train", 3, 1)
    found = collect_mixture(ActorMixture.of_one("probe"), pool, probe, tasks, steps=20, repeats=2, seed=3)
    wanted = collect(probe, tasks, BASE, steps=20, repeats=2, seed=3)
    for name, array in wanted.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)


def test_each_actor_acts_as_it_is_called(pool: ActorPool) -> None:
    own, other = pool.tasks[0], pool.tasks[1]
    two = ActorPool(BASE, (own, other), pool.phis[:2], experts=pool.experts)
    for actor, phi in (("right", pool.phis[0]), ("wrong", pool.phis[1]), ("base", BASE.phi)):
        found = collected(ActorMixture.of_one(actor), two, [own])
        expected = BatchedPolicy(BASE.policies(phi[None]))(found.observations[:, 0])
        np.testing.assert_allclose(found.actions[:, 0], expected, atol=1e-5)


def test_a_start_without_a_reset_goes_on_where_the_wrong_expert_was(pool: ActorPool) -> None:
    own, other = pool.tasks[:2]
    two = ActorPool(BASE, (own, other), pool.phis[:2])
    later = collected(ActorMixture.of_one("wrong", steps_before=7), two, [own], steps=10)
    whole = collected(ActorMixture.of_one("wrong"), two, [own], steps=17)
    np.testing.assert_array_equal(later.observations[0, 0], whole.observations[0, 0, 7:])
    np.testing.assert_array_equal(later.rewards[0, 0], whole.rewards[0, 0, 7:])


def test_the_label_is_the_newer_task(pool: ActorPool) -> None:
    """Replayed by hand: the older task, that of the wrong expert, up to the change, and then the label, state kept."""
    own, other = pool.tasks[:2]
    two = ActorPool(BASE, (own, other), pool.phis[:2])
    always = ActorMixture.of_one("wrong", noise=0.2).changed(change_share=1.0)
    found = collected(always, two, [own], repeats=4, steps=30)
    assert found.tasks == (own,)
    np.testing.assert_array_equal(found.changed.sum(axis=-1), 1)
    assert len(set(found.newest[0])) > 1
    for repeat in range(4):
        rows, change = found.rollout(0, repeat), int(found.newest[0, repeat])
        part = module._drawn(always, two, own, module.rollout_generator(3, repeat, own), 30)
        envs = FamilyVectorEnv([other], num_threads=1)
        envs.reset(seed=[part.reset_seed])
        for step in range(30):
            if step == change:
                envs.set_tasks([own])
            observations, rewards, *_ = envs.step(rows.actions[step][None])
            np.testing.assert_array_equal(observations[0].astype(np.float32), rows.next_observations[step])
            assert np.float32(rewards[0]) == rows.rewards[step]


def test_a_pool_without_another_task_has_no_changes(pool: ActorPool) -> None:
    one = ActorPool(BASE, pool.tasks[:1], pool.phis[:1])
    found = collected(MIXTURE, one, list(pool.tasks[:1]), repeats=20)
    assert found.newest.max() == 0


def test_the_right_expert_of_a_task_without_one_is_the_nearest(pool: ActorPool) -> None:
    near = ActorPool(BASE, pool.tasks, pool.phis)
    for index, task in enumerate(pool.tasks):
        np.testing.assert_array_equal(near.right(task), pool.phis[index])


def test_a_family_whose_tasks_cannot_change_is_collected_without_changes(
    pool: ActorPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert supported(MIXTURE, pool) == MIXTURE

    def refuse(*_: Any) -> None:
        raise MetaMapError("cannot be set in mid-episode")

    monkeypatch.setattr("metamap_envs.vector.FamilyVectorEnv.set_tasks", refuse)
    assert supported(MIXTURE, pool) == MIXTURE.without_changes()


def test_bad_requests_are_refused(pool: ActorPool) -> None:
    with pytest.raises(MetaMapError, match="at least 1 task, step and repeat"):
        collected(MIXTURE, pool, [])
    with pytest.raises(MetaMapError, match="at least one training expert"):
        ActorPool.of(BASE, [])


# ------------------------------------------------------------------------------------------------------ windows


@given(length=st.integers(1, 30), change=st.integers(0, 29), seed=st.integers(0, 1000))
def test_every_window_holds_a_transition_of_the_newer_task(length: int, change: int, seed: int) -> None:
    features = torch.arange(30.0).expand(2, 3, 30)[..., None]
    newest = torch.tensor([[change] * 3, [0] * 3])
    generator = torch.Generator().manual_seed(seed)
    tasks = torch.tensor([0, 1] * 8)
    window = draw_windows(features, tasks, generator, length=length, from_start=0.5, newest=newest)
    rows = features[window][..., 0]
    assert rows.shape == (16, length)
    assert (rows.diff(dim=1) == 1).all()
    own = rows[tasks == 0]
    assert (own[:, -1] >= change).all()
    if change:
        assert (own[:, 0] <= change).all()  # it spans the change, or starts at it
    drawn = draw_rows(features, tasks, generator, 20, newest)[..., 0]
    assert (drawn[tasks == 0] >= change).all()


def test_a_third_of_the_windows_span_a_change(pool: ActorPool) -> None:
    generators = np.random.default_rng(0).spawn(1500)
    mixture = ActorMixture(change_share=0.55)
    newest = torch.tensor([[module._drawn(mixture, pool, pool.tasks[0], one, 200).change] for one in generators])
    features = torch.arange(200.0).expand(1500, 1, 200)[..., None]
    generator, spanning = torch.Generator().manual_seed(0), []
    for uniform in np.linspace(0, 1, 60, endpoint=False):
        length = mixture.window_length(uniform, 200)
        tasks = torch.randint(1500, (200,), generator=generator)
        rows = features[draw_windows(features, tasks, generator, length=length, from_start=0.5, newest=newest)]
        spanning.append((rows[:, 0, 0] < newest[tasks, 0]).float().mean().item())
    assert np.mean(spanning) == pytest.approx(1 / 3, abs=0.04)


def test_without_changes_windows_are_drawn_as_ever() -> None:
    features, tasks = torch.arange(60.0).reshape(1, 3, 20, 1), torch.zeros(8, dtype=torch.long)
    drawn = [
        draw_windows(features, tasks, torch.Generator().manual_seed(1), length=5, from_start=0.3, newest=newest)
        for newest in (None, torch.zeros(1, 3, dtype=torch.long))
    ]
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one, other)
