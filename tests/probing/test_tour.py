"""Tours: which policies they visit, that the probe follows them, and that a mapper takes its tour along."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers import tiny
from metamap_agents.experts.zoo import Zoo
from metamap_agents.policy.acting import BatchedPolicy
from metamap_agents.runtime.storage import save_arrays
from metamap_envs import FamilyEnv, MetaMapError
from metamap_rl.cli import main
from metamap_rl.mapper.mapper import Mapper
from metamap_rl.probing.collecting import collect, probe_env
from metamap_rl.probing.documents import probe_from_json, probe_identity, probe_to_json
from metamap_rl.probing.probes.touring import TourProbe
from metamap_rl.probing.tour import Tour, tour_of
from metamap_rl.training.pipeline import probe_for


@pytest.fixture(scope="module")
def zoo(tiny_zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Experts that differ from each other, at places far apart: 8 training tasks. Read only."""
    made = Zoo.create(tmp_path_factory.mktemp("tour") / "zoo", tiny.FAMILY, tiny.SEED)
    made.put_base(tiny_zoo.base)
    (first,) = tiny_zoo.experts("train")[:1]
    generator = np.random.default_rng(0)
    for task in made.tasks("train", 8):
        made.put(replace(first, task=task, phi=first.phi + generator.normal(0, 0.1, first.phi.size).astype(np.float32)))
    return made


@pytest.fixture(scope="module")
def folder(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tour of 3 stops. Read only."""
    path = tmp_path_factory.mktemp("tour") / "tour"
    tour_of(zoo, 3).save(path)
    return path


def test_a_tour_visits_experts_far_apart_each_once(zoo: Zoo) -> None:
    experts = zoo.experts("train")
    places = zoo.family.space.coordinates(np.stack([expert.task.values for expert in experts]))
    places = (places - places.mean(axis=0)) / places.std(axis=0)

    def order(tour: Tour) -> list[int]:
        return [next(i for i, expert in enumerate(experts) if np.array_equal(expert.phi, phi)) for phi in tour.phis]

    stops = order(tour_of(zoo, 99))
    assert sorted(stops) == list(range(8))
    assert order(tour_of(zoo, 3)) == stops[:3], "a longer tour begins as a shorter one"
    assert stops[0] == np.linalg.norm(places, axis=1).argmax()
    for count in range(1, 8):
        away = np.linalg.norm(places[:, None] - places[stops[:count]], axis=2).min(axis=1)
        assert stops[count] == away.argmax(), "farthest from all before"
    with pytest.raises(MetaMapError, match="at least one stop"):
        tour_of(zoo, 0)


def test_the_probe_does_what_each_policy_would_by_turns(zoo: Zoo, folder: Path) -> None:
    probe = TourProbe(tour=str(folder), hold=4, noise=0.0)
    found = collect(probe, zoo.tasks("train", 2), zoo.base, steps=30, repeats=2, seed=1, num_threads=1)
    phis = Tour.load(folder).phis
    for step in range(1, 30):
        seen = found.observations[:, :, step].reshape(1, 4, -1)
        policy = BatchedPolicy(zoo.base.policies(phis[[step // 4 % 3]]))
        expected = np.clip(policy.means(seen)[0], -1, 1).reshape(2, 2, -1)
        np.testing.assert_allclose(found.actions[:, :, step], expected, atol=1e-5)
    base = BatchedPolicy(zoo.base.policies(zoo.base.phi[None]))
    first = np.clip(base.means(found.observations[:, :, 0].reshape(1, 4, -1))[0], -1, 1)
    np.testing.assert_allclose(found.actions[:, :, 0].reshape(4, -1), first, atol=1e-5)


def test_a_touring_rollout_depends_on_nothing_but_its_own(zoo: Zoo, folder: Path) -> None:
    probe, tasks = TourProbe(tour=str(folder)), zoo.tasks("train", 3)
    together = collect(probe, tasks, zoo.base, steps=40, repeats=2, seed=1, num_threads=2)
    alone = collect(probe, tasks[1:2], zoo.base, steps=25, seed=1, num_threads=1)
    np.testing.assert_array_equal(together.actions[1, 0, :25], alone.actions[0, 0])
    assert not np.array_equal(together.actions[1, 0], together.actions[1, 1]), "noise is drawn for each"
    one = probe_env(probe, FamilyEnv(tiny.FAMILY, task=tasks[0]), zoo.base, family=tiny.FAMILY, steps=30, seed=0)
    without = probe_env(
        TourProbe(), FamilyEnv(tiny.FAMILY, task=tasks[0]), zoo.base, family=tiny.FAMILY, steps=30, seed=0
    )
    np.testing.assert_array_equal(one.actions[0], without.actions[0])
    assert not np.array_equal(one.actions, without.actions)


def test_probes_are_alike_if_their_tours_are(zoo: Zoo, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    here, there = (probe_to_json(TourProbe(tour=str(path))) for path in (folder, tmp_path / "copy"))
    assert here != there
    assert probe_identity(here) == probe_identity(there)
    tour_of(zoo, 2).save(tmp_path / "other")
    assert probe_identity(probe_to_json(TourProbe(tour=str(tmp_path / "other")))) != probe_identity(here)
    with probe_for(zoo, {"name": "tour"}, stops=3) as probe:
        assert isinstance(probe, TourProbe)
        assert probe_identity(probe_to_json(probe)) == probe_identity(here), "made of the zoo where none is given"
    with probe_for(zoo, here) as probe:
        assert probe_to_json(probe) == here
    with probe_for(zoo, {"name": "mixed"}) as probe:
        assert probe.name == "mixed"


def test_a_mapper_takes_its_tour_along(zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(zoo.root, tmp_path / "zoo")
    held_out = replace(zoo.experts("train")[0], task=zoo.tasks("validation", 1)[0])
    Zoo.open(tmp_path / "zoo").put(held_out)
    words = ["--probe", "tour", "--probe-settings", "hold=5", "--updates", "2", "--survey-tasks", "4"]
    more = ["--calibration-tasks", "0", "--out", str(tmp_path / "m"), "--json"]
    assert main(["mapper", "train", str(tmp_path / "zoo"), *words, *more]) == 0
    assert json.loads(capsys.readouterr().out)["probe"]["hold"] == 5
    (tmp_path / "m").rename(tmp_path / "moved")
    mapper = Mapper.load(tmp_path / "moved")
    assert mapper.probe["tour"] == str(tmp_path / "moved" / "tour")
    np.testing.assert_array_equal(Tour.load(mapper.probe["tour"]).phis, tour_of(Zoo.open(tmp_path / "zoo")).phis)
    assert main(["adapt", str(tmp_path / "moved"), "--parameters", "goal_angle=1", "--episodes", "1"]) == 0


def test_what_is_no_tour_is_reported(zoo: Zoo, folder: Path, tmp_path: Path) -> None:
    for probe, message in (
        (TourProbe(tour=str(tmp_path / "nowhere")), "not a saved tour"),
        (TourProbe(tour=str(tmp_path)), "phis: expected finite float32 weights"),
    ):
        save_arrays(tmp_path / "tour.safetensors", {"phis": np.zeros(3, np.float32)}, {"format": "metamap-tour-1"})
        with pytest.raises(MetaMapError, match=message):
            collect(probe, zoo.tasks("train", 1), zoo.base, steps=3, seed=0)
    save_arrays(tmp_path / "other" / "tour.safetensors", {"phis": np.zeros((1, 3), np.float32)}, {"format": "x"})
    with pytest.raises(MetaMapError, match=r"expected a tour \(metamap-tour-1\), got 'x'"):
        Tour.load(tmp_path / "other")
    Tour(np.zeros((2, 7), np.float32)).save(tmp_path / "small")
    with pytest.raises(MetaMapError, match="policies of 7 weights, the base policy has"):
        collect(TourProbe(tour=str(tmp_path / "small")), zoo.tasks("train", 1), zoo.base, steps=3, seed=0)
    with pytest.raises(MetaMapError, match="already exists"):
        Tour.load(folder).save(folder)
    for settings, message in (({"tour": 3}, "expected the path"), ({"hold": 0}, "'hold'"), ({"noise": -1}, "'noise'")):
        with pytest.raises(MetaMapError, match=message):
            probe_from_json({"name": "tour", **settings})
