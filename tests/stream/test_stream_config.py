"""Configs of streams: defaults, round trip, presets, overrides, and what is said of each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from metamap_envs import MetaMapError, get_family
from metamap_rl.mapper.config import MapperConfig
from metamap_rl.stream.config import UPDATE, StreamConfig, list_presets, load_config, to_yaml

SMALLEST: dict[str, Any] = {"name": "x", "stream": {"kind": "sequential", "family": "reacher-goal", "tasks": 2}}


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_loads_and_draws_its_tasks(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.description
    tasks = config.stream.tasks(np.random.default_rng(0))
    assert tasks == config.stream.tasks(np.random.default_rng(0))
    config.check_revisits(tasks)
    assert {task.family for task in tasks} == set(config.stream.family_names)


def test_a_config_survives_yaml(tmp_path: Path) -> None:
    for source in (SMALLEST, *list_presets()):
        config = load_config(source)
        (tmp_path / "config.yaml").write_text(to_yaml(config))
        assert load_config(tmp_path / "config.yaml") == config
        assert load_config(str(tmp_path / "config.yaml")).resolved() == config.resolved()


def test_defaults_are_those_of_what_they_configure() -> None:
    config = load_config(SMALLEST)
    assert config.update == UPDATE
    assert config.mapper == MapperConfig(hypernetwork="residual")
    assert load_config(SMALLEST, {"mapper.context_size": 7}).mapper == MapperConfig("pooling", "residual", 7)
    assert config.learner == {"name": "replay"}


def test_overrides_go_by_dotted_key_and_text_is_read_as_yaml() -> None:
    config = load_config("smoke", {"seeds.learner": 3, "update.lengths": "[5, 10]", "boundaries": "hidden"})
    assert (config.seeds.learner, config.update.lengths, config.boundaries) == (3, (5, 10), "hidden")
    assert config.stream == load_config("smoke").stream, "the rest stays"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"learnr": {}}, "'learnr': did you mean 'learner'"),
        ({"update.update": 3}, "'update.update': did you mean 'update.updates'"),
        ({"stream.famly": "x"}, "'famly': did you mean 'family'"),
        ({"stream.family": "reacher-gaol"}, "did you mean 'reacher-goal'"),
        ({"stream.kind": "sequental"}, "did you mean 'sequential'"),
        ({"stream": {"kind": "families", "families": [], "tasks": 1}}, "the stream is empty"),
        ({"stream.tasks": 0}, "the stream is empty"),
        ({"stream": {"kind": "tasks", "tasks": []}}, "the stream is empty"),
        ({"stream": 3}, "expected a mapping with a kind"),
        ({"learner": {"name": "reply"}}, "did you mean 'replay'"),
        ({"learner": {"name": "replay", "drak": 1}}, "did you mean 'dark'"),
        ({"learner": {"name": "replay", "dark": -1}}, "dark >= 0"),
        ({"learner": {}}, "expected a name"),
        ({"probe": {"name": "base-polcy"}}, "did you mean 'base-policy'"),
        ({"probe": {"name": "base-policy", "noise": -1}}, "'noise': expected a number"),
        ({"update.loss": "behavior"}, "did you mean 'behaviour'"),
        ({"update.batch": 1}, "batch_tasks: expected at least 2"),
        ({"mapper.encoder": "poling"}, "did you mean 'pooling'"),
        ({"boundaries": "hiden"}, "did you mean 'hidden'"),
        ({"memory_bytes": 0}, "memory_bytes"),
        ({"memory_bytes": "a lot"}, "memory_bytes"),
        ({"seeds.stream": -1}, "seeds.stream"),
        ({"experts.budget": 0}, "experts.budget"),
        ({"serve.gap": 2}, "serve.gap"),
        ({"map_steps": 300}, "at most probe_steps = 200, got 300"),
        ({"boundaries": "hidden", "probe_repeats": 1}, "probe_repeats of at least 2"),
        ({"evaluation.split": "test"}, "evaluation.split"),
        ({"format": "metamap-stream-9"}, "'metamap-stream-9', this metamap_rl reads 'metamap-stream-1'"),
        ({"name.first": "x"}, "nothing in it can be replaced"),
        ({"gap": 0.5}, "'gap': did you mean 'serve.gap'"),
        ({"name": "a: ["}, "name: not YAML"),
        ({3: 4}, "unknown key '3'"),
        ({"experts.overrides": {"n_timestep": 1}}, "did you mean 'n_timesteps'"),
        ({"experts.overrides": {"n_timesteps": 0}}, "n_timesteps"),
        ({"experts.base_overrides": {"batch_size": 1000}}, "multiple of batch_size"),
        ({"experts.bases": {"reachr": "reacher-goal"}}, "did you mean 'reacher'"),
        ({"experts.bases": {"reacher": "reacher-gaol"}}, "did you mean 'reacher-goal'"),
        ({"experts.bases": {"reacher": "cheetah-velocity"}}, "is of 'half-cheetah'"),
    ],
)
def test_a_mistake_is_named_in_one_sentence(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(MetaMapError) as caught:
        load_config(SMALLEST, overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"), [("- 1\n", "expected a mapping"), ("a: [", "not YAML"), ("", "expected a mapping")]
)
def test_a_file_that_is_no_config(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(MetaMapError, match=words):
        load_config(tmp_path / "x.yaml")


def test_a_file_or_preset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MetaMapError, match=r"no such file; presets are .*smoke"):
        load_config(tmp_path / "nothing.yaml")
    with pytest.raises(MetaMapError, match="did you mean 'smoke'"):
        load_config("smoek")
    with pytest.raises(MetaMapError, match="is missing"):
        load_config({"name": "x"})


def test_a_number_without_a_dot_is_one(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(SMALLEST) + "update: {learning_rate: 1e-4}\n")
    config = load_config(tmp_path / "x.yaml", {"learner": {"name": "replay", "dark": "1e-1"}})
    assert config.update.learning_rate == 1e-4
    assert config.learner == {"name": "replay", "dark": 0.1}


def test_a_task_may_come_back_only_where_the_config_says_so() -> None:
    first, second = get_family("reacher-goal").sample("train", 2, 0)
    allowed, refused = load_config(SMALLEST), load_config(SMALLEST, {"revisits": False})
    allowed.check_revisits([first, second, first])
    refused.check_revisits([first, first, second])
    with pytest.raises(MetaMapError, match=r"goal_radius=.* comes back"):
        refused.check_revisits([first, second, first])


def test_code_in_yaml_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(MetaMapError, match="not YAML"):
        load_config(tmp_path / "x.yaml")


def test_settings_never_change() -> None:
    config = load_config(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "y"  # type: ignore[misc]
    assert isinstance(config, StreamConfig)
    assert yaml.safe_load(to_yaml(config))["seeds"] == {"stream": 0, "learner": 0, "evaluation": 0}
