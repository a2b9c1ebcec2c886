"""Experiments: resumable, each on little."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.tiny import FAMILY
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.storage import read_json
from metamap_envs.errors import MetaMapError
from metamap_rl.cli import main
from metamap_rl.common.cells import Cell, check_settings, document_of, run_cells
from metamap_rl.evaluation.baselines import MAMLConfig, ReptileConfig
from metamap_rl.functions.benchmarks import BENCHMARKS
from metamap_rl.functions.measuring import compare_targets
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.results.alterations import ALTERATIONS
from metamap_rl.results.experiments import EXPERIMENTS, make_experiment, run_experiment, summarise_run
from metamap_rl.results.experiments.sources import Sources
from metamap_rl.results.sources_tables import sources_table
from metamap_rl.results.tables import selfcheck_table
from metamap_rl.training.config import TrainConfig


class InProcess:
    """An executor of this process."""

    def run(self, function: Callable[..., Any], jobs: Any, *, share: Any = ()) -> Iterator[tuple[int, Any]]:
        for index, job in enumerate(jobs):
            yield index, function(*share, *job)


@dataclass(frozen=True)
class Counting:
    """Two batches; the second needs the first."""

    step: int = 1
    bad: tuple[str, ...] = ()
    ran: list[str] = field(default_factory=list)

    def batches(self, out: Path) -> Iterator[list[Cell]]:
        first = [Cell(name, out / f"{name}.json", {"step": self.step, "sizes": (1, 2)}) for name in "abc"]
        yield first
        if all(cell.path.exists() for cell in first):
            yield [Cell("sum", out / "sum.json", {"step": self.step}, tuple(str(cell.path) for cell in first))]

    def is_done(self, cell: Cell) -> bool:
        return check_settings(cell)

    def run(self, cell: Cell) -> dict[str, Any]:
        self.ran.append(cell.name)
        if cell.name in self.bad:
            raise MetaMapError("no such thing")
        return document_of(cell, {"value": sum(read_json(path)["value"] for path in cell.job) or ord(cell.name[0])})


def test_a_stopped_run_goes_on_and_a_bad_cell_does_not_stop_the_others(tmp_path: Path) -> None:
    bad, told = Counting(bad=("b",)), []
    with pytest.raises(MetaMapError, match="1 of 3 cells failed, such as b: no such thing"):
        run_cells(bad, tmp_path, InProcess())
    assert bad.ran == ["a", "b", "c"]
    good = Counting()
    run_cells(good, tmp_path, InProcess(), lambda *news: told.append(news))
    assert good.ran == ["b", "sum"]
    assert told == [("b", 3, 3), ("sum", 4, 4)]
    assert read_json(tmp_path / "sum.json")["value"] == sum(map(ord, "abc"))


def test_other_settings_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    run_cells(Counting(), tmp_path, InProcess())
    (tmp_path / "a.json").unlink()
    other = Counting(step=2)
    with pytest.raises(MetaMapError, match=r"b\.json was run with step 1, asked for is 2"):
        run_cells(other, tmp_path, InProcess())
    assert not other.ran
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(MetaMapError, match=r"b\.json: expected the document of a cell"):
        run_cells(Counting(), tmp_path, InProcess())


def test_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "list", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(EXPERIMENTS.names())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["functoins"], "did you mean 'functions'"),
        (["functions", "--set", "sedes=3"], "did you mean 'seeds'"),
        (["functions", "--set", "seeds"], "--set: expected KEY=VALUE"),
        (["functions", "--set", "families=[sinusiod]"], "did you mean 'sinusoid'"),
        (["ablation", "--set", "family=reacher-goal"], "zoo: is missing"),
    ],
)
def test_slips_are_reported(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "run", *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_ablation_from_the_command_line(tiny_zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"family": FAMILY, "seeds": 1, "updates": 4, "lengths": [5], "episodes": 2}
    settings |= {"baseline": {"survey_tasks": 0, "context_size": 8, "hidden": 16}, "vary": {"loss": ["weights"]}}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(settings))
    words = [
        str(tmp_path / "config.yml"),
        "--set",
        f"zoo={tiny_zoo.root}",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(["results", "run", "ablation", *words]) == 0
    table = capsys.readouterr().out
    assert "| loss=weights | 1 |" in table
    assert main(["results", "table", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == table
    assert len(read_json(tmp_path / "run" / "ablation.json")["rows"]) == 2
    assert main(["results", "run", "functions", "--out", str(tmp_path / "run")]) == 2
    assert "is a run of 'ablation', not of 'functions'" in capsys.readouterr().err


def test_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maml = MAMLConfig(iterations=1, tasks=2)
    small = replace(
        BENCHMARKS["sinusoid"](),
        points=(5,),
        queries=4,
        tasks=3,
        mapper=TrainConfig(
            loss="behaviour", updates=2, batch_tasks=2, states_per_task=2, lengths=(5,), validation_lengths=(5,)
        ),
        shape=MapperConfig(hypernetwork="residual", context_size=4, encoder_hidden=4, hypernetwork_hidden=4),
        maml={"MAML": {5: maml}, "MAML trained with 5 inner steps": {5: maml}},
        reptile=ReptileConfig(iterations=1),
        steps=(1,),
        reptile_steps=(1,),
    )
    monkeypatch.setitem(BENCHMARKS, "sinusoid", lambda: small)
    monkeypatch.setattr(
        "metamap_rl.results.experiments.functions.compare_targets",
        lambda benchmark: compare_targets(benchmark, tasks=2, updates=1),
    )
    experiment = make_experiment("functions", changes=["families=[sinusoid]", "seeds=2", "baseline_seeds=1"])
    run_experiment("functions", experiment, tmp_path, InProcess())
    _, document, lines = summarise_run(tmp_path)
    methods = {row["method"]: row["seeds"] for row in document["families"]["sinusoid"]["rows"]}
    assert methods == {
        "mapper": 2,
        "Reptile": 1,
        "MAML": 1,
        "MAML trained with 5 inner steps": 1,
        "mean of all tasks, without D": 1,
    }
    assert any(line.startswith("| mapper | 2 |") for line in lines)
    assert set(document["families"]["sinusoid"]["compared_targets"]) == {"fit_error", "fit_seconds", "validation_error"}
    (tmp_path / "sinusoid-mapper-1.json").unlink()
    told: list[str] = []
    run_experiment("functions", experiment, tmp_path, InProcess(), lambda name, done, total: told.append(name))
    assert told == ["sinusoid-mapper-1"], "from its checkpoint"
    assert summarise_run(tmp_path)[1]["families"]["sinusoid"]["rows"][0]["mean"] == pytest.approx(
        document["families"]["sinusoid"]["rows"][0]["mean"]
    )


def test_predictability(tiny_zoo: Zoo, tmp_path: Path) -> None:
    changes = [f"zoos=[{tiny_zoo.root}]", "updates=2", "seeds=1", "episodes=2", "hypernetwork=residual"]
    run_experiment("predictability", make_experiment("predictability", changes=changes), tmp_path, InProcess())
    _, document, lines = summarise_run(tmp_path)
    assert list(document["families"]) == [FAMILY]
    assert lines[-1].startswith(f"| {FAMILY} | ")


def test_sources(tiny_zoo: Zoo, tmp_path: Path) -> None:
    recipes = "{probe: {actors: probe, survey_tasks: 4}, mixture: {survey_tasks: 4}}"
    changes = [
        f"zoo={tiny_zoo.root}",
        f"recipes={recipes}",
        "updates=2",
        "episodes=2",
        "lengths=[5]",
        "d_from=[probe, service]",
    ]
    experiment = make_experiment("sources", changes=[*changes, "seeds=2"])
    run_experiment("sources", experiment, tmp_path, InProcess())
    _, document, lines = summarise_run(tmp_path)
    assert set(document["recipes"]) == {"probe", "mixture"}
    assert [line.split(" | ")[:3] for line in lines[2:6]] == [
        [f"| {origin}", recipe, "mapper"] for origin in ("probe", "service") for recipe in ("mixture", "probe")
    ]
    assert set(document["differences"]) == {"probe", "mixture"}
    (entry,) = document["recipes"]["mixture"]["service"]["methods"]
    assert len(entry["returns"]) == 2, "one row for each seed"
    again: list[str] = []
    run_experiment("sources", experiment, tmp_path, InProcess(), lambda name, done, total: again.append(name))
    assert not again


def test_differences_of_sources_are_paired_and_of_tasks_with_a_gap() -> None:
    def evaluation(returns: list[list[float]]) -> dict[str, Any]:
        method = {"method": "mapper", "steps": 5, "returns": returns}
        means = {"base_returns": [0.0, 0.0, 0.0], "expert_returns": [10.0, 20.0, 1.0]}
        return {"methods": [method], "counted": [True, True, False], **means}

    old = {"probe": evaluation([[5, 10, 9]]), "service": evaluation([[1, 2, 9]])}
    new = {"probe": evaluation([[9, 18, -9]]), "service": evaluation([[8, 18, -9]])}
    experiment = make_experiment("sources", changes=["zoo=zoo", "lengths=[5]", "d_from=[probe, service]"])
    assert isinstance(experiment, Sources)
    found = experiment.differences({"old": old, "new": new})
    assert found["new"]["service"]["5"]["minus trained on old"]["mean"] == pytest.approx((0.7 + 0.8) / 2)
    lost = found["new"]["service"]["5"]["minus D of probe"]
    assert (lost["low"], lost["mean"], lost["high"]) == pytest.approx((-0.1, -0.05, 0.0))
    assert found["old"]["probe"]["5"]["minus trained on old"]["high"] == 0.0
    text = sources_table({"settings": {"lengths": [5], "d_from": []}, "recipes": {}, "differences": found})
    assert [line.split(" | ")[0] for line in text if "minus" in line] == [
        "| service, old, minus D of probe",
        "| probe, new, minus trained on old",
        "| service, new, minus D of probe",
        "| service, new, minus trained on old",
    ]


def test_alarms(tmp_path: Path) -> None:
    changes = ["mappers=[reacher-goal]", "tasks=2", "lengths=[5, 20]"]
    run_experiment("alarms", make_experiment("alarms", changes=changes), tmp_path, InProcess())
    _, document, lines = summarise_run(tmp_path)
    assert set(document["foreign"]["reacher-goal"]) == set(ALTERATIONS)
    assert document["settings"] == {"tasks": 2, "lengths": [5, 20], "d_from": "probe"}
    assert len(lines) == 2 + len(ALTERATIONS)
    with pytest.raises(MetaMapError, match=r"reacher-goal\.json was run with tasks 2, asked for is 3"):
        run_experiment("alarms", make_experiment("alarms", changes=[*changes, "tasks=3"]), tmp_path, InProcess())


def test_selfcheck(tmp_path: Path) -> None:
    small = ["lengths=[20]", "tasks=2", "alarm_tasks=2", "rollouts=1", "episodes=2"]
    changes = ["mapper=reacher-goal", "case=[test-in, noise]", "before=reacher-goal", *small]
    run_experiment("selfcheck", make_experiment("selfcheck", changes=changes), tmp_path, InProcess())
    _, document, lines = summarise_run(tmp_path)
    (usual,), (noisy,) = document["cases"]["test-in"], document["cases"]["noise"]
    assert list(document["counted_as_foreign"]) == ["test-in"]
    assert usual["harm"]["before"] == usual["harm"]["served"]
    assert (noisy["foreign"], noisy["fallback"], noisy["mean_gain"], noisy["harm"]["served"]) == (1.0, 1.0, 0.0, None)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| test-in", "| noise"]
    assert selfcheck_table(document)[2].startswith("| reacher-goal | 20 | ")
    with pytest.raises(MetaMapError, match="did you mean 'test-in'"):
        make_experiment("selfcheck", changes=["mapper=reacher-goal", "case=[test-inn]"])


def test_reading(tiny_zoo: Zoo, tiny_mapper: Mapper, tmp_path: Path) -> None:
    tiny_mapper.save(tmp_path / "mapper")
    changes = [
        f"zoo={tiny_zoo.root}",
        f"mappers={{tiny: {tmp_path / 'mapper'}}}",
        "d_from=[probe, service]",
        "lengths=[1, 5]",
        "noise=[0.0, 0.2]",
        "tasks=4",
        "survey_tasks=12",
        "identified=1",
    ]
    run_experiment("reading", make_experiment("reading", changes=changes), tmp_path / "run", InProcess())
    _, document, lines = summarise_run(tmp_path / "run")
    readers = {"ridge, means", "ridge, moments", "ridge, responses", "encoder, tiny", "sysid"}
    for levels in document["errors"].values():
        for found in levels.values():
            assert set(found) == readers
            assert all(len(found[reader]["5"]) == (1 if reader == "sysid" else 4) for reader in readers)
    assert document["errors"]["probe"]["0.0"]["sysid"]["5"][0] < 1e-3
    assert len(lines) == 2 + 2 * 2 * len(readers)
