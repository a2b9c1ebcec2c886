"""Several zoos of a family: what is pooled, what is told apart, and a run of the protocol over two of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs import MetaMapError, get_family
from metamap_envs.settings import parse
from metamap_rl.evaluation.across_tables import across_tables
from metamap_rl.evaluation.protocol import ProtocolConfig, load_protocol, open_run, run_protocol
from metamap_rl.evaluation.protocol.across import across_zoos
from metamap_rl.evaluation.protocol.results import publish
from metamap_rl.evaluation.protocol_tables import results_text
from metamap_rl.evaluation.scores import Evaluation, MethodScores, References
from metamap_rl.results.render import filled

SCRIPTS = Path(__file__).parents[2] / "scripts"
LEVELS = {"walker-0": 0.9, "walker-1": 0.5, "walker-2": 0.7}
"""Gap closed by the mapper, by zoo."""
ZOOS = {name: {"family": "walker", "seed": seed, "seen": seed == 0} for seed, name in enumerate(LEVELS)}


def measured(level: float, seed: int) -> Evaluation:
    """Four tasks with a gap of 10; the mapper closes a share of it, another method half of that, phi_0 nothing."""
    wind = np.random.default_rng(seed).normal(size=(4, 10))
    tasks = tuple(get_family(tiny.FAMILY).sample("test-in", 4, seed))
    evaluation = Evaluation.of(tasks, References(wind - 90.0, wind, wind + 10.0), episodes=5)
    for method, steps, share in (("mapper", 5, level / 2), ("mapper", 50, level), ("lookup", 50, level / 2)):
        evaluation.methods.append(MethodScores.of(method, steps, np.stack([wind[:, :5] + 10.0 * share] * 2)))
    evaluation.methods.append(MethodScores.of("base-policy", None, wind[None, :, :5]))
    return evaluation


@pytest.fixture(scope="module")
def evaluations() -> dict[str, dict[str, Evaluation]]:
    return {name: {"test-in": measured(level, seed)} for seed, (name, level) in enumerate(LEVELS.items())}


def groups(found: dict[str, Any]) -> dict[str, dict[tuple[str, int | None], Any]]:
    return {
        group["group"]: {(row["method"], row["steps"]): row for row in group["methods"]}
        for group in found["walker"]["test-in"]
    }


def test_zoos_are_pooled_and_seen_tasks_are_told_apart(evaluations: dict[str, dict[str, Evaluation]]) -> None:
    rows = groups(across_zoos(evaluations, ZOOS, 50))
    assert set(rows) == {"all", "seen", "new"}
    row = rows["all"]["mapper", 50]
    assert row["gap_closed"]["mean"] == pytest.approx(0.7)
    assert row["gap_closed"]["mean_interval"] == pytest.approx([0.5, 0.9]), "zoos are drawn"
    assert row["by_zoo"] == pytest.approx(LEVELS)
    assert row["ratio_of_sums"] == pytest.approx({"ratio": 0.7, "low": 0.5, "high": 0.9})
    assert (row["tasks"], row["counted_tasks"], row["seeds"]) == (12, 12, [2, 2, 2])
    assert row["harm"]["share"] == 0.0
    assert row["harm"]["high"] == pytest.approx(1 - 0.025 ** (1 / 12))
    seen, new = (rows[group]["mapper", 50]["gap_closed"]["mean"] for group in ("seen", "new"))
    assert (seen, new) == pytest.approx((0.9, 0.6))


def test_methods_stand_against_the_mapper_of_the_same_zoo(evaluations: dict[str, dict[str, Evaluation]]) -> None:
    rows = groups(across_zoos(evaluations, ZOOS, 50))["all"]
    assert rows["mapper", 50]["above_mapper"] is None
    assert rows["lookup", 50]["above_mapper"]["mean"] == pytest.approx(-0.35)
    assert rows["base-policy", None]["above_mapper"]["mean"] == pytest.approx(-0.7), "against 50 transitions"
    assert rows["lookup", 50]["above_mapper"]["mean_interval"] == pytest.approx([-0.45, -0.25])


def test_one_zoo_of_a_family_is_not_several(evaluations: dict[str, dict[str, Evaluation]]) -> None:
    one = {name: found for name, found in evaluations.items() if name == "walker-0"}
    assert across_zoos(one, ZOOS, 50) == {}
    assert across_zoos({"hopper": evaluations["walker-0"]}, {"hopper": {"seed": 0}}, 50) == {}, "of an earlier version"
    unseen = {name: {**entry, "seen": False} for name, entry in ZOOS.items()}
    assert set(groups(across_zoos(evaluations, unseen, 50))) == {"all"}


def test_only_what_all_zoos_have_is_pooled(evaluations: dict[str, dict[str, Evaluation]]) -> None:
    fewer = replace(evaluations["walker-1"]["test-in"], methods=evaluations["walker-1"]["test-in"].methods[:2])
    rows = groups(across_zoos({**evaluations, "walker-1": {"test-in": fewer}}, ZOOS, 50))
    assert set(rows["all"]) == {("mapper", 5), ("mapper", 50)}
    assert ("lookup", 50) in rows["seen"]


def test_tables_show_every_zoo_and_both_kinds_of_tasks(evaluations: dict[str, dict[str, Evaluation]]) -> None:
    text = "\n".join(across_tables(across_zoos(evaluations, ZOOS, 50), 50))
    assert "| 0.90 0.50 0.70 |" in text
    assert "| mapper, steps of D |" in text
    assert "tasks measured before: IQM" in text
    assert "newly drawn tasks: IQM" in text
    assert len({line.count("|") for line in text.split("\n\n")[1].splitlines()}) == 1


# ----------------------------------------------------------------------------------------------------------- a run

SMALL: dict[str, Any] = {
    "families": [tiny.FAMILY],
    "zoos": 2,
    "seen_seeds": [tiny.SEED],
    "methods": ["base-policy", "mean-expert"],
    "lengths": [0, 5],
    "splits": ["test-in"],
    "episodes": 2,
    "reference_episodes": 4,
    "learning": None,
}


@pytest.fixture(scope="module")
def zoos(tiny_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two zoos of one family, whose experts are policies at random. Read only."""
    root = tmp_path_factory.mktemp("zoos")
    for number, seed in enumerate((tiny.SEED, tiny.SEED + 1)):
        zoo = Zoo.create(root / f"{tiny.FAMILY}-{number}", tiny.FAMILY, seed)
        zoo.put_base(tiny_zoo.base)
        experts = tiny_zoo.experts()
        for index, expert in enumerate(experts):
            task = zoo.tasks(expert.task.split, len(experts))[index]
            change = 0.1 * np.random.default_rng(seed).normal(size=expert.phi.shape)
            zoo.put(replace(expert, task=task, phi=(expert.phi + change).astype(np.float32)))
    return root


def run(root: Path, out: Path, **changes: Any) -> list[str]:
    names: list[str] = []
    config = parse(ProtocolConfig, {**SMALL, **changes}, "test")
    with make_executor("local", 1, None) as executor:
        run_protocol(config, root, out, executor, lambda name, done, total: names.append(name))
    return names


def test_a_run_over_two_zoos(zoos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert len(run(zoos, out)) == 2 * 3
    assert run(zoos, out) == []
    summary = publish([out], tmp_path / "published")
    names = [f"{tiny.FAMILY}-0", f"{tiny.FAMILY}-1"]
    assert list(summary["families"]) == names
    first, second = (summary["families"][name]["splits"]["test-in"]["tasks"] for name in names)
    assert not [task for task in first if task in second], "each zoo has test tasks of its own"
    assert [summary["zoos"][name]["seen"] for name in names] == [True, False]
    assert summary["pooled"] == [], "there is one family"
    found = summary["across_zoos"][tiny.FAMILY]["test-in"]
    assert [group["group"] for group in found] == ["all", "seen", "new"]
    assert "## Several zoos" in results_text(summary)
    assert publish([tmp_path / "published"], None)["across_zoos"] == summary["across_zoos"]
    page = filled("<!-- zoos published -->\n<!-- /zoos -->", {}, results=tmp_path)
    assert f"**{tiny.FAMILY}, test-in**: zoos {names[0]}, {names[1]}" in page


def test_zoos_that_are_no_replications_are_refused(zoos: Path, tiny_zoo: Zoo, tmp_path: Path) -> None:
    same = tmp_path / "same"
    for number in range(2):
        zoo = Zoo.create(same / f"{tiny.FAMILY}-{number}", tiny.FAMILY, tiny.SEED)
        zoo.put_base(tiny_zoo.base)
    with pytest.raises(MetaMapError, match="with different seeds"):
        run(same, tmp_path / "run")
    with pytest.raises(MetaMapError, match=f"{tiny.FAMILY}-2 is not a zoo"):
        run(zoos, tmp_path / "run", zoos=3)
    assert not (tmp_path / "run").exists()


def test_a_run_of_an_earlier_version_keeps_its_number_of_episodes(zoos: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "run", zoos / f"{tiny.FAMILY}-0"
    run(one, out, zoos=1, reference_episodes=2)
    for path in (out / "protocol.json", out / tiny.FAMILY / "references.json"):
        document = read_json(path)
        del document["config" if "config" in document else "settings"]["reference_episodes"]
        write_json(path, document)
    assert open_run(out).config.reference_episodes == 2
    assert run(one, out, zoos=1, reference_episodes=2) == []
    with pytest.raises(MetaMapError, match="was run with reference_episodes 2, asked for is 4"):
        run(one, out, zoos=1)


def test_the_config_of_the_repository_is_three_zoos_by_three_mappers() -> None:
    config = load_protocol(SCRIPTS / "protocol" / "zoos.yml")
    assert (config.zoos, config.seeds, config.reference_episodes) == (3, 3, 50)
    assert config.lengths == (0, 1, 5, 10, 20, 50, 100, 200)
