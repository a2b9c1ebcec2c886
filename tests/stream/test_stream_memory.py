"""What a memory bounded by bytes keeps, and how fair it is to tasks and rollouts."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from metamap_envs.errors import MetaMapError
from metamap_rl.stream.memory import RETENTIONS, Item, Memory

BOUNDED = ("balanced", "reservoir")


def item(slot: int, steps: int = 10, *, robot: str = "arm", value: float = 0.0) -> Item:
    """A rollout whose size is set by its number of steps."""
    states = torch.full((3, 2), value)
    return Item(
        slot=slot,
        embodiment=robot,
        features=torch.full((steps, 4), value),
        phi=torch.full((5,), value),
        inputs=states,
        targets=states[:, :1],
        dark=states[:, 1:],
        expert_return=2.5,
        base_return=-1.5,
    )


SIZE = item(0).nbytes


def offer_tasks(memory: Memory, tasks: int, rollouts: int, seed: int = 0) -> Memory:
    generator = np.random.default_rng(seed)
    for slot in range(tasks):
        memory.offer([item(slot) for _ in range(rollouts)], generator)
    return memory


def test_bytes_are_those_of_all_tensors() -> None:
    assert item(0, steps=10).nbytes == 4 * (10 * 4 + 5 + 3 * 2 + 3 + 3)
    assert Memory("all", 1).nbytes == 0
    assert offer_tasks(Memory("all", 1), 3, 2).nbytes == 6 * SIZE


offers = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=5), min_size=1, max_size=12
)


@pytest.mark.parametrize("retention", BOUNDED)
@given(offers, st.integers(1, 12 * SIZE), st.integers(0, 3))
def test_never_above_the_budget_whatever_the_sizes(
    retention: str, sequence: list[list[tuple[int, int]]], budget: int, seed: int
) -> None:
    memory, generator = Memory(retention, budget), np.random.default_rng(seed)
    for offered in sequence:
        memory.offer([item(slot, steps) for slot, steps in offered], generator)
        assert memory.nbytes <= budget


@given(offers, st.integers(0, 3))
def test_nothing_goes_without_need(sequence: list[list[tuple[int, int]]], seed: int) -> None:
    total = sum(item(slot, steps).nbytes for offered in sequence for slot, steps in offered)
    for retention in BOUNDED:
        memory, generator = Memory(retention, total), np.random.default_rng(seed)
        for offered in sequence:
            memory.offer([item(slot, steps) for slot, steps in offered], generator)
        assert memory.nbytes == total


# balanced -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tasks", "budget"), [(3, 20), (5, 17), (10, 12), (12, 12)])
def test_balanced_gives_tasks_of_one_size_the_same_to_a_rollout(tasks: int, budget: int) -> None:
    memory = offer_tasks(Memory("balanced", budget * SIZE), tasks, rollouts=8)
    counts = Counter(stored.slot for stored in memory.items)
    assert set(counts) == set(range(tasks))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == min(budget, 8 * tasks)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=10), st.integers(0, 3))
def test_balanced_keeps_every_task_while_one_rollout_of_each_fits(rollouts: list[int], seed: int) -> None:
    memory, generator = Memory("balanced", len(rollouts) * SIZE), np.random.default_rng(seed)
    for slot, count in enumerate(rollouts):
        memory.offer([item(slot) for _ in range(count)], generator)
    assert memory.slots == tuple(range(len(rollouts)))


def test_balanced_takes_from_the_task_with_the_most_bytes() -> None:
    memory, generator = Memory("balanced", 10 * item(0, 40).nbytes), np.random.default_rng(0)
    memory.offer([item(0, 40) for _ in range(9)], generator)
    memory.offer([item(1, 10) for _ in range(9)], generator)
    bytes_of = {slot: sum(stored.nbytes for stored in memory.items if stored.slot == slot) for slot in (0, 1)}
    assert bytes_of[1] == 9 * item(1, 10).nbytes, "the small rollouts all fit into half of it"
    assert bytes_of[0] > bytes_of[1]


def kept_tasks(tasks: int, budget: int, rollouts: int, seeds: int) -> NDArray[np.float64]:
    """How often each task is still there at the end."""
    kept = np.zeros(tasks)
    for seed in range(seeds):
        memory = offer_tasks(Memory("balanced", budget * SIZE), tasks, rollouts, seed)
        assert len(memory) == budget
        assert len(memory.slots) == budget
        kept[list(memory.slots)] += 1
    return kept


@pytest.mark.parametrize("rollouts", [1, 3])
def test_balanced_keeps_each_task_as_likely_once_not_all_fit(rollouts: int) -> None:
    """Counts are drawn without replacement, so their variance is less than a multinomial's by 1 - budget / tasks."""
    tasks, budget, seeds = 12, 4, 600
    kept = kept_tasks(tasks, budget, rollouts, seeds)
    share = budget / tasks
    statistic = ((kept - seeds * share) ** 2 / (seeds * share * (1 - share))).sum() * (tasks - 1) / tasks
    assert stats.chi2.sf(statistic, tasks - 1) > 0.01


# reservoir, all, none -------------------------------------------------------------------------------------------------


def test_reservoir_keeps_each_rollout_as_likely() -> None:
    """Rollouts of a task that had many are as likely as those of one that had few."""
    counts, budget, seeds = (1, 7, 2, 10, 1, 3), 6, 600
    total = sum(counts)
    kept = np.zeros(total)
    for seed in range(seeds):
        memory, generator = Memory("reservoir", budget * SIZE), np.random.default_rng(seed)
        number = 0
        for slot, count in enumerate(counts):
            memory.offer([item(slot, value=float(number + index)) for index in range(count)], generator)
            number += count
        assert len(memory) == budget
        kept[[int(stored.phi[0]) for stored in memory.items]] += 1
    share = budget / total
    statistic = ((kept - seeds * share) ** 2 / (seeds * share * (1 - share))).sum() * (total - 1) / total
    assert stats.chi2.sf(statistic, total - 1) > 0.01


def test_all_keeps_all_and_none_keeps_none() -> None:
    assert len(offer_tasks(Memory("all", 1), 5, 3)) == 15
    nothing = offer_tasks(Memory("none", 10**9), 5, 3)
    assert len(nothing) == 0
    assert nothing.held_out() == nothing.replayable() == []


@pytest.mark.parametrize("retention", RETENTIONS.names())
def test_what_is_offered_comes_back_with_its_keys_kept_or_not(retention: str) -> None:
    memory = Memory(retention, 2 * SIZE)
    offered = memory.offer([item(0, value=float(index)) for index in range(5)], np.random.default_rng(0))
    assert [float(given.phi[0]) for given in offered] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert len({given.key for given in offered}) == 5
    assert all(0 <= given.key < 1 for given in offered)
    assert all(any(stored is given for given in offered) for stored in memory.items)


def test_the_rollouts_with_the_least_keys_stay() -> None:
    for retention in BOUNDED:
        memory = Memory(retention, 2 * SIZE)
        offered = memory.offer([item(0) for _ in range(6)], np.random.default_rng(3))
        least = sorted(given.key for given in offered)[:2]
        assert sorted(stored.key for stored in memory.items) == least


def test_unknown_retentions_and_no_budget_are_refused() -> None:
    with pytest.raises(MetaMapError, match="balanced"):
        Memory("balance", 100)
    with pytest.raises(MetaMapError, match="memory_bytes"):
        Memory("balanced", 0)


# validation and replay ------------------------------------------------------------------------------------------------


def test_one_rollout_of_each_task_is_held_out_and_the_others_are_replayed() -> None:
    memory = offer_tasks(Memory("all", 1), 3, rollouts=4)
    held_out, replayed = memory.held_out(), memory.replayable()
    assert [held.slot for held in held_out] == [0, 1, 2]
    for held in held_out:
        assert held.key == min(stored.key for stored in memory.items if stored.slot == held.slot)
        assert not any(stored is held for stored in replayed)
    assert len(held_out) + len(replayed) == len(memory)


def test_the_only_rollout_of_a_task_is_both() -> None:
    memory, generator = Memory("all", 1), np.random.default_rng(0)
    memory.offer([item(0)], generator)
    memory.offer([item(1), item(1)], generator)
    assert [stored.slot for stored in memory.held_out()] == [0, 1]
    assert [stored.slot for stored in memory.replayable()] == [0, 1]


def test_the_held_out_rollout_is_the_last_of_its_task_to_go() -> None:
    memory = Memory("balanced", 6 * SIZE)
    first = {held.slot: held for held in offer_tasks(memory, 2, rollouts=3).held_out()}
    generator = np.random.default_rng(1)
    for slot in range(2, 6):
        memory.offer([item(slot) for _ in range(3)], generator)
    assert len(memory) == 6
    for slot, held in first.items():
        assert [stored for stored in memory.items if stored.slot == slot] == [held]


def test_swap_changes_every_item_in_place() -> None:
    memory = offer_tasks(Memory("all", 1), 2, rollouts=2)
    keys = [stored.key for stored in memory.items]
    memory.swap(lambda stored: replace(stored, expert_return=7.0))
    assert [stored.key for stored in memory.items] == keys
    assert {stored.expert_return for stored in memory.items} == {7.0}


# on disk --------------------------------------------------------------------------------------------------------------

FIELDS = tuple(Item.__dataclass_fields__)


def stored_item() -> Item:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return Item(7, "leg", normal(6, 4), normal(5), normal(3, 2), normal(3, 1), normal(3, 1), 1.1, -2.2, 0.1 + 0.2)


def test_an_item_survives_its_arrays_to_the_bit() -> None:
    before = stored_item()
    after = Item.from_arrays(before.arrays(), "leg", "memory")
    for name in FIELDS:
        one, other = getattr(before, name), getattr(after, name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, name


DAMAGES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "another shape": lambda array: np.stack([array, array]),
    "empty": lambda array: np.zeros((0, *array.shape[1:]), dtype=array.dtype),
    "another type": lambda array: array.astype(np.float64),
    "not finite": lambda array: np.full_like(array, np.nan),
}
TENSORS, NUMBERS = ("features", "phi", "inputs", "targets", "dark"), ("slot", "returns", "key")
DAMAGED = [(name, damage) for name in TENSORS for damage in DAMAGES] + [
    *((name, "another shape") for name in NUMBERS),
    ("returns", "not finite"),
    ("key", "not finite"),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGED)
def test_damaged_arrays_are_named(name: str, damage: str) -> None:
    arrays = stored_item().arrays()
    arrays[name] = DAMAGES[damage](arrays[name])
    with pytest.raises(MetaMapError, match=rf"^artifact x: {name}"):
        Item.from_arrays(arrays, "leg", "artifact x")


@pytest.mark.parametrize("name", [*TENSORS, *NUMBERS])
def test_missing_arrays_are_named(name: str) -> None:
    arrays = stored_item().arrays()
    del arrays[name]
    with pytest.raises(MetaMapError, match=rf"^artifact x: {name}"):
        Item.from_arrays(arrays, "leg", "artifact x")


def test_arrays_that_do_not_belong_are_named() -> None:
    arrays = stored_item().arrays()
    with pytest.raises(MetaMapError, match="nonsense"):
        Item.from_arrays({**arrays, "nonsense": np.zeros(2)}, "leg", "artifact x")
    with pytest.raises(MetaMapError, match=r"artifact x: (targets|dark)"):
        Item.from_arrays({**arrays, "targets": arrays["targets"][:2]}, "leg", "artifact x")


# cost -----------------------------------------------------------------------------------------------------------------


def calls_of(function: Callable[[], Any]) -> int:
    """Calls of functions, Python's and C's, that one call makes: unlike time, the same on any machine."""
    made = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal made
        made += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return made


@pytest.mark.parametrize("retention", BOUNDED)
def test_a_full_memory_takes_rollouts_in_at_a_cost_linear_in_its_size(retention: str) -> None:
    calls = []
    for size in (100, 200):
        memory = offer_tasks(Memory(retention, size * SIZE), size // 2, rollouts=4)
        assert len(memory) == size
        generator = np.random.default_rng(1)
        fresh = [[item(slot) for _ in range(4)] for slot in range(size, size + 20)]
        calls.append(calls_of(lambda: [memory.offer(items, generator) for items in fresh]))  # noqa: B023  (called here)
        assert len(memory) == size
    assert calls[1] < 3 * calls[0]
