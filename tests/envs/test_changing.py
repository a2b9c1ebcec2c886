"""Training environments: tasks change in mid-episode, and episodes start from snapshots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metamap_envs import FamilyVectorEnv, MetaMapError, get_family, list_families
from metamap_envs.changing import ChangingVectorEnv

NAME = "cheetah-actuators"


def made(name: str = NAME, count: int = 3, **settings: Any) -> ChangingVectorEnv:
    family = get_family(name)
    changes = {
        "draw": lambda number, generator: family.sample("train", number, generator),
        "seed": 0,
        "num_threads": 1,
        "autoreset_mode": "same_step",
    } | settings
    return ChangingVectorEnv(family.sample("train", count, 5), **changes)


def actions_of(envs: FamilyVectorEnv, steps: int) -> Any:
    return np.random.default_rng(0).uniform(-1, 1, (steps, envs.num_envs, envs.family.action_size))


def test_without_changes_it_is_the_vector_environment_to_the_bit() -> None:
    changing = made(horizon=7)
    plain = FamilyVectorEnv(changing.tasks, num_threads=1, autoreset_mode="same_step", horizon=7)
    assert changing.reset(seed=1)[0].tobytes() == plain.reset(seed=1)[0].tobytes()
    for actions in actions_of(plain, 16):
        for one, other in zip(changing.step(actions)[:4], plain.step(actions)[:4], strict=True):
            assert one.tobytes() == other.tobytes()


def test_tasks_change_in_mid_episode_as_if_they_were_set() -> None:
    changing = made(rate=0.2)
    plain = FamilyVectorEnv(changing.tasks, num_threads=1)
    changing.reset(seed=1), plain.reset(seed=1)
    changes = 0
    for actions in actions_of(plain, 30):
        plain.set_tasks(changing.tasks)
        before = changing.tasks
        found, expected = changing.step(actions), plain.step(actions)
        for one, other in zip(found[:2], expected[:2], strict=True):
            assert one.tobytes() == other.tobytes()
        assert found[4]["task"].tolist() == [task.id for task in before], "the tasks of the transition"
        changes += sum(new != old for new, old in zip(changing.tasks, before, strict=True))
    assert 5 < changes < 40
    assert {task.split for task in changing.tasks} == {"train"}


@pytest.mark.parametrize("name", list_families())
def test_an_episode_from_a_snapshot_goes_on_where_it_was_taken(name: str) -> None:
    source, envs = made(name, 1), made(name, 2, pooled=1.0)
    source.reset(seed=1)
    seen: Any = None
    actions = actions_of(envs, 8)
    for action in actions[:3]:
        seen = source.step(action[:1])[0]
    envs.pool.append(source.snapshot(0))
    observations, infos = envs.reset(seed=2)
    assert observations[1].tobytes() == observations[0].tobytes() == seen[0].tobytes()
    assert infos["task"].tolist() == [source.tasks[0].id] * 2
    for action in actions[3:]:
        expected, found = source.step(action[:1]), envs.step(np.tile(action[0], (2, 1)))
        assert found[0][1].tobytes() == expected[0][0].tobytes()
        assert found[1][1] == expected[1][0]


def test_a_share_of_the_episodes_starts_from_the_pool_and_the_horizon_begins_anew() -> None:
    source, envs = made(count=1), made(count=8, pooled=0.5, horizon=5)
    source.reset(seed=1)
    for action in actions_of(source, 10):
        seen = source.step(action)[0]
    envs.reset(seed=2)
    envs.pool.append(source.snapshot(0))
    pooled = []
    for step, actions in enumerate(actions_of(envs, 100), start=1):
        observations, _, _, truncated, _ = envs.step(actions)
        assert truncated.all() == truncated.any() == (step % 5 == 0)
        if truncated.any():
            pooled += [row.tobytes() == seen[0].tobytes() for row in observations]
    assert 0.35 < np.mean(pooled) < 0.65


def test_the_seed_decides_changes_and_starts() -> None:
    def run(seed: int) -> tuple[bytes, list[str]]:
        envs = made(rate=0.1, pooled=0.5, horizon=5, seed=seed)
        envs.reset(seed=1)
        seen = b""
        for step, actions in enumerate(actions_of(envs, 20)):
            seen += envs.step(actions)[0].tobytes()
            if step % 4 == 0:
                envs.pool.append(envs.snapshot(step % 3))
        return seen, [task.id for task in envs.tasks]

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_what_cannot_be_put_back_or_changed_is_refused() -> None:
    with pytest.raises(MetaMapError, match="'cartpole-length': the parameter 'length' cannot change in mid-episode"):
        made("cartpole-length", rate=0.1)
    with pytest.raises(MetaMapError, match=r"'walker-parts' steps Gymnasium's own environments, .* cannot be put back"):
        made("walker-parts", pooled=0.1)
