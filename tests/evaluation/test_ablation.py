"""Ablations: which cells a config asks for, that a stopped one goes on, and what its rows say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.runtime.executors import make_executor
from metamap_agents.runtime.storage import write_json
from metamap_envs import MetaMapError
from metamap_rl.evaluation.ablation import (
    BASELINE,
    AblationConfig,
    Choice,
    _first,
    load_ablation,
    run_ablation,
    summarise,
)
from metamap_rl.evaluation.ablation_plot import plot_ablation
from metamap_rl.probing.probes.planned import BasePolicyProbe
from metamap_rl.training.pipeline import training_pairs

CONFIGS = Path(__file__).parents[2] / "scripts" / "ablations"
SMALL: dict[str, Any] = {
    "family": tiny.FAMILY,
    "seeds": 2,
    "updates": 10,
    "lengths": [5, 20],
    "episodes": 1,
    "baseline": {"survey_tasks": 8, "context_size": 8, "hidden": 8},
    "vary": {"tasks": [2]},
}
LEARNING = {"dagger_rounds": [2], "auxiliary": ["dynamics"], "aligned": [True]}


def names(**settings: Any) -> list[str]:
    return [cell.name for cell in AblationConfig(family=tiny.FAMILY, **settings).choices()]


def test_one_factor_at_a_time() -> None:
    found = names(seeds=2, vary={"loss": ["weights"], "tasks": [5, 9]})
    assert found == [
        f"{cell}+seed={seed}" for cell in ("default", "loss=weights", "tasks=5", "tasks=9") for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("factor", "value"),
    [("loss", "weights"), ("seed", 3), ("dagger_rounds", 2), ("auxiliary", "dynamics"), ("survey_coefficient", 0.0)],
)
def test_a_factor_of_training_arrives_there(factor: str, value: object) -> None:
    config = Choice().changed(**{factor: value}, updates=100).training
    assert getattr(config, factor) == value
    assert config.updates == 100


def test_crossed_factors_run_in_all_combinations_and_each_cell_once() -> None:
    vary = {"loss": ["weights", "behaviour"], "encoder": ["gru"], "tasks": [5]}
    found = names(seeds=1, vary=vary, cross=["loss", "encoder"])
    assert len(found) == len(set(found)) == 3 * 2 + 1
    assert "loss=weights+encoder=gru+seed=0" in found
    assert "loss=weights+tasks=5+seed=0" not in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vary": {"los": ["weights"]}}, "unknown factor 'los': did you mean 'loss'"),
        ({"vary": {"encoder": ["gur"]}}, "unknown encoder 'gur': did you mean 'gru'"),
        ({"vary": {"probe": ["base"]}}, "unknown probe 'base'"),
        ({"vary": {"tasks": [0]}}, "tasks: expected"),
        ({"cross": ["seed"]}, "unknown factor 'seed'"),
        ({"sedes": 3}, "sedes"),
        ({"seeds": 0}, "seeds: expected"),
    ],
)
def test_a_slip_in_a_config_is_reported(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({**SMALL, **change}))
    with pytest.raises(MetaMapError, match=message):
        load_ablation(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yml")), ids=lambda path: path.stem)
def test_the_committed_configs_are_sound(path: Path) -> None:
    assert path.stem.startswith(load_ablation(path).family)


def test_a_stopped_ablation_goes_on_and_gives_the_same(tiny_zoo: Zoo, tmp_path: Path) -> None:
    config = AblationConfig(**SMALL)
    done: list[str] = []
    with make_executor("local", 1, None) as executor:
        first = run_ablation(config, tiny_zoo, tmp_path / "a", executor, lambda name, *_: done.append(name))
        assert len(done) == 4
        (tmp_path / "a" / f"{done[1]}.json").unlink()
        again = run_ablation(config, tiny_zoo, tmp_path / "a", executor, lambda name, *_: done.append(name))
    assert done[4:] == [done[1]]
    timeless = [[{**document, "seconds": 0, "machine": 0} for document in documents] for documents in (first, again)]
    assert timeless[0] == timeless[1]
    assert first[0]["cell"]["seed"] != first[1]["cell"]["seed"]
    assert first[0]["validation_loss"] != first[1]["validation_loss"], "another seed is another mapper"
    assert first[0]["validation_loss"] != first[2]["validation_loss"], "fewer tasks are another mapper"
    with (
        pytest.raises(MetaMapError, match="was run with updates 10, asked for is 11"),
        make_executor("local", 1, None) as executor,
    ):
        run_ablation(config.model_copy(update={"updates": 11}), tiny_zoo, tmp_path / "a", executor)


def test_cells_of_another_zoo_or_of_nothing_are_refused(tiny_zoo: Zoo, tmp_path: Path) -> None:
    config = AblationConfig(**{**SMALL, "seeds": 1, "vary": {}})
    with make_executor("local", 1, None) as executor:
        (found,) = run_ablation(config, tiny_zoo, tmp_path, executor)
        (path,) = tmp_path.iterdir()
        for change in (
            {"settings": {**found["settings"], "zoo": {**found["settings"]["zoo"], "seed": 99}}},
            {"cell": {**found["cell"], "loss": "weights"}},
        ):
            write_json(path, {**found, **change})
            with pytest.raises(MetaMapError, match=r"was run with (zoo|cell)"):
                run_ablation(config, tiny_zoo, tmp_path, executor)
        for other in ({"nothing": 0}, {**found, "cell": {"los": "both"}}):
            write_json(path, other)
            with pytest.raises(MetaMapError, match="expected the document of a cell"):
                run_ablation(config, tiny_zoo, tmp_path, executor)


def test_the_first_tasks_are_those_that_are_there(tiny_zoo: Zoo) -> None:
    pairs = training_pairs(tiny_zoo, "train", BasePolicyProbe(), steps=5, repeats=1)
    first = tiny_zoo.tasks("train", 3)
    there = pairs.select([index for index, task in enumerate(pairs.tasks) if task != first[0]])
    assert list(_first(there, tiny_zoo, 2).tasks) == first[1:]


def test_how_it_is_learned_is_a_factor_too(tiny_zoo: Zoo, tmp_path: Path) -> None:
    config = AblationConfig(**{**SMALL, "seeds": 1, "vary": LEARNING})
    with make_executor("local", 1, None) as executor:
        found = run_ablation(config, tiny_zoo, tmp_path, executor)
    losses = {json.dumps(document["validation_loss"]) for document in found}
    assert len(found) == 4
    assert len(losses) == 3, "experts that started from phi_0 are aligned already"


def test_what_the_zoo_has_not_is_reported(tiny_zoo: Zoo, tmp_path: Path) -> None:
    with make_executor("local", 1, None) as executor:
        many = AblationConfig(**{**SMALL, "vary": {"tasks": [99]}})
        with pytest.raises(MetaMapError, match="needs 99 training experts, there are 3"):
            run_ablation(many, tiny_zoo, tmp_path, executor)
        other = AblationConfig(**{**SMALL, "family": "cheetah-velocity"})
        with pytest.raises(MetaMapError, match="expected a zoo of 'cheetah-velocity'"):
            run_ablation(other, tiny_zoo, tmp_path, executor)
    assert not list(tmp_path.iterdir())


def document(seed: int, gap: list[float], **choices: Any) -> dict[str, Any]:
    return {
        "cell": BASELINE.changed(seed=seed, **choices).flat(),
        "gap_closed": {"50": gap},
        "mean_return": {"50": -1.0},
        "validation_loss": {"first": 1.0, "least": 0.5, "last": 0.6},
        "theta": 7,
        "seconds": 2.0,
    }


def test_rows_are_settings_over_seeds() -> None:
    rows = summarise(
        [document(0, [0.5] * 4), document(1, [0.7] * 4), document(0, [1.0] * 4, loss="weights"), document(2, [0.6] * 4)]
    )
    assert [row["name"] for row in rows] == ["default", "loss=weights"]
    assert rows[0]["seeds"] == 3
    assert rows[0]["gap_closed"]["50"]["iqm"] == pytest.approx(0.6)
    assert rows[1]["gap_closed"]["50"] == {"iqm": 1.0, "low": 1.0, "high": 1.0}
    figure = plot_ablation(rows, "50", "a family")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["loss=weights", "default (the baseline)"]
    with pytest.raises(MetaMapError, match="no gap closed with 5 steps"):
        plot_ablation(rows, "5", "a family")


def test_cells_from_before_a_factor_was_there_are_the_default_of_it() -> None:
    old = document(0, [0.5])
    del old["cell"]["bottleneck"]
    (row,) = summarise([old, document(1, [0.5])])
    assert row["seeds"] == 2


def test_the_old_name_of_a_factor_is_read(tiny_zoo: Zoo, tmp_path: Path) -> None:
    old = {"tasks": 2, **SMALL["baseline"], "rounds": 2}
    assert Choice().changed(**old) == Choice().changed(**{"dagger_rounds": 2, **SMALL["baseline"], "tasks": 2})
    settings = {**SMALL, "seeds": 1, "vary": {"rounds": [2]}, "cross": ["rounds"]}
    config = AblationConfig(**settings)
    assert [cell.training.dagger_rounds for cell in config.choices()] == [0, 2]
    with make_executor("local", 1, None) as executor:
        found = run_ablation(config, tiny_zoo, tmp_path, executor)
        (path,) = tmp_path.glob("*dagger_rounds*")
        cell = dict(found[1]["cell"])
        write_json(path, {**found[1], "cell": {"rounds": cell.pop("dagger_rounds"), **cell}})
        path.rename(path.with_name(path.name.replace("dagger_", "").replace("hypernetwork_", "")))
        done: list[str] = []
        again = run_ablation(config, tiny_zoo, tmp_path, executor, lambda name, *_: done.append(name))
    assert not done
    assert [row["name"] for row in summarise(again)] == [row["name"] for row in summarise(found)]


def test_a_removed_choice_is_reported() -> None:
    with pytest.raises(MetaMapError, match="the hypernetwork 'low-rank' was removed: 'modulation' is closest"):
        names(vary={"hypernetwork": ["low-rank"]})
    (row,) = summarise([{**document(0, [0.5]), "cell": {"encoder": "pooling-gru", "hidden": 64}}])
    assert row["name"] == "encoder=pooling-gru+hypernetwork_hidden=64", "a stored cell is still read"
