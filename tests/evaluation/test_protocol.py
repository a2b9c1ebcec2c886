"""The protocol in one command: what a run holds, that a stopped one goes on, and that methods get what they may."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_agents.runtime.storage import read_json, write_json
from metamap_envs import MetaMapError
from metamap_envs.settings import parse
from metamap_rl.cli import main
from metamap_rl.evaluation.evaluate import evaluate_mappers
from metamap_rl.evaluation.protocol import METHODS, ProtocolConfig, load_protocol, open_run, run_protocol
from metamap_rl.evaluation.protocol.learning import Lesson, lessons, steps_to, take
from metamap_rl.evaluation.protocol.methods.maml import MAML
from metamap_rl.evaluation.protocol.problem import Problem
from metamap_rl.evaluation.protocol.report import learning_summary, pooled, summarise_again, summarise_runs
from metamap_rl.evaluation.protocol.results import write_results
from metamap_rl.evaluation.protocol_tables import headline_table, learning_table
from metamap_rl.evaluation.score_text import method_text
from metamap_rl.mapper.mapper import Mapper

SCRIPTS = Path(__file__).parents[2] / "scripts"
CONFIGS = sorted((SCRIPTS / "protocol").glob("*.yml"))
SMALL: dict[str, Any] = {
    "families": [tiny.FAMILY],
    "seeds": 2,
    "lengths": [0, 5, 20],
    "episodes": 2,
    "reference_episodes": 4,
    "mapper": {"updates": 12, "survey_tasks": 8, "context_size": 8, "hidden": 16, "actors": "probe"},
    "settings": {
        "maml": {"iterations": 2, "advantages": ["learned"]},
        "reptile": {"iterations": 2, "learning_rates": [1e-3]},
        "fine-tuning": {"learning_rates": [1e-3]},
        "rl2": {"n_timesteps": 80, "n_envs": 4, "n_steps": 20, "batch_size": 40, "n_epochs": 1, "lstm_hidden_size": 8},
        "context-policy": {"learning_rates": [1e-3]},
        "wide-context-policy": {"hidden": [16], "learning_rates": [1e-3]},
        "likeliest-expert": {"ridges": [1e-2]},
        "sysid": {"screened": 4, "starts": 1, "evaluations": 3},
        "student": {"rounds": 2, "updates": 2, "episodes": 1},
        "wide-student": {"rounds": 1, "updates": 2, "episodes": 1},
    },
    "learning": {
        "tasks": 1,
        "steps": 400,
        "length": 20,
        "settings": {"recipe": {"n_envs": 4, "n_steps": 50, "batch_size": 100, "n_epochs": 1}},
    },
}


def config(**changes: Any) -> ProtocolConfig:
    return parse(ProtocolConfig, {**SMALL, **changes}, "test")


def run(zoo: Zoo, out: Path, found: ProtocolConfig) -> list[str]:
    """Run it; gives the names of the cells that were new."""
    names: list[str] = []
    with make_executor("local", 1, None) as executor:
        run_protocol(found, zoo.root, out, executor, lambda name, done, total: names.append(name))
    return names


@pytest.fixture(scope="module")
def zoo(tiny_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The tiny zoo with experts that a mapper learns something about in a few updates. Read only."""
    made = Zoo.create(tmp_path_factory.mktemp("protocol") / "zoo", tiny.FAMILY, tiny.SEED)
    made.put_base(tiny_zoo.base)
    made.put_universal(tiny.make_universal(tiny_zoo.base))
    common, apart = np.random.default_rng(0).normal(size=(2, tiny_zoo.base.phi.size))
    for expert in tiny_zoo.experts():
        change = 0.02 * common + 0.06 * np.cos(expert.task["goal_angle"]) * apart
        made.put(replace(expert, phi=(tiny_zoo.base.phi + change).astype(np.float32)))
    return made


@pytest.fixture(scope="module")
def finished(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all methods. Read only."""
    out = tmp_path_factory.mktemp("protocol") / "run"
    run(zoo, out, config())
    return out


def test_every_method_is_measured_where_it_should_be(finished: Path) -> None:
    (family,) = open_run(finished).families()
    assert set(family.methods) == set(config().methods)
    evaluation = family.evaluation("test-in")
    tasks = len(evaluation.tasks)
    for name in config().methods:
        kind = METHODS.get(name)
        found = {scores.steps: scores.returns for scores in evaluation.methods if scores.method == name}
        assert found, name
        assert set(found) == {None} or {5, 20} <= set(found) <= {0, 5, 20}, name
        for returns in found.values():
            assert returns.shape == (2 if kind.seeded else 1, tasks)
            assert np.isfinite(returns).all()
        assert all(cell["training_steps"] > 0 for cell in family.methods[name]), name
        assert kind.summary
        assert kind.signal


def test_the_mapper_is_that_of_its_seed_and_without_d_it_is_phi_0(finished: Path, zoo: Zoo) -> None:
    (family,) = open_run(finished).families()
    evaluation = family.evaluation("test-in")
    found = {(scores.method, scores.steps): scores.returns for scores in evaluation.methods}
    mapped = found["mapper", 20]
    assert evaluation.references is not None
    assert evaluation.references.base.shape == (len(evaluation.tasks), 4)
    base = evaluation.references.base[:, :2].mean(axis=1)
    np.testing.assert_allclose(found["mapper", 0], np.tile(base, (2, 1)), rtol=1e-6, err_msg="the first reset seeds")
    assert not np.array_equal(mapped[0], mapped[1]), "another seed is another mapper"
    assert not np.array_equal(mapped[0], evaluation.base)
    assert not np.array_equal(mapped, found["shuffled", 20]), "another D is another policy"
    mapper = Mapper.load(finished / tiny.FAMILY / "mappers" / "seed-1")
    assert mapper.record["config"]["seed"] == 1
    references = evaluate_mappers(
        [mapper], zoo.experts("test-in"), lengths=[0], episodes=2, reference_episodes=4, controls=False
    )
    np.testing.assert_allclose(evaluation.expert, references.expert, err_msg="the same reset seeds")
    np.testing.assert_allclose(evaluation.random, references.random)


def test_with_perfect_estimates_the_estimate_is_the_oracle(
    zoo: Zoo, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(zoo, config(lengths=[20], splits=["test-in"]), finished / tiny.FAMILY / "mappers")
    (oracle, *_) = METHODS.get("universal-policy")().measure(problem, 0).scores
    phis = np.stack([zoo.universal.expert_for(task) for task in problem.tasks("test-in")])
    np.testing.assert_array_equal(oracle.returns, problem.returns("test-in", phis))
    monkeypatch.setattr(Mapper, "read_parameters", lambda self, rollout: dict(rollout.task.parameters))
    for name in ("estimate", "sysid"):
        (found,) = METHODS.get(name)().measure(problem, 0).scores
        np.testing.assert_allclose(found.returns, oracle.returns, rtol=1e-3, err_msg=name)


def test_what_a_method_found_is_recorded(finished: Path) -> None:
    (family,) = open_run(finished).families()
    records = {name: cells[0]["record"] for name, cells in family.methods.items()}
    assert records["context-policy"].keys() == {"chosen_update", "start", "learning_rate"}
    assert records["sysid"]["test-in"]["20"].keys() == {"seconds", "simulated_steps", "unidentified"}
    assert records["likeliest-expert"]["features"] in ("linear", "quadratic")
    weights = [records[name]["weights"] for name in ("student", "wide-student")]
    assert 3.5 < weights[1] / weights[0] < 4.5


def test_without_a_universal_policy_its_methods_are_left_out_and_refused_by_name(tiny_zoo: Zoo, tmp_path: Path) -> None:
    assert not tiny_zoo.has_universal
    assert METHODS.get("sysid").lacking(tiny_zoo.family, has_universal=False) is not None
    assert METHODS.get("sysid").lacking(tiny_zoo.family, has_universal=True) is None
    with pytest.raises(MetaMapError, match="method estimate needs a universal policy"):
        run(tiny_zoo, tmp_path / "run", config(methods=["base-policy", "estimate"]))
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_goes_on_and_gives_the_same(finished: Path, zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    assert run(zoo, out, config()) == [], "finished cells are never run again"
    lost = out / tiny.FAMILY / "methods" / "maml+seed=1.json"
    before = read_json(lost)
    lost.unlink()
    assert run(zoo, out, config()) == [f"{tiny.FAMILY}, maml, seed 1"]
    again = read_json(lost)
    assert again["scores"] == before["scores"]
    assert run(zoo, out, config(seeds=3, methods=["mapper"])) == [
        f"{tiny.FAMILY}, mapper, seed 2",
        f"{tiny.FAMILY}, mapper, seed 2",
    ], "the mapper itself, then its measurement"
    (family,) = open_run(out).families()
    assert len(family.methods["mapper"]) == 3
    assert len(family.methods["maml"]) == 2, "what was there stays in the results"


def test_a_run_of_an_earlier_version_goes_on(finished: Path, zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for path in (out / tiny.FAMILY / "methods").glob("*.json"):
        cell = read_json(path)
        flat = {**SMALL["mapper"], "loss": "both", "encoder": "pooling", "hypernetwork": "modulation"}
        del flat["actors"]
        name = cell["name"].replace("privileged-mapper", "oracle")
        older = {**cell, "name": name, "settings": {**cell["settings"], "mapper": {**flat, "bottleneck": False}}}
        path.unlink()
        write_json(path.with_name(path.name.replace("privileged-mapper", "oracle")), older)
    manifest = read_json(out / "protocol.json")
    methods = [name.replace("privileged-mapper", "oracle") for name in manifest["config"]["methods"]]
    write_json(out / "protocol.json", {**manifest, "config": {**manifest["config"], "methods": methods}})
    assert run(zoo, out, config()) == []
    assert run(zoo, out, config(methods=["oracle"])) == []
    (family,) = open_run(out).families()
    assert family.methods.keys() == open_run(finished).families()[0].methods.keys() >= {"privileged-mapper"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 3}, "was run with episodes 2, asked for is 3"),
        ({"mapper": {"updates": 13}}, "was run with mapper"),
        ({"settings": {**SMALL["settings"], "maml": {"iterations": 5}}}, r"maml\+seed=0.json was run with method"),
        ({"learning": {**SMALL["learning"], "steps": 123}}, r"learning/.* was run with steps"),
    ],
)
def test_other_settings_are_refused(
    finished: Path, zoo: Zoo, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before = read_json(out / "protocol.json")
    with pytest.raises(MetaMapError, match=message):
        run(zoo, out, config(**changes))
    assert read_json(out / "protocol.json") == before, "what is refused changes nothing"


def test_another_zoo_or_a_foreign_folder_is_refused(finished: Path, zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    manifest = read_json(out / "protocol.json")
    manifest["zoos"][tiny.FAMILY]["fingerprint"] = "another"
    write_json(out / "protocol.json", manifest)
    with pytest.raises(MetaMapError, match="another zoo of 'reacher-goal'"):
        run(zoo, out, config())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("")
    with pytest.raises(MetaMapError, match="is no run of the protocol"):
        run(zoo, tmp_path / "mine", config())
    with pytest.raises(MetaMapError, match="is not a zoo"):
        run(zoo, tmp_path / "new", config(families=["cheetah-velocity", tiny.FAMILY]))
    with pytest.raises(MetaMapError, match=r"has no protocol\.json"):
        open_run(tmp_path / "mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["mamml"]}, "unknown method 'mamml': did you mean 'maml'"),
        ({"families": ["reacher-gaol"]}, "did you mean 'reacher-goal'"),
        ({"settings": {"maml": {"iteration": 3}}}, "unknown key 'iteration': did you mean 'iterations'"),
        ({"splits": ["train"]}, "expected test-in or test-out, got 'train'"),
        ({"lengths": [500]}, "lengths"),
        ({"learning": {"starts": ["phi_0"]}}, "starts: expected some of"),
        ({"learning": {"length": 49}}, "learning: length: expected one of the lengths of D"),
        ({"learning": {"length": 20, "settings": {}}}, "learning: settings: expected at least one"),
        ({"learning": {"length": 20, "settings": {"a": {"lerning_rate": 1}}}}, "learning_rate"),
        ({"seeds_of": {"rl": 1}}, "unknown method 'rl': did you mean 'rl2'"),
        ({"sedes": 3}, "did you mean 'seeds'"),
        ({"families": []}, "at least one family"),
    ],
)
def test_a_slip_in_a_config_is_reported(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({**SMALL, **change}))
    with pytest.raises(MetaMapError, match=message):
        load_protocol(path)


def test_methods_may_have_fewer_seeds() -> None:
    found = config(seeds=3, first_seed=7, seeds_of={"rl2": 2, "maml": 9})
    assert list(found.seeds_for("mapper")) == [7, 8, 9]
    assert list(found.seeds_for("rl2")) == [7, 8]
    assert list(found.seeds_for("maml")) == [7, 8, 9]
    assert list(found.seeds_for("base-policy")) == [7]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_committed_configs_are_sound(path: Path) -> None:
    assert load_protocol(path).families


# --------------------------------------------------------------------------------------- what methods are given


def given(zoo: Zoo, folder: Path, **changes: Any) -> Problem:
    return Problem(zoo, config(**changes), folder / tiny.FAMILY / "mappers")


def test_each_seed_has_its_own_d_whatever_else_is_measured(finished: Path, zoo: Zoo) -> None:
    first, second = (given(zoo, finished, lengths=lengths) for lengths in ([5], [20]))
    short, long = (one.rollouts("test-in", 1).rewards for one in (first, second))
    np.testing.assert_array_equal(short, long[..., :5])
    assert not np.array_equal(second.rollouts("test-in", 0).rewards, long)


def test_maml_adapts_to_the_d_it_is_given(finished: Path, zoo: Zoo) -> None:
    measured = MAML(iterations=1, advantages=("returns",), inner_rate=3.0).measure(given(zoo, finished), 0)
    returns = {score.steps: score.returns for score in measured.scores if score.split == "test-in"}
    assert not np.array_equal(returns[0], returns[5])
    assert not np.array_equal(returns[5], returns[20])


def test_what_is_learned_from_experts_counts_their_steps(finished: Path, zoo: Zoo) -> None:
    (family,) = open_run(finished).families()
    steps = {name: cells[0]["training_steps"] for name, cells in family.methods.items()}
    experts = zoo.experts("train") + zoo.experts("validation")
    before = zoo.base.record["steps"] + zoo.universal.record["steps"]
    learned = before + sum(expert.record["steps"] for expert in experts)
    assert steps["base-policy"] == steps["fine-tuning"] == zoo.base.record["steps"]
    assert steps["mean-expert"] == steps["privileged-mapper"] == learned
    pairs = (3 + 2) * (8 * 200 + 10 * 50)
    assert steps["maml"] == steps["reptile"] == learned + pairs
    assert steps["mapper"] == steps["context-policy"] == learned + pairs + 8 * 2 * 200
    assert steps["rl2"] == 80


# --------------------------------------------------------------------------------------- adaptation against learning


def test_lessons_are_all_starts_on_the_first_counted_tasks() -> None:
    learning = config().learning
    assert learning is not None
    two = learning.model_copy(update={"tasks": 2, "settings": {"recipe": {}, "quick": {"n_epochs": 2}}})
    found = lessons(two, [1, 4, 7])
    assert {lesson.task for lesson in found} == {1, 4}
    assert len({lesson.name for lesson in found}) == len(found) == 2 * (2 + 2 + 1), "from scratch once"


def test_ppo_starts_where_it_says_and_is_measured_to_its_end(finished: Path, zoo: Zoo) -> None:
    learning, here = config().learning, given(zoo, finished)
    assert learning is not None
    documents = {start: take(Lesson(1, start, "recipe"), learning, here, 0) for start in learning.starts}
    (family,) = open_run(finished).families()
    evaluation = family.evaluation("test-in")
    mapped = next(one.returns[0] for one in evaluation.methods if (one.method, one.steps) == ("mapper", 20))
    assert evaluation.paired_base is not None
    assert documents["phi-0"]["points"][0] == (0, pytest.approx(evaluation.paired_base[1]))
    assert documents["phi-hat"]["points"][0] == (0, pytest.approx(mapped[1]))
    assert documents["scratch"]["points"][0][1] not in (evaluation.base[1], mapped[1])
    assert [documents[start]["before"] for start in learning.starts] == [0, 0, 20]
    for document in documents.values():
        assert [steps for steps, _ in document["points"]] == [0, 200, 400]


def lesson_document(start: str, task: str, values: list[float], before: int = 0) -> dict[str, Any]:
    points = [[200 * index, value] for index, value in enumerate(values)]
    settings = {"lesson": {"task": 0, "start": start, "setting": "recipe"}}
    return {"task": task, "points": points, "before": before, "settings": settings}


def test_steps_to_a_level_are_those_of_the_first_time() -> None:
    document = lesson_document("phi-0", "t", [-5, -2, -3, -1])
    assert steps_to(document, -2) == 200
    assert steps_to(document, -1.5) == 600
    assert steps_to(document, 0) is None


def test_ratios_are_lower_bounds_where_ppo_did_not_get_there(finished: Path) -> None:
    learning = config().learning
    assert learning is not None
    (family,) = open_run(finished).families()
    evaluation = family.evaluation("test-in")
    level = next(one.returns for one in evaluation.methods if (one.method, one.steps) == ("mapper", 20)).mean(axis=0)
    ids = [task.id for task in evaluation.tasks]
    family.learning[:] = [
        lesson_document("phi-0", ids[0], [level[0] - 3, level[0] - 1, level[0] + 1]),
        lesson_document("phi-0", ids[1], [level[1] - 3, level[1] - 1, level[1] - 1]),
        lesson_document("phi-0", ids[2], [level[2] + 1, level[2] + 1, level[2] + 1]),
    ]
    found = learning_summary(family, learning)
    assert found["ratios"]["phi-0, recipe"]["ratios"] == [400 / 20, 400 / 20, 0.0]
    assert found["ratios"]["phi-0, recipe"]["reached"] == 2
    assert found["ratios"]["phi-0, recipe"]["median"] == 20
    assert found["compared"] == "phi-0, recipe"
    ratio = found["ratios"]["phi-0, recipe"]
    assert (ratio["low"], ratio["more_than"]) == (0.0, 20.0), "one of three is censored: the median is known"
    assert "20 [0, more than 20], reached in 2 of 3 runs (one seed)" in "".join(
        learning_table({"tiny": {"learning": found}})
    )


def test_runs_that_never_got_there_have_no_interval_and_meet_nothing(finished: Path) -> None:
    learning = config().learning
    assert learning is not None
    (family,) = open_run(finished).families()
    evaluation = family.evaluation("test-in")
    ids = [task.id for task in evaluation.tasks]
    family.learning[:] = [lesson_document("phi-0", name, [-1e9] * 3) for name in ids[:3]]
    found = learning_summary(family, learning)
    assert found["ratios"]["phi-0, recipe"]["low"] is None
    entry = {"splits": {"test-in": evaluation.summary()}, "learning": found}
    for row in entry["splits"]["test-in"]["methods"]:
        row["better_than_mapper"] = None
    for text in (learning_table({"tiny": entry})[-1], headline_table({"tiny": entry}, 20)[-1]):
        assert "more than 20 in 3 of 3 runs (one seed); censored |" in text
        assert "met" not in text


def test_a_run_whose_cells_keep_means_is_read(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    references = out / tiny.FAMILY / "references.json"
    document = read_json(references)
    for split in document["splits"].values():
        split |= {name: np.mean(split[name], axis=1).tolist() for name in ("random", "base", "expert")}
    write_json(references, document)
    for path in (out / tiny.FAMILY / "methods").glob("mapper*.json"):
        cell = read_json(path)
        for score in cell["scores"]:
            score["returns"] = np.mean(score["returns"], axis=1).tolist()
        write_json(path, cell)
    (now,), (then,) = open_run(finished).families(), open_run(out).families()
    new, old = now.evaluation("test-in"), then.evaluation("test-in")
    assert (new.counted_by, old.counted_by) == ("paired test", "old rule")
    np.testing.assert_allclose(old.expert, new.expert)
    for ours, theirs in zip(new.methods, old.methods, strict=True):
        np.testing.assert_allclose(theirs.returns, ours.returns)
        assert (theirs.episodes is None) == (theirs.method == "mapper")


# --------------------------------------------------------------------------------------------------------- results


def test_results_are_written_and_hold_what_the_cells_say(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    summary, text = write_results(open_run(out))
    assert json.loads((out / "results.json").read_text())["families"][tiny.FAMILY]
    assert (out / "results.md").read_text() == text
    assert (out / "figures" / f"{tiny.FAMILY}.png").stat().st_size > 10_000
    assert (out / "figures" / f"{tiny.FAMILY}.svg").stat().st_size > 10_000
    entry = summary["families"][tiny.FAMILY]
    rows = {(row["method"], row["steps"]): row for row in entry["splits"]["test-in"]["methods"]}
    ours, theirs = (np.array(rows[name, 20]["returns"]) for name in ("mapper", "rl2"))
    wins = np.mean([np.mean((mine > ours) + 0.5 * (mine == ours)) for mine in theirs])
    assert rows["rl2", 20]["better_than_mapper"]["probability"] == pytest.approx(wins)
    assert rows["mapper", 20]["better_than_mapper"] is None
    for name in config().methods:
        assert f"| {method_text(name)} | " in text
    assert summarise_again(summary["families"], summary)["families"] == summary["families"], "nothing is run again"
    earlier = {name: {**entry, "training_steps": {"oracle": 5}} for name, entry in summary["families"].items()}
    found = summarise_again(earlier, summary)["families"]
    assert all(entry["training_steps"] == {"privileged-mapper": 5} for entry in found.values())
    assert summary["pooled"] == [], "there is one family"


def test_families_are_pooled_task_by_task(finished: Path) -> None:
    (family,) = open_run(finished).families()
    evaluation = family.evaluation("test-in")
    rows = {row["method"]: row for row in pooled([evaluation, evaluation], 20)}
    assert rows["mapper"]["tasks"] == 2 * int(evaluation.ranked.sum())
    assert rows["mapper"]["seeds"] == 2
    assert rows["base-policy"]["seeds"] == 1
    assert len(rows["mapper"]["profile"]["share"]) == len(rows["mapper"]["profile"]["low"])


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"episodes": 7}, "episodes"), ({"settings": {**SMALL["settings"], "maml": {"inner_rate": 0.5}}}, "maml")],
)
def test_runs_of_other_settings_are_not_pooled(finished: Path, changes: dict[str, Any], what: str) -> None:
    one = open_run(finished)
    other = replace(one, config=one.config.model_copy(update=changes))
    with pytest.raises(MetaMapError, match=f"were run with different .*{what}"):
        summarise_runs([one, other])


def test_the_command_from_config_to_tables(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({**SMALL, "methods": ["maml"], "learning": None}))
    where = ["--zoo", str(zoo.root), "--out", str(tmp_path / "run"), "--workers", "1"]
    command = ["evaluate", str(path), *where, "--methods", "base-policy", "mapper", "--seeds", "1"]
    assert main(command) == 0
    assert "| mapper | 1 |" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["families"][tiny.FAMILY]["training_steps"]) == {"base-policy", "mapper"}
    assert main(["evaluate", *where]) == 2
    assert "--families" in capsys.readouterr().err
    assert main(["evaluate", "--families", "reacher-goal", "--methods", "mapper", *where]) == 2
    assert "go on with the same, or choose another directory" in capsys.readouterr().err


def test_a_page_is_made_from_runs(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = tmp_path / "docs" / "results" / "protocol", tmp_path / "docs" / "page.md"
    assert main(["results", "table", str(finished), "--out", str(folder)]) == 0
    document = read_json(folder / f"{tiny.FAMILY}.json")
    assert document["splits"]["test-in"]["methods"]
    assert main(["results", "table", str(folder)]) == 0, "and anew from the documents"
    capsys.readouterr()
    page.write_text("<!-- protocol --><!-- /protocol -->\n<!-- report protocol --><!-- /report -->\n")
    assert main(["results", "render", "--into", str(page), "--results", str(folder.parent)]) == 0
    text = page.read_text()
    assert "## In short" in text
    for found in re.findall(r"\]\(([^)]+\.png)\)", text):
        assert (page.parent / found).stat().st_size > 10_000
    assert main(["results", "render", "--check", str(page), "--results", str(folder.parent)]) == 0
    assert main(["results", "table", str(finished), str(finished)]) == 2
    assert "'reacher-goal' is in" in capsys.readouterr().err
