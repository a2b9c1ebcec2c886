"""The experiment that measures bundled mappers by what is in their own folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import tiny
from metamap_agents.runtime.executors import make_executor
from metamap_envs import MetaMapError
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.results.experiments import make_experiment, run_experiment, summarise_run
from metamap_rl.results.experiments.bundles import Bundles

_LITTLE = ["tasks=3", "lengths=[1, 2]", "episodes=2"]


@pytest.fixture
def folders(tiny_mapper: Mapper, tmp_path: Path) -> tuple[str, str]:
    """A mapper without a universal policy, and another one with it."""
    new = tiny.moved(tiny_mapper)
    new.universal = tiny.make_universal(new.base)
    for name, mapper in (("old", tiny_mapper), ("new", new)):
        mapper.save(tmp_path / name)
    return str(tmp_path / "old"), str(tmp_path / "new")


def test_a_mapper_is_measured_beside_the_one_that_it_replaces(folders: tuple[str, str], tmp_path: Path) -> None:
    old, new = folders
    settings = [f"mappers=[{new}]", f"replaced={{{new}: {old}}}", "split=validation", *_LITTLE]
    run_experiment("bundles", make_experiment("bundles", None, settings), tmp_path / "out", make_executor("local", 1))
    _, document, table = summarise_run(tmp_path / "out")
    before, after = document["mappers"][f"{tiny.FAMILY}, before"], document["mappers"][tiny.FAMILY]
    assert before["mapper"] != after["mapper"]
    for origin in ("probe", "service"):
        assert before["origins"][origin]["expert_returns"] == after["origins"][origin]["expert_returns"]
        assert {one["method"] for one in before["origins"][origin]["methods"]} == {"mapper"}
        assert {one["method"] for one in after["origins"][origin]["methods"]} == {"mapper", "estimate"}
        found = document["differences"][tiny.FAMILY][origin]["2"]
        assert found["low"] <= found["mean"] <= found["high"]
    assert sum(line.startswith(f"| {tiny.FAMILY} |") for line in table) == 2 * 2 + 2
    assert document["replaces"][tiny.FAMILY] in (True, False)


@pytest.mark.parametrize(
    ("probe", "service", "verdict"),
    [((-9, 1), (1, 9), True), ((-9, -1), (1, 9), False), ((1, 9), (-1, 9), False)],
    ids=["not worse and better", "worse with D of the probe", "no better in service"],
)
def test_the_rule_looks_at_both_origins(probe: tuple[int, int], service: tuple[int, int], verdict: bool) -> None:
    found = {name: {"50": {"low": low, "high": high}} for name, (low, high) in (("probe", probe), ("service", service))}
    assert Bundles()._replaces(found) is verdict


def test_what_cannot_be_measured_is_refused(folders: tuple[str, str], tmp_path: Path) -> None:
    old, new = folders
    for settings, message in (
        ([f"mappers=[{old}]"], "holds the universal policy"),
        ([f"mappers=[{new}, {new}]"], "one of each family"),
        ([f"mappers=[{new}]", "replaced={other: reacher-goal}"], "among the mappers"),
        ([f"mappers=[{new}]", f"replaced={{{new}: ant-goal}}"], "of family 'ant-goal'"),
    ):
        with pytest.raises(MetaMapError, match=message):
            list(make_experiment("bundles", None, settings).batches(tmp_path))
