"""The experiment in service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.service import service_check, service_mapper
from helpers.tiny import make_universal, moved
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_envs import MetaMapError
from metamap_rl.evaluation.service.decision import DecisionRule
from metamap_rl.evaluation.service.methods import SERVICE_METHODS
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.results.experiments import make_experiment, run_experiment, summarise_run

TIMES = ("seconds", "latency", "identification", "machine", "versions")
STUDENT = "student={rounds: 2, trials: 2, steps: 20, updates: 2}"
CONTEXT = (
    "context={lengths: [5], episodes: 1, mapper: {updates: 4, survey_tasks: 8, warmup: 1, validation_every: 2, "
    "batch_tasks: 2, actors: probe}}"
)


@pytest.fixture
def mapper(tmp_path: Path) -> Path:
    """A mapper with the universal policy."""
    found = service_mapper()
    found.universal = make_universal(found.base)
    found.save(tmp_path / "mapper")
    return tmp_path / "mapper"


def settings(mapper: Path, *changes: str) -> list[str]:
    return [f"subjects=[{{mapper: {mapper}}}]", "trials=2", "steps=24", "latency_steps=3", STUDENT, *changes]


def run(changes: list[str], out: Path) -> list[str]:
    """Run what is missing; the cells that were."""
    done: list[str] = []
    experiment = make_experiment("in-service", None, changes)
    run_experiment("in-service", experiment, out, make_executor("local", 1), lambda name, *_: done.append(name))
    return done


def documents(out: Path) -> dict[str, Any]:
    """Cells without their times."""
    read = {path.name: json.loads(path.read_text()) for path in sorted(out.glob("*-*.json")) if path.name[0].isdigit()}
    return {name: {key: one[key] for key in one if key not in TIMES} for name, one in read.items()}


def test_all_methods_see_the_same_trials_and_a_run_goes_on(tiny_mapper: Mapper, tiny_zoo: Zoo, tmp_path: Path) -> None:
    own = moved(tiny_mapper)
    own.check, own.universal = service_check(), make_universal(own.base)
    own.save(tmp_path / "own")
    few = "schedules={main: {hazard: 0.1}, a once: {changes: [10], methods: [base policy, oracle, adapter]}}"
    subjects = f"subjects=[{{mapper: {tmp_path / 'own'}, zoo: {tiny_zoo.root}}}]"
    changes = [*settings(tmp_path, few, CONTEXT), subjects]
    out = tmp_path / "out"
    run(changes, out)
    first = documents(out)
    of_main = {one["trials"] for name, one in first.items() if name.startswith("0-main-")}
    assert len(of_main) == 1
    _, document, table = summarise_run(out)
    main = document["families"]["reacher-goal"]["main"]
    assert set(main["methods"]) == set(SERVICE_METHODS)
    assert set(document["families"]["reacher-goal"]["a once"]["methods"]) == {"base policy", "oracle", "adapter"}
    assert document["decision"]["adapts"] is None
    assert sum(line.startswith("| ") for line in table) == len(SERVICE_METHODS) + 1 + 4  # two heads and their rules
    assert run(changes, out) == []
    for name in ("0-main-adapter.json", "0-main-sysid.json", "0-main-another-trial-s-window.json"):
        (out / name).unlink()
    assert len(run(changes, out)) == 3
    assert documents(out) == first


def test_without_a_zoo_there_is_no_context_policy(mapper: Path, tmp_path: Path) -> None:
    methods = "methods=[base policy, oracle, context policy]"
    run(settings(mapper, methods, "schedules={main: {hazard: 0.1}}"), tmp_path / "out")
    assert set(documents(tmp_path / "out")) == {"0-main-base-policy.json", "0-main-oracle.json"}


def test_a_zoo_of_another_base_policy_is_refused(mapper: Path, tiny_zoo: Zoo, tmp_path: Path) -> None:
    subjects = f"subjects=[{{mapper: {mapper}, zoo: {tiny_zoo.root}}}]"
    with pytest.raises(MetaMapError, match="base policy"):
        run([*settings(mapper), subjects], tmp_path / "out")


def test_bad_input_is_refused_in_one_sentence(mapper: Path, tmp_path: Path) -> None:
    def refused(match: str, *changes: str) -> None:
        with pytest.raises(MetaMapError, match=match):
            run([*settings(mapper), *changes], tmp_path / "out")

    refused("adapter", "methods=[base policy, oracle, adaptor]")
    refused("oracle", "methods=[base policy, adapter]")
    refused("validation", "split=validate")
    refused("hazard", "schedules={main: {hazard: 2}}")
    refused("rounds", "student={rouds: 2}")
    refused("oracle", f"subjects=[{{mapper: {mapper}, without: [oracle]}}]")
    refused("adapter", f"subjects=[{{mapper: {mapper}, without: [adaptor]}}]")
    bare = service_mapper()
    bare.save(tmp_path / "bare")
    refused("universal policy", f"subjects=[{{mapper: {tmp_path / 'bare'}}}]", "methods=[base policy, oracle]")
    assert not (tmp_path / "out" / "0-main-oracle.json").exists()


def test_a_subject_does_without_methods(mapper: Path, tmp_path: Path) -> None:
    methods = "methods=[base policy, oracle, student, window of 10]"
    subjects = f"subjects=[{{mapper: {mapper}, without: [student]}}]"
    done = run([*settings(mapper, methods, "schedules={main: {hazard: 0.1}}"), subjects], tmp_path / "out")
    assert sorted(done) == ["0, main, base policy", "0, main, oracle", "0, main, window of 10"]


def test_documents_of_other_trials_are_not_compared(mapper: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(settings(mapper, "methods=[base policy, oracle]", "schedules={main: {hazard: 0.1}}"), out)
    path = out / "0-main-oracle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trials": "others"}))
    with pytest.raises(MetaMapError, match="trials"):
        summarise_run(out)


def test_the_committed_experiment_has_the_families_of_the_rule() -> None:
    config = Path(__file__).parents[2] / "scripts" / "experiments" / "in-service.yml"
    experiment = make_experiment("in-service", config)
    families = [Path(subject.mapper).name.rpartition("-")[0] for subject in experiment.subjects]  # type: ignore[attr-defined]
    rule = DecisionRule()
    assert {name: families.count(name) for name in families} == dict.fromkeys((*rule.families, rule.unmodelled), 3)
