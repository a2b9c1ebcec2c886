"""Guides and the probe that follows one: that it goes for what is not known, whatever else is collected with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metamap_agents.base_policy import BasePolicy
from metamap_agents.normalizer import ObservationNormalizer
from metamap_agents.policy_spec import PolicySpec
from metamap_agents.storage import read_json, write_json
from metamap_envs import FamilyEnv, MetaMapError, get_family
from metamap_rl.guide import SCORES, Guide, GuideConfig, Prediction, train_guide
from metamap_rl.pairs import build_survey
from metamap_rl.probe import PROBES, SeekingProbe, collect, probe_env, probe_from_json, probe_to_json
from metamap_rl.survey import Survey

FAMILY = "reacher-goal"
SMALL = GuideConfig(members=2, updates=5, context_size=8, hidden=16)
every_score = pytest.mark.parametrize("score", SCORES.names())


@pytest.fixture(scope="module")
def folder(tiny_zoo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guide of reacher-goal that has learnt next to nothing. Read only."""
    path = tmp_path_factory.mktemp("guide") / "guide"
    survey = build_survey(tiny_zoo, SeekingProbe(), count=8, steps=20)
    train_guide(survey, family=FAMILY, sizes=(8, 2), config=SMALL).save(path)
    return path


def same(first: Guide, second: Guide) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def hidden_gain(count: int, seed: int) -> Survey:
    """One number x and two actions: x changes by the hidden gain c in {-1, 1} times the first; the second does nothing.

    Rewards are 0. In half of the rollouts the first action is 0, so that D may or may not tell c.
    """
    generator = torch.Generator().manual_seed(seed)
    c = torch.randint(2, (count, 1), generator=generator) * 2.0 - 1
    x = torch.randn(count, 4, 30, 1, generator=generator)
    actions = 2 * torch.rand(count, 4, 30, 2, generator=generator) - 1
    actions[:, :2, :, 0] = 0
    change = c[:, :, None, None] * actions[..., :1]
    energy = actions.square().sum(dim=-1, keepdim=True)
    return Survey(torch.cat([x, actions, energy, torch.zeros_like(x), change], dim=-1), c, ("c",))


def still(size: int, actions: int) -> BasePolicy:
    """A base policy that does nothing."""
    spec = PolicySpec(size, actions, hidden=())
    zeros = np.zeros(spec.size, np.float32)
    return BasePolicy(spec, zeros, ObservationNormalizer.identity(size), np.zeros(actions, np.float32))


def test_it_knows_which_action_tells_the_task_and_that_it_has_been_told() -> None:
    config = GuideConfig(2, updates=1000, learning_rate=3e-3, context_size=8, hidden=32, lengths=(5, 10))
    guide = train_guide(hidden_gain(256, 0), family="gain", sizes=(1, 2), config=config)
    seen = hidden_gain(64, 1).features
    gains = torch.zeros(64, 2, 3)
    offsets = torch.zeros(64, 2, 3, 2)
    offsets[:, 0, :, 0] = offsets[:, 1, :, 1] = 0.9  # plan 0 moves what the task changes, plan 1 what it does not
    score = SCORES.get("information")

    def scores(rollout: int) -> torch.Tensor:
        return guide.score(seen[:, rollout, :5], torch.zeros(64, 1), gains, offsets, still(1, 2), score)

    untold, told = scores(0), scores(3)
    assert (untold[:, 0] > untold[:, 1] + 0.5).float().mean() > 0.95
    assert told[:, 0].median() < 0.5 * untold[:, 0].median()
    read = guide.read(seen[:, 3, :10]).mean(dim=0)
    assert (read.sign() == hidden_gain(64, 1).coordinates).float().mean() > 0.95


def test_scores_by_hand() -> None:
    mean = torch.tensor([[[1.0, 0.0]], [[3.0, 0.0]]])
    wide, narrow = torch.full((2, 1, 2), 2.0), torch.full((2, 1, 2), -1.0)
    prediction = Prediction(mean, wide, narrow)
    assert SCORES.get("disagreement")(prediction).tolist() == [0.5]  # variances 1 and 0
    assert SCORES.get("information")(prediction).tolist() == [3.0]  # two numbers, (2 + 1) / 2 each


def test_same_seed_same_guide_and_a_folder_comes_back(folder: Path, tiny_zoo: Any, tmp_path: Path) -> None:
    survey = build_survey(tiny_zoo, SeekingProbe(), count=8, steps=20)
    again = train_guide(survey, family=FAMILY, sizes=(8, 2), config=SMALL)
    loaded = Guide.load(folder)
    assert same(loaded, again)
    assert (loaded.family, loaded.sizes, loaded.names, loaded.config) == (FAMILY, (8, 2), survey.names, SMALL)
    assert not same(again, train_guide(survey, family=FAMILY, sizes=(8, 2), config=replace(SMALL, seed=9)))
    with pytest.raises(MetaMapError, match="already exists"):
        again.save(folder)
    with pytest.raises(MetaMapError, match="not a saved guide"):
        Guide.load(tmp_path)
    (tmp_path / "guide.json").write_text('{"format_version": 7}')
    with pytest.raises(MetaMapError, match="expected a guide of format version 1"):
        Guide.load(tmp_path)


@every_score
def test_it_follows_the_plan_that_scores_best(folder: Path, score: str) -> None:
    family, probe = get_family(FAMILY), SeekingProbe(guide=str(folder), score=score, block=4)
    base = still(8, 2)
    found = collect(probe, family.sample("train", 2, 0), base, steps=20, repeats=2, seed=1, num_threads=1)
    unguided = collect(replace(probe, guide=""), found.tasks, base, steps=20, repeats=2, seed=1, num_threads=1)
    np.testing.assert_array_equal(found.actions[:, :, :4], unguided.actions[:, :, :4])  # nothing known, nothing chosen
    assert not np.array_equal(found.actions, unguided.actions)

    # Once more by hand, for one environment and one block.
    features = torch.from_numpy(found.features()[0, 0])
    rng = np.random.default_rng(0)
    plans, _ = probe.plans(rng, 20, 2)
    scores = Guide.load(folder).score(
        features[None, :8],
        torch.from_numpy(found.observations[0, :1, 8]),
        torch.from_numpy(plans.gain[None, :, 8:12]).float(),
        torch.from_numpy(plans.offset[None, :, 8:12]).float(),
        base,
        SCORES.get(score),
    )
    steering = probe.steering([np.random.default_rng(0)], 20, base)
    assert steering is not None
    where, gain, offset = steering(8, features[None, :8].numpy(), found.observations[0, :1, 8])
    assert where == slice(8, 12)
    best = int(scores[0].argmax())
    np.testing.assert_array_equal(gain[0], plans.gain[best, 8:12])
    np.testing.assert_array_equal(offset[0], plans.offset[best, 8:12])


def test_a_guided_rollout_depends_on_nothing_but_its_own(folder: Path) -> None:
    family, probe = get_family(FAMILY), SeekingProbe(guide=str(folder))
    tasks, base = family.sample("train", 3, 0), still(8, 2)
    many = collect(probe, tasks, base, steps=30, repeats=3, seed=1, num_threads=2)
    alone = collect(probe, tasks[1:2], base, steps=30, seed=1, num_threads=1)
    short = collect(probe, tasks[1:2], base, steps=12, seed=1, num_threads=1)
    np.testing.assert_array_equal(alone.actions[0, 0], many.actions[1, 0])
    np.testing.assert_array_equal(short.actions[0, 0], alone.actions[0, 0, :12])


def test_one_environment_is_guided_too(folder: Path) -> None:
    probe = probe_from_json({"name": "seeking", "guide": str(folder)})
    assert probe_from_json(probe_to_json(probe)) == probe
    env = FamilyEnv(FAMILY)
    guided, unguided = (
        probe_env(one, env, still(8, 2), family=FAMILY, steps=60, seed=3) for one in (probe, SeekingProbe())
    )
    np.testing.assert_array_equal(guided.actions[:5], unguided.actions[:5])
    assert not np.array_equal(guided.actions, unguided.actions)
    assert len(guided) == 60


def test_what_does_not_fit_is_told(folder: Path, tmp_path: Path) -> None:
    cheetah = get_family("cheetah-velocity")
    with pytest.raises(MetaMapError, match=r"a guide for observations and actions of \(8, 2\), not of \(17, 6\)"):
        collect(SeekingProbe(guide=str(folder)), cheetah.sample("train", 1, 0), still(17, 6), steps=3, seed=0)
    with pytest.raises(MetaMapError, match="not a saved guide"):
        probe_env(SeekingProbe(guide=str(tmp_path)), FamilyEnv(FAMILY), still(8, 2), family=FAMILY, steps=3, seed=0)
    with pytest.raises(MetaMapError, match="unknown score of a guide 'informaton': did you mean 'information'"):
        SeekingProbe(score="informaton")
    with pytest.raises(MetaMapError, match="'guide' expects the path"):
        SeekingProbe(guide=3)  # type: ignore[arg-type]
    with pytest.raises(MetaMapError, match="members: expected >= 1"):
        GuideConfig(members=0)
    with pytest.raises(MetaMapError, match="reads 6 numbers per transition, these have 5"):
        Guide(SMALL, family="x", names=("c",), sizes=(1, 2), feature_size=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "expected a guide of format version 1"),
        ({"sizes": [8]}, "sizes"),
        ({"feature_size": 3}, "reads 20 numbers per transition, these have 3"),
        ({"config": {"hiden": 3}}, "'config.hiden': did you mean 'config.hidden'"),
        ({"config": {"hidden": 0}}, "hidden: expected >= 1"),
        ({"config": {"hidden": 3}}, r"members\.0\..*: expected"),
    ],
)
def test_a_damaged_guide_is_told(folder: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    guide = tmp_path / "guide"
    shutil.copytree(folder, guide)
    write_json(guide / "guide.json", {**read_json(guide / "guide.json"), **change})
    with pytest.raises(MetaMapError, match=message):
        Guide.load(guide)


def test_the_scripts_from_survey_to_figures(tiny_zoo: Any, tmp_path: Path) -> None:
    guide, out = tmp_path / "guide", tmp_path / "probes.json"
    run("train_guide.py", tiny_zoo.root, "--out", guide, "--tasks", 4, "--steps", 10, "--members", 1, "--updates", 2)
    words = ["--tasks", 4, "--held-out", 3, "--updates", 2, "--lengths", 2, 6, "--seeds", 1, "--out", out]
    run("measure_probes.py", tiny_zoo.root, "--guide", guide, *words)
    found = {entry["probe"]: entry["seeds"][0] for entry in json.loads(out.read_text())["probes"]}
    assert found.keys() == {*PROBES.names(), *(f"seeking, {score}" for score in SCORES.names())}
    assert all(entry["2"]["error"] > 0 and entry["6"]["error"] > 0 for entry in found.values())


def run(script: str, *words: object) -> None:
    path = Path(__file__).parent.parent / "scripts" / script
    done = subprocess.run([sys.executable, path, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
